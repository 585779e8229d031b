"""Folders in which a detector numbered the people of each frame anew: one person is followed, or nobody is read."""

import json

import motion_writers as write
import numpy as np
import pytest

from lslm.processing import MotionFileError, load_motion
from lslm.processing.readers.people import check_one_person, follow
from lslm.processing.skeleton import HANDS_MEAN

FRAMES = 24


def a_folder(path, order, *, meta=False, transl=True, ways=None, numbers=None):
    """SMPLer-X's files of people whose parameters are those of `people`: `order(frame)` lists who is there. Places are
    metres to the side."""
    views = [write.camera_view(params, HANDS_MEAN) for params in people()]
    ways = np.array([0.5, -0.5, 1.5])[:, None] + np.zeros(FRAMES) if ways is None else ways
    (path / "smplx").mkdir(parents=True)
    (path / "meta").mkdir()
    for frame in range(FRAMES):
        for place, person in enumerate(order(frame)):
            name = f"{frame + 1:05}_{place if numbers is None else numbers[person]}"
            arrays = {key: views[person][key][frame][None] for key in write.HEAD} | {"betas": np.zeros((1, 10))}
            depth = 20 + 0.3 * np.sin(frame + person)
            if transl:
                arrays["transl"] = np.array([[ways[person][frame] * depth / 20, 0.7, depth]])
            np.savez(path / "smplx" / f"{name}.npz", **arrays)
            if meta:
                box = [500 + 400 * ways[person][frame], 100.0, 300 + 20 * np.sin(frame), 600.0]
                (path / "meta" / f"{name}.json").write_text(json.dumps({"bbox": box, "focal": [5000, 5000]}))
    return path


def people():
    return [write.a_motion(FRAMES, seed) for seed in (0, 7, 9)]


def assert_same(motion, person, frames=slice(None)):
    expected = write.joints_of(people()[person])
    np.testing.assert_allclose(*(x[frames] - x[frames, :1] for x in (motion.joints, expected)), atol=1e-3)


def swapping(frame):
    return (0, 1) if frame // 5 % 2 == 0 else (1, 0)


@pytest.mark.parametrize("meta, transl", [(True, False), (False, True), (True, True)])
def test_people_whose_numbers_swap(tmp_path, meta, transl):
    folder = a_folder(tmp_path / "clip", swapping, meta=meta, transl=transl)
    motion = load_motion(folder, fps=25)
    assert_same(motion, 0)
    assert motion.valid[:, 16:].all()
    (remark,) = [note for note in motion.notes if note.argument == "clip"]
    assert remark.text == "2 people, 0 in 24 frames, 1 in 24 frames: 0 is read" and remark.example == "1"
    assert_same(load_motion(folder, fps=25, clip="0"), 0)
    assert_same(load_motion(folder, fps=25, clip="1"), 1)
    with pytest.raises(MotionFileError, match="2 people in the file, none of them '2': 0, 1; pass clip='0'"):
        load_motion(folder, fps=25, clip="2")


def test_who_is_lost_stays_lost_and_is_nobody_else(tmp_path):
    def order(frame):  # the first is lost for a while, and comes back; the second goes; a third is there for a moment
        return [1] if frame in (5, 6, 7) else [0, 1] if frame < 12 else [2, 0] if frame == 15 else [0]

    folder = a_folder(tmp_path / "clip", order)
    motion = load_motion(folder, fps=25)
    there = np.setdiff1d(np.arange(FRAMES), (5, 6, 7))
    assert_same(motion, 0, there)
    assert any(note.text.startswith("3 of 24 frames missing") for note in motion.notes)
    assert "3 people, 0 in 21 frames, 1 in 12 frames, 2 in 1 frames: 0 is read" in [note.text for note in motion.notes]
    assert_same(load_motion(folder, fps=25, clip="1"), 1, np.arange(12))


def test_one_person_under_several_numbers(tmp_path):
    motion = load_motion(a_folder(tmp_path / "clip", lambda frame: (0, 1)[: 1 + (frame == 3)]), fps=25)
    assert_same(motion, 0)
    motion = load_motion(a_folder(tmp_path / "a", lambda frame: (0,), numbers=[4]), fps=25)
    assert_same(motion, 0)
    assert not any(note.argument == "clip" for note in motion.notes)
    with pytest.raises(MotionFileError, match="people in the file, none of them '1': 0"):
        load_motion(tmp_path / "a", fps=25, clip="1")


def test_who_takes_the_number_of_another_is_not_read_for_that_one(tmp_path):
    folder = a_folder(tmp_path / "clip", lambda frame: (0,) if frame < 14 else (1,), numbers=[0, 0])
    motion = load_motion(folder, fps=25)
    assert_same(motion, 0, np.arange(14))
    assert not motion.valid[14:].any()
    assert [note.example for note in motion.notes if note.argument == "clip"] == ["1"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"transl": False}, "several people in the frames, and nothing tells who is who"),
        ({"ways": np.zeros((3, FRAMES))}, "people too near to each other"),
        ({"ways": np.linspace([0.5, -0.5], [-0.5, 0.5], FRAMES).T, "meta": True}, "people too near to each other"),
    ],
)
def test_people_who_may_be_each_other_are_refused(tmp_path, options, message):
    with pytest.raises(MotionFileError, match=message):
        load_motion(a_folder(tmp_path / "clip", swapping, **options), fps=25)


def test_landmarks_of_several_people_are_refused(tmp_path):
    (tmp_path / "clip").mkdir()
    for name in ("1_0", "1_1", "2_0"):
        np.save(tmp_path / "clip" / f"{name}.npy", np.ones(258))
    with pytest.raises(MotionFileError, match="nothing tells who is who"):
        load_motion(tmp_path / "clip")


def test_who_is_left_alone_may_be_either_if_they_were_near():
    with pytest.raises(MotionFileError, match="frame 1: people too near"):
        follow([np.array([[0.0], [0.3]]), np.array([[0.15]])])
    assert follow([np.array([[0.0], [0.3]]), np.array([[0.29]])]) == [{0: 0}, {0: 1, 1: 0}]
    assert follow([np.zeros((0, 1)), np.array([[5.0]]), np.zeros((0, 1)), np.array([[0.0], [5.1]])]) == [
        {1: 0, 3: 1},
        {3: 0},
    ]


def test_a_crowd_is_refused():
    with pytest.raises(MotionFileError, match="over 100 people"):
        follow([np.arange(101.0)[:, None] * 3])


@pytest.mark.parametrize("number, each", [(2, "second"), (3, "third")])
def test_rows_of_people_in_turn_are_refused_and_those_of_each_are_not(number, each):
    everybody = np.stack([write.joints_of(params) for params in people()[:number]], axis=1)
    for person in range(number):
        check_one_person(everybody[:, person])
        check_one_person(everybody[:, person] + 1e-4 * (np.arange(FRAMES) % 2)[:, None, None])  # trembles
    with pytest.raises(MotionFileError, match=f"of {number} people in turn; keep each {each} frame"):
        check_one_person(everybody.reshape(-1, *everybody.shape[2:]))
