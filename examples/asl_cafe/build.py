"""Build the ASL Cafe data set: real isolated signs, stitched into utterances with English text.

    python examples/asl_cafe/build.py --raw RAW --more NEW --out examples/asl_cafe   # all splits, and six clips
    python examples/asl_cafe/build.py --raw RAW --out /tmp/more --split test   # every take of RAW into one test split
    python examples/asl_cafe/build.py --raw NEW --out /tmp/new --split strangers --bodies RAW   # other people's takes

The same raw folder and seed give the same bytes. What is said (cafe_grammar.py) does not depend on which takes exist;
how it is signed (`Stitcher`) draws on the takes of one split only. The rules are in README.md, their tests in
tests/test_asl_cafe.py. The result is parquet for `datasets`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cafe_grammar as cafe
import numpy as np
from datasets import Array3D, Features, Value

from lslm.processing.mediapipe_landmarks import mediapipe_to_joints
from lslm.processing.motion_features import JOINT_NAMES, NUM_JOINTS
from lslm.training.dataset.build.build import build as build_data_set

FPS = 15.0  # nominal: the recordings hold no frame rate
# The webcam's picture is 16:9, though no file says so. Only with this shape do palm and forearm keep their length when
# they turn in the picture, and do faces have the proportions of faces; at 4:3 people come out a third too tall.
IMAGE_SIZE = (1280, 720)
# The recording loop showed its first picture, waited, then filmed on: frame 0 of a take shows where the hands were
# before. The wrist jumps by half a metre after it in 9 % of the takes, and after no other frame.
FIRST_FRAME = 1
BLOCK = 30  # takes of one signer at one sitting
GRID = 2  # millimetres; the landmarks are good to centimetres, and a grid of 1 mm takes 3 MB more in git
WORD_FRAMES, LETTER_FRAMES, TRANSITION_FRAMES = (14, 20), (12, 16), (3, 5)
STRANGER_FRAMES = (15, 30)  # of a word or a letter: who does not practise spells one in 1 to 2 seconds
STILL_FRAMES = 20  # of letters_frames.npz, in the order of recording, that make a take
RAW_KEYS = {
    "words": {"pose", "left_hand", "right_hand", "take"},
    "letters": {"left_hand", "right_hand", "take"},
    "letters_frames": {"hand"},
}
ALL_SPLITS = (*cafe.SPLITS, cafe.SPELLING, cafe.STRANGERS, cafe.MORE, cafe.SMALL_TALK)
TABLE_COLUMNS = ("utterances", "combinations", "unseen_combinations", "with_name", "names", "takes")
TABLE_COLUMNS += ("signs_per_utterance", "frames_per_utterance")


# --- who signs it -----------------------------------------------------------------------------------------------------


def split_takes(takes: Sequence[int]) -> dict[int, str]:
    """Recording numbers of ONE label of one source -> their splits, by block of 30: one signer, one sitting.

    The last block is test and the one before it validation; of two blocks, the last quarter of the first validates; a
    single block only trains.
    """
    ordered = sorted(takes)
    *earlier, last = sorted({take // BLOCK for take in ordered})
    if not earlier:
        return dict.fromkeys(ordered, "train")
    splits = {take: "test" if take // BLOCK == last else "train" for take in ordered}
    validation = [take for take in ordered if take // BLOCK == earlier[-1]]
    if len(earlier) == 1:
        validation = validation[len(validation) - len(validation) // 4 :]
    return splits | dict.fromkeys(validation, "validation")


@dataclass
class Take:
    """One recording: `id` like "words/coffee/113"; pose (T, 25, 4), hands (T, 21, 3); letters.npz has no pose. `signer`
    where the file tells."""

    id: str
    label: str
    split: str
    pose: np.ndarray | None
    left_hand: np.ndarray
    right_hand: np.ndarray
    signer: str = ""


@dataclass
class Raw:
    takes: dict[str, list[Take]]  # by split
    dropped: dict[str, list[str]]
    sha256: dict[str, str]


def _detected(landmarks: np.ndarray) -> np.ndarray:
    return (landmarks != 0).any((1, 2))


def read_raw(folder: Path, only_split: str | None = None) -> Raw:
    """Read words.npz, letters.npz and letters_frames.npz (each may be missing), drop what cannot be used, deal takes to
    splits."""
    no_pose, no_hand = "pose lost in a frame", "signing hand lost in half of the frames"
    raw = Raw({split: [] for split in (*cafe.SPLITS, cafe.STRANGERS)}, {no_pose: [], no_hand: []}, {})
    for source in ("words", "letters", "letters_frames"):
        path = folder / f"{source}.npz"
        if not path.is_file():
            continue
        raw.sha256[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}  # once: an npz reads the array again at every index
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}); copy it again") from error
        if missing := (RAW_KEYS[source] | {"labels"}) - arrays.keys():
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; the layout is described in README.md")
        if source == "letters_frames":
            arrays = _still_takes(arrays)
        ends = arrays.get("num_frames", [None] * len(arrays["labels"]))  # zeros after that
        labels = arrays["labels"].astype(str)
        for label in sorted(set(labels) - {"-", "space"}):  # hands at rest, and no sign
            rows = np.flatnonzero(labels == label)
            splits = split_takes([int(take) for take in arrays["take"][rows]])
            for row in rows:
                number = int(arrays["take"][row])
                signer = str(arrays["signer"][row]) if "signer" in arrays else ""
                shown = slice(FIRST_FRAME, ends[row])
                pose = arrays["pose"][row, shown].astype(np.float32) if source == "words" else None
                hands = [arrays[key][row, shown].astype(np.float32) for key in ("left_hand", "right_hand")]
                name = "/".join([source, *([signer] if signer else []), label, str(number)])
                take = Take(name, label, only_split or splits[number], pose, *hands, signer)
                if pose is not None and not _detected(pose).all():
                    raw.dropped[no_pose].append(take.id)
                # the first three, who have no names, sign with the right hand, and so do hands without a body
                elif (
                    max(_detected(hand).mean() for hand in (hands if signer and pose is not None else hands[1:])) < 0.5
                ):
                    raw.dropped[no_hand].append(take.id)
                else:
                    raw.takes[take.split].append(take)
    if not any(raw.takes.values()):
        raise ValueError(f"no usable take in {folder}; expected words.npz and letters.npz there, see README.md")
    return raw


def _still_takes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Single frames of a right hand in a mirrored picture, in the order of recording -> takes as in letters.npz."""
    hand, labels = arrays["hand"].copy(), arrays["labels"].astype(str)
    hand[..., 0] = 1 - hand[..., 0]
    rows = [np.flatnonzero(labels == label) for label in sorted(set(labels))]
    takes = [part for row in rows for part in np.split(row, range(STILL_FRAMES, len(row), STILL_FRAMES))]
    if not (takes := [part for part in takes if len(part) == STILL_FRAMES]):
        raise ValueError(f"letters_frames.npz shows no letter in {STILL_FRAMES} frames, which a take is made of")
    takes = np.stack(takes)
    right = hand[takes]
    named = {"labels": labels[takes[:, 0]], "take": np.arange(len(takes)), "signer": np.full(len(takes), "letters")}
    return named | {"left_hand": np.zeros_like(right), "right_hand": right}


