"""The synthetic signer of the ASL Cafe: hands that can be, letters that can be told apart, and only to train on."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")
import pyarrow.parquet as pq

from lslm.processing.motion_features import JOINT_NAMES, RIGHT_HAND, mirrored

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
sys.path.insert(0, str(CAFE))  # scripts beside their data

import cafe_grammar  # noqa: E402
import recombine  # noqa: E402
import synthetic_signer as synthetic  # noqa: E402

ALPHABET = "".join(cafe_grammar.LETTERS)
WRIST = JOINT_NAMES.index("right_wrist")


def people(count, seed):
    rng = np.random.default_rng(seed)
    return [synthetic.Signer(rng) for _ in range(count)]


def palms(clip):
    """A letter's (T, 21, 3) -> the hand in its middle frame, from the wrist, in palms: (63,)."""
    hand = clip[len(clip) // 2] - clip[len(clip) // 2, 0]
    return (hand / np.linalg.norm(hand[9])).ravel()


def test_the_table_has_every_letter_within_what_joints_can_do():
    assert set(synthetic.LETTERS) == set(ALPHABET) and set(synthetic.MOVES) == {"j", "z"}
    low, high = synthetic.LIMITS.T
    for letter, shapes in {**synthetic.LETTERS, "rest": (synthetic.RELAXED,)}.items():
        for shape in shapes:
            angles = shape.angles()
            assert angles.shape == (23,) and (angles[:20] >= low).all() and (angles[:20] <= high).all(), letter


def test_nobody_bends_a_joint_further_than_it_goes(monkeypatch):
    seen = []
    monkeypatch.setattr(synthetic.Tracker, "see", lambda _, angles, *__: seen.append(angles) or np.zeros((1, 1, 3)))
    for signer in people(10, 0):
        signer.spell(ALPHABET)
    angles = np.concatenate(seen)[:, :20]
    assert len(angles) > 1000 and angles.std(axis=0).min() > 3
    assert (angles >= synthetic.LIMITS[:, 0]).all() and (angles <= synthetic.LIMITS[:, 1]).all()


def test_bones_keep_their_length_whatever_the_angles():
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.uniform(*synthetic.LIMITS.T, (50, 20)), rng.uniform(-180, 180, (50, 3))], axis=1)
    points = synthetic.hand_points(angles)
    for number, first in enumerate((5, 9, 13, 17, 1)):
        lengths = np.linalg.norm(np.diff(points[:, first : first + 4], axis=1), axis=-1)
        np.testing.assert_allclose(lengths, np.tile(synthetic.BONES[number], (50, 1)))
        np.testing.assert_allclose(
            np.linalg.norm(points[:, first], axis=-1), np.linalg.norm(synthetic.KNUCKLES[number])
        )


def test_axes_are_those_of_a_right_hand_before_a_camera():
    """Zero: fingers up, thumb to the person's left. A fist closes to the camera, G points left, Q down, L's thumb
    left."""
    flat = synthetic.hand_points(np.zeros((1, 23)))[0]
    assert (flat[[8, 12, 16, 20], 1] > 0.13).all() and flat[5, 0] > 0 > flat[17, 0]

    def letter(name, point, start):
        hands = [synthetic.hand_points(shape.angles()[None])[0] for shape in synthetic.LETTERS[name]]
        return np.array([(hand[point] - hand[start]) / np.linalg.norm(hand[point] - hand[start]) for hand in hands])

    assert (letter("s", 10, 9)[:, 2] > 0.8).all() and (letter("l", 4, 2)[:, 0] > 0.6).all()
    assert (letter("g", 7, 5)[:, 0] > 0.8).all() and (letter("h", 7, 5)[:, 0] > 0.8).all()
    assert (letter("q", 7, 5)[:, 1] < -0.6).all() and (letter("d", 7, 5)[:, 1] > 0.9).all()


def test_letters_of_new_people_are_told_apart_by_others():
    """Hands as the tracker sees them; by the nearest of 40 people, whose J is an I at its beginning."""
    known, asked = ([[palms(clip) for clip in signer.spell(ALPHABET)] for signer in people(n, n)] for n in (40, 10))
    known = np.array(known).reshape(-1, 63)
    answers = np.array([[((known - hand) ** 2).sum(-1).argmin() % 26 for hand in hands] for hands in asked])
    right = (answers == np.arange(26)).mean()
    assert right > 0.6, right


