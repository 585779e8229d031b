"""Repairs: which gaps are filled and how."""

import numpy as np
import pytest
from conftest import make_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from lslm.processing.motion import Motion
from lslm.processing.motion_features import LEFT_HAND, PARENTS, RIGHT_HAND
from lslm.processing.readers.motion_repair import MAX_GAP, repair_motion


def motion_of(joints, fps=20.0):
    return Motion(joints.astype(np.float32), fps, np.isfinite(joints).all(-1))


@pytest.fixture
def clip():
    return make_clip(40)


def test_a_whole_clip_stays_as_it_is(clip):
    motion = motion_of(clip)
    repaired, filled = repair_motion(motion)
    assert np.array_equal(repaired.joints, motion.joints) and repaired.joints.dtype == np.float32 and not filled


@given(start=st.integers(1, 30), length=st.integers(1, 8), joint=st.integers(0, 51))
@settings(max_examples=40, deadline=None)
def test_short_gaps_are_filled_and_nothing_else_is_touched(start, length, joint):
    motion = motion_of(make_clip(40))
    whole = motion.joints.copy()
    motion.joints[start : start + length, joint] = np.nan
    lost = np.isnan(motion.joints)
    repaired, filled = repair_motion(motion)
    assert np.isnan(motion.joints).sum() == 3 * length  # the caller's clip is not edited
    assert np.array_equal(repaired.joints[~lost], whole[~lost]) and filled == (length <= MAX_GAP)
    if length > MAX_GAP:
        assert np.array_equal(np.isnan(repaired.joints), lost)
        return
    bone = repaired.joints[:, joint] - (repaired.joints[:, PARENTS[joint]] if joint else 0)
    inside = bone[start - 1 : start + length + 1].astype(np.float64)
    assert np.allclose(np.diff(inside, 2, axis=0), 0, atol=1e-6)  # a straight line as seen from the parent


def test_a_hand_stays_on_a_moving_arm(clip):
    still = clip.copy()
    for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
        still[:, hand] = clip[:, [wrist]] + (clip[0, hand] - clip[0, wrist])  # the arm moves, the fingers do not
    motion = motion_of(still)
    motion.joints[10:14, LEFT_HAND] = np.nan
    motion.joints[20:23, RIGHT_HAND] = np.nan
    assert np.allclose(repair_motion(motion)[0].joints, still, atol=1e-6)


def test_an_arm_that_is_lost_as_a_whole_is_filled_from_the_elbow_out(clip):
    motion = motion_of(clip)
    motion.joints[10:13, [20, *LEFT_HAND]] = np.nan
    motion.joints[30:32] = np.nan  # and a frame without anybody
    repaired, _ = repair_motion(motion)
    assert np.isfinite(repaired.joints).all() and not repaired.valid[10:13, 20].any()
    assert np.allclose(repaired.joints[30], motion.joints[29] * 2 / 3 + motion.joints[32] / 3, atol=1e-6)


def test_gaps_at_the_ends_stay_open(clip):
    motion = motion_of(clip)
    motion.joints[:2, RIGHT_HAND] = np.nan
    motion.joints[-1, RIGHT_HAND] = np.nan
    repaired, filled = repair_motion(motion)
    assert np.array_equal(np.isnan(repaired.joints), np.isnan(motion.joints)) and not filled
