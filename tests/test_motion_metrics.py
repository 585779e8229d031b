"""Scores of motion against numbers worked out by hand and against what must hold for any motion."""

import numpy as np
import pytest

from lslm.processing.motion_features import LEFT_HAND, NUM_JOINTS, RIGHT_HAND
from lslm.training.evaluation.motion_metrics import (
    code_usage,
    frechet_distance,
    motion_errors,
    nearest_neighbour_accuracy,
    procrustes,
    sign_descriptor,
)


def moved(joints, which, metres):
    joints = joints.copy()
    joints[:, which] += metres
    return joints


def test_errors_of_signing_of_a_known_shift():
    joints = a_clip()
    parts = ("upper_body", "hands", "left_hand_wrist_aligned", "right_hand_wrist_aligned")

    def errors(decoded):
        scores = motion_errors([joints], [decoded], FPS)
        return [scores[f"{part}_mm"] for part in parts]

    shift = np.array([0.003, 0.0, -0.004])  # 5 mm
    assert errors(joints) == [0, 0, 0, 0]
    assert errors(joints + shift) == pytest.approx([0, 0, 0, 0], abs=1e-9)  # the whole body: aligned at the root
    # right arm from the wrist on: 1 of 14 joints of the upper body, 15 of 30 finger joints; the hand itself is right
    assert errors(moved(joints, [21, *RIGHT_HAND], shift)) == pytest.approx([5 / 14, 2.5, 0, 0], abs=1e-9)
    assert errors(moved(joints, LEFT_HAND, shift)) == pytest.approx([0, 2.5, 5, 0], abs=1e-9)
    assert errors(moved(joints, [20], shift)) == pytest.approx([5 / 14, 0, 5, 0], abs=1e-9)
    assert errors(moved(joints, [4, 5, 10], shift)) == pytest.approx([0, 0, 0, 0], abs=1e-9)  # legs do not sign
    assert errors(moved(joints, [0], shift)) == pytest.approx([5 * 13 / 14, 5, 0, 0], abs=1e-9)  # the root itself


def test_code_usage():
    assert code_usage(np.repeat(np.arange(8), 5)[:, None], 8) == {"codes_used": 8, "perplexity": pytest.approx(8)}
    assert code_usage(np.full((9, 1), 3), 8) == {"codes_used": 1, "perplexity": pytest.approx(1)}
    # half of the time one code, half of it two others
    rows = np.array([[0], [0], [1], [2]])
    assert code_usage(rows, 512) == {"codes_used": 3, "perplexity": pytest.approx(2**1.5)}
    # two parts: one with a single code, one with four
    rows = np.array([[0, 8], [0, 9], [0, 10], [0, 11]])
    assert code_usage(rows, 16) == {"codes_used": 5, "perplexity": pytest.approx(2)}


def test_nearest_neighbour_accuracy_by_hand():
    known = np.array([[0.0, 0.0], [10.0, 0.0], [100.0, 100.0]])
    query = np.array([[1.0, 0.0], [6.0, 0.0], [4.0, 1.0], [70.0, 60.0]])
    assert nearest_neighbour_accuracy(known, ["a", "b", "c"], query, ["a", "b", "b", "c"]) == 75
    assert nearest_neighbour_accuracy(known, ["a", "a", "c"], query, ["a", "a", "a", "a"]) == 75


@pytest.mark.parametrize("frames", [1, 2, 3, 16, 40])
def test_a_sign_of_any_length_has_a_descriptor(frames):
    joints = np.random.default_rng(frames).normal(size=(frames, NUM_JOINTS, 3))
    descriptor = sign_descriptor(joints)
    assert descriptor.shape == (16 * (4 + 15 + 15) * 3,) and np.isfinite(descriptor).all()
    # where the person stands does not matter, what the arms do does
    assert np.allclose(sign_descriptor(joints + 1.0), descriptor)
    assert not np.allclose(sign_descriptor(moved(joints, [21, *RIGHT_HAND], 0.1)), descriptor)


def test_two_frames_are_interpolated():
    joints = np.zeros((2, NUM_JOINTS, 3))
    joints[1, 18] = 1.0
    arms = sign_descriptor(joints)[: 16 * 4 * 3].reshape(16, 4, 3)
    assert np.allclose(arms[:, 0] / arms[-1, 0], np.linspace(0, 1, 16)[:, None]) and not arms[:, 1:].any()


