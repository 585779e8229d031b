"""The ASL Cafe: the rules of its card, checked on the data that the repository ships and on a tiny raw folder."""

import hashlib
import json
import re
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")
import pyarrow.parquet as pq

from lslm.processing.motion import load_motion
from lslm.processing.motion_features import JOINT_NAMES, NUM_JOINTS
from lslm.training.dataset.motion_text import MotionText, load_split

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
sys.path.insert(0, str(CAFE))  # build.py is a script beside its data, not a part of the package

import build  # noqa: E402
import cafe_grammar  # noqa: E402
import recombine  # noqa: E402
from cafe_grammar import MORE, SMALL_TALK, SPELLING, SPLITS, combination, compose, gloss_to_english  # noqa: E402

ALL_LABELS = {*map(str.lower, cafe_grammar.WORDS), *cafe_grammar.LETTERS}


@pytest.fixture(scope="module")
def shipped():
    """Rows of each split, without the joints."""
    columns = ["id", "text", "gloss", "name", "signs", "fps", "num_frames", "seen_combination"]
    files = {split: CAFE / "data" / f"{split}.parquet" for split in (*SPLITS, SPELLING, MORE, SMALL_TALK)}
    return {split: pq.read_table(file, columns=columns).to_pylist() for split, file in files.items()}


# --- the shipped data -------------------------------------------------------------------------------------------------


def takes_of(rows):
    return {sign["take"] for row in rows for sign in row["signs"]}


def test_no_take_is_in_two_splits(shipped):
    takes = [takes_of(shipped[split]) for split in SPLITS]
    assert all(takes) and sum(map(len, takes)) == len(set.union(*takes))


