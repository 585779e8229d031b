"""Is the synthetic signer of the ASL Cafe like people? Letters read by what never saw the one, or the other.

    python benchmarks/synthetic_signer.py OUT

Single letters of three sources: the cafe's first three signers (split train), borisgraudt (split more, held still),
and examples/asl_cafe/synthetic_signer.py. A nearest neighbour (a hand, the mean of a take's middle half) and a tiny
network (two convolutions over time, trained for half a minute with turned hands and other bones) learn from some
sources and read another. Writes OUT/results.json: how many are right, of each letter, what is taken for what, and
where the index finger points in each source.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lslm.processing.motion_features import JOINT_NAMES, RIGHT_HAND
from lslm.training.dataset.augmentation import rotation
from lslm.training.dataset.motion_text import load_split
from lslm.training.provenance import record_of_script, save_results

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
sys.path.insert(0, str(CAFE))  # scripts beside their data

import cafe_grammar as cafe  # noqa: E402
import synthetic_signer  # noqa: E402

PEOPLE = 60  # synthetic ones, each of whom signs every letter once
FRAMES = 16  # every take, for the network
STEPS, BATCH, WIDTH = 800, 128, 64
SEEDS = (0, 1, 2)
TURNS = (11, 20, 11)  # degrees of deviation about x, y and z
READERS = {  # learns from -> reads
    "synthetic -> the three": (("synthetic",), "the three"),
    "synthetic -> borisgraudt": (("synthetic",), "borisgraudt"),
    "the three -> borisgraudt": (("the three",), "borisgraudt"),
    "the three and synthetic -> borisgraudt": (("the three", "synthetic"), "borisgraudt"),
    "borisgraudt -> the three": (("borisgraudt",), "the three"),
    "borisgraudt and synthetic -> the three": (("borisgraudt", "synthetic"), "the three"),
    "the three -> synthetic": (("the three",), "synthetic"),
}
INDEX = [JOINT_NAMES.index(name) for name in ("right_index1", "right_index3")]
MIDDLE = JOINT_NAMES.index("right_middle1") - RIGHT_HAND[0]
Takes = tuple[list[np.ndarray], np.ndarray]  # (T, 16, 3) metres: wrist (from its mean place), fingers from the wrist


def real_takes() -> dict[str, Takes]:
    """The letters of training splits, by source."""
    takes: dict[str, dict[str, np.ndarray]] = {"the three": {}, "borisgraudt": {}}
    for split in ("train", cafe.MORE):
        for row in load_split(str(CAFE), split).with_format("numpy"):
            joints = np.asarray(row["joints_mm"])
            for sign, (_, is_letter) in zip(row["signs"], cafe.labels_of(str(row["gloss"])), strict=True):
                take = str(sign["take"])
                if is_letter:
                    source = "borisgraudt" if take.startswith("letters_frames/") else "the three"
                    takes[source][take] = joints[sign["start"] : sign["end"]] / 1000
    return {
        source: ([_hand(clip) for clip in clips.values()], np.array([_number(take) for take in clips]))
        for source, clips in takes.items()
    }


def _number(take: str) -> int:
    return cafe.LETTERS.index(take.split("/")[-2])


def _hand(joints: np.ndarray) -> np.ndarray:
    wrist = joints[:, [JOINT_NAMES.index("right_wrist")]]
    return np.concatenate([wrist - wrist.mean(0), joints[:, RIGHT_HAND] - wrist], axis=1)


def synthetic_takes(people: int, seed: int) -> Takes:
    rng = np.random.default_rng([seed, 5])
    hands, letters = [], []
    for _ in range(people):
        order = rng.permutation(26)
        clips = synthetic_signer.Signer(rng).spell("".join(cafe.LETTERS[letter] for letter in order))
        for clip in clips:
            wrist = clip[:, :1]
            fingers = clip[:, synthetic_signer.OF_SKELETON] - wrist
            hands.append(np.concatenate([wrist - wrist.mean(0), fingers], axis=1))
        letters += [*order]
    return hands, np.array(letters)


def scaled(hands: list[np.ndarray]) -> np.ndarray:
    """(N, FRAMES, 16, 3) in palms."""
    clips = []
    for hand in hands:
        at = np.linspace(0, len(hand) - 1, FRAMES)
        before = np.minimum(at.astype(int), max(len(hand) - 2, 0))
        after = np.minimum(before + 1, len(hand) - 1)
        weight = (at - before)[:, None, None]
        palm = np.median(np.linalg.norm(hand[:, 1 + MIDDLE], axis=-1))
        clips.append((hand[before] * (1 - weight) + hand[after] * weight) / palm)
    return np.stack(clips).astype(np.float32)


def still(clips: np.ndarray) -> np.ndarray:
    """(N, 45): the fingers in the middle half."""
    return clips[:, FRAMES // 4 : -FRAMES // 4, 1:].mean(1).reshape(len(clips), -1)


def nearest(known: np.ndarray, letters: np.ndarray, asked: np.ndarray) -> np.ndarray:
    distances = ((still(asked)[:, None] - still(known)) ** 2).sum(-1)
    return letters[distances.argmin(1)]


def varied(clips: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Hands turned, of other depth and bones, and trembling."""
    count = len(clips)
    turns = np.stack(
        [
            rotation(0, x) @ rotation(1, y) @ rotation(2, z)
            for x, y, z in np.radians(generator.normal(0, TURNS, (count, 3)))
        ]
    )
    clips = torch.einsum("nij,ntkj->ntki", torch.from_numpy(turns).float(), clips)
    sizes = np.stack([generator.uniform(low, high, count) for low, high in ((0.85, 1.15), (0.9, 1.1), (0.6, 1.4))], -1)
    bones = generator.normal(1, 0.08, (count, 1, 16, 1))
    noise = generator.normal(0, 0.03, clips.shape)
    return clips * torch.from_numpy(sizes[:, None, None] * bones).float() + torch.from_numpy(noise).float()