def test_the_same_sign_signed_slower_is_its_nearest_neighbour():
    signs = np.random.default_rng(0).normal(size=(5, 4, NUM_JOINTS, 3))
    known = np.stack([sign_descriptor(sign) for sign in signs])
    query = np.stack([sign_descriptor(sign.repeat(5, axis=0)) for sign in signs])
    assert nearest_neighbour_accuracy(known, list("abcde"), query, list("abcde")) == 100


# --- MPJPE, PA-MPJPE, accelerations -----------------------------------------------------------------------------------

FPS = 20.0
UNITS = ("mpjpe_{}mm", "pa_mpjpe_{}mm", "accel_{}mm_per_frame2", "accel_{}m_per_s2", "accel_{}percent")
PARTS = ("", "body_", "left_hand_", "right_hand_")


def a_clip(frames=9, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, (frames, NUM_JOINTS, 3))


def rotations(count, seed=0):
    """(count, 3, 3) rotations, no mirror among them."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(count, 3, 3)))[0]
    return q * np.sign(np.linalg.det(q))[:, None, None]


def similar(clip, seed=1):
    """Each frame turned, scaled and moved in a way of its own."""
    rng = np.random.default_rng(seed)
    scale, shift = rng.uniform(0.2, 5, (len(clip), 1, 1)), rng.normal(size=(len(clip), 1, 3))
    return scale * clip @ rotations(len(clip), seed) + shift


def test_motion_errors_of_a_known_shift():
    clip, shift = a_clip(), np.array([0.003, 0.0, -0.004])  # 5 mm
    errors = motion_errors([clip], [moved(clip, RIGHT_HAND, shift)], FPS)
    assert {unit.format(part) for unit in UNITS for part in PARTS} < set(errors)
    mpjpe = [errors[f"mpjpe_{part}mm"] for part in PARTS]
    assert mpjpe == pytest.approx([5 * 15 / 52, 0, 0, 5], abs=1e-9)
    # a part is fitted on its own: the hand's shape is right, whatever its place; that of the whole is not
    fitted = [errors[f"pa_mpjpe_{part}mm"] for part in PARTS]
    assert fitted[1:] == pytest.approx([0, 0, 0], abs=1e-9) and 0.5 < fitted[0] < 5
    # the body is 22 joints, wrists and legs included, none of the fingers
    body = motion_errors([clip], [moved(clip, [4, 21], shift)], FPS)
    assert [body[f"mpjpe_{part}mm"] for part in PARTS] == pytest.approx([10 / 52, 10 / 22, 0, 0], abs=1e-9)


def test_pa_mpjpe_does_not_see_similarity_transforms():
    clip = a_clip()
    errors = motion_errors([clip], [similar(clip)], FPS)
    assert all(errors[f"pa_mpjpe_{part}mm"] < 1e-9 < 100 < errors[f"mpjpe_{part}mm"] for part in PARTS)
    # and the fit is the same from wherever it starts
    other = a_clip(seed=5)
    assert np.allclose(procrustes(other, clip), procrustes(similar(other), clip))


def test_procrustes_fits_best_and_never_mirrors():
    points, target = a_clip(seed=2), a_clip(seed=3)
    best = ((procrustes(points, target) - target) ** 2).sum((1, 2))
    for seed in range(20):  # no other similarity is better, nor is leaving the points as they are
        assert (best <= ((similar(points, seed) - target) ** 2).sum((1, 2))).all()
    assert (best <= ((points - target) ** 2).sum((1, 2))).all()
    mirrored = a_clip() * [-1, 1, 1]
    assert np.linalg.norm(procrustes(mirrored, a_clip()) - a_clip(), axis=-1).mean() > 0.05
    # the best turn of a mirror image, searched by hand: half a turn about the axis that the mirror left alone
    flat = np.array([[4.0, 0, 0], [-4, 0, 0], [0, 3, 0], [0, -3, 0], [0, 0, 1], [0, 0, -1]])
    fitted = procrustes(flat * [1, 1, -1], flat)
    assert np.allclose(fitted, (50 - 2) / 52 * flat * [1, 1, -1])


def test_points_in_one_place_are_put_at_the_centre():
    target = a_clip(1)
    fitted = procrustes(np.full_like(target, 0.7), target)
    assert np.allclose(fitted, target.mean(1, keepdims=True))


def test_acceleration_error_by_hand():
    clip = a_clip(12)
    time = np.arange(12.0)[:, None, None]
    # a constant velocity more, another for each joint, and another place: no acceleration
    drifting = clip + 0.01 * time * a_clip(1, 7) + 0.3
    assert all(motion_errors([clip], [drifting], FPS)[f"accel_{p}mm_per_frame2"] < 1e-9 for p in PARTS)
    assert motion_errors([clip], [drifting], FPS)["mpjpe_mm"] > 1
    # 2 mm/frame^2 more in the left hand, for 20 frames a second: 0.8 m/s^2
    faster = moved(clip, LEFT_HAND, 0.001 * time**2 * [0.0, 1.0, 0.0])
    errors = motion_errors([clip], [faster], FPS)
    assert [errors[f"accel_{p}mm_per_frame2"] for p in PARTS] == pytest.approx([2 * 15 / 52, 0, 2, 0], abs=1e-9)
    assert errors["accel_left_hand_m_per_s2"] == pytest.approx(0.8)
    # half the movement, half the acceleration: an error of 50 %; nothing moves: 100 %
    assert motion_errors([clip], [clip / 2], FPS)["accel_percent"] == pytest.approx(50)
    still = np.repeat(clip[:1], 12, axis=0)
    assert motion_errors([clip], [still], FPS)["accel_body_percent"] == pytest.approx(100)
    # what never accelerates has no percentage
    assert "accel_percent" not in motion_errors([still], [clip], FPS)


def test_every_frame_counts_the_same_whichever_clip_it_is_in():
    clip, decoded = a_clip(12), a_clip(12, 1)
    whole = motion_errors([clip], [decoded], FPS)
    parts = motion_errors([clip[:5], clip[5:]], [decoded[:5], decoded[5:]], FPS)
    assert all(whole[name] == pytest.approx(parts[name]) for name in whole if "mpjpe" in name)
    # two frames have no acceleration, and do not spoil that of the others
    with_short = motion_errors([clip, clip[:2]], [decoded, decoded[:2]], FPS)
    assert with_short["accel_mm_per_frame2"] == pytest.approx(whole["accel_mm_per_frame2"])
    assert not any("accel" in name for name in motion_errors([clip[:2]], [decoded[:2]], FPS))


# --- Frechet distance -------------------------------------------------------------------------------------------------


def test_frechet_distance_by_hand():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(500, 6))
    assert frechet_distance(a, a + 0.5) == pytest.approx(6 * 0.25)  # moved: the squared distance of the means
    own = np.cov(a.T)
    assert frechet_distance(a, 3 * a) == pytest.approx(4 * np.trace(own) + 4 * (a.mean(0) ** 2).sum())
    # against the definition, where covariances do not commute
    b = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    other = np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(own @ other).real).sum()  # the product's eigenvalues are positive
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(own) + np.trace(other) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected) and expected > 1


@pytest.mark.parametrize("clips", [2, 10, 64, 300])
def test_frechet_distance_properties(clips):
    # fewer clips than numbers too: the covariances are singular
    rng = np.random.default_rng(clips)
    a, b = rng.normal(size=(2, clips, 64)).astype(np.float32)
    assert frechet_distance(a, a) < 1e-9
    assert frechet_distance(a, rng.permutation(a)) < 1e-9
    distance = frechet_distance(a, b)
    assert distance > 0.1 and distance == pytest.approx(frechet_distance(b, a))
    assert distance == pytest.approx(frechet_distance(rng.permutation(a), rng.permutation(b)))
    # neither the origin nor the axes matter
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    assert distance == pytest.approx(frechet_distance(a @ turn + 3, b @ turn + 3))
    # the further, the more
    noise = rng.normal(size=a.shape)
    near, far = (frechet_distance(a, a + size * noise) for size in (0.1, 1.0))
    assert near < far


def test_frechet_distance_of_two_clips_to_two_by_hand():
    # on one line: means 1 and 4, deviations sqrt(2) and 2 sqrt(2)
    assert frechet_distance([[0.0, 0], [2, 0]], [[2.0, 0], [6, 0]]) == pytest.approx(9 + 2)
    # on lines at right angles nothing is shared
    assert frechet_distance([[-1.0, 0], [1, 0]], [[0, -1.0], [0, 1]]) == pytest.approx(4)


def test_frechet_distance_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(np.ones((5, 4)), np.full((5, 4), np.nan))
