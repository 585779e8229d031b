"""Who is who in frames that were looked at one by one: detections are numbered anew in each."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..motion_errors import MotionFileError, Remark
from ..rotations import squared_length
from ..smplx_formats import SmplxClip
from .clips import choose_clip

MAX_META_BYTES = 2**16
MAX_PEOPLE = 100
# Metres, or heights of a box, between two frames of a person; farther is somebody else. And how near it must be to the
# place of that person, in ways to the place of another, to be no other.
FARTHEST, SURE = 0.4, 0.5
# Rows of people in turn: how much farther joints are from those of the frame before than from those of two or three
# frames before. At most 1.3 in 5,400 clips of real signs; two or three of them in turn: 2.1 and more. And metres.
IN_TURN, IN_TURN_METRES = 1.8, 0.01
SHAPE_WEIGHT = 0.1  # metres for a standard deviation: fits of one person differ by some tenths from frame to frame


def places(frames: Sequence[Sequence[tuple[Path, SmplxClip]]]) -> list[np.ndarray] | None:
    """(people, n) for each frame: where and how large each was, by its box in SMPLer-X's `meta`, else by `transl`, and
    of which shape; None: the files do not tell."""
    everybody = [detection for frame in frames for detection in frame]
    boxes = np.array([_box(file) for file, _ in everybody])
    if np.isfinite(boxes).all() and (boxes[:, 2:] > 0).all():
        x, y, width, height = boxes.T
        found = np.stack([x + width / 2, y + height / 2, np.median(height) * np.log(height)]) / np.median(height)
    else:
        x, y, z = np.stack([clip.params.get("transl", np.full((1, 3), np.nan))[0] for _, clip in everybody], axis=1)
        if not (np.isfinite([x, y]).all() and (z > 0).all()):
            return None
        found = np.stack([np.median(z) * x / z, np.median(z) * y / z, np.log(z)])
    shapes = [np.resize(clip.params.get("betas", np.zeros(1)), 10) for _, clip in everybody]
    ends = np.cumsum([len(frame) for frame in frames])[:-1]
    return np.split(np.concatenate([found.T, SHAPE_WEIGHT * np.nan_to_num(shapes)], axis=1), ends)


def _box(file: Path) -> list[float]:
    """x, y, width and height in pixels, NaN where `meta` has none."""
    meta = file.parent.parent / "meta" / f"{file.stem}.json"
    try:
        if meta.stat().st_size <= MAX_META_BYTES:
            x, y, width, height = map(float, json.loads(meta.read_bytes())["bbox"])
            return [x, y, width, height]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return [np.nan] * 4


def follow(places: Sequence[np.ndarray]) -> list[dict[int, int]]:
    """{frame: number of the detection} of each person, by the shortest ways from frame to frame; in the order in which
    they come in.

    Args:
        places: (people, n) for each frame, in one unit.

    Raises:
        MotionFileError: two people come so near to each other that they may have changed their names.
    """
    people: list[dict[int, int]] = []
    last: list[np.ndarray] = []
    for frame, here in enumerate(places):
        apart = np.linalg.norm(np.reshape(last, (len(last), 1, here.shape[1])) - here, axis=-1)
        pairs: dict[int, int] = {}
        for person, detection in sorted(np.ndindex(*apart.shape), key=lambda pair: apart[pair]):
            if apart[person, detection] < FARTHEST and person not in pairs and detection not in pairs.values():
                pairs[person] = detection
        for person, detection in pairs.items():
            for other in range(len(people)):
                if other not in pairs:  # only who was there just now can be mistaken
                    way = apart[person, detection]
                    elsewhere = apart[other, detection] if frame - 1 in people[other] else np.inf
                else:
                    way = apart[person, detection] + apart[other, pairs[other]]
                    elsewhere = apart[person, pairs[other]] + apart[other, detection]
                if other != person and way > SURE * elsewhere:
                    kind = "people too near to each other to be followed"
                    raise MotionFileError(f"frame {frame}: {kind}; keep the files of one", kind=kind)
        for detection in sorted({*range(len(here))} - {*pairs.values()}):
            pairs[len(people)] = detection
            people.append({})
            last.append(here[detection])
        if len(people) > MAX_PEOPLE:
            raise MotionFileError(f"over {MAX_PEOPLE} people in the frames; keep the files of one")
        for person, detection in pairs.items():
            people[person][frame] = detection
            last[person] = here[detection]
    return people


def one_person(people: list[dict[int, int]], clip: str | None, notes: list[Remark]) -> dict[int, int]:
    """The frames of the one who is meant, and in `notes` which of how many that is."""
    chosen = max(range(len(people)), key=lambda person: len(people[person]))
    if clip is not None:
        chosen = choose_clip([""] * len(people), clip, "people")
    if len(people) > 1:
        seen = ", ".join(f"{person} in {len(frames)} frames" for person, frames in enumerate(people))
        kind = "several people in the frames: one is read"
        text = f"{len(people)} people, {seen}: {chosen} is read"
        notes.append(Remark(text, "clip", str(min({0, 1} - {chosen})), kind))
    return people[chosen]


def check_one_person(joints: np.ndarray) -> None:
    """Refuse (T, 52, 3) joints, metres, that are somebody else's from frame to frame.

    Raises:
        MotionFileError: two or three people take turns.
    """
    whole = joints[np.isfinite(joints).all((1, 2))]

    def moves(gap: int) -> float:
        return np.median(np.sqrt(squared_length(whole[gap:] - whole[:-gap])).mean(1))

    if len(whole) < 6 or (step := moves(1)) <= IN_TURN_METRES:
        return
    for people in (2, 3):
        if len(whole) >= 3 * people and step > IN_TURN * moves(people):
            kind = f"the frames are of {people} people in turn"
            raise MotionFileError(f"{kind}; keep each {('second', 'third')[people - 2]} frame", kind=kind)