def borrow_body(take: Take, donor: Take) -> Take:
    """Hands without a body, onto the body of another take: wrist where the donor's is, palm as long as the donor's.

    The hand keeps its own movement, which draws J and Z; the donor's wrist and, by half, elbow follow it.
    """
    frames = len(take.right_hand)
    resample = np.linspace(0, len(donor.pose) - 1, frames).round().astype(int)
    pose, left, model = donor.pose[resample].copy(), donor.left_hand[resample].copy(), donor.right_hand[resample]
    pixels = np.array([*IMAGE_SIZE, IMAGE_SIZE[0]], np.float32) / IMAGE_SIZE[0]
    seen, donor_seen = _detected(take.right_hand), _detected(model)

    def palm(hand: np.ndarray) -> float:
        return float(np.median(np.linalg.norm((hand[:, 9] - hand[:, 0]) * pixels, axis=-1)))

    scale = palm(model[donor_seen]) / max(palm(take.right_hand[seen]), 1e-6)
    at = np.flatnonzero(seen)
    path = take.right_hand[at, 0]
    wrist = np.stack([np.interp(np.arange(frames), at, path[:, axis]) for axis in range(3)], axis=-1)
    moved = (wrist - np.median(wrist, axis=0)) * scale
    moved[:, 2] = 0  # the hand's own depth is relative to its wrist
    pose[:, 14, :3] += 0.5 * moved
    pose[:, 16, :3] = np.median(pose[:, 16, :3], axis=0) + moved
    right = (take.right_hand - take.right_hand[:, :1]) * scale + pose[:, None, 16, :3] * (1, 1, 0)
    return Take(take.id, take.label, take.split, pose, left, np.where(seen[:, None, None], right, 0).astype(np.float32))


