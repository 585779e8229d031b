"""After the stages: a trained model learns to read one more person, from a few takes of single signs.

    lslm adapt --takes DIR --output OUT

Utterances composed of the takes come between clips of the data set that the model knows, so that it forgets nobody.
Projector and adapter are trained as in instruction tuning; the sign tokenizer stays as it is.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...hub_cards.data_sets import is_hub_id
from ...hub_cards.models import config_of
from ...hub_cards.yaml_files import read_yaml
from ...modeling_lslm import LslmConfig, LslmForConditionalGeneration
from ...processing import SignMotionProcessor
from ...processing.motion_errors import printable
from ...processing.readers.wording import counted
from ..dataset.augmentation import VARIATION_KEYS, Variation
from ..dataset.motion_text import MotionText, read_texts, split_files
from ..dataset.spelling import WORD, rare_words
from ..dataset.takes import Composer, check_labels, read_takes, take_files
from ..recipe_keys import TEMPLATES, AdaptKeys
from ..record import stages_of
from .instruct import InstructArguments
from .resume import run_stage, say
from .translation import run

RECIPE = Path(__file__).parents[1] / "recipes" / "adapt.yaml"
# What the model was trained to bear, and how it spells, stays.
INHERITED = ("spell_rare_words", "code_dropout", *VARIATION_KEYS)
# Five takes of a letter were filmed by one camera, on one day: utterances of them vary at least so much. Clips that the
# model knows do not, or else it would have to learn that, too, and forget for it.
OF_TAKES = {"camera_tilt": 5.0, "depth_scale": 0.2, "hand_turn": 8.0, "tremor": 2.0, "tempo": 1.3}


@dataclass
class AdaptArguments(AdaptKeys, InstructArguments):
    """All keys of an adaptation."""

    def __post_init__(self):
        super().__post_init__()
        if self.max_steps <= 0 or self.stream:
            raise ValueError("an adaptation takes so many max_steps, from memory: leave out stream, and give max_steps")


def adapt(
    takes: str, output: str, *, model: str, data: str | None = None, config: str | None = None, reader=None, **flags
) -> None:
    """Write the checkpoint `output`: `model`, which also reads the person whose takes of single signs lie in
    `takes`/LABEL/. Given again after a kill it goes on, and ends with the same weights.

    Args:
        model: a checkpoint with a LoRA adapter: a folder or a Hub id.
        data: what the model knows, a data set with a column `signs`; None: what it was trained on, if that is here.
        config: a recipe; None: training/recipes/adapt.yaml. flags: its keys.
        reader: arguments of `load_motion` for what the files do not tell.

    Raises:
        ValueError, OSError: takes, labels, model or data cannot be used; see also [`run_stage`].
    """
    own = config_of(model, LslmConfig)
    if own.lora is None:
        raise ValueError(
            f"{model} has no adapter (LoRA) to train: its language model was trained as a whole, or the adapter was "
            "merged when it was published. Give the folder that it was published from, or train one: lslm instruct "
            "--lora_r 16"
        )
    if Path(output).resolve().is_relative_to(Path(takes).resolve()):
        raise ValueError(f"{output} lies in the folder of the takes, {takes}, where it would be a label: name another")
    take_files(takes)
    stages = stages_of(model)
    recipe = read_yaml(Path(config or RECIPE)) | flags
    trained = next((stages[name] for name in ("instruct", "align") if name in stages), {})
    inherited = {name: trained[name] for name in INHERITED if name in trained and name not in recipe}
    if "instruct" not in stages and "templates" not in recipe:
        inherited["templates"] = str(TEMPLATES / "pretraining.json")  # the only words it was ever asked in
    given = {"takes": takes, "output_dir": output, "model": model, "data": data or known_data(model, stages)}
    if "splits" not in recipe:
        given["splits"] = ["train", *(["more"] if _has_more(given["data"]) else [])]
    if reader:
        given["reader"] = json.dumps(reader)
    argv = ["--config", str(config or RECIPE)]
    for name, value in (inherited | flags | given).items():
        argv += [f"--{name}", *([str(part) for part in value] if isinstance(value, list) else [str(value)])]
    run_stage(AdaptArguments, argv, train)


def known_data(model: str, stages: dict) -> str:
    """The data set that a model was trained on, as far as it is here, or on the Hub: that of its last stage first. A
    relative folder is looked for here and above the checkpoint.

    Raises:
        FileNotFoundError: none is, and the message says which were looked for.
    """
    recipes = [recipe for name, recipe in stages.items() if name != "made_with"]
    places = list(dict.fromkeys(str(recipe["data"]) for recipe in reversed(recipes) if recipe.get("data")))
    for place in places:
        for folder in (Path(), *Path(model).resolve().parents):
            if any(Path(folder, place).glob("**/train*.parquet")):
                return os.path.relpath(folder / place) if folder != Path() else place
    if places and is_hub_id(places[0]) and "revision" in stages.get("made_with", {}).get("data_set", {}):
        return places[0]
    which = f"was trained on {', '.join(places)}, not to be found here" if places else "does not say on what"
    raise FileNotFoundError(
        f"{model} {which}: give --data, a data set with these signs, which the model is not to forget"
    )


def train(args: AdaptArguments) -> None:
    processor = SignMotionProcessor.from_pretrained(args.model)
    clips, rare = mixture(args, processor)
    say(args, f"loading {args.model}")
    options = {"merge_lora": False, "dtype": getattr(torch, args.dtype)}
    model = LslmForConditionalGeneration.from_pretrained(args.model, **options)
    run(args, model, processor, args.model, clips=clips, rare=rare)


def mixture(args: AdaptArguments, processor: SignMotionProcessor) -> tuple[MotionText, set[str]]:
    """Clips of the data set, each once, and utterances of the new person, for all steps; and the words that are learnt
    letter by letter. The same takes, data and seed give the same clips."""
    extractor, rng = processor.feature_extractor, np.random.default_rng([args.seed, 1])
    options = {key: getattr(args, key) for key in ("seed", "augment", "limit", *VARIATION_KEYS)}
    known = [
        MotionText(args.data, split, extractor.fps, max_seconds=extractor.max_seconds, **options)
        for split in args.splits
    ]
    composer, files = Composer(known, args.data), take_files(args.takes)
    check_labels(files, composer.rows, args.data)
    for stray in (path for path in Path(args.takes).iterdir() if path.is_file() and not path.name.startswith(".")):
        print(printable(f"lslm: left out {stray}: it lies in no folder of a label"), file=sys.stderr)
    takes = read_takes(files, extractor.fps, **json.loads(args.reader or "{}"))
    count = sum(map(len, takes.values()))
    say(args, f"{args.takes}: {counted(count, 'take')} of {counted(len(takes), 'sign')}: {' '.join(sorted(takes))}")

    seen = args.max_steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    clips = [clip for split in known for clip in zip(split.texts, split.joints, strict=True)]
    texts = [text for text, _ in clips]
    chosen = [clips[index] for index in rng.permutation(len(clips))[: seen - round(args.share * seen)]]
    held_out = _words(_texts(args.data, "validation") + _texts(args.data, "test")) - _words(texts)
    more = Variation(**{name: value for name, value in OF_TAKES.items() if getattr(args, name) < value})
    composed: list[tuple[str, np.ndarray]] = []
    bar = tqdm(desc="composing utterances", total=round(args.share * seen), unit="utterance", delay=1)
    for _ in range(100 * bar.total):
        if len(composed) == bar.total:
            break
        text, joints = composer.compose(takes, rng, held_out)
        joints = more(joints, None, rng)["joints"]  # once, as it is seen
        if len(joints) <= extractor.max_seconds * extractor.fps:
            composed.append((text, joints))
            bar.update()
    bar.close()
    if len(composed) < bar.total:
        raise ValueError(f"utterances of these takes are longer than {extractor.max_seconds:g} s: cut the takes")
    say(args, f"{counted(len(chosen), 'clip')} of {args.data}, {counted(len(composed), 'utterance')} of the takes")
    mixed = known[0]
    mixed.keep([])
    mixed.add(*zip(*chosen, *composed, strict=True))
    # what the model spelled stays spelled, and so is what was made up
    rare = rare_words(texts) | (_words([text for text, _ in composed]) - _words(texts))
    return mixed, rare if args.spell_rare_words else set()


def _has_more(data: str) -> bool:
    """Whether the data set has a split `more`, further people to train on, as ASL Cafe has."""
    try:
        return bool(split_files(data, "more"))
    except FileNotFoundError:
        return False


def _words(texts: Sequence[str]) -> set[str]:
    return {word.lower() for text in texts for word in WORD.findall(text)}


def _texts(data: str, split: str) -> list[str]:
    """Of a split that need not be there."""
    try:
        return read_texts(data, split)
    except FileNotFoundError:
        return []
