"""Takes of single signs of one person, and utterances composed of them: what `lslm adapt` trains on."""

import hashlib
import re
import sys
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...processing import MotionFileError, load_motion
from ...processing.feature_extraction_lslm import resample
from ...processing.motion import check_joints
from ...processing.motion_errors import printable
from ...processing.motion_features import JOINT_NAMES, fill_broken_joints
from ...processing.readers.confined import Confined
from ...processing.readers.wording import as_flags, counted
from .augmentation import facing_the_camera
from .motion_text import MotionText
from .spelling import WORD

LONGEST = 8.0  # seconds of a take: a sign lasts one or two
SPEED = (0.8, 1.6)  # a take in an utterance is so many times as fast: who spells a name holds no letter for long
SHORTEST = 0.4  # seconds of a sign in an utterance
TRANSITION = (0.2, 0.35)  # seconds from one sign to the next, by how far the wrists travel
WRIST_SPEED = 1.2  # metres a second on that way
SIZES = (2, 10)  # letters of a made-up word: from 2 to 9
ENOUGH_LETTERS = 3  # with fewer, words are spelled as they are
ALONE = 0.3  # share of made-up words that nothing is said about
WRISTS = [JOINT_NAMES.index(f"{side}_wrist") for side in ("left", "right")]


def take_files(folder: str) -> dict[str, list[Path]]:
    """Label, as `label_of` -> the files (or folders with a file per frame) of DIR/LABEL/, sorted. Hidden ones are none.

    Raises:
        OSError: no such folder. ValueError: nothing in it is a take.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"no folder of takes at {folder}: expected DIR/LABEL/FILE, like DIR/a/1.npz")
    files: dict[str, list[Path]] = {}
    for label in _visible(place):
        if label.is_dir():
            files.setdefault(label_of(label.name), []).extend(_visible(label))
    if not any(files.values()):
        raise ValueError(
            f"{folder} holds no takes: expected a folder for each letter or word that somebody signs, and its motion "
            "files in there, like DIR/a/1.npz and DIR/hello/3.bvh"
        )
    return files


def label_of(name: str) -> str:
    """Lower-cased, and a letter with its accent one character: file systems take them apart, data sets do not."""
    return unicodedata.normalize("NFC", name.lower())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def check_labels(given: Collection[str], known: Collection[str], data: str) -> None:
    """Raise a ValueError that names the labels of takes which are none of the data set's."""
    if unknown := sorted(set(given) - set(known)):
        near = {label: get_close_matches(label, known, n=1) for label in unknown}
        shown = ", ".join(label + (f" (is it {near[label][0]}?)" if near[label] else "") for label in unknown[:8])
        raise ValueError(
            printable(
                f"{data} has no sign {shown}, so no text says what that means. Rename or remove the folder; its signs "
                f"are {', '.join(sorted(known, key=lambda label: (len(label) > 1, label)))}"
            )
        )


def read_takes(files: Mapping[str, Sequence[Path]], fps: float, **reader) -> dict[str, list[np.ndarray]]:
    """Label -> takes (T, 52, 3) float32 in metres at `fps` frames per second, each facing +z from the origin. What
    cannot be used is named on standard error and left out. `reader`: arguments of `load_motion`.

    Raises:
        ValueError: none can be used, or one is there under two labels.
    """
    seen: dict[bytes, tuple[str, Path]] = {}  # the joints of a take, as a sum -> its label and file
    takes: dict[str, list[np.ndarray]] = {}
    remarks: dict[str, str] = {}  # what needs attention -> the first file of which it is said
    read, left_out = Confined(), 0  # foreign files, in a process of its own
    bar = tqdm([(label, file) for label in files for file in files[label]], "reading takes", unit="take", delay=1)
    for label, file in bar:
        try:
            motion = read(load_motion, str(file), **reader)
            if motion.duration > LONGEST:
                problem = f"it lasts {motion.duration:.1f} s, and a take is one sign of at most {LONGEST:g} s"
                raise ValueError(f"{problem}; cut it (or is its frame rate another?)")
            if motion.num_frames < 2:
                raise ValueError("it has one frame, expected a clip: hold the sign for a second")
            check_joints(motion.joints)
            joints = fill_broken_joints(motion.joints.astype(np.float64))[0]
        except (ValueError, OSError) as error:
            why = as_flags(error, error.problem) if isinstance(error, MotionFileError) else str(error)
            bar.write(printable(f"lslm: left out {file}: {why}"), file=sys.stderr)
            left_out += 1
            continue
        other, where = seen.setdefault(hashlib.sha256(joints.tobytes()).digest(), (label, file))
        if other != label:
            raise ValueError(
                printable(f"{file} is the same take as {where}: one take has one label; remove one of them")
            )
        for remark in motion.notes:
            if remark.argument is not None:
                remarks.setdefault(as_flags(remark, remark.text), str(file))
        takes.setdefault(label, []).append(resample(facing_the_camera(joints), motion.fps, fps).astype(np.float32))
    if not takes:
        raise ValueError(f"none of {counted(left_out, 'take')} can be used; the lines above say why")
    for remark, place in remarks.items():
        print(printable(f"lslm: {place}, and maybe others: {remark}"), file=sys.stderr)
    if without := sorted(files.keys() - takes.keys()):
        print(f"lslm: no take is left of {', '.join(without)}: nothing new is learnt of them", file=sys.stderr)
    return takes


