"""`lslm inspect`: the facts, the suspicious frames, the strip."""

import json
from dataclasses import replace

import lslm_cli
import motion_writers as write
import numpy as np
import pytest

from lslm.processing import Motion
from lslm.processing.motion_features import RIGHT_HAND
from lslm.processing.readers.inspection import as_ranges, draw_strip, inspect_motion
from lslm.processing.skeleton import HANDS_MEAN


@pytest.fixture(scope="module")
def motion():
    return Motion(write.joints_of(write.a_motion(60)).astype(np.float32), 25.0, np.ones((60, 52), bool))


def test_a_good_clip_has_nothing_suspicious(motion):
    facts = inspect_motion(motion)
    assert facts["suspicious"] == {} and facts["frames"] == 60 and facts["seconds"] == 2.4
    assert facts["left_hand"] == facts["right_hand"] == facts["observed"] == 100.0
    assert 0.5 < facts["size"]["pelvis to head"] < 0.8


FAULTS = {  # which frames and joints become what; the frames that are named
    "without a number": (slice(7, 9), 3, lambda joints: np.nan, [7, 8]),
    "faster": (30, RIGHT_HAND, lambda joints: joints[30, RIGHT_HAND] + 0.6, [30, 31]),
    "length": (30, RIGHT_HAND, lambda joints: joints[30, RIGHT_HAND] + 0.6, [30]),
    "frozen": (slice(20, 35), slice(None), lambda joints: joints[20], list(range(21, 35))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named_with_its_frames(motion, fault):
    changed_frames, changed_joints, value, named = FAULTS[fault]
    joints = motion.joints.copy()
    joints[changed_frames, changed_joints] = value(joints)
    suspicious = inspect_motion(replace(motion, joints=joints))["suspicious"]
    assert [frames for reason, frames in suspicious.items() if fault in reason] == [named]


def test_ranges():
    assert as_ranges([3, 4, 5, 9]) == "3-5, 9"
    assert as_ranges(list(range(0, 40, 2))).endswith("14, ... (20 frames)")


def test_the_strip_shows_figures_and_greys_what_was_guessed(motion, tmp_path):
    from matplotlib.image import imread

    draw_strip(motion, tmp_path / "seen.png")
    draw_strip(replace(motion, valid=np.zeros_like(motion.valid)), tmp_path / "guessed.png")
    seen, guessed = (imread(tmp_path / f"{name}.png")[..., :3] for name in ("seen", "guessed"))
    assert seen.shape[1] > 2 * seen.shape[0]
    colourful = [float((np.ptp(image, axis=-1) > 0.3).mean()) for image in (seen, guessed)]
    assert colourful[0] > 0.001 and colourful[1] == 0  # the hands are drawn in colours


def test_the_command(tmp_path, capsys):
    seen = np.arange(write.FRAMES) % 2 > 0
    good = write.signavatars(tmp_path / "good.pkl", write.a_motion(), HANDS_MEAN, left_valid=seen)
    (tmp_path / "bad.pkl").write_bytes(b"nothing")
    assert lslm_cli.main(["inspect", str(good), str(tmp_path / "bad.pkl"), "--png", str(tmp_path / "strips")]) == 2
    out, err = capsys.readouterr()
    assert "format      signavatars (SignAvatars `smplx`)" in out
    assert "left in 50 % of the frames, right in 100 %" in out
    assert "24 frames at 24 fps" in out and "--fps" in err and "bad.pkl" in err and "Traceback" not in err
    assert (tmp_path / "strips" / "good.png").stat().st_size > 5000
    picture = tmp_path / "new" / "strip.png"  # into a folder that is not there yet
    assert lslm_cli.main(["inspect", str(good), "--png", str(picture)]) == 0 and picture.is_file()
    (tmp_path / "other").mkdir()
    again = write.signavatars(tmp_path / "other" / "good.pkl", write.a_motion(seed=1), HANDS_MEAN)
    assert lslm_cli.main(["inspect", str(good), str(again), "--png", str(tmp_path / "both")]) == 0
    drawn, out = list((tmp_path / "both").iterdir()), capsys.readouterr().out
    assert len(drawn) == 2 and all(f"picture     {path}\n" in out for path in drawn)
    assert lslm_cli.main(["inspect", str(good), "--json", "--fps", "30", "--up=-y", "--flat-hand-mean", "true"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fps"] == 30 and facts["format"] == "signavatars" and any("whole" in note for note in facts["notes"])
