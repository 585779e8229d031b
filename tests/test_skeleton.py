"""The skeleton that travels with a checkpoint: its numbers are those of anthropometry."""

import numpy as np
from anthropometry import hands_at_rest, t_pose

from lslm.processing import skeleton


def test_the_numbers_follow_from_published_means():
    derived = t_pose()
    assert derived.keys() == skeleton.T_POSE.keys()
    for name, place in derived.items():
        np.testing.assert_allclose(skeleton.T_POSE[name], place, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(skeleton.HANDS_MEAN, hands_at_rest(), atol=1e-6)
