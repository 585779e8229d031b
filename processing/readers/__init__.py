"""Files of other programs -> the arrays that our own files hold.

What travels with a checkpoint reads arrays alone and asks here for the rest (`motion_errors.package_readers`): `read`,
`exact_joints` and what is below it in `__all__` are called by checkpoints of any age.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from ..motion import COMPRESSED
from ..motion_errors import Remark
from .body_estimates import estimated_person
from .body_model import exact_joints
from .clips import no_clips
from .compressed import unpacked
from .finger_bend import whole_hands
from .folders import read_folder
from .handedness import right_handed
from .landmark_formats import check_landmarks, landmarks_in_order, mended, read_kaggle_landmarks, read_pose_file
from .mocap_bvh import read_bvh
from .mocap_gltf import read_gltf
from .mocap_skeletons import named_joints_to_motion_joints
from .other_formats import OF_VIDEO, is_video, refusal
from .people import check_one_person
from .safe_pickle import read_pickle
from .signspark import rotations_to_vectors, rows_to_params
from .video import landmarks_of_video

# endings of files that a data set is built from
MOTION_SUFFIXES = frozenset(
    {".npz", ".npy", ".pkl", ".pickle", ".pt", ".pth", ".pose", ".parquet", ".bvh", ".glb", ".gltf", ".vrm", ".vrma"}
)
VIDEO_SUFFIXES = frozenset(OF_VIDEO[1].split())  # read more slowly than anything else, by MediaPipe


def read(
    path: Path, container: str, format: str | None = None, clip: str | None = None, up: str | None = None
) -> tuple[Any, list[Remark]]:
    """What a file or folder holds.

    Args:
        path: the file or folder. container: one of `motion.CONTAINERS`.
        format: for the frames of a folder: the layout in which the user says they are; see `load_motion`.
        clip, up: see `load_motion`.

    Returns:
        a mapping of arrays with the keys of our own `.npz`, of a landmark file or of SMPL-X parameters; or one array,
        or an `SmplxClip`. And remarks.

    Raises:
        OSError: the file cannot be opened. ValueError: it cannot be used.
    """
    if clip is not None and container not in ("folder", "gltf", "parquet", "pickle", "pose", "torch"):
        raise no_clips(clip)
    if container == "folder":
        return read_folder(path, format, clip)
    if container == "other":
        with open(path, "rb") as file:
            start = file.read(500)
        if is_video(start, path.suffix):
            return landmarks_of_video(path), []
        raise refusal(b"" if start.startswith(COMPRESSED) else start, Path(path.name.removesuffix(".gz")).suffix)
    if container == "parquet":
        shape = "the picture's size is not stored: taken as 3 x 4, of a phone held upright"
        with open(path, "rb") as file:
            packed = file.peek(2).startswith(COMPRESSED)
            landmarks = read_kaggle_landmarks(io.BytesIO(unpacked(file.read())) if packed else file, clip)
        return landmarks, [Remark(shape, "image_size", (3, 4))]
    content = unpacked(path.read_bytes())
    if container == "gltf" and not content.startswith(b"glTF") and b'"asset"' not in content:
        raise refusal(content[:500], path.suffix)
    if container == "pose":
        landmarks = read_pose_file(content, clip)
        notes, arm = landmarks.pop("notes", []), landmarks.pop("hanging", None)
        return landmarks, [*notes, Remark(f"the {arm} arm is never seen: it hangs")] if arm else notes
    if container in ("pickle", "torch"):
        content = read_pickle(content)
        person = None if isinstance(content, np.ndarray) else estimated_person(content, format, clip)
        if person is None and clip is not None:
            raise no_clips(clip)
        return content if person is None else person, []
    names, positions, fps = read_bvh(content) if container == "bvh" else read_gltf(content, path.parent, clip)
    joints, valid, notes = named_joints_to_motion_joints(names, positions, up)
    return {"joints": joints, "valid": valid, "fps": fps}, notes


__all__ = [
    "check_landmarks",
    "check_one_person",
    "exact_joints",
    "landmarks_in_order",
    "mended",
    "read",
    "right_handed",
    "rotations_to_vectors",
    "rows_to_params",
    "unpacked",
    "whole_hands",
]
