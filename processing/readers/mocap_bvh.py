"""BVH motion capture files -> names and positions of joints. Also what the glTF reader beside it shares.

`mocap_skeletons.named_joints_to_motion_joints` makes the 52 joints of them. Units and axes stay those of the file.

BVH is read here, with numpy alone: pybvh refuses position channels outside the root, which many exporters write for
every joint, and bvhio waits forever at the end of a truncated file. pybvh checks the tests.

Files are not trusted: sizes and counts are checked before they are used, and whatever is wrong becomes a ValueError of
one line.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..rotations import quaternion_multiply, quaternion_rotate

MAX_BVH_BYTES = 2**27  # twenty minutes of 60 joints at 60 frames per second; bounds the numbers, which take 4 x that
MAX_HIERARCHY = 2**20  # bytes of it, as text
MAX_JOINTS = 1000  # avatars with every strand of hair rigged have some 300
MAX_NUMBERS = 2**24  # frames x channels: twenty minutes of 77 joints that turn, at 60 frames per second
MAX_POSITIONS = 2**23  # frames x joints: twenty minutes of 116 joints at 60 frames per second, 100 MB
MAX_FPS = 1000.0
_CHUNK = 2**19  # frames x joints that are worked on at a time

# Frame times are written with six digits or less (0.033333): a rate this near to a whole number is that number.
WHOLE_RATE = 2e-4
_BLOCK = 2**20  # characters that are taken apart at a time
_SPACE = re.compile(r"\s")
Joints = tuple[list[str], np.ndarray, float]


def check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"the file has over {limit >> 20} MB; cut it into utterances, without meshes and textures")


def whole_rate(fps: float) -> float:
    return float(round(fps)) if round(fps) and abs(fps / round(fps) - 1) < WHOLE_RATE else float(fps)


def check_positions(frames: int, joints: int) -> None:
    if frames * joints > MAX_POSITIONS:
        raise ValueError(f"{frames} frames of {joints} joints, the limit is {MAX_POSITIONS} in all; cut the file")


def in_chunks(frames: int, joints: int, named: int, positions: Callable[[slice], Iterator[np.ndarray]]) -> np.ndarray:
    """(frames, named, 3) float32 from a function that yields the (chunk, 3) positions of one joint after the other."""
    check_positions(frames, joints)
    result = np.empty((frames, named, 3), np.float32)
    step = max(1, _CHUNK // joints)
    with np.errstate(all="ignore"):  # whatever overflows is reported below
        for start in range(0, frames, step):
            chunk = slice(start, min(start + step, frames))
            for joint, values in enumerate(positions(chunk)):
                result[chunk, joint] = values
    if not np.isfinite(result).all():
        raise ValueError("positions are not finite numbers; the file is damaged, export it again")
    return result


# --- BVH --------------------------------------------------------------------------------------------------------------


def read_bvh(content: bytes) -> Joints:
    """Joint positions of a BVH file, by forward kinematics.

    Every joint may have any channels in any order. Position channels replace the joint's OFFSET, as in most
    programs; where their median is nearer to zero than to it they are added, as three.js does (not at the root).
    Names may contain spaces, braces may stand anywhere.

    Returns:
        names of the J joints without end sites, positions (T, J, 3) float32 in the file's units and axes, and frames
        per second (whole if within 0.02 % of a whole number: 0.033333 is 30).

    Raises:
        ValueError: not BVH, truncated, or too large.
    """
    check_size(len(content), MAX_BVH_BYTES)
    text = content.decode("utf-8-sig", "replace")
    parts = re.split(r"^[ \t]*MOTION[ \t\r]*$", text, maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)
    if len(parts) < 2:
        raise ValueError("no BVH file, or a truncated one: expected HIERARCHY, then a line MOTION; export it again")
    if len(parts[0]) > MAX_HIERARCHY:
        raise ValueError(f"the hierarchy of the BVH file has over {MAX_HIERARCHY >> 20} MB; export the skeleton alone")
    joints = _read_hierarchy(parts[0])
    head = re.match(r"\s*Frames\s*:\s*(\d{1,9})\s+Frame\s+Time\s*:\s*(\S+)", parts[1], re.IGNORECASE)
    if not head:
        raise ValueError("after MOTION came no `Frames: N` and `Frame Time: seconds`; export the BVH file again")
    frames, channels = int(head[1]), sum(len(joint["channels"]) for joint in joints)
    check_positions(frames, len(joints))
    if frames * channels > MAX_NUMBERS:
        raise ValueError(f"{frames} frames of {channels} channels, the limit is {MAX_NUMBERS} in all; cut the file")
    try:
        frame_time = float(head[2])
        values = _numbers(parts[1], head.end(), frames * channels)
    except ValueError as error:
        raise ValueError(
            "the motion of the BVH file breaks off, or holds what is no number; export it again"
        ) from error
    if not 1 / MAX_FPS <= frame_time <= 60:
        raise ValueError(f"Frame Time is {head[2][:20]}, expected seconds from {1 / MAX_FPS:g} to 60")
    if not frames * channels or len(values) < frames * channels:
        raise ValueError(
            f"truncated BVH file: {frames} frames of {channels} channels promised, {len(values)} numbers found"
        )
    values = values.reshape(frames, channels)
    turns = [
        column for joint in joints for column, (moves, _) in enumerate(joint["channels"], joint["first"]) if not moves
    ]
    if 0 < np.abs(values[:, turns]).max(initial=0) <= 2 * np.pi:
        raise ValueError("no joint turns by more than 6.3 degrees; BVH counts degrees: multiply radians by 57.29578")
    for joint in joints:
        columns = [column for column, (moves, _) in enumerate(joint["channels"], joint["first"]) if moves]
        median = np.median(values[:, columns], axis=0)
        offset = joint["offset"][[axis for moves, axis in joint["channels"] if moves]]
        with np.errstate(all="ignore"):
            joint["added"] = joint["parent"] >= 0 and np.linalg.norm(median) < np.linalg.norm(median - offset)
    positions = in_chunks(frames, len(joints), len(joints), lambda chunk: _bvh_positions(joints, values[chunk]))
    return [joint["name"] for joint in joints], positions, whole_rate(1 / frame_time)


def _numbers(text: str, start: int, count: int) -> np.ndarray:
    """The first `count` numbers of a text, float64, or as many as there are; what follows them is not looked at.

    Raises:
        ValueError: something is no number.
    """
    values, filled = np.empty(count), 0
    while filled < count and start < len(text):
        space = _SPACE.search(text, start + _BLOCK)
        end = space.start() if space else len(text)
        words = text[start:end].split()[: count - filled]
        if any("_" in word for word in words):  # a digit's neighbour to Python
            raise ValueError("1_000 is no number")
        values[filled : filled + len(words)] = np.fromiter(map(float, words), np.float64, len(words))
        filled, start = filled + len(words), end
    return values[:filled]


def _read_hierarchy(text: str) -> list[dict[str, Any]]:
    """Joints in the order of the file: name, parent, offset (3,), channels [(is a position, axis)], first column."""
    joints: list[dict[str, Any]] = []
    opened: list[int] = []  # the joints whose braces are open; -1 for an end site
    announced = None  # the one whose brace comes next
    columns = 0
    for line in re.sub(r"([{}])", r"\n\1\n", text).splitlines():
        words = line.split()
        keyword = words[0].upper() if words else "HIERARCHY"
        here = opened[-1] if opened else None
        if keyword == "HIERARCHY":
            continue
        elif keyword in ("ROOT", "JOINT") and announced is None and here != -1 and (keyword == "ROOT" or opened):
            announced = len(joints)
            if announced == MAX_JOINTS:
                raise ValueError(f"the BVH file has over {MAX_JOINTS} joints; export the skeleton alone")
            joint = {"name": " ".join(words[1:]), "parent": -1 if here is None else here, "first": columns}
            joints.append(joint | {"offset": np.zeros(3), "channels": []})
        elif keyword == "END" and announced is None and opened:
            announced = -1
        elif keyword == "{" and announced is not None:
            opened.append(announced)
            announced = None
        elif keyword == "}" and opened and announced is None:
            opened.pop()
        elif keyword == "OFFSET" and here is not None and len(words) == 4:
            try:
                offset = np.array(words[1:], np.float64)
            except ValueError as error:
                raise ValueError(f"OFFSET {' '.join(words[1:])[:60]!r} in the BVH file is no 3 numbers") from error
            if here >= 0:
                joints[here]["offset"] = offset
        elif keyword == "CHANNELS" and here is not None and here == len(joints) - 1 and not joints[here]["channels"]:
            channels = [re.fullmatch(r"([XYZ])(POS|ROT)[A-Z]*", word, re.IGNORECASE) for word in words[2:]]
            if not all(channels) or words[1:2] != [str(len(channels))] or len(channels) > 9:
                raise ValueError(f"expected channels like Xposition or Zrotation, got {line.strip()[:80]!r}")
            joints[here]["channels"] = [
                (match[2].upper() == "POS", "XYZ".index(match[1].upper())) for match in channels
            ]
            columns += len(channels)
        else:
            raise ValueError(f"unexpected {line.strip()[:60]!r} in the hierarchy of the BVH file; export it again")
    if opened or announced is not None or not joints:
        raise ValueError("the hierarchy of the BVH file has no joint or an open brace; export it again")
    return joints


def _bvh_positions(joints: list[dict[str, Any]], values: np.ndarray) -> Iterator[np.ndarray]:
    turns, places = [], []  # of the joints so far, in the world: quaternions (F, 4) and positions (F, 3)
    for joint in joints:
        turn = np.zeros((len(values), 4))
        turn[:, 0] = 1
        place = np.tile(joint["offset"], (len(values), 1))
        for column, (moves, axis) in enumerate(joint["channels"], joint["first"]):
            if moves:
                place[:, axis] = values[:, column] + (joint["offset"][axis] if joint["added"] else 0)
            else:
                angle = np.radians(values[:, column]) / 2
                about = np.zeros((len(values), 4))
                about[:, 0], about[:, 1 + axis] = np.cos(angle), np.sin(angle)
                turn = quaternion_multiply(turn, about)
        if joint["parent"] >= 0:
            parent = turns[joint["parent"]]
            place = places[joint["parent"]] + quaternion_rotate(parent, place)
            turn = quaternion_multiply(parent, turn)
        turns.append(turn)
        places.append(place)
        yield place
