"""More fingerspelling to train on: the takes of the train split in new orders, each time spelling another word.

    python examples/asl_cafe/spell.py --out runs/asl_cafe/data

The train split spells the same few hundred names again and again, and a language model learns to recite them. Here
every utterance spells another string of letters that nobody can know, so that reading is all that helps. The folder is
a data set: the train split with them beside it, and the validation split. Nothing is recorded anew: takes are cut out
of train.parquet.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from build import FEATURES, Stitcher, Take, signed
from cafe_grammar import (
    LETTERS,
    NAMES_FILE,
    SPELLING_FRAMES,
    WORDS_FILE,
    Sentence,
    labels_of,
    read_names,
)
from datasets import Dataset
from tqdm import tqdm

from lslm.training.data import load_split

BARE = 0.5  # share of utterances that are nothing but a word: the cheapest to learn from
SIZES = (2, 10)  # letters


class Recombiner(Stitcher):
    """Signs with the takes that rows of build.py were made of, as they lie there."""

    def __init__(self, rows: Dataset, seed: int):
        super().__init__([], "train", seed)
        self.takes: dict[tuple[str, bool], list[str]] = {}
        for row in rows.with_format("numpy"):
            joints = np.asarray(row["joints_mm"])
            for sign, (label, is_letter) in zip(row["signs"], labels_of(str(row["gloss"])), strict=True):
                take = str(sign["take"])
                if (take, is_letter) not in self.clips:
                    self.clips[take, is_letter] = joints[sign["start"] : sign["end"]]
                    self.takes.setdefault((label, is_letter), []).append(take)

    def _next(self, label: str, is_letter: bool) -> Take:
        return Take(str(self.rng.choice(self.takes[label, is_letter])), label, "train", None, None, None)


def words(names: Sequence[str], letters: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Random letters, and the beginning of one name with the end of another, in turn; none that a test asks for."""
    asked = {word.lower() for word in {*read_names(NAMES_FILE), *read_names(WORDS_FILE)} - set(names)}
    while True:
        first, last = rng.choice(names, 2)
        joined = first[: rng.integers(1, len(first))] + last[rng.integers(1, len(last)) :]
        strings = ("".join(rng.choice(letters, rng.integers(*SIZES))), joined.lower())
        yield from (string for string in strings if string not in asked)


def sentences(signer: Recombiner, names: Sequence[str], seed: int) -> Iterator[Sentence]:
    """What is spelled, bare or in the short frames of the harder test set, without end."""
    rng = np.random.default_rng([seed, 3])
    letters = [letter for letter in LETTERS if (letter, True) in signer.takes]
    for word in words(names, letters, rng):
        frame = "{}" if rng.random() < BARE else str(rng.choice(SPELLING_FRAMES))
        yield Sentence(frame.format(f"fs-{word.upper()}"), word.capitalize(), False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent, help="folder with data/train.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill with parquet files")
    parser.add_argument("--count", type=int, default=2500, help="so many utterances (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of words and takes (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        rows = load_split(str(options.data), "train")
        options.out.mkdir(parents=True, exist_ok=True)
        signer, names = Recombiner(rows, options.seed), sorted({name for name in rows["name"] if name})
        said = islice(sentences(signer, names, options.seed), options.count)
        spelled = signed("spelled", tqdm(said, "spelling", options.count, unit="utterance"), signer)
        for split in ("train", "validation"):
            shutil.copy(options.data / "data" / f"{split}.parquet", options.out)
        partial = options.out / "train_spelled.partial"  # renamed: a kill leaves no half a file
        Dataset.from_list(spelled, features=FEATURES).to_parquet(partial)
        partial.rename(options.out / "train_spelled.parquet")
    except (ValueError, OSError) as error:
        print(f"spell.py: {error}", file=sys.stderr)
        return 2
    print(f"{len(spelled)} utterances, {len({row['name'] for row in spelled})} words: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
