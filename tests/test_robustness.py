"""`lslm evaluate --robustness`: each condition is what its name says, and what the features take away costs nothing."""

import numpy as np
import pytest
from conftest import make_clip

from lslm.processing.motion_features import LEFT_HAND, PARENTS, RIGHT_HAND, joints_to_features
from lslm.training.evaluation.robustness import CONDITIONS, changed

FPS = 20.0
CLIP = make_clip(60).astype(np.float32)


def under(condition, seed=0, index=0, clip=CLIP):
    return changed(clip, condition, FPS, seed, index).astype(np.float64)


@pytest.fixture(scope="module")
def clean():
    """The clip as conditions get it: with a condition that changes nothing."""
    CONDITIONS["nothing"] = lambda joints, rng, fps: joints
    joints = under("nothing")
    del CONDITIONS["nothing"]
    return joints


def test_a_clip_faces_the_camera(clean):
    across = clean[0, 1] - clean[0, 2] + clean[0, 16] - clean[0, 17]
    assert across[0] > 0 and abs(across[2]) < 1e-6 and abs(clean[0, 0]).max() == 0
    np.testing.assert_allclose(joints_to_features(clean), joints_to_features(CLIP.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("axis, name", [(0, "pitched by 10"), (1, "turned by 45"), (2, "rolled by 10")])
def test_the_camera_turns(clean, axis, name):
    seen = set()
    for index in range(8):
        joints = under(f"camera {name} degrees", index=index)
        np.testing.assert_allclose(joints[..., axis], clean[..., axis], atol=1e-6)
        b, c = (axis + 1) % 3, (axis + 2) % 3
        before, after = (clip[:, 1:, b] + 1j * clip[:, 1:, c] for clip in (clean, joints))
        angles = np.angle(after / before)
        seen.add(round(np.rad2deg(np.median(angles))))
    degrees = int(name.split()[-1])
    assert seen == {-degrees, degrees}


def test_depth_and_speed(clean):
    np.testing.assert_allclose(under("depth x 0.7"), clean * [1, 1, 0.7], atol=1e-6)
    for name, factor in (("1.5 times faster", 1 / 1.5), ("1.5 times slower", 1.5), ("2 times slower", 2.0)):
        joints = under(name)
        assert abs(len(joints) - 1 - factor * (len(clean) - 1)) < 1
        middle = joints[round(30 * factor)]
        assert np.abs(middle - clean[29:32]).max(axis=(1, 2)).min() < 0.02
    np.testing.assert_allclose(under("2 times slower")[::2], clean, atol=1e-6)


def test_half_of_the_frames_are_lost(clean):
    same = (np.abs(under("half of the frames lost") - clean).max((1, 2)) < 1e-6).sum()
    assert same == 30


@pytest.mark.parametrize(
    "name, deviation", [("noise of 2 mm", 0.002), ("noise of 4 mm", 0.004), ("drift of 4 mm", 0.004)]
)
def test_tremor_and_drift_are_as_large_as_they_say(clean, name, deviation):
    off = np.concatenate([under(name, index=index) - clean for index in range(20)], axis=1)
    steps = np.diff(off, axis=0).std() / off.std()
    if name.startswith("noise"):
        assert off.std() == pytest.approx(deviation, rel=0.02) and steps == pytest.approx(2**0.5, rel=0.05)
    else:  # between two places it is nearer to the middle
        assert 0.7 * deviation < off.std() <= deviation and steps < 0.1


def test_hands_are_lost_now_and_then(clean):
    joints = under("hands lost for half a second")
    for hand in (LEFT_HAND, RIGHT_HAND):
        lost = np.abs(joints[:, hand] - clean[:, hand]).max((1, 2)) > 1e-6
        assert 5 <= lost.sum() <= 20
    np.testing.assert_allclose(joints[:, :22], clean[:, :22], atol=1e-6)


def test_left_handed_and_other_bones(clean):
    left = under("left-handed")
    np.testing.assert_allclose(left[:, RIGHT_HAND] * [-1, 1, 1], clean[:, LEFT_HAND], atol=1e-6)
    lengths = [np.linalg.norm(clip[:, 1:] - clip[:, PARENTS[1:]], axis=-1) for clip in (under("other bones"), clean)]
    ratio = lengths[0] / lengths[1]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-3)
    assert np.abs(ratio[0] - 1).max() > 0.02


def test_a_condition_is_the_same_for_the_same_seed():
    for condition in CONDITIONS:
        np.testing.assert_array_equal(under(condition), under(condition))
    assert not np.array_equal(under("noise of 2 mm", seed=1), under("noise of 2 mm"))
    assert not np.array_equal(under("noise of 2 mm", index=1), under("noise of 2 mm"))