def network() -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(
        nn.Conv1d(48, WIDTH, 5, padding=2), nn.ReLU(), nn.Dropout(0.2), nn.Conv1d(WIDTH, WIDTH, 5, padding=2), nn.ReLU()
    ), nn.Linear(2 * WIDTH, 26)


def scores_of(parts: tuple[nn.Module, nn.Module], clips: torch.Tensor) -> torch.Tensor:
    seen = parts[0](clips.flatten(2).transpose(1, 2))
    return parts[1](torch.cat([seen.mean(-1), seen.amax(-1)], -1))


def learned(sources: list[tuple[np.ndarray, np.ndarray]], asked: np.ndarray, seed: int) -> np.ndarray:
    """What a network says of `asked` that learned from the sources, as often from each of them and of its letters."""
    torch.manual_seed(seed)
    generator = np.random.default_rng([seed, 6])
    parts = network()
    optimizer = torch.optim.AdamW([*parts[0].parameters(), *parts[1].parameters()], 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS)
    weights = [1 / np.bincount(letters, minlength=26)[letters] for _, letters in sources]
    for _ in range(STEPS):
        clips, letters = [], []
        for (known, theirs), weight in zip(sources, weights, strict=True):
            pick = generator.choice(len(known), BATCH // len(sources), p=weight / weight.sum())
            clips.append(known[pick])
            letters.append(theirs[pick])
        scores = scores_of(parts, varied(torch.from_numpy(np.concatenate(clips)), generator))
        loss = F.cross_entropy(scores, torch.from_numpy(np.concatenate(letters)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    parts[0].eval()
    with torch.no_grad():
        return scores_of(parts, torch.from_numpy(asked)).argmax(-1).numpy()


def report(expected: np.ndarray, said: list[np.ndarray]) -> dict:
    """Percent right (mean of letters, as sources have them in different numbers), of each letter, and confusions."""
    by_letter, confused = {}, {}
    for number in sorted(set(expected.tolist())):
        answers = np.concatenate([answer[expected == number] for answer in said])
        letter = cafe.LETTERS[number]
        by_letter[letter] = round(100 * float((answers == number).mean()), 1)
        others = Counter(cafe.LETTERS[answer] for answer in answers if answer != number).most_common(3)
        confused[letter] = {other: round(100 * count / len(answers), 1) for other, count in others}
    runs = [
        float(np.mean([(answer[expected == number] == number).mean() for number in set(expected.tolist())]))
        for answer in said
    ]
    deviation = round(100 * float(np.std(runs, ddof=1)), 1) if len(runs) > 1 else 0.0
    return {"right": [round(100 * float(np.mean(runs)), 1), deviation], "letters": by_letter, "taken_for": confused}


def pointing(hands: list[np.ndarray], letters: np.ndarray) -> dict[str, list[float]]:
    """For each letter the mean direction of the index finger, knuckle to last joint, as x (to the person's left, the
    picture's right), y (up), z (to the camera); its length is 1 where all takes agree."""
    first, last = (joint - RIGHT_HAND[0] + 1 for joint in INDEX)
    directions = np.stack([np.median(hand[:, last] - hand[:, first], axis=0) for hand in hands])
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return {
        letter: [round(float(value), 2) for value in directions[letters == number].mean(0)]
        for number, letter in enumerate(cafe.LETTERS)
        if (letters == number).any()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--people", type=int, default=PEOPLE, help="synthetic signers (default: %(default)s)")
    args = parser.parse_args()
    takes = real_takes() | {"synthetic": synthetic_takes(args.people, 0)}
    clips = {source: (scaled(hands), letters) for source, (hands, letters) in takes.items()}
    readings = {}
    for name, (sources, read) in READERS.items():
        known = [clips[source] for source in sources]
        asked, expected = clips[read]
        merged = [np.concatenate(part) for part in zip(*known, strict=True)]
        readings[name] = {
            "nearest_neighbour": report(expected, [nearest(*merged, asked)]),
            "network": report(expected, [learned(known, asked, seed) for seed in SEEDS]),
        }
        print(
            name, *(f"{reader}: {scores['right']}" for reader, scores in readings[name].items()), sep="; ", flush=True
        )
    results = {
        "readings": readings,
        "takes": {source: len(letters) for source, (_, letters) in takes.items()},
        "index_points": {source: pointing(*theirs) for source, theirs in takes.items()},
        "seeds": len(SEEDS),
        **record_of_script(f"{torch.get_num_threads()} threads", "cpu", packages=("torch", "numpy")),
    }
    save_results(args.out, results)


if __name__ == "__main__":
    main()
