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

from .array_files import numbers, one_number
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
        up: the axes that may be up, the likeliest first: "y", "-y" (a camera's picture: y down) or "z".
        flat_hand_mean: True where finger rotations are whole; False where the hand mean is to be added.
        fps: frames per second that the authors document; None: nobody does.
        in_space: `transl` moves the body through space; False: it is where a camera saw it, and jitters by decimetres.
        has_root: False where the layout leaves out the root's rotation.
        seated: legs are left out, or were fitted to people who sit or are cut off by the picture: they do not count as
            observed.
    """

    about: str
    parts: str = ""
    up: tuple[str, ...] = ("-y",)
    flat_hand_mean: bool = False
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
    ({"global_orient", "body_pose", "left_hand_pose", "right_hand_pose"}, "smplerx"),
    ({"root_pose", "body_pose", "lhand_pose", "rhand_pose"}, "openasl3d"),
    ({"left_features", "right_features", "body_features"}, "signspark"),
    ({"root_orient", "pose_body", "pose_hand"}, "amass-smplx"),
    ({"poses", "trans"}, "amass-smplh"),
)
_ARRAY_KEYS = ("smplx", "unsmooth_smplx", "motion")  # of arrays without names of their own for their parts


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
            agree(format, name)
            if name == "signspark":
                return SmplxClip(name, _signspark(*(mapping[f"{part}_features"] for part in ("left", "right", "body"))))
            return _named(mapping, name, mapping)
    for key in _ARRAY_KEYS:
        if key in mapping and np.ndim(mapping[key]) == 2:
            return _with_facts(array_to_clip(numbers(mapping, key).astype(np.float64), format), mapping)
    return None


def agree(asked: str | None, format: str) -> str:
    """`format`, that of a file. Raises ValueError if the user says another."""
    if asked not in (None, format):
        raise MotionFileError(f"the file is of format {format}, not {asked}; leave format out", kind="another format")
    return format


_LARGEST_ANGLE = 2 * np.pi + 1e-3
_LARGEST_EYE_ANGLE = 1.0
_LARGEST_SHAPE = 30.0  # standard deviations; fits of blurred pictures go beyond 5
_FARTHEST = 1000.0


def misfit(clip: SmplxClip) -> str | None:
    """Why numbers cannot be what their layout says they are; None: they can."""
    layout = LAYOUTS[clip.format]
    for name, values in clip.params.items():
        if not np.isfinite(values).all():
            return f"{name} holds NaN or infinity"
        largest = np.abs(values).max(initial=0.0)
        if name in POSES:
            angle = np.linalg.norm(values.reshape(len(values), -1, 3), axis=-1).max(initial=0.0)
            if angle > _LARGEST_ANGLE:
                return f"{name} turns by {angle:.1f} radians"
        elif name in ("betas", "expression") and largest > _LARGEST_SHAPE:
            return f"{name} reach {largest:.0f}, and lie within {_LARGEST_SHAPE:.0f} of 0"
        elif name == "transl" and largest > _FARTHEST:
            return f"transl is {largest:.0f} m"
    if all(not values.any() for values in clip.params.values()):
        return "every number is 0"
    for name in ("leye_pose", "reye_pose"):
        if name in clip.params and np.abs(clip.params[name]).max() > _LARGEST_EYE_ANGLE:
            return f"{name} turns an eye by more than {_LARGEST_EYE_ANGLE} radians"
    if layout.has_root and main_axis(posed_joints(clip.params, 0.0)) not in layout.up:
        return f"the person is not upright along {' or '.join(layout.up)}"
    return None


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
    params = {}
    for key in parts:
        part = _ALIASES.get(key, key)
        if part in WIDTHS and part not in params:
            params[part] = numbers(parts, key).astype(np.float64)
    if "pose_hand" in parts:
        hands = numbers(parts, "pose_hand").astype(np.float64).reshape(-1, 90)
        params["left_hand_pose"], params["right_hand_pose"] = hands[:, :45], hands[:, 45:]
    if missing := [part for part in POSE_WIDTHS if part not in params]:
        raise ValueError(f"no `{missing[0]}`: expected {', '.join(POSE_WIDTHS)}; use zeros where a file has none")
    frames, left_over = divmod(params["body_pose"].size, WIDTHS["body_pose"])
    if left_over or not frames:
        raise ValueError(f"body_pose has shape {params['body_pose'].shape}, expected 21 joints x 3 a frame")
    for part, values in params.items():
        params[part] = _per_frame(part, values, frames)
    return _with_facts(SmplxClip(name, params), mapping)


def _per_frame(part: str, values: np.ndarray, frames: int) -> np.ndarray:
    """Any shape -> (T, n): for shape and expression n is what comes, for the others what `WIDTHS` says."""
    free = part in ("betas", "expression")
    if free and (values.ndim <= 1 or len(values) == 1 < frames):
        values = np.broadcast_to(values.reshape(1, -1), (frames, values.size))
    if values.size % frames or (not free and values.size != frames * WIDTHS[part]):
        hint = ""
        if part.endswith("hand_pose") and values.size in (frames * 6, frames * 12):
            hint = " (fingers as principal components; export them with use_pca=False)"
        raise ValueError(f"{part} has shape {values.shape} for {frames} frames, expected {WIDTHS[part]} a frame{hint}")
    return values.reshape(frames, -1)


def _amass_poses(mapping: Mapping, format: str | None) -> SmplxClip:
    """`poses` (T, 156) of SMPL+H: root, body, hands; or (T, 165) of SMPL-X: root, body, jaw, eyes, hands."""
    poses = numbers(mapping, "poses").astype(np.float64)
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
    rates = (one_number(mapping, key) for key in ("fps", "mocap_framerate", "mocap_frame_rate", "frame_rate"))
    clip.fps = next((rate for rate in rates if rate is not None), None)
    text = str(mapping.get("gender")).lower()  # a string, bytes, or an array of one
    clip.gender = next((gender for gender in ("female", "male") if gender in text), "neutral")
    for side in ("left_valid", "right_valid"):
        if side in mapping:
            clip.hands_seen[side] = numbers(mapping, side).reshape(-1).astype(bool)
            if (entries := len(clip.hands_seen[side])) != clip.num_frames:
                raise ValueError(f"`{side}` has {entries} entries for {clip.num_frames} frames")
    return clip


UP_TURNS = {  # rows of the rotation that brings each axis up
    "y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}
# Mean bend of the middle finger joints about z, radians, left hand; the right is its mirror image. Resting and signing
# fingers bend by 0.2 to 0.8; SignAvatars' stored numbers are +0.33 and become -0.43 with the hand mean.
_BENT_BACK = 0.15
_MIDDLE_JOINTS = [9 * finger + 5 for finger in range(4)]  # z of index2, middle2, pinky2, ring2


def clip_to_joints(
    clip: SmplxClip, *, up: str | None = None, flat_hand_mean: bool | None = None, body_model: str | None = None
) -> tuple[np.ndarray, np.ndarray, list[Remark]]:
    """Joints (T, 52, 3) in metres, y up; which were observed, (T, 52) bool; and notes on what was assumed.

    up, flat_hand_mean and body_model are as in `motion.load_motion`. A frame that is missing (NaN) is NaN here.

    Raises:
        ValueError: the person is not upright along the axis that the layout promises.
    """
    layout = LAYOUTS[clip.format]
    notes = list(clip.notes)
    params = dict(clip.params)
    if not layout.in_space and params.pop("transl", None) is not None:
        notes.append(Remark("the camera's translation left out"))
    flat = layout.flat_hand_mean if flat_hand_mean is None else flat_hand_mean
    if body_model or os.environ.get(MODEL_VARIABLE):
        readers = package_readers("an SMPL-X model file")
        joints, name, hands_mean, cut = readers.exact_joints(params, body_model, clip.gender, flat_hand_mean=flat)
        notes += cut
    else:
        joints, name, hands_mean = posed_joints(params, 0.0 if flat else HANDS_MEAN), NAME, HANDS_MEAN
    joints[~np.isfinite(joints).all((1, 2))] = np.nan  # the root of a missing frame stands at rest
    if up is None:
        up = main_axis(joints)
        if up not in layout.up:
            problem = f"the person is upright along {up}, expected {' or '.join(layout.up)} as in {layout.about}"
            raise MotionFileError(problem, *(("up", up) if up in UP_TURNS else ()))
    joints = joints @ np.array(UP_TURNS[up], np.float64).T
    notes.append(Remark(f"up is {up} in the file; hands {'whole' if flat else 'relative to the hand mean'}; {name}"))
    hands = np.stack([clip.params["left_hand_pose"], clip.params["right_hand_pose"]])
    hands = hands if flat else hands + np.reshape(hands_mean, (2, 1, 45))
    bend = np.nanmean(hands[:, :, _MIDDLE_JOINTS] * np.array([1, -1])[:, None, None])
    if bend > _BENT_BACK:
        kind = "fingers bend backwards"
        notes.append(Remark(f"{kind} (by {bend:.2f} on average)", "flat_hand_mean", not flat, kind))
    valid = np.isfinite(joints).all(-1)
    if layout.seated:
        valid[:, LOWER_BODY] = False
    for side, seen in clip.hands_seen.items():
        valid[np.ix_(~seen, LEFT_HAND if side == "left_valid" else RIGHT_HAND)] = False
    return joints, valid, notes
