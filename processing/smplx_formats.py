"""SMPL-X parameters in the layouts of the field -> one `SmplxClip`, and that -> joints.

Every layout is a row of `LAYOUTS`: what its numbers are, in which order, which axis is up, whether fingers are stored
relative to the hand mean, and the frame rate that its authors document. Arrays of the same width circulate with
different orders, so a bare array is tried with every layout of its width and `misfit` says why a layout cannot be it.

Sources: the code that writes or reads each layout, named beside it; github.com unless said.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .array_files import numbers, one_clip, one_number
from .motion_errors import MotionFileError, Remark, package_readers
from .motion_features import JOINT_NAMES, LEFT_HAND, LOWER_BODY, RIGHT_HAND
from .skeleton import HANDS_MEAN, NAME, POSE_WIDTHS, posed_joints

MODEL_VARIABLE = "LSLM_SMPLX"  # environment variable: folder or file of the SMPL-X model

POSES = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose")
WIDTHS = dict(zip(POSES, (3, 63, 45, 45, 3, 3, 3), strict=True)) | {"betas": 10, "expression": 10, "transl": 3}
_STILL_LEGS = ((0, 0), (11 * 3, 0))  # np.pad: body_pose goes on with neck, collars, head, shoulders, elbows, wrists
_HANDS = "left_hand_pose right_hand_pose"
_HEAD = f"global_orient body_pose {_HANDS}"


@dataclass(frozen=True)
class Layout:
    """How one project writes SMPL-X parameters.

    Attributes:
        about: whose files these are, for messages.
        parts: of an array's last axis, in order, as "name" with the width in `WIDTHS` or "name:width"; "" for files
            that name their parts.
        up: the axes that may be up, the likeliest first; "-y" is a camera's picture: y down.
        flat_hand_mean: True where finger rotations are whole; False where the hand mean is to be added; None: either.
        fps: frames per second that the authors document; None: nobody does.
        in_space: `transl` moves the body through space; False: it is where a camera saw it, and jitters by decimetres.
        has_root: False where the layout leaves out the root's rotation.
        seated: legs are left out, or were fitted to people who sit or are cut off by the picture: they do not count as
            observed.
    """

    about: str
    parts: str = ""
    up: tuple[str, ...] = ("-y",)
    flat_hand_mean: bool | None = False
    fps: float | None = None
    in_space: bool = False
    has_root: bool = True
    seated: bool = True

    @property
    def widths(self) -> dict[str, int]:
        """Numbers a frame of each part, in order."""
        parts = (part.partition(":") for part in self.parts.split())
        return {name: int(width or WIDTHS[name]) for name, _, width in parts}


LAYOUTS = {
    # ZhengdiYu/SignAvatars, README and vis.py
    "signavatars": Layout("SignAvatars `smplx`", f"{_HEAD} jaw_pose betas expression transl", fps=24.0),
    "signavatars-unsmooth": Layout("SignAvatars `unsmooth_smplx`", f"{_HEAD} betas transl", fps=24.0),
    # 2000ZRL/SOKE, mGPT/data/humanml/load_data.py: one pickle a frame, or those in one array
    "soke": Layout("SOKE / Neural Sign Actors", f"{_HEAD} jaw_pose betas expression"),
    "soke-133": Layout(
        "SOKE / LanSaber upper body", f"upper_body_pose:30 {_HANDS} jaw_pose expression", up=("y",), has_root=False
    ),
    # JianHe0628/SignSparK, DATA.md and signspark/pose_datasets_lmdb.py: the first two rows of each rotation matrix
    "signspark": Layout(
        "SignSparK rotations of 6 numbers",
        "left_hand_6d:90 right_hand_6d:90 upper_body_6d:60",
        **{"up": ("y",), "flat_hand_mean": True, "has_root": False},
    ),
    # caizhongang/SMPLer-X, main/inference.py; ttxskk/AiOS, datasets/INFERENCE.py; lipishan/openasl-35k-benchmarks
    "smplerx": Layout("SMPLer-X", seated=False),
    # vchoutas/smplx: the names of its arguments
    "smplx": Layout("smplx", up=("-y", "y", "z", "-z", "x", "-x"), flat_hand_mean=None, seated=False),
    "aios": Layout("AiOS", seated=False),
    "openasl3d": Layout("OpenASL3D"),
    # IDEA-Research/Motion-X, README and humanml.py
    "motion-x": Layout(
        "Motion-X",
        f"{_HEAD} jaw_pose expression:50 face_shape:100 transl betas",
        **{"up": ("y", "-y"), "flat_hand_mean": True, "fps": 30.0, "in_space": True, "seated": False},
    ),
    # nghorbani/amass and human_body_prior
    "amass-smplx": Layout("AMASS, SMPL-X", up=("z",), flat_hand_mean=True, in_space=True, seated=False),
    "amass-smplh": Layout("AMASS, SMPL+H", up=("z",), flat_hand_mean=True, in_space=True, seated=False),
    # rajvizala/SignMotionGPT, visualize.py
    "signmotiongpt": Layout(
        "SignMotionGPT",
        f"betas body_pose {_HANDS} transl expression jaw_pose leye_pose",
        **{"up": ("y",), "has_root": False},
    ),
}

# What the parts are called in files that name them.
_ALIASES = {
    **dict.fromkeys(("smplx_root_pose", "root_pose", "root_orient"), "global_orient"),
    **dict.fromkeys(("smplx_body_pose", "pose_body"), "body_pose"),
    **dict.fromkeys(("smplx_lhand_pose", "lhand_pose"), "left_hand_pose"),
    **dict.fromkeys(("smplx_rhand_pose", "rhand_pose"), "right_hand_pose"),
    **dict.fromkeys(("smplx_jaw_pose", "pose_jaw"), "jaw_pose"),
    **{"smplx_shape": "betas", "smplx_expr": "expression", "trans": "transl", "cam_trans": "transl"},
}
# Keys that only files of a format have together, the most telling first. -> name in LAYOUTS
_KEYS = (
    ({"smplx_root_pose", "smplx_body_pose", "smplx_lhand_pose", "smplx_rhand_pose"}, "soke"),
    ({"global_orient", "body_pose", "left_hand_pose", "right_hand_pose"}, "smplx"),
    ({"root_pose", "body_pose", "lhand_pose", "rhand_pose"}, "openasl3d"),
    ({"left_features", "right_features", "body_features"}, "signspark"),
    ({"root_orient", "pose_body", "pose_hand"}, "amass-smplx"),
    ({"poses", "trans"}, "amass-smplh"),
)
# Keys of arrays without names of their own for their parts, and whose they are.
_ARRAY_KEYS = {"smplx": "signavatars", "unsmooth_smplx": "signavatars-unsmooth", "motion": None}


@dataclass
class SmplxClip:
    """Parameters of one clip, in the axes of their file.

    Attributes:
        format: name in `LAYOUTS`.
        params: (T, n) float64 for each name of `WIDTHS` that the file has; a row of NaN is a missing frame.
        fps: what the file says; None: nothing.
        gender: neutral, male or female.
        hands_seen: (T,) bool for `left_valid` and `right_valid`, where the file says so.
        notes: what was assumed, for people.
    """

    format: str
    params: dict[str, np.ndarray]
    fps: float | None = None
    gender: str = "neutral"
    hands_seen: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[Remark] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        return len(self.params["body_pose"])


def array_to_clip(array: np.ndarray, format: str | None = None) -> SmplxClip:
    """(T, n) numbers to a clip: by the one layout of that width that they fit.

    Raises:
        ValueError: no layout has this width, none fits (with the reason for each), or several do (with their names).
    """
    width_of = {name: sum(layout.widths.values()) for name, layout in LAYOUTS.items() if layout.parts}
    width = array.shape[1]
    if format is not None:
        if width_of.get(format) != width:
            expected = f"{width_of[format]} numbers a frame" if format in width_of else "another kind of file"
            raise ValueError(f"format {format} means {expected}, got an array of shape {array.shape}; leave format out")
        return _split(array, format)
    names = [name for name in width_of if width_of[name] == width]
    if not names:
        widths = ", ".join(f"{width_of[name]} ({name})" for name in width_of)
        raise ValueError(f"{width} numbers a frame are no known layout; known are {widths}, 1662 and 258 (MediaPipe)")
    clips = {name: _split(array, name) for name in names}
    reasons = {name: misfit(clip) for name, clip in clips.items()}
    fitting = [name for name in names if reasons[name] is None]
    if not fitting:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        kind = f"{width} numbers a frame that fit no layout"
        raise MotionFileError(f"{width} numbers a frame, but {listed}", "format", kind=kind)
    if len(fitting) > 1:
        raise MotionFileError(f"{width} numbers a frame fit {' and '.join(fitting)}", "format", fitting[0])
    return clips[fitting[0]]


def mapping_to_clip(mapping: Mapping, format: str | None = None) -> SmplxClip | None:
    """A file with named arrays (T frames, or one) to a clip; None if it holds no SMPL-X parameters that are known.

    Raises:
        ValueError: it does, but they cannot be read; or the named `format` is another.
    """
    if isinstance(mapping.get("params"), Mapping):  # AiOS
        return _named(mapping["params"], agree(format, "aios"), mapping)
    for keys, name in _KEYS:
        if keys <= mapping.keys():
            if name == "amass-smplh":
                return _amass_poses(mapping, format)
            name = "smplerx" if (name, format) == ("smplx", "smplerx") else agree(format, name)
            if name == "signspark":
                return SmplxClip(name, _signspark(*(mapping[f"{part}_features"] for part in ("left", "right", "body"))))
            return _named(mapping, name, mapping)
    for key, name in _ARRAY_KEYS.items():
        if key in mapping and (array := one_clip(numbers(mapping, key), 2)).ndim == 2:
            return _with_facts(array_to_clip(array, name and agree(format, name) or format), mapping)
    return None


def agree(asked: str | None, format: str) -> str:
    """`format`, that of a file. Raises ValueError if the user says another."""
    if asked not in (None, format):
        raise MotionFileError(f"the file is of format {format}, not {asked}; leave format out", kind="another format")
    return format


_POINT, _STILL = 1e-3, 1e-5  # metres: hands that are smaller; fingers that come no nearer to the wrist nor go away
_LARGEST_ANGLE = 2 * np.pi + 1e-3
_LARGEST_EYE_ANGLE = 1.0
_LARGEST_SHAPE = 30.0  # standard deviations; fits of blurred pictures go beyond 5


def misfit(clip: SmplxClip) -> str | None:
    """Why numbers cannot be what their layout says they are; None: they can."""
    if not all(np.isfinite(values).all() for values in clip.params.values()):
        return "it holds NaN or infinity"
    if reason := _impossible(clip.params):
        return reason
    if all(not values.any() for values in clip.params.values()):
        return "every number is 0"
    for name in ("leye_pose", "reye_pose"):
        if name in clip.params and np.abs(clip.params[name]).max() > _LARGEST_EYE_ANGLE:
            return f"{name} turns an eye by more than {_LARGEST_EYE_ANGLE} radians"
    layout = LAYOUTS[clip.format]
    if layout.has_root and main_axis(posed_joints(clip.params, 0.0)) not in layout.up:
        return f"the person is not upright along {' or '.join(layout.up)}"
    return None


def _impossible(params: Mapping[str, np.ndarray]) -> str | None:
    for name, values in params.items():
        values = np.nan_to_num(values)  # a missing frame
        if name in POSES:
            angle = np.linalg.norm(values.reshape(len(values), -1, 3), axis=-1).max(initial=0.0)
            if angle > _LARGEST_ANGLE:
                return f"{name} turns by {angle:.1f} radians"
        elif (largest := np.abs(values).max(initial=0.0)) > _LARGEST_SHAPE and name in ("betas", "expression"):
            return f"{name} reach {largest:.0f}, and lie within {_LARGEST_SHAPE:.0f} of 0"
        elif name == "transl" and largest > 1000:
            return f"transl is {largest:.0f} m"


def main_axis(joints: np.ndarray) -> str:
    """The axis from pelvis to head and shoulders in most frames of (T, 52, 3) joints; "y" where there is none."""
    top = [JOINT_NAMES.index(name) for name in ("head", "left_shoulder", "right_shoulder")]
    spine = joints[:, top].mean(1) - joints[:, 0]
    spine = spine[np.isfinite(spine).all(-1)]
    direction = np.median(spine, axis=0) if len(spine) else np.zeros(3)
    if np.linalg.norm(direction) < 0.2:  # metres: no body that stands or sits
        return "y"
    axis = int(np.abs(direction).argmax())
    return ("-" if direction[axis] < 0 else "") + "xyz"[axis]


def _split(array: np.ndarray, name: str) -> SmplxClip:
    widths = LAYOUTS[name].widths
    array = array.astype(np.float64)  # not before its width is known
    params = dict(zip(widths, np.split(array, np.cumsum([*widths.values()])[:-1], axis=1), strict=True))
    if "leye_pose" in params:  # one rotation for both eyes
        params["reye_pose"] = params["leye_pose"]
    params.pop("face_shape", None)
    if "upper_body_pose" in params:
        params["body_pose"] = np.pad(params.pop("upper_body_pose"), _STILL_LEGS)
    if name == "signspark":
        params = _signspark(*params.values())
    params.setdefault("global_orient", np.zeros((len(array), 3)))
    return SmplxClip(name, params)


def _signspark(left: np.ndarray, right: np.ndarray, body: np.ndarray) -> dict[str, np.ndarray]:
    """Rotation matrices of hands and body, which the package turns into parameters."""
    params = package_readers("SignSparK's rotation matrices").rows_to_params(left, right, body)
    return params | {"body_pose": np.pad(params["body_pose"], _STILL_LEGS), "global_orient": np.zeros((len(left), 3))}


def _named(parts: Mapping, name: str, mapping: Mapping) -> SmplxClip:
    """Arrays under the names of `WIDTHS` or `_ALIASES`, whatever axes of length 1 they have."""
    arrays = {}
    for key in parts:
        part = _ALIASES.get(key, key)
        if part in arrays and not np.array_equal(numbers(parts, key), arrays[part]):
            raise ValueError(f"`{key}` and another array are both the {part}; keep one")
        if part in WIDTHS:
            arrays[part] = numbers(parts, key)
    if "pose_hand" in parts:
        hands = np.atleast_2d(numbers(parts, "pose_hand"))
        arrays["left_hand_pose"], arrays["right_hand_pose"] = hands.reshape(len(hands), 2, -1).swapaxes(0, 1)
    if missing := [part for part in POSE_WIDTHS if part not in arrays]:
        raise ValueError(f"no `{missing[0]}`: expected {', '.join(POSE_WIDTHS)}; use zeros where a file has none")
    frames = len(_by_joint("body_pose", arrays["body_pose"]))
    params, matrices, notes = {}, {}, []
    for part, values in arrays.items():
        if part in ("betas", "expression"):
            values = values.reshape(-1, *values.shape[-1:])
            if len(values) not in (1, frames) or values.shape[1] > 400:  # of the body and the face together
                raise ValueError(f"{part} has shape {arrays[part].shape}, expected {frames} frames, or one for all")
            params[part] = np.broadcast_to(values.astype(np.float64), (frames, values.shape[-1]))
        else:
            values = _by_joint(part, values, frames).astype(np.float64)
            params[part] = values.reshape(frames, -1)
            matrices |= {part: values} if values.shape[-1] > 3 else {}
    if matrices:
        vectors, notes = package_readers("a file of rotation matrices").rotations_to_vectors(matrices)
    return _with_facts(SmplxClip(name, params | vectors if matrices else params, notes=notes), mapping)


def _by_joint(part: str, values: np.ndarray, frames: int | None = None) -> np.ndarray:
    """Rotation vectors (T, J, 3), matrices (T, J, 9) or six numbers of each (T, J, 6), told by their shape."""
    joints = WIDTHS[part] // 3
    shape = tuple(length for length in values.shape if length != 1)
    for size, *last in ((3, 3), (6, 6), (9, 9), (9, 3, 3)) if part in POSES else ((3, 3),):
        for form in ((joints * size,), (*[joints] * (joints > 1), *last)):
            count = frames or (shape[0] if len(shape) > len(form) else 1)
            if shape == (count,) * (count > 1) + form:
                return values.reshape(count, joints, size)
    pca = " (principal components? use use_pca=False)" if joints == 15 and values.shape[-1:] in ((6,), (12,)) else ""
    expected = f"expected ({frames or 'frames'}, {joints}, 3), or matrices (..., 3, 3), of one person{pca}"
    raise ValueError(f"{part} has shape {values.shape}, {expected}")


def _amass_poses(mapping: Mapping, format: str | None) -> SmplxClip:
    """`poses` (T, 156) of SMPL+H: root, body, hands; or (T, 165) of SMPL-X: root, body, jaw, eyes, hands."""
    poses = one_clip(numbers(mapping, "poses"), 2)
    if poses.ndim != 2 or poses.shape[1] not in (156, 165):
        raise ValueError(f"`poses` has shape {poses.shape}, expected (frames, 156), SMPL+H, or (frames, 165), SMPL-X")
    name = agree(format, "amass-smplh" if poses.shape[1] == 156 else "amass-smplx")
    parts = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:66], "pose_hand": poses[:, -90:]}
    beside = ("trans",) if name == "amass-smplh" else ("trans", "betas")
    clip = _named(parts | {key: mapping[key] for key in beside if key in mapping}, name, mapping)
    if name == "amass-smplh":
        clip.notes.append(Remark("body shape left out: betas of SMPL+H mean nothing to SMPL-X"))
    return clip


def _with_facts(clip: SmplxClip, mapping: Mapping) -> SmplxClip:
    """What stands beside the parameters: frame rate, gender, which hands were seen."""
    if reason := _impossible(clip.params):
        raise MotionFileError(f"{reason}; expected radians and metres", kind="no radians or metres")
    rates = {one_number(mapping, key) for key in ("fps", "mocap_framerate", "mocap_frame_rate", "frame_rate")} - {None}
    if len(rates) > 1:
        problem = f"the file has {' and '.join(f'{rate:g}' for rate in sorted(rates))} frames per second; keep one"
        raise MotionFileError(problem, kind="several frame rates")
    clip.fps = rates.pop() if rates else None
    text = str(mapping.get("gender")).lower()  # a string, bytes, or an array of one
    clip.gender = next((gender for gender in ("female", "male") if gender in text), "neutral")
    for side in ("left_valid", "right_valid"):
        if side in mapping:
            clip.hands_seen[side] = np.asarray(mapping[side]).reshape(-1).astype(bool)
            if (entries := len(clip.hands_seen[side])) != clip.num_frames:
                raise ValueError(f"`{side}` has {entries} entries for {clip.num_frames} frames")
    return clip


def unseen_hands(joints: np.ndarray, valid: np.ndarray, told: bool) -> list[Remark]:
    """Mark in `valid` (T, 52) hands whose joints lie in a point or, unless the file tells, never move in the hand."""
    notes = []
    for side, hand, wrist in (("left", LEFT_HAND, 20), ("right", RIGHT_HAND, 21)):
        valid[np.ix_(np.ptp(joints[:, hand], axis=1).max(-1) < _POINT, hand)] = False
        seen = joints[valid[:, hand].all(1)]
        reach = np.linalg.norm(seen[:, hand] - seen[:, [wrist]], axis=-1)
        valid[:, hand] &= told or len(seen) < 2 or np.ptp(reach, axis=0).max() >= _STILL
        notes += [] if valid[:, hand].any() else [Remark(f"the {side} hand is never seen")]
    return notes


UP_TURNS = {  # rows of the rotation that brings each axis up
    **{"y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1))},
    **{"z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)), "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0))},
    **{"x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)), "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1))},
}


def clip_to_joints(
    clip: SmplxClip, *, up: str | None = None, flat_hand_mean: bool | None = None, body_model: str | None = None
) -> tuple[np.ndarray, np.ndarray, list[Remark]]:
    """Joints (T, 52, 3) in metres, y up; which were observed, (T, 52) bool; and notes on what was assumed.

    up, flat_hand_mean and body_model are as in `motion.load_motion`. A frame that is missing (NaN) is NaN here.

    Raises:
        ValueError: no frame has a pose, or the person is not upright along the axis that the layout promises.
    """
    layout = LAYOUTS[clip.format]
    notes = list(clip.notes)
    params = dict(clip.params)
    if not layout.in_space and params.pop("transl", None) is not None:
        notes.append(Remark("the camera's translation left out"))
    told = layout.flat_hand_mean if flat_hand_mean is None else flat_hand_mean
    flat, remarks = np.full(2, bool(told)), []
    if readers := package_readers("a file of whole or relative fingers" if told is None else ""):
        flat, remarks = readers.whole_hands(clip.params, told)
    if body_model or os.environ.get(MODEL_VARIABLE):
        readers = package_readers("an SMPL-X model file")
        joints, name, _, cut = readers.exact_joints(params, body_model, clip.gender, flat_hand_mean=flat)
        notes += cut
    else:
        joints, name = posed_joints(params, np.where(flat[:, None], 0.0, HANDS_MEAN)), NAME
    zeros = ~np.any([params[name].any(1) for name in POSE_WIDTHS], 0)  # what programs write for a frame that they lost
    joints[zeros | ~np.isfinite(joints).all((1, 2))] = np.nan
    if np.isnan(joints).all():
        raise MotionFileError("no frame has numbers in all of its parameters (NaN, or all 0); export the clip again")
    if up is None:
        up = main_axis(joints)
        if up not in layout.up:
            problem = f"the person is upright along {up}, expected {' or '.join(layout.up)} as in {layout.about}"
            raise MotionFileError(problem, "up", up)
    joints = joints @ np.array(UP_TURNS[up], np.float64).T
    hands = " and ".join("whole" if whole else "relative to the hand mean" for whole in dict.fromkeys(flat.tolist()))
    notes.append(Remark(f"up is {up} in the file; hands {hands}; {name}"))
    notes += remarks
    valid = np.isfinite(joints).all(-1)
    if layout.seated:
        valid[:, LOWER_BODY] = False
    for side, hand in (("left", LEFT_HAND), ("right", RIGHT_HAND)):
        seen = clip.params[f"{side}_hand_pose"].any(-1) & clip.hands_seen.get(f"{side}_valid", True)
        valid[np.ix_(~seen, hand)] = False
    return joints, valid, notes
