"""What a motion file holds, whether it looks right, and a strip of stick figures: `lslm inspect`."""

from pathlib import Path

import numpy as np

from ..motion import Motion
from ..motion_errors import printable
from ..motion_features import JOINT_NAMES, LEFT_HAND, PARENTS, RIGHT_HAND, UPPER_BODY
from ..smplx_formats import LAYOUTS
from .motion_repair import runs

MAX_SPEED = 10.0  # metres per second; the wrists of fluent signers peak at 3 to 5
BONE_CHANGE, BONE_METRES = 0.5, 0.05  # of a bone's median length, and in metres; landmarks of a webcam stay within
FROZEN_SECONDS = 0.4  # of a body without any movement at all, which a living one never is
_BODY = [*UPPER_BODY, *LEFT_HAND, *RIGHT_HAND]
_COLOURS = {"body": "#444444", "left hand": "#0a7abf", "right hand": "#c2410c"}
_GUESSED = "#c8c8c8"


def inspect_motion(motion: Motion) -> dict:
    """Facts about a clip, for people and machines.

    Returns:
        format, about, frames, fps, seconds; observed: percent of joint positions that were observed; left_hand,
        right_hand: percent of frames in which the hand was; size: metres from pelvis to head and between the shoulders;
        notes: what the reader assumed; suspicious: reason -> numbers of the frames, from 0.
    """
    joints, valid = motion.joints.astype(np.float64), motion.valid
    head, left, right = (JOINT_NAMES.index(name) for name in ("head", "left_shoulder", "right_shoulder"))
    return {
        "format": motion.format,
        "about": LAYOUTS[motion.format].about if motion.format in LAYOUTS else motion.format,
        "frames": motion.num_frames,
        "fps": motion.fps,
        "seconds": round(motion.duration, 3),
        "observed": _percent(valid),
        "left_hand": _percent(valid[:, LEFT_HAND].all(1)),
        "right_hand": _percent(valid[:, RIGHT_HAND].all(1)),
        "size": {
            "pelvis to head": _median_distance(joints, 0, head),
            "shoulder to shoulder": _median_distance(joints, left, right),
        },
        "notes": [note.text for note in motion.notes],
        "suspicious": {reason: frames for reason, frames in _suspicious(joints, motion.fps).items() if frames},
    }


def _percent(mask: np.ndarray) -> float:
    return round(100 * float(mask.mean()), 1)


def _median_distance(joints: np.ndarray, a: int, b: int) -> float:
    distance = np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)
    return round(float(np.nanmedian(distance)), 3) if np.isfinite(distance).any() else float("nan")


def _suspicious(joints: np.ndarray, fps: float) -> dict[str, list[int]]:
    holes = ~np.isfinite(joints).all((1, 2))
    body = joints[:, _BODY] - joints[:, :1]
    steps = np.linalg.norm(np.diff(body, axis=0), axis=-1)
    fast = np.flatnonzero((steps * fps > MAX_SPEED).any(1)) + 1
    children = [joint for joint in _BODY if joint]
    bones = np.linalg.norm(joints[:, children] - joints[:, [PARENTS[joint] for joint in children]], axis=-1)
    usual = np.nanmedian(np.where(np.isfinite(bones), bones, np.nan), axis=0)
    stretched = np.flatnonzero((np.abs(bones - usual) > np.maximum(BONE_CHANGE * usual, BONE_METRES)).any(1))
    still = np.concatenate([[False], (steps == 0).all(1)])
    shortest = max(2, round(FROZEN_SECONDS * fps))
    return {
        "joints without a number": np.flatnonzero(holes).tolist(),
        f"faster than {MAX_SPEED:g} m/s": fast.tolist(),
        "bones change their length": stretched.tolist(),
        f"frozen for {FROZEN_SECONDS:g} s and more": [
            frame for start, end in runs(still) if end - start >= shortest for frame in range(start, end)
        ],
    }


def as_ranges(frames: list[int]) -> str:
    """[3, 4, 5, 9] -> "3-5, 9"; at most eight ranges."""
    ranges: list[list[int]] = []
    for frame in frames:
        if ranges and frame == ranges[-1][1] + 1:
            ranges[-1][1] = frame
        else:
            ranges.append([frame, frame])
    shown = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in ranges[:8])
    return shown + (f", ... ({len(frames)} frames)" if len(ranges) > 8 else "")


def as_text(file: str, facts: dict) -> str:
    """The facts of [`inspect_motion`] as lines for a terminal."""
    size = ", ".join(f"{name} {metres:.2f} m" for name, metres in facts["size"].items())
    lines = [
        printable(file),
        f"  format      {facts['format']}" + (f" ({facts['about']})" if facts["about"] != facts["format"] else ""),
        f"  length      {facts['frames']} frames at {facts['fps']:g} fps, {facts['seconds']:.1f} s",
        f"  body        {size}; {facts['observed']:g} % of the joints observed",
        f"  hands       left in {facts['left_hand']:g} % of the frames, right in {facts['right_hand']:g} %",
        *(f"  assumed     {printable(str(note))}" for note in facts["notes"]),
        *(f"  suspicious  {reason}: frames {as_ranges(frames)}" for reason, frames in facts["suspicious"].items()),
        *(f"  picture     {printable(picture)}" for picture in (facts.get("png"),) if picture),
    ]
    return "\n".join(lines)


def draw_strip(motion: Motion, path: str | Path, figures: int = 8) -> None:
    """A PNG of `figures` stick figures, evenly spaced in time, as somebody sees them who stands before the person.

    Bones between joints that were not observed are grey; legs are left out where none was.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    legs = [joint for joint in range(52) if joint not in _BODY]
    drawn = [joint for joint in range(1, 52) if joint in _BODY or motion.valid[:, legs].any()]
    joints = motion.joints
    points = joints[:, [0, *drawn]].reshape(-1, 3)
    low, high = np.nanmin(points, axis=0) - 0.08, np.nanmax(points, axis=0) + 0.08
    frames = np.unique(np.linspace(0, motion.num_frames - 1, figures).round().astype(int))
    height = 3.2
    width = height * float((high[0] - low[0]) / (high[1] - low[1]))
    figure = Figure(figsize=(max(width, 0.8) * len(frames), height), dpi=110)
    FigureCanvasAgg(figure)
    for axes, frame in zip(np.atleast_1d(figure.subplots(1, len(frames))), frames, strict=True):
        for joint in drawn:
            ends = joints[frame, [PARENTS[joint], joint]]
            part = "left hand" if joint in LEFT_HAND else "right hand" if joint in RIGHT_HAND else "body"
            colour = _COLOURS[part] if motion.valid[frame, joint] else _GUESSED
            axes.plot(ends[:, 0], ends[:, 1], color=colour, lw=1.1 if part != "body" else 2.2, solid_capstyle="round")
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_title(f"{frame / motion.fps:.2f} s", fontsize=8)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.92, wspace=0)
    figure.savefig(path)
