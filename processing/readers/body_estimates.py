"""What programs that find people in videos save -> SMPL-X parameters of one person.

    WHAM (demo.py)      {track: {pose_world (T, 72), betas, frame_ids, ...}}, by joblib; y up, SMPL
    GVHMR               {smpl_params_global: {global_orient (T, 3), body_pose (T, 63), ...}, ...}; y up, SMPL-X
    PromptHMR           {people: {track: {smplx_world: {pose (T, 165), ...}, frames}}}, by joblib; y up, SMPL-X
    PHALP (4D-Humans)   {picture: {tid: [track], smpl: [{global_orient (1, 3, 3), body_pose (23, 3, 3)}], ...}}: the
                        people of each frame, by joblib with zlib; the camera's axes, y down, SMPL

The first three hold the same person in the axes of the camera, too; those of the world are taken. Where there are no
hands, zeros are put in their place, which `load_motion` marks as not observed.

Sources: yohanshin/WHAM, demo.py; zju3dv/GVHMR, hmr4d/model/gvhmr/gvhmr_pl_demo.py; yufu-wang/PromptHMR,
pipeline/world.py and pipeline.py; brjathu/PHALP, phalp/trackers/PHALP.py; on github.com.
"""

from collections.abc import Mapping

import numpy as np

from ..array_files import MAX_FRAMES, numbers
from ..motion_errors import Remark
from ..smplx_formats import SmplxClip, mapping_to_clip
from .clips import choose_clip

_OF_A_PERSON = ("smplx_world", "smplx_cam", "smpl_params_global", "smpl_params_incam")  # the first that is there
_POSES = {"pose_world", "pose", "body_pose"}
_BODY_ENDS = {72: 72, 75: 66, 165: 66}  # in a whole pose of so many numbers; SMPL has two hands of one joint


def estimated_person(content: Mapping, format: str | None = None, clip: str | None = None) -> SmplxClip | None:
    """The person of a file, or the one whose track is called `clip`; None: the file is none of these.

    Raises:
        MotionFileError: several people, or none of that name. ValueError: arrays that do not fit.
    """
    people = content["people"] if isinstance(content.get("people"), Mapping) else content
    if "params" in content or not all(isinstance(person, Mapping) for person in people.values()):  # AiOS, others
        people = {}
    if "smpl_params_global" in content:
        people = {"": content}
    elif people and all({"tid", "smpl"} <= person.keys() for person in people.values()):
        people = _tracks(people)
    people = {str(name): person for name, person in people.items() if _POSES & _parameters(person).keys()}
    return _clip(list(people.values())[choose_clip(list(people), clip, "people")], format) if people else None


def _parameters(person: Mapping) -> Mapping:
    return next((person[key] for key in _OF_A_PERSON if isinstance(person.get(key), Mapping)), person)


def _tracks(frames: Mapping[str, Mapping]) -> dict[str, dict]:
    """People of each frame -> frames of each person; where a track was only predicted, there is none."""
    tracks: dict[str, dict] = {}
    for number, frame in enumerate(frames.values()):
        for track, params, lost in zip(frame["tid"], frame["smpl"], frame["tracked_time"], strict=True):
            if lost == 0:
                person = tracks.setdefault(str(track), {"frames": [], "global_orient": [], "body_pose": []})
                person["frames"].append(number)
                for part in ("global_orient", "body_pose"):
                    person[part].append(numbers(params, part))
    for person in tracks.values():
        person |= {part: np.array(values) for part, values in person.items()}
    return tracks


def _clip(person: Mapping, format: str | None) -> SmplxClip:
    given, notes = _parameters(person), []
    params = dict(given)
    if "body_pose" not in given:
        name = "pose_world" if "pose_world" in given else "pose"
        pose = numbers(given, name)
        if pose.ndim != 2 or pose.shape[1] not in _BODY_ENDS:
            raise ValueError(f"`{name}` has shape {pose.shape}, expected (frames, 72), SMPL, or (frames, 165), SMPL-X")
        params |= {"global_orient": pose[:, :3], "body_pose": pose[:, 3 : _BODY_ENDS[pose.shape[1]]]}
        if pose.shape[1] == 165:
            params |= {"left_hand_pose": pose[:, 75:120], "right_hand_pose": pose[:, 120:]}
    body = numbers(params, "body_pose")
    if body.shape[1:] in ((69,), (23, 3), (23, 3, 3)):
        params["body_pose"] = body[:, : 63 if body.ndim == 2 else 21]
        params.pop("betas", None)
        notes.append(Remark("body shape left out: betas of SMPL mean nothing to SMPL-X"))
    if "left_hand_pose" not in params:
        params |= {f"{side}_hand_pose": np.zeros((len(body), 45)) for side in ("left", "right")}
        notes.append(Remark("the file holds a body without hands", kind="a body without hands"))
    clip = mapping_to_clip(params, format)
    if clip is None:
        raise ValueError(f"a person with {', '.join(map(str, given))[:200]}: expected `global_orient` and `body_pose`")
    clip.notes += notes
    stated = next((key for key in ("frames", "frame_ids") if key in person), None)
    return clip if stated is None else _in_time(clip, numbers(person, stated))


def _in_time(clip: SmplxClip, frames: np.ndarray) -> SmplxClip:
    """Parameters at the numbers of their frames, and NaN where a frame is lost."""
    frames = frames.reshape(-1).astype(np.int64)
    if len(frames) != clip.num_frames or not len(frames) or (np.diff(frames) <= 0).any():
        raise ValueError(f"{len(frames)} numbers of frames, expected {clip.num_frames} that increase")
    length = int(frames[-1] - frames[0]) + 1
    if length > min(MAX_FRAMES, 10 * len(frames)):
        raise ValueError(f"{len(frames)} frames numbered {frames[0]} to {frames[-1]}: most frames are lost")
    for part, values in clip.params.items():
        clip.params[part] = np.full((length, values.shape[1]), np.nan)
        clip.params[part][frames - frames[0]] = values
    return clip