def spelled_in(labels: Sequence[str], text: str) -> tuple[int, str] | None:
    """Which word of `text` the labels spell, the longest if there are several, and where they begin to; None: none."""
    letters = "".join(label if len(label) == 1 else " " for label in labels)
    words = sorted({word for word in WORD.findall(text) if len(word) > 1}, key=lambda word: (-len(word), word))
    return next(((at, word) for word in words if (at := letters.find(word.lower())) >= 0), None)


class Composer:
    """Says what a data set says, and spells made-up words, with the takes of one person. A sign that the person has no
    take of is cut out of the data set.

    Args:
        known: clips whose rows say where their signs are, in a column `signs` (label, start, end).
        data: what the data set is called, for messages.

    Raises:
        ValueError: they do not.
    """

    def __init__(self, known: Sequence[MotionText], data: str):
        self.utterances: list[tuple[str, np.ndarray, list[tuple[str, int, int]]]] = []  # text, joints, signs
        self.rows: dict[str, list[int]] = {}  # the utterances that have a label
        for clips in known:
            if not {"signs", "fps"} <= set(clips.rows.column_names):
                raise ValueError(
                    f"{data} does not say where its signs are: expected a column signs, a list of label, start and "
                    "end (frames) for each clip, as examples/asl_cafe has it"
                )
            told = zip(clips.texts, clips.joints, clips.rows["signs"], clips.rows["fps"], strict=True)
            for text, joints, signs, rate in told:
                times = clips.fps / rate
                ends = [
                    (label_of(sign["label"]), round(sign["start"] * times), round(sign["end"] * times))
                    for sign in signs
                ]
                for label in {label for label, _, _ in ends}:
                    self.rows.setdefault(label, []).append(len(self.utterances))
                self.utterances.append((text, joints, ends))
        self.fps = known[0].fps
        spelled = (spelled_in([label for label, _, _ in signs], text) for text, _, signs in self.utterances)
        self.words = sorted({found[1].lower() for found in spelled if found})

    def compose(
        self, takes: Mapping[str, Sequence[np.ndarray]], rng: np.random.Generator, held_out: Collection[str] = ()
    ) -> tuple[str, np.ndarray]:
        """One utterance with takes in it: its text, and its joints (T, 52, 3) float32. `held_out`: no word is made up
        that is among these."""
        label = str(rng.choice(sorted(takes)))
        row = int(rng.choice(self.rows[label]))
        text, joints, spans = self.utterances[row]
        signs = [(label, joints[start:end]) for label, start, end in spans if end - start > 1]
        letters = [label for label in sorted(takes) if len(label) == 1]
        found = spelled_in([label for label, _ in signs], text)
        if found and len(letters) >= ENOUGH_LETTERS:
            at, old = found
            word = self._word(letters, rng, held_out)
            spelled = [(letter, np.empty(0)) for letter in word]
            word = word.capitalize() if old[0].isupper() else word
            if rng.random() < ALONE:
                text, signs = f"{word.capitalize()}.", spelled
            else:
                text = re.sub(rf"\b{re.escape(old)}\b", word, text)
                signs = [*signs[:at], *spelled, *signs[at + len(old) :]]
        pieces = [self._piece(takes.get(label, ()), clip, rng) for label, clip in signs]
        return text, joined(pieces, self.fps)

    def _word(self, letters: Sequence[str], rng: np.random.Generator, held_out: Collection[str]) -> str:
        """Random letters, or the beginning of one spelled word with the end of another."""
        while True:
            word = "".join(rng.choice(letters, rng.integers(*SIZES)))
            if rng.random() < 0.5:
                first, last = (str(word) for word in rng.choice(self.words, 2))
                mixed = first[: rng.integers(1, len(first))] + last[rng.integers(1, len(last)) :]
                word = mixed if set(mixed) <= set(letters) else word
            if word not in held_out:
                return word

    def _piece(self, takes: Sequence[np.ndarray], known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not takes:
            return facing_the_camera(known)
        take = takes[rng.integers(len(takes))]
        frames = max(len(take) / rng.uniform(*SPEED), SHORTEST * self.fps)
        return resample(take, len(take) / frames, 1.0)


def joined(pieces: Sequence[np.ndarray], fps: float) -> np.ndarray:
    """Signs (T, 52, 3) one after the other, float32, with a way from each to the next that begins and ends slowly."""
    parts = [pieces[0]]
    for piece in pieces[1:]:
        before, after = parts[-1][-1], piece[0]
        travel = np.linalg.norm(after[WRISTS] - before[WRISTS], axis=-1).max()
        frames = max(round(fps * float(np.clip(travel / WRIST_SPEED, *TRANSITION))), 1)
        steps = (np.arange(1, frames + 1) / (frames + 1))[:, None, None]
        parts += [before + (after - before) * (steps * steps * (3 - 2 * steps)), piece]
    return np.concatenate(parts).astype(np.float32)
