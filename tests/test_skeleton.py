"""The skeleton that travels with a checkpoint: its numbers are those of anthropometry, its poses those of SMPL-X."""

import numpy as np
import pytest
from anthropometry import hands_at_rest, t_pose

from lslm.processing import skeleton
from lslm.processing.readers.body_model import built_in_skeleton, smplx_to_joints


def test_the_numbers_follow_from_published_means():
    derived = t_pose()
    assert derived.keys() == skeleton.T_POSE.keys()
    for name, place in derived.items():
        np.testing.assert_allclose(skeleton.T_POSE[name], place, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(skeleton.HANDS_MEAN, hands_at_rest(), atol=1e-6)


@pytest.mark.parametrize("flat", [True, False])
def test_a_pose_is_what_a_model_file_of_this_body_would_give(flat):
    rng = np.random.default_rng(0)
    params = {name: rng.normal(0, 0.8, (7, width)) for name, width in skeleton.POSE_WIDTHS.items()}
    params |= {"transl": rng.normal(size=(7, 3)), "betas": rng.normal(size=(7, 10))}
    params["body_pose"][2] = 0
    params["left_hand_pose"][3, 0] = np.nan
    expected = smplx_to_joints(params, built_in_skeleton(), flat_hand_mean=flat)
    found = skeleton.neutral_joints(params, flat_hand_mean=flat)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(found[3]).any() and np.isfinite(found[[0, 1, 2, 4, 5, 6]]).all()