def test_test_takes_are_the_last_block_of_their_label_and_validation_the_one_before(shipped):
    blocks = {split: {} for split in SPLITS}
    for split in SPLITS:
        for take in takes_of(shipped[split]):
            label, number = take.rsplit("/", 1)
            blocks[split].setdefault(label, set()).add(int(number) // build.BLOCK)
    assert len(blocks["test"]) > 40
    for label, last in blocks["test"].items():
        assert len(last) == 1, label
        assert max(blocks["train"][label]) < min(last), label
        before = blocks["validation"].get(label, set())
        assert max(before, default=0) < min(last) and len(before) <= 1, label
        # Validation shares a block with training only where there are no more than these two blocks.
        shared = before & blocks["train"][label]
        assert not shared or blocks["train"][label] == shared, label


def test_names_of_the_splits_are_disjoint_and_unseen(shipped):
    names = {split: {row["name"] for row in shipped[split]} - {None} for split in SPLITS}
    assert not names["test"] & (names["train"] | names["validation"]) and not names["validation"] & names["train"]
    assert len(names["test"]) > 80 and len(names["train"]) > 400
    assert sum(row["name"] is not None for row in shipped["test"]) >= len(shipped["test"]) / 4
    for split in SPLITS:
        spelled = Counter("".join(row["name"] or "" for row in shipped[split]).lower())
        assert len(spelled) == 26 or split != "train", split


def test_the_harder_set_spells_what_train_never_says_with_takes_that_train_never_shows(shipped):
    rows = shipped[SPELLING]
    said = {word.lower() for row in shipped["train"] for word in re.findall(r"[A-Za-z]+", row["text"])}
    spelled = [row["name"].lower() for row in rows]
    assert not said & set(spelled) and len(rows) == 300 and len(set(spelled)) > 200
    words = set(cafe_grammar.read_names(cafe_grammar.WORDS_FILE))
    assert sum(word in words for word in spelled) >= 150 and set("".join(spelled)) == set(string.ascii_lowercase)
    takes = takes_of(rows)
    assert not takes & (takes_of(shipped["train"]) | takes_of(shipped["validation"]))
    for row in rows:
        assert row["text"] == gloss_to_english(row["gloss"]) and row["name"] in row["text"]


def test_small_talk_is_new_takes_new_names_and_new_utterances(shipped):
    more, rows = shipped[MORE], shipped[SMALL_TALK]
    training = more + shipped["train"]
    assert len(more) == 900 and len(rows) == 150
    assert not takes_of(rows) & takes_of(training + shipped["validation"])
    assert not {row["gloss"] for row in rows} & {row["gloss"] for row in training}
    asked = {split: {row["name"] for row in part} - {None} for split, part in shipped.items()}
    assert asked[SMALL_TALK] and not asked[SMALL_TALK] & (asked["train"] | asked[MORE])
    assert not asked[MORE] & (asked["test"] | asked["validation"] | asked[SPELLING])
    for part in (more, rows):
        assert all(row["text"] == gloss_to_english(row["gloss"]) and (row["name"] or "") in row["text"] for row in part)
        words = {word for row in part for word in row["gloss"].split() if not word.startswith("fs-")}
        assert words >= {*cafe_grammar.MORE_WORDS, "HELLO", "THANK-YOU"}
    letters = {take for take in takes_of(more) if take.startswith("letters_frames/")}
    assert {take.split("/")[2] for take in letters} == {*cafe_grammar.LETTERS}
    assert {take.split("/")[1] for take in takes_of(more) if take.count("/") == 3} == {
        "letters",
        "tamtridung",
        "dmohazab",
    }


def test_sizes_signs_and_unseen_combinations(shipped):
    assert len(shipped["train"]) >= 3000 and len(shipped["validation"]) >= 300 and len(shipped["test"]) >= 300
    for split in SPLITS:
        assert np.mean([len(row["gloss"].split()) for row in shipped[split]]) >= 5, split
    trained = {combination(row["gloss"]) for row in shipped["train"]}
    for split in SPLITS:
        for row in shipped[split]:
            assert row["seen_combination"] == (combination(row["gloss"]) in trained)
    assert np.mean([row["seen_combination"] for row in shipped["test"]]) <= 0.5
    assert len({row["gloss"] for row in shipped["test"]}) == len(shipped["test"])


def test_every_word_is_used_about_as_often(shipped):
    for split in SPLITS:
        uses = Counter(word for row in shipped[split] for word in row["gloss"].split() if not word.startswith("fs-"))
        assert set(uses) == set(cafe_grammar.WORDS) and max(uses.values()) < 2.5 * min(uses.values()), uses


def test_one_text_for_one_gloss_sequence(shipped):
    texts = {}
    for split in SPLITS:
        for row in shipped[split]:
            assert texts.setdefault(row["gloss"], row["text"]) == row["text"] == gloss_to_english(row["gloss"])
            assert row["text"][0].isupper() and row["text"][-1] in ".?" and (row["name"] or "") in row["text"]


def test_spans_follow_the_gloss_and_leave_room_for_transitions(shipped):
    for row in shipped["test"] + shipped["train"][:300]:
        spelled = "".join(w[3:].lower() + " " if w.startswith("fs-") else "" for w in row["gloss"].split()).strip()
        labels = [s["label"] for s in row["signs"]]
        expected = [label for label, _ in cafe_grammar.labels_of(row["gloss"])]
        assert labels == expected and (row["name"] or "").lower() == spelled
        assert all(sign["take"].split("/")[1] == sign["label"] for sign in row["signs"])
        gaps = [b["start"] - a["end"] for a, b in zip(row["signs"], row["signs"][1:], strict=False)]
        assert all(3 <= gap <= 5 for gap in gaps)
        assert row["signs"][0]["start"] == 0 and row["signs"][-1]["end"] == row["num_frames"]


def test_the_data_fits_into_git():
    files = [file for folder in ("data", "clips") for file in (CAFE / folder).iterdir()]
    assert len(files) >= 6 + 6 and sum(file.stat().st_size for file in files) <= 24e6


def test_recombination_says_new_things_with_the_signs_of_train(tmp_path):
    """Every sign is cut out of an utterance of train, frame by frame; what tests keep from training stays unsaid."""
    some = pq.read_table(CAFE / "data" / "train.parquet").slice(0, 60)
    (tmp_path / "cafe" / "data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        pq.write_table(some, tmp_path / "cafe" / "data" / f"{split}.parquet")
    arguments = ["--data", str(tmp_path / "cafe"), "--count", "60", "--out"]
    assert recombine.main([*arguments, str(tmp_path / "before")]) == 0
    asked = pq.read_table(tmp_path / "before" / "train_recombined.parquet")["gloss"].to_pylist()
    asked = [gloss for gloss in asked if len(combination(gloss).split()) > 3]  # words on their own have no end
    held_out = some.slice(0, len(asked)).set_column(some.column_names.index("gloss"), "gloss", [asked])
    pq.write_table(held_out, tmp_path / "cafe" / "data" / "test.parquet")
    assert recombine.main([*arguments, str(tmp_path / "out")]) == 0
    assert recombine.main([*arguments, str(tmp_path / "again")]) == 0
    assert digest(tmp_path / "out") == digest(tmp_path / "again")
    rows = pq.read_table(tmp_path / "out" / "train_recombined.parquet").to_pylist()
    assert len(rows) == 60 and len({row["text"] for row in rows}) > 50
    said = {combination(row["gloss"]) for row in rows}
    in_train = {combination(gloss) for gloss in some["gloss"].to_pylist()}
    unsaid = {combination(gloss) for gloss in asked} - in_train
    assert len(unsaid) > 10 and not said & unsaid and len(said - in_train) > 20
    frames = {}
    for row in some.to_pylist():
        for sign, (_, is_letter) in zip(row["signs"], cafe_grammar.labels_of(row["gloss"]), strict=True):
            frames[sign["take"], is_letter] = row["joints_mm"][sign["start"] : sign["end"]]
    for row in rows:
        assert row["text"] == gloss_to_english(row["gloss"])
        assert len(row["joints_mm"]) == row["num_frames"] == row["signs"][-1]["end"]
        labels = cafe_grammar.labels_of(row["gloss"])
        assert "".join(label for label, is_letter in labels if is_letter) == (row["name"] or "").lower()
        for sign, (label, is_letter) in zip(row["signs"], labels, strict=True):
            assert sign["label"] == label
            assert row["joints_mm"][sign["start"] : sign["end"]] == frames[sign["take"], is_letter]
    assert len(MotionText(str(tmp_path / "out"), "train", 20.0)) == 120


def test_recombination_of_further_people(tmp_path):
    """Who spells a word spells all of it, as far as takes go; small talk that a test asks for stays unsaid."""
    (tmp_path / "cafe" / "data").mkdir(parents=True)
    parts = {split: pq.read_table(CAFE / "data" / f"{split}.parquet") for split in ("train", MORE, SMALL_TALK)}
    more = parts[MORE].take([*range(40), *range(600, 640)])
    for split, rows in (("train", parts["train"].slice(0, 60)), (MORE, more), (SMALL_TALK, parts[SMALL_TALK])):
        pq.write_table(rows, tmp_path / "cafe" / "data" / f"{split}.parquet")
    for split in ("validation", "test"):
        pq.write_table(parts["train"].slice(0, 1), tmp_path / "cafe" / "data" / f"{split}.parquet")
    arguments = ["--data", str(tmp_path / "cafe"), "--count", "150", "--more", "--out", str(tmp_path / "out")]
    assert recombine.main(arguments) == 0
    rows = pq.read_table(tmp_path / "out" / "train_recombined.parquet").to_pylist()
    asked = {combination(gloss) for gloss in parts[SMALL_TALK]["gloss"].to_pylist()}
    said = {combination(row["gloss"]) for row in rows}
    assert not said & asked and {word for gloss in said for word in gloss.split()} >= {"BYE", "HOW-MUCH", "FATHER"}
    spelled = Counter()
    for row in rows:
        letters = [sign["take"] for sign in row["signs"] if sign["take"].startswith("letters")]
        spelled[frozenset(map(recombine._person, letters))] += 1
    assert spelled[frozenset(["borisgraudt"])] > 10 and spelled[frozenset(["first-three"])] > 10
    assert len(MotionText(str(tmp_path / "out"), "train", 20.0)) == 60 + 80 + 150

    assert recombine.main([*arguments, "--without", "borisgraudt"]) == 0
    seen = {"train": set(), "test": set()}
    for file in (tmp_path / "out").glob("*.parquet"):
        for row in pq.read_table(file, columns=["signs"])["signs"].to_pylist():
            seen[file.name[:5] if file.name.startswith("train") else "test"] |= {
                recombine._person(sign["take"]) for sign in row if file.name != "validation.parquet"
            }
    assert seen == {"train": {"first-three", "tamtridung", "dmohazab"}, "test": {"borisgraudt"}}
    test = pq.read_table(tmp_path / "out" / "test.parquet")["text"].to_pylist()
    assert {f"{letter.upper()}." for letter in cafe_grammar.LETTERS} <= set(test) and len(test) == 26 * 5 + 100
    assert recombine.main([*arguments, "--without", "nobody"]) == 2

    assert recombine.main(arguments) == 0 and not (tmp_path / "out" / "test.parquet").exists()
    own = tmp_path / "cafe" / "data"
    assert recombine.main([*arguments[:-1], str(own)]) == 2 and (own / "test.parquet").exists()
    assert recombine.main([*arguments, "--without", "first-three"]) == 0  # into the folder that has them
    for file in (tmp_path / "out").glob("train*.parquet"):
        for row in pq.read_table(file, columns=["signs"])["signs"].to_pylist():
            assert "first-three" not in {recombine._person(sign["take"]) for sign in row}, file.name


def test_recombination_never_spells_what_a_test_asks_for():
    assert "Raj" in cafe_grammar.split_names(cafe_grammar.read_names(), seed=0)["test"]
    stream = recombine.words(["Rx", "xaj"], ["q"], np.random.default_rng(0))
    made = {next(stream) for _ in range(200)}
    assert {"rj", "xx", "qq"} <= made and "raj" not in made


def test_bodies_are_upright_people_in_metres(shipped):
    every = [np.asarray(clip) for clip in load_split(str(CAFE), "test").with_format("numpy")["joints_mm"]]
    joint = {name: index for index, name in enumerate(JOINT_NAMES)}
    seen = {}
    for row, clip in zip(shipped["test"], every, strict=True):
        assert len(clip) == row["num_frames"]
        for sign in row["signs"]:  # the same take is the same frames, wherever it occurs
            frames = clip[sign["start"] : sign["end"]]
            key = (sign["take"], len(frames) if sign["label"] == "i" else 0)
            assert np.array_equal(seen.setdefault(key, frames), frames)
    joints = np.concatenate(every) / 1000

    def length(a, b):
        return np.median(np.linalg.norm(joints[:, joint[a]] - joints[:, joint[b]], axis=-1))

    assert 0 <= joints[..., 1].min() < 0.05 and 1.5 < np.median(joints[:, joint["head"], 1]) < 1.75
    assert 0.07 < length("right_wrist", "right_middle1") < 0.11  # a palm
    assert 0.25 < length("right_elbow", "right_wrist") < 0.37 and 0.25 < length("right_shoulder", "right_elbow") < 0.37
    assert (joints[:, joint["left_shoulder"], 0] > joints[:, joint["right_shoulder"], 0]).all()
    assert np.median(joints[:, joint["right_wrist"], 2]) > 0.1  # hands in front
    assert np.median(joints[:, joint["right_wrist"], 0]) < -0.1  # on their side
    steps = [np.abs(np.diff(clip[:, [20, 21]].astype(int), axis=0)).max() for clip in every]
    assert np.percentile(steps, 99) < 200  # millimetres a frame: no jump at a seam


def test_datasets_gives_typed_columns(tmp_path):
    import datasets

    rows = datasets.load_dataset(str(CAFE), split="validation", cache_dir=str(tmp_path))
    assert rows.features["joints_mm"].shape == (None, NUM_JOINTS, 3) and rows.features["joints_mm"].dtype == "int16"
    assert len(rows) == 300 and np.array(rows[0]["joints_mm"]).shape == (rows[0]["num_frames"], NUM_JOINTS, 3)
    assert rows[0]["signs"][0]["label"] == rows[0]["gloss"].split()[0].lower()


def test_clips_are_test_utterances_that_load_motion_reads(shipped):
    texts = json.loads((CAFE / "data" / "build.json").read_text())["clips"]
    rows = {f"{row['id']}.npz": row for row in shipped["test"]}
    assert {path.name for path in (CAFE / "clips").iterdir()} == set(texts) and len(texts) == 6
    assert sum(rows[name]["name"] is not None for name in texts) == 2
    for name, text in texts.items():
        motion = load_motion(CAFE / "clips" / name)
        assert (rows[name]["text"], rows[name]["num_frames"], 15.0) == (text, motion.num_frames, motion.fps)


def test_the_card_gives_the_counts_of_the_build():
    report = json.loads((CAFE / "data" / "build.json").read_text())
    card = (CAFE / "README.md").read_text(encoding="utf-8")
    for split, statistics in report["splits"].items():
        row = [split, *(str(statistics[column]) for column in build.TABLE_COLUMNS)]
        assert f"| {' | '.join(row)} |" in card
    assert "no claim" in card and "MIT" in card and "traduttore" in card


# --- the rules by themselves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gloss, text",
    [
        ("HELLO CAN I GET LARGE COFFEE SMALL TEA PLEASE", "Hello, can I get a large coffee and a small tea, please?"),
        ("fs-EMMA", "Emma."),
        ("HELLO I fs-EMMA", "Hello, I am Emma."),
        ("HELLO fs-EMMA COFFEE", "Hello, Emma. A coffee."),
        ("CAN I GET MEDIUM COFFEE fs-EMMA PLEASE", "Can I get a medium coffee for Emma, please?"),
        ("CAN fs-EMMA GET TEA", "Can Emma get a tea?"),
        ("THANK-YOU fs-EMMA", "Thank you, Emma."),
        ("NO SMALL TEA PLEASE", "No, a small tea, please."),
        ("NO TEA PLEASE", "No, a tea, please."),
        ("NO MUFFIN THANK-YOU", "No muffin, thank you."),
        ("NO THANK-YOU", "No, thank you."),
        ("NO WATER fs-OMAR", "No water for Omar."),
        ("NO WATER fs-OMAR PLEASE", "No, a water for Omar, please."),
        ("NO I fs-EMMA", "No, I am Emma."),
        ("I GET TEA WATER LARGE MUFFIN NO COFFEE", "I will get a tea, a water and a large muffin. No coffee."),
        ("GET WATER THANK-YOU I fs-MAX", "Get a water. Thank you. I am Max."),
        ("HELLO YOU HUNGRY", "Hello, are you hungry?"),
        ("I SAD BYE FATHER", "I am sad. Bye, father."),
        ("GOOD-JOB FATHER FATHER HAPPY", "Good job, father. Father is happy."),
        ("GOOD-JOB FATHER HAPPY", "Good job. Father is happy."),
        ("HOW-MUCH LARGE TEA I-LOVE-YOU fs-MAX", "How much is a large tea? I love you, Max."),
        ("HOW-MUCH THANK-YOU", "How much? Thank you."),
    ],
)
def test_grammar(gloss, text):
    assert gloss_to_english(gloss) == text


@pytest.mark.parametrize("gloss", ["CAN I", "LARGE", "fs-EMMA COFFEE", "COFFEE SMALL", "HELLO WORLD", "TEAS"])
def test_glosses_outside_the_grammar_are_refused(gloss):
    with pytest.raises(ValueError, match="cafe grammar"):
        gloss_to_english(gloss)


def test_blocks_to_splits():
    three = [*range(0, 40), *range(60, 70)]
    expected = ["train"] * 30 + ["validation"] * 10 + ["test"] * 10
    assert build.split_takes(three) == dict(zip(three, expected, strict=True))
    two = build.split_takes([35, 31, *range(20)])
    assert [two[take] for take in (0, 14, 15, 19, 31, 35)] == ["train", "train"] + ["validation"] * 2 + ["test"] * 2
    assert set(build.split_takes([3, 4, 5]).values()) == {"train"}


def test_names_are_plain_and_split_by_themselves():
    names = cafe_grammar.read_names()
    assert len(names) > 500 and all(re.fullmatch("[A-Z][a-z]{2,6}", name) for name in names)
    letters = Counter("".join(names).lower())
    assert set(letters) == set(string.ascii_lowercase) and min(letters.values()) >= 15
    parts = cafe_grammar.split_names(names, 0)
    assert sorted(sum(parts.values(), [])) == names and len(parts["train"]) >= 0.75 * len(names)
    fewer = cafe_grammar.split_names(names[::2], 0)
    assert all(set(fewer[split]) <= set(parts[split]) for split in SPLITS)
    assert cafe_grammar.split_names(names, 1) != parts


def test_sentences_depend_on_seed_and_labels_only():
    first = compose("train", 50, seed=3, labels=ALL_LABELS)
    assert first == compose("train", 50, seed=3, labels=sorted(ALL_LABELS))
    assert first != compose("train", 50, seed=4, labels=ALL_LABELS)
    few = compose("test", 30, seed=3, labels={"coffee", "tea", "small", "please", "get", "a", "n"}, train=first)
    assert {word for s in few for word in s.gloss.split()} <= {"COFFEE", "TEA", "SMALL", "PLEASE", "GET", "fs-ANA"}
    with pytest.raises(ValueError, match="allow no utterance"):
        compose("test", 1, seed=0, labels={"hello", "a"})


def test_the_shipped_sentences_are_those_of_the_grammar(shipped):
    train = compose("train", len(shipped["train"]), seed=0, labels=ALL_LABELS)
    assert [s.gloss for s in train] == [row["gloss"] for row in shipped["train"]]
    test = compose("test", len(shipped["test"]), seed=0, labels=ALL_LABELS, train=train)
    assert [(s.gloss, s.seen) for s in test] == [(row["gloss"], row["seen_combination"]) for row in shipped["test"]]


def test_transitions_are_smooth():
    before = np.zeros((NUM_JOINTS, 3), np.int16)
    after = np.full((NUM_JOINTS, 3), 400, np.int16)
    frames = build.transition(before, after)
    assert frames.shape == (5, NUM_JOINTS, 3) and frames.dtype == np.int16
    path = np.concatenate([[0], frames[:, 20, 0], [400]]).astype(int)
    steps = np.diff(path)
    assert (steps > 0).all() and steps[0] < steps[2] > steps[-1] and np.abs(path + path[::-1] - 400).max() <= 2
    assert len(build.transition(before, before + np.int16(10))) == 3


# --- a build from a tiny raw folder -----------------------------------------------------------------------------------


def tiny_raw(folder, labels=("coffee", "tea", "small", "large", "get", "please", "i", "hello", "a"), takes=(0, 31, 62)):
    """A raw folder of the real layout: few labels, noise around one pose; letters.npz spells a, n and d."""
    rng = np.random.default_rng(5)
    pose = np.full((25, 4), 0.5)
    for landmark, x, y in ((0, 0.5, 0.3), (7, 0.53, 0.3), (8, 0.47, 0.3), (11, 0.6, 0.5), (12, 0.4, 0.5)):
        pose[landmark, :2] = x, y
    for landmark, x, y in ((13, 0.65, 0.75), (14, 0.35, 0.75), (15, 0.65, 0.95), (16, 0.35, 0.5)):
        pose[landmark, :2] = x, y
    hand = np.stack([0.35 + 0.01 * (np.arange(21) // 4), 0.5 - 0.01 * (np.arange(21) % 5), np.zeros(21)], axis=-1)

    def noisy(array, count):
        return (array + rng.normal(0, 0.004, (count, 20, *array.shape))).astype(np.float16)

    words = [(label, take) for label in labels for take in takes]
    letters = [(label, take) for label in "an-d" for take in takes]
    arrays = {"pose": noisy(pose, len(words)), "right_hand": noisy(hand, len(words))}
    arrays["pose"][1, 7] = 0  # lost in one frame: dropped
    arrays["right_hand"][3, 4:] = 0  # signing hand hardly seen: dropped
    of_letters = {"right_hand": noisy(hand + 0.1, len(letters))}
    for name, rows, data in (("words", words, arrays), ("letters", letters, of_letters)):
        labels, numbers = zip(*rows, strict=True)
        data |= {"left_hand": np.zeros_like(data["right_hand"]), "labels": labels, "take": np.array(numbers, np.int32)}
        np.savez_compressed(folder / f"{name}.npz", **data)
    return folder


def digest(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def raw_folder(tmp_path_factory):
    return tiny_raw(tmp_path_factory.mktemp("raw"))


def test_a_test_split_from_other_takes(raw_folder, tmp_path):
    command = [sys.executable, str(CAFE / "build.py"), "--raw", str(raw_folder), "--split", "test", "--limit", "25"]
    done = subprocess.run([*command, "--out", str(tmp_path / "one")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "| test | 25 |" in done.stdout, done.stderr
    assert build.main([*command[2:], "--out", str(tmp_path / "two")]) == 0
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert set(digest(tmp_path / "one")) == {"data/test.parquet", "data/build.json"}
    rows = pq.read_table(tmp_path / "one" / "data" / "test.parquet").to_pylist()
    used = takes_of(rows)
    assert "words/coffee/0" in used and "words/coffee/31" not in used and "words/tea/0" not in used
    assert any(take.startswith("letters/n") for take in used)
    words = {word for row in rows for word in row["gloss"].split() if not word.startswith("fs-")}
    assert words == {"COFFEE", "TEA", "SMALL", "LARGE", "GET", "PLEASE", "I", "HELLO"}
    assert json.loads((tmp_path / "one" / "data" / "build.json").read_text())["dropped"] == {
        "pose lost in a frame": ["words/coffee/31"],
        "signing hand lost in half of the frames": ["words/tea/0"],
    }


def test_strangers_say_what_their_labels_allow(raw_folder, tmp_path, capsys):
    """Ann said two words, in takes of 12 frames; of Bob there are single frames of letters in a mirrored picture."""
    new = tmp_path / "raw"
    new.mkdir()
    with np.load(tiny_raw(new, labels=("hello", "thank-you"), takes=range(8)) / "words.npz") as file:
        words = dict(file)
    (new / "letters.npz").unlink()
    for key in ("pose", "left_hand", "right_hand"):
        words[key][:, 12:] = 0
    count = len(words["labels"])
    words |= {"signer": np.full(count, "Ann"), "num_frames": np.full(count, 12)}
    np.savez(new / "words.npz", **words)
    hand = np.zeros((100, 21, 3))
    hand[..., 0] = 0.7 + 0.01 * (np.arange(21) // 4)  # the middle finger is right of the wrist, in the mirror
    hand[..., 1] = 0.5 - 0.01 * (np.arange(21) % 5)
    np.savez(new / "letters_frames.npz", hand=hand, labels=np.repeat([*"adn-"], 25), frame=np.tile(np.arange(25), 4))
    command = ["--raw", str(new), "--out", str(tmp_path / "out"), "--split", "strangers", "--limit", "40"]
    assert build.main([*command, "--bodies", str(raw_folder)]) == 0
    rows = pq.read_table(tmp_path / "out" / "data" / "strangers.parquet").to_pylist()
    of = {name: [row for row in rows if row["signer"] == name] for name in ("Ann", "letters")}
    assert len(rows) == 80 and all(len(part) == 40 for part in of.values())
    assert [row["id"] for row in rows] == [f"strangers-{number:04d}" for number in range(80)]
    assert {row["text"] for row in of["Ann"]} == {"Hello.", "Thank you."}
    assert all(take.startswith("words/Ann/") for take in takes_of(of["Ann"]))
    test_names = cafe_grammar.split_names(cafe_grammar.read_names(), seed=0)["test"]
    names = {row["name"] for row in of["letters"]}
    assert names and set("".join(names).lower()) <= set("adn") and names <= {*test_names}
    assert all(take.startswith("letters_frames/letters/") for take in takes_of(of["letters"]))
    # a right hand that points up, its index finger towards the person's left, which is +x
    wrist, index, pinky = (np.asarray(of["letters"][0]["joints_mm"])[5, joint] for joint in (21, 37, 43))
    assert index[1] > wrist[1] and index[0] > pinky[0]
    (new / "words.npz").unlink()
    capsys.readouterr()
    assert build.main(command) == 2 and "--bodies" in capsys.readouterr().err


def test_all_splits_and_another_seed(raw_folder, tmp_path):
    report = build.build(raw_folder, tmp_path / "a", limit=12)
    assert set(digest(tmp_path / "a")) >= {f"data/{split}.parquet" for split in SPLITS}
    for split, number in zip(SPLITS, ("0", "31", "62"), strict=True):
        rows = pq.read_table(tmp_path / "a" / "data" / f"{split}.parquet").to_pylist()
        assert {take.rsplit("/")[-1] for take in takes_of(rows)} == {number}
    assert list(report["splits"]) == list(SPLITS) and report["splits"]["test"]["utterances"] == 12
    build.build(raw_folder, tmp_path / "b", limit=12, seed=1)
    assert digest(tmp_path / "a")["data/test.parquet"] != digest(tmp_path / "b")["data/test.parquet"]


def test_a_borrowed_body_carries_the_hand(raw_folder):
    raw = build.read_raw(raw_folder, "test")
    take = next(take for take in raw.takes["test"] if take.id == "letters/d/0")
    donor = next(take for take in raw.takes["test"] if take.id == "words/a/0")
    body = build.borrow_body(take, donor)
    np.testing.assert_allclose(body.right_hand[:, 0, :2], body.pose[:, 16, :2], atol=1e-5)
    np.testing.assert_allclose(np.median(body.pose[:, 16], 0)[:2], np.median(donor.pose[:, 16], 0)[:2], atol=5e-3)
    assert take.pose is None and body.id == take.id and len(body.pose) == len(take.right_hand) == 19


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no usable take"),
        (lambda folder: (folder / "words.npz").write_bytes(b"PK\x03\x04 no zip"), "damaged"),
        (lambda folder: np.savez(folder / "words.npz", labels=np.array(["tea"])), "lacks"),
        (lambda folder: tiny_raw(folder, takes=(0, 1)), "falls into validation"),
        (lambda folder: tiny_raw(folder, labels=("hello", "i", "a")), "allow no utterance"),
    ],
)
def test_bad_raw_folders_end_in_one_line(tmp_path, capsys, break_it, message):
    raw = tmp_path / "raw"
    raw.mkdir()
    tiny_raw(raw)
    break_it(raw)
    assert build.main(["--raw", str(raw), "--out", str(tmp_path / "out"), "--limit", "3"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
