"""Joints that are no body in metres, or stand in another order, are refused by their proportions."""

import numpy as np
import pytest
from motion_corpus import cafe, signer

from lslm.processing import MotionFileError, load_motion
from lslm.processing.readers.proportions import check_proportions

TO_TIP = [*range(22), *(first + bone for first in range(22, 52, 3) for bone in (2, 1, 0))]
THUMB_FIRST = [*range(22), *(first + bone for first in (34, 22, 25, 31, 28) for bone in range(3))]
THUMB_FIRST += [joint + 15 for joint in THUMB_FIRST[22:]]


def boxed(joints):
    return (joints - joints.min((0, 1))) / np.ptp(joints)


CHANGES = {
    "feet": (lambda joints: joints / 0.3048, "metres; scale them"),
    "statures": (lambda joints: joints / 1.75, "metres; scale them"),
    "a box": (boxed, "scaled to a box"),
    "the joints of SMPL-X": (lambda joints: np.insert(joints, [22] * 3, joints[:, [15]], axis=1)[:, :52], "order"),
    "from the tip": (lambda joints: joints[:, TO_TIP], "the left fingers are in another order"),
    "thumb first": (lambda joints: joints[:, THUMB_FIRST], "the left fingers are in another order"),
    "the right thumb first": (
        lambda j: j[:, [*range(37), *THUMB_FIRST[37:]]],
        "the right fingers are in another order",
    ),
    "from the parent": (lambda j: np.concatenate([j[:, :1], np.diff(j, axis=1)], axis=1), "in another order"),
}


@pytest.mark.parametrize("size", [0.7, 1.0, 1.2])
def test_a_child_and_a_tall_person_are_bodies(size):
    joints = signer(0)[1].joints * size
    assert check_proportions(joints, np.ones(joints.shape[:2], bool)) is None


@pytest.mark.parametrize("motion", [cafe(0), signer(1)[1]], ids=["signs", "made"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_units_and_orders_are_refused(change, motion):
    changed, message = CHANGES[change]
    valid = np.ones(motion.joints.shape[:2], bool)
    assert check_proportions(motion.joints, valid) is None
    with pytest.raises(MotionFileError, match=message):
        check_proportions(changed(motion.joints), valid)


def test_hands_that_are_not_seen_may_be_in_any_order():
    joints = signer(0)[1].joints[:, THUMB_FIRST]
    valid = np.ones(joints.shape[:2], bool)
    valid[:, 22:] = False
    assert check_proportions(joints, valid) is None and valid[:, :22].all()


def test_frames_in_one_point_are_missing(tmp_path):
    joints = signer(0)[1].joints.astype(np.float32)
    joints[10:15] = 0
    np.savez(tmp_path / "clip.npz", joints=joints, fps=25)
    motion = load_motion(tmp_path / "clip.npz")
    assert not motion.valid[10:15].any() and motion.valid[:10].all() and motion.valid[15:].all()
    assert "5 of 40 frames with all joints in one point, taken for missing" in [note.text for note in motion.notes]