def test_the_same_seed_signs_the_same():
    one, again, other = (people(1, seed)[0].spell("jazz") for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert one[0].shape != other[0].shape or not np.array_equal(one[0], other[0])
    with pytest.raises(ValueError, match="letters from a to z"):
        people(1, 0)[0].spell("Ada 1")


def test_j_and_z_move_and_others_do_not():
    for signer in people(5, 3):
        ways = [np.ptp(clip[:, 0], axis=0).max() for clip in signer.spell(ALPHABET)]
        moved = {letter for letter, way in zip(ALPHABET, ways, strict=True) if way > 0.03}
        assert moved == {"j", "z"} and max(ways) < 0.2


def test_people_differ_in_speed_size_and_hand():
    signers = people(200, 4)
    frames = np.array([np.median([len(clip) for clip in signer.spell("hello")]) for signer in signers])
    seconds = (frames + synthetic.TRANSITION) / synthetic.FPS
    assert 0.3 <= seconds.min() < 0.45 and 1.7 < seconds.max() <= 2.4
    palm = [np.linalg.norm(signer.knuckles[1]) for signer in signers]
    assert 0.07 < min(palm) < 0.085 < 0.105 < max(palm) < 0.125
    assert 5 < sum(signer.left_handed for signer in signers) < 40


def test_what_a_tracker_loses_is_filled_and_nothing_else_moves_far():
    tracker = synthetic.Tracker(np.random.default_rng(0))
    angles = np.tile(synthetic.LETTERS["b"][0].angles(), (30, 1))
    tracker.lost = 0.9
    points = tracker.see(angles, synthetic.BONES, synthetic.KNUCKLES)
    assert np.isfinite(points).all() and not points[:, 0].any()
    assert np.linalg.norm(np.diff(points, axis=0), axis=-1).max() < 0.02


def test_hands_on_a_body_leave_the_rest_of_it():
    body = np.random.default_rng(0).normal(size=(7, 52, 3))
    hand = people(1, 5)[0].spell("j")[0]
    joints = synthetic.on_body(hand, body, first=3)
    frames = [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1]
    for time in range(len(hand)):
        expected = body[frames[(3 + time) % 12]]
        moved = [JOINT_NAMES.index("right_elbow"), WRIST, *RIGHT_HAND]
        np.testing.assert_array_equal(np.delete(joints[time], moved, axis=0), np.delete(expected, moved, axis=0))
        np.testing.assert_allclose(joints[time, WRIST] - expected[WRIST], hand[time, 0])
    index = JOINT_NAMES.index("right_index1")
    np.testing.assert_allclose(joints[:, index] - joints[:, WRIST], hand[:, 5] - hand[:, 0])


# --- in the training data ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recombined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    (folder / "cafe" / "data").mkdir(parents=True)
    some = pq.read_table(CAFE / "data" / "train.parquet").slice(0, 60)
    for split in ("train", "validation", "test"):
        pq.write_table(some, folder / "cafe" / "data" / f"{split}.parquet")
    for name, options in {"none": [], "half": ["--synthetic", "0.5"], "again": ["--synthetic", "0.5"]}.items():
        arguments = ["--data", str(folder / "cafe"), "--count", "80", "--out", str(folder / name)]
        assert recombine.main([*arguments, *options]) == 0
    return folder


def takes(row):
    return [sign["take"] for sign in row["signs"]]


def test_recombination_lets_them_spell_where_asked(recombined):
    files = {name: recombined / name / "train_recombined.parquet" for name in ("none", "half", "again")}
    assert files["half"].read_bytes() == files["again"].read_bytes()
    assert not any("synthetic" in take for row in pq.read_table(files["none"]).to_pylist() for take in takes(row))
    rows = [row for row in pq.read_table(files["half"]).to_pylist() if row["name"]]
    made = [row for row in rows if any(take.startswith("letters/synthetic/") for take in takes(row))]
    assert 0.3 < len(made) / len(rows) < 0.7
    names = [take for row in made for take in takes(row) if "synthetic" in take]
    assert len(names) == len(set(names)) == sum(len(row["name"]) for row in made)
    for row in made:
        spelled = [take.split("/")[2] for take in takes(row) if "synthetic" in take]
        assert "".join(spelled) == row["name"].lower()
        assert row["num_frames"] == len(row["joints_mm"]) == row["signs"][-1]["end"]


def test_left_handed_people_sign_all_of_it_with_the_left(recombined, monkeypatch):
    rows = recombine.load_split(str(recombined / "cafe"), "train")
    sentence = cafe_grammar.Sentence("HELLO fs-ANNA", "Anna", False)
    signed = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(synthetic, "LEFT_HANDED", share)
        signed.append(recombine.Recombiner(rows, 0, synthetic=1.0).sign(sentence)[0])
    assert np.array_equal(signed[0], mirrored(signed[1])) and not np.array_equal(*signed)


def test_nothing_synthetic_is_ever_tested_on(recombined):
    """Neither in the shipped splits, nor in what recombine.py copies, nor within reach of build.py."""
    shipped = sorted((CAFE / "data").glob("*.parquet"))
    copied = [recombined / "half" / f"{split}.parquet" for split in ("train", "validation")]
    assert len(shipped) == 6 and not (recombined / "half" / "test.parquet").exists()
    for file in [*shipped, *copied]:
        signs = pq.read_table(file, columns=["signs"]).column("signs").to_pylist()
        assert not any("synthetic" in sign["take"] for row in signs for sign in row), file
    assert "synthetic" not in (CAFE / "build.py").read_text()


def test_a_share_is_asked_for(capsys):
    with pytest.raises(SystemExit):
        recombine.main(["--out", "nowhere", "--synthetic", "30"])
    assert "share from 0 to 1" in capsys.readouterr().err