def _smooth(joints: np.ndarray) -> np.ndarray:
    """Gaussian of one frame along time: MediaPipe's jitter goes, the sign stays."""
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    padded = np.pad(joints, ((3, 3), (0, 0), (0, 0)), mode="edge")
    parts = (weight * padded[k : k + len(joints)] for k, weight in enumerate(kernel / kernel.sum()))
    return sum(parts, np.zeros(()))


def _retime(joints: np.ndarray, frames: int) -> np.ndarray:
    times = np.linspace(0, len(joints) - 1, frames)
    before = np.minimum(times.astype(int), len(joints) - 2)
    weight = (times - before)[:, None, None]
    return joints[before] * (1 - weight) + joints[before + 1] * weight


def on_grid(millimetres: np.ndarray) -> np.ndarray:
    """Millimetres -> int16 millimetres on a grid of GRID."""
    return (np.round(millimetres / GRID) * GRID).astype(np.int16)


def transition(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Frames between two poses (52, 3) in millimetres: smoothstep, 3 to 5 of them by how far the wrists travel."""
    wrists = [JOINT_NAMES.index("left_wrist"), JOINT_NAMES.index("right_wrist")]
    travel = np.linalg.norm(after[wrists].astype(float) - before[wrists], axis=-1).max()
    frames = int(np.clip(round(travel / 80), *TRANSITION_FRAMES))
    steps = (np.arange(1, frames + 1) / (frames + 1))[:, None, None]
    return on_grid(before + (after.astype(float) - before) * (steps * steps * (3 - 2 * steps)))


class Stitcher:
    """Signs sentences with the takes of one split, each take at one speed of its own, used in turn."""

    def __init__(self, takes: Sequence[Take], split: str, seed: int, lenders: Sequence[Take] = ()):
        self.seed, self.split = seed, split
        self.rng = np.random.default_rng([seed, ALL_SPLITS.index(split), 1])
        self.by_label: dict[str, list[Take]] = {}
        for take in takes:
            self.by_label.setdefault(take.label, []).append(take)
        bodies = [take for take in takes if take.pose is not None] or [
            take for take in lenders if take.pose is not None
        ]
        self.donors = [take for take in bodies if take.label in cafe.LETTERS] or bodies
        self.queues: dict[str, list[Take]] = {}
        self.clips: dict[tuple[str, bool], np.ndarray] = {}

    def sign(self, sentence: cafe.Sentence) -> tuple[np.ndarray, list[dict]]:
        """-> (T, 52, 3) int16 millimetres, and the spans of the takes."""
        parts: list[np.ndarray] = []
        spans: list[dict] = []
        for label, is_letter in cafe.labels_of(sentence.gloss):
            take = self._next(label, is_letter)
            clip = self._clip(take, is_letter)
            if parts:
                parts.append(transition(parts[-1][-1], clip[0]))
            start = sum(map(len, parts))
            spans.append({"label": label, "take": take.id, "start": start, "end": start + len(clip)})
            parts.append(clip)
        return np.concatenate(parts), spans

    def _next(self, label: str, is_letter: bool) -> Take:
        # Takes without a body only spell: the pronoun I is signed by those who were filmed saying it, while there are
        # any.
        candidates = self.by_label[label]
        if not is_letter:
            candidates = [take for take in candidates if take.pose is not None] or candidates
        queue = self.queues.setdefault(f"{label} {is_letter}", [])
        if not queue:
            queue.extend(candidates[index] for index in self.rng.permutation(len(candidates)))
        return queue.pop()

    def _clip(self, take: Take, is_letter: bool) -> np.ndarray:
        key = (take.id, is_letter)
        if key not in self.clips:
            rng = np.random.default_rng([self.seed, zlib.crc32(f"{take.id} {is_letter}".encode())])
            body = take
            if take.pose is None:
                if not self.donors:
                    raise ValueError(
                        f"{take.id} is a hand only, and there is no take to borrow a body from: give a folder whose "
                        "words.npz has some as --bodies"
                    )
                same = [donor for donor in self.donors if donor.label == take.label] or self.donors
                body = borrow_body(take, same[rng.integers(len(same))])
            joints, _ = mediapipe_to_joints(body.pose, body.left_hand, body.right_hand, image_size=IMAGE_SIZE)
            low, high = LETTER_FRAMES if is_letter else WORD_FRAMES
            low, high = STRANGER_FRAMES if self.split in (cafe.STRANGERS, cafe.MORE) else (low, high)
            self.clips[key] = on_grid(1000 * _retime(_smooth(joints), int(rng.integers(low, high + 1))))
        return self.clips[key]


# --- what is written --------------------------------------------------------------------------------------------------

FEATURES = Features(
    {
        **dict.fromkeys(("id", "text", "gloss", "name"), Value("string")),
        "signs": [{"label": Value("string"), "take": Value("string"), "start": Value("int32"), "end": Value("int32")}],
        "fps": Value("float32"),
        "num_frames": Value("int32"),
        "joints_mm": Array3D((None, NUM_JOINTS, 3), "int16"),
        "seen_combination": Value("bool"),
    }
)


def write_parquet(rows: Sequence[dict], split: str, data: Path) -> None:
    """Rows with `joints_mm` (T, 52, 3) int16 -> DATA/SPLIT.parquet: as clips and a table of texts through the same
    build that everybody's data takes. It is one split of many rows there, whatever its name is here.

    A take's frames recur byte for byte in every utterance that uses it. In one page for all rows, at a level that looks
    back as far, the compressor finds them: the rows stay plain and the file small.
    """
    with tempfile.TemporaryDirectory(prefix="asl-cafe-") as folder:
        source, out = Path(folder, "clips"), Path(folder, "set")
        source.mkdir()
        with open(source / "texts.jsonl", "w", encoding="utf-8") as texts:
            for row in rows:
                np.savez(source / f"{row['id']}.npz", joints=row["joints_mm"] / 1000, fps=FPS)
                told = {name: value for name, value in row.items() if name not in ("fps", "num_frames", "joints_mm")}
                texts.write(json.dumps(told | {"file": f"{row['id']}.npz", "split": "test"}) + "\n")
        columns = {**FEATURES, "signer": Value("string")} if "signer" in rows[0] else FEATURES
        options = {"columns": Features(columns), "fps": FPS, "shard_size": len(rows), "compression_level": 22}
        report = build_data_set(source, out, workers=0, progress=False, **options)
        if report["dropped"]:
            raise ValueError(f"{report['dropped']} utterances of {split} were left out; see dropped.jsonl")
        shutil.move(out / "data" / "test-00000.parquet", data / f"{split}.parquet")


def signed(split: str, sentences: Iterable[cafe.Sentence], stitcher: Stitcher, start: int = 0) -> list[dict]:
    """A row of the split for each sentence, as `stitcher` signs it; their numbers begin with `start`."""
    rows = []
    for number, sentence in enumerate(sentences, start):
        joints, signs = stitcher.sign(sentence)
        text, gloss = cafe.gloss_to_english(sentence.gloss), sentence.gloss
        row = {"id": f"{split}-{number:04d}", "text": text, "gloss": gloss, "name": sentence.name, "signs": signs}
        row |= {"fps": FPS, "num_frames": len(joints), "joints_mm": joints, "seen_combination": sentence.seen}
        rows.append(row)
    return rows


def _of_strangers(
    takes: Sequence[Take], lenders: Sequence[Take], train: Sequence[cafe.Sentence], seed: int, limit: int | None
) -> list[dict]:
    """Rows with a `signer`: each person says what the labels at hand allow, and nobody else signs in them.

    `lenders` lend bodies to hands without. Raises a ValueError if somebody's labels allow nothing.
    """
    rows: list[dict] = []
    for signer in sorted({take.signer for take in takes}):
        stitcher = Stitcher([take for take in takes if take.signer == signer], cafe.STRANGERS, seed, lenders)
        size, labels = min(cafe.STRANGERS_SIZE, limit or cafe.STRANGERS_SIZE), stitcher.by_label.keys()
        orders = {*labels} & {*map(str.lower, cafe.DRINKS_AND_FOOD)}
        known = {"seed": seed, "labels": labels, "train": train}
        sentences = cafe.compose("test", size, **known) if orders else cafe.compose_short(size, **known)
        rows += [row | {"signer": signer} for row in signed(cafe.STRANGERS, sentences, stitcher, len(rows))]
    return rows


def _of_more(
    raw: Raw, more: Raw, train: Sequence[cafe.Sentence], seed: int, limit: int | None
) -> dict[str, list[dict]]:
    """Rows of MORE (training takes) and of SMALL_TALK (test takes), with the signs of `more`, and of the cafe what that
    lacks; MORE also has names that only those spell of whom `more` has the letters."""
    rows = {}
    for split, source in ((cafe.MORE, "train"), (cafe.SMALL_TALK, "test")):
        theirs = more.takes[source]
        takes = theirs + [take for take in raw.takes[source] if take.label not in {other.label for other in theirs}]
        count = min(cafe.SMALL_TALK_SIZES[split], limit or cafe.SMALL_TALK_SIZES[split])
        labels = {take.label for take in takes}
        sentences = cafe.compose_small_talk(split, seed=seed, labels=labels, count=count)
        rows[split] = signed(split, sentences, Stitcher(takes, split, seed))
    takes = more.takes["train"]
    count = min(cafe.SPELLED_MORE, limit or cafe.SPELLED_MORE)
    labels = {take.label for take in takes}
    sentences = cafe.compose_short(count, seed=seed, labels=labels, train=train, names_of="train")
    spelling = Stitcher(takes, cafe.MORE, seed, raw.takes["train"])
    rows[cafe.MORE] += signed(cafe.MORE, sentences, spelling, len(rows[cafe.MORE]))
    return rows


def _statistics(rows: Sequence[dict]) -> dict:
    signs = [len(row["gloss"].split()) for row in rows]  # a fingerspelled name counts as one sign
    words = Counter(word for row in rows for word in row["gloss"].split() if not word.startswith("fs-"))
    return {
        "utterances": len(rows),
        "combinations": len({cafe.combination(row["gloss"]) for row in rows}),
        "unseen_combinations": sum(not row["seen_combination"] for row in rows),
        "with_name": sum(row["name"] is not None for row in rows),
        "names": len({row["name"] for row in rows} - {None}),
        "takes": len({sign["take"] for row in rows for sign in row["signs"]}),
        "signs_per_utterance": round(float(np.mean(signs)), 2),
        "frames_per_utterance": round(float(np.mean([row["num_frames"] for row in rows])), 1),
        "frames": sum(row["num_frames"] for row in rows),
        "uses": dict(sorted(words.items())),
    }


def _write_clips(rows: Sequence[dict], folder: Path) -> dict[str, str]:
    """Four utterances without a name and two with one, as `load_motion` reads them; -> {file name: text}."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, named = ([row for row in rows if (row["name"] is None) == without] for without in (True, False))
    texts = {}
    for row in plain[:4] + named[:2]:
        name = f"{row['id']}.npz"
        np.savez_compressed(folder / name, joints=row["joints_mm"].astype(np.float32) / 1000, fps=np.float32(FPS))
        texts[name] = row["text"]
    return texts


def build(
    raw_folder: Path,
    out: Path,
    *,
    only_split: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    bodies: Path | None = None,
    more: Path | None = None,
) -> dict:
    """Write OUT/data/*.parquet and build.json, and OUT/clips when all splits are built; -> what build.json holds.

    `bodies`: another raw folder, whose takes lend bodies to hands of people of whom nothing else was filmed.
    `more`: one with further people, for the splits MORE and SMALL_TALK beside all others.

    Raises:
        ValueError: the raw folder lacks takes for a split.
    """
    raw = read_raw(raw_folder, only_split)
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    report = {"seed": seed, "fps": FPS, "raw_sha256": raw.sha256, "dropped": raw.dropped, "splits": {}}

    def write(split: str, rows: list[dict]) -> list[dict]:
        write_parquet(rows, split, data)
        report["splits"][split] = _statistics(rows)
        return rows

    # A single held-out split is compared with the train sentences of the same seed, which need every label.
    train = cafe.compose("train", cafe.SIZES["train"], seed=seed, labels=cafe.EVERY_LABEL) if only_split else []
    if only_split == cafe.STRANGERS:
        lenders = read_raw(bodies, only_split).takes[only_split] if bodies else raw.takes[only_split]
        write(only_split, _of_strangers(raw.takes[only_split], lenders, train, seed, limit))
    for split in cafe.SPLITS if only_split is None else {only_split} & {*cafe.SPLITS}:
        if not raw.takes[split]:
            remedy = "with --split test all of them make one test split"
            raise ValueError(f"no take of {raw_folder} falls into {split}; {remedy}")
        stitcher = Stitcher(raw.takes[split], split, seed)
        size, labels = min(cafe.SIZES[split], limit or cafe.SIZES[split]), stitcher.by_label.keys()
        sentences = cafe.compose(split, size, seed=seed, labels=labels, train=train)
        train = train or sentences
        rows = write(split, signed(split, sentences, stitcher))
        if split == "test":
            size = min(cafe.SPELLING_SIZE, limit or cafe.SPELLING_SIZE)
            if spelled := cafe.compose_spelling(size, seed=seed, labels=labels, train=train):
                stitcher = Stitcher(raw.takes[split], cafe.SPELLING, seed)
                write(cafe.SPELLING, signed(cafe.SPELLING, spelled, stitcher))
            if not only_split:
                report["clips"] = _write_clips(rows, out / "clips")
    if more and not only_split:
        further = read_raw(more)
        report["raw_sha256_more"] = further.sha256
        report["dropped"] = {reason: takes + further.dropped[reason] for reason, takes in raw.dropped.items()}
        for split, rows in _of_more(raw, further, train, seed, limit).items():
            write(split, rows)
    (data / "build.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    raw = "takes as MediaPipe landmarks, keys pose, left_hand, right_hand, labels, take"
    add("--raw", type=Path, required=True, help=f"folder with words.npz and letters.npz: {raw}")
    add("--out", type=Path, required=True, help="folder to fill: data/*.parquet, data/build.json, clips/*.npz")
    one_split = "put every take into this one split, for takes recorded later; default: deal by recording block. "
    one_split += "strangers: of other people, with any of the labels; each says what theirs allow"
    add("--split", choices=(*cafe.SPLITS, cafe.STRANGERS), help=one_split)
    add(
        "--bodies",
        type=Path,
        metavar="RAW",
        help="whose takes lend bodies to strangers of whom hands alone were filmed",
    )
    add(
        "--more",
        type=Path,
        metavar="NEW",
        help="raw folder of further people: small talk, and a fourth signer's letters",
    )
    add("--seed", type=int, default=0, help="of sentences, names, takes and speeds (default: %(default)s)")
    add("--limit", type=int, help="at most this many utterances a split: a quick look")
    options = parser.parse_args(arguments)
    try:
        more = {"seed": options.seed, "limit": options.limit, "bodies": options.bodies, "more": options.more}
        report = build(options.raw, options.out, only_split=options.split, **more)
    except (ValueError, OSError) as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    for reason, takes in report["dropped"].items():
        print(f"dropped, {reason}: {len(takes)}")
    print("| split | " + " | ".join(column.replace("_", " ") for column in TABLE_COLUMNS) + " |")
    print("|---" * (len(TABLE_COLUMNS) + 1) + "|")
    for split, statistics in report["splits"].items():
        print(f"| {split} | " + " | ".join(f"{statistics[column]}" for column in TABLE_COLUMNS) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
