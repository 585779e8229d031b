"""Files of other programs -> the arrays that our own files hold.

What travels with a checkpoint reads arrays alone and asks here for the rest (`motion_errors.package_readers`): `read`,
`exact_joints` and what is below it in `__all__` are called by checkpoints of any age.
"""

from pathlib import Path

from ..motion_errors import MotionFileError, Remark
from .body_model import exact_joints
from .finger_bend import whole_hands
from .folders import read_folder
from .landmark_formats import landmarks_in_order, read_kaggle_landmarks, read_pose_file
from .mocap_bvh import read_bvh
from .mocap_gltf import read_gltf
from .mocap_skeletons import named_joints_to_motion_joints
from .safe_pickle import read_pickle
from .signspark import rotations_to_vectors, rows_to_params


def read(path: Path, container: str, format: str | None = None, clip: str | None = None):
    """What a file or folder holds.

    Args:
        path: the file or folder. container: one of `motion.CONTAINERS`.
        format: for the frames of a folder: the layout in which the user says they are; see `load_motion`.
        clip: which clip of a file that holds several; see `load_motion`.

    Returns:
        a mapping of arrays with the keys of our own `.npz`, of a landmark file or of SMPL-X parameters; or the
        `SmplxClip` of a folder. And remarks.

    Raises:
        OSError: the file cannot be opened. ValueError: it cannot be used.
    """
    if clip is not None and container != "gltf":
        raise MotionFileError(
            f"one clip in the file, which has no name to be {clip!r}; leave clip out", kind="no clips"
        )
    if container == "folder":
        return read_folder(path, format)
    content = path.read_bytes()
    if container == "pose":
        return read_pose_file(content), []
    if container == "parquet":
        shape = "the picture's size is not stored: taken as 3 x 4, of a phone held upright"
        return read_kaggle_landmarks(content), [Remark(shape, "image_size", (3, 4))]
    if container in ("pickle", "torch"):
        return read_pickle(content), []
    names, positions, fps = read_bvh(content) if container == "bvh" else read_gltf(content, path.parent, clip)
    joints, valid, notes = named_joints_to_motion_joints(names, positions)
    return {"joints": joints, "valid": valid, "fps": fps}, [Remark(note) for note in notes]


__all__ = ["exact_joints", "landmarks_in_order", "read", "rotations_to_vectors", "rows_to_params", "whole_hands"]
