"""Clips to batches: in which order, with which prompt."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from ...hub_cards.languages import in_words
from ...processing.feature_extraction_lslm import SignMotionFeatureExtractor
from ...processing.motion_features import NUM_JOINTS, joints_to_features
from ..recipe_keys import TEMPLATES
from .motion_text import clip_features
from .spelling import spelled
from .validity import observed_mask


class EpochSampler(torch.utils.data.Sampler):
    """Draws `(epoch, index)` in an order that follows from (seed, epoch).

    The epoch travels with the index, because nothing else tells a data set reliably which epoch it is in: after a
    resume, or in several processes, `set_epoch` reaches the sampler only. With `lengths`, clips of similar length
    meet in a batch.
    """

    def __init__(self, size: int, seed: int, lengths: list[int] | None = None, batch_size: int = 1):
        self.size, self.seed, self.lengths, self.batch_size, self.epoch = size, seed, lengths, batch_size, 0

    def set_epoch(self, epoch: int):
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __iter__(self):
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.size)
        if self.lengths is not None:
            # sorted within pools of 16 batches, then the batches shuffled: alike in length, and still a mixture
            pool = 16 * self.batch_size
            pools = [order[start : start + pool] for start in range(0, self.size, pool)]
            order = np.concatenate([sorted(indices, key=self.lengths.__getitem__) for indices in pools])
            full = self.size // self.batch_size * self.batch_size
            batches = order[:full].reshape(-1, self.batch_size)
            order = np.concatenate([rng.permutation(batches).ravel(), order[full:]])
        return iter([(self.epoch, int(index)) for index in order])


class WindowCollator:
    """Random windows of `window` frames as normalised features: a batch for the sign tokenizer. Clips that say which
    joints were observed come with an `observed_mask`."""

    def __init__(self, extractor: SignMotionFeatureExtractor, window: int):
        self.extractor, self.window = extractor, window

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        size = self.window + 1  # joints give one frame of features less
        windows = np.empty((len(items), size, NUM_JOINTS, 3), np.float32)
        valid = np.ones((len(items), size, NUM_JOINTS), bool)
        lengths = np.empty(len(items), np.int64)
        for row, item in enumerate(items):
            joints = item["joints"]
            start = item["rng"].integers(0, max(len(joints) - size, 0) + 1)
            frames = np.minimum(np.arange(start, start + size), len(joints) - 1)  # the last one stays to the end
            windows[row] = joints[frames]
            if "valid" in item:
                valid[row] = item["valid"][frames]
            lengths[row] = min(len(joints) - start, size) - 1
        skeleton, convention = self.extractor.target_skeleton, self.extractor.convention
        features = joints_to_features(windows, target_skeleton=skeleton, convention=convention)
        mask = np.arange(self.window) < lengths[:, None]
        batch = {
            "input_features": torch.from_numpy(self.extractor.normalize(features)),
            "input_features_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if any("valid" in item for item in items):
            batch["observed_mask"] = torch.from_numpy(observed_mask(self.extractor, valid))
        return batch


class TranslationCollator:
    """Prompt, motion and answer: a batch for the language model. One template is drawn per sample and epoch, and the
    answer says the words of `spelled_words` letter by letter."""

    def __init__(self, processor, templates: list[str], spelled_words: Collection[str] = ()):
        self.processor, self.templates, self.spelled_words = processor, templates, spelled_words

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        prompts = [self.templates[item["rng"].integers(len(self.templates))] for item in items]
        texts = [spelled(item["text"], self.spelled_words) for item in items]
        batch = dict(self.inputs(prompts, items, texts))
        # Answers stand at the right end: logits are needed from the first answer token on, a quarter of the positions.
        first = int((batch["labels"] != -100).any(0).nonzero()[0])
        batch["logits_to_keep"] = batch["labels"].shape[1] - first + 1
        batch["labels"] = batch["labels"][:, -batch["logits_to_keep"] :]
        return batch

    def inputs(self, prompts: list[str], items: list[dict], answers: list[str] | None = None):
        """Prompts and motion as the processor gives them, from codes where they are known."""
        if "codes" in items[0]:
            return self.processor(prompts, motion_codes=[item["codes"] for item in items], answer=answers)
        extractor = self.processor.feature_extractor
        features = [clip_features(extractor, item["joints"]) for item in items]
        return self.processor(prompts, motion=extractor.pad(features), answer=answers)


def load_templates(path: str, languages: Mapping | None = None) -> list[str]:
    """User messages with a `<motion>` from a JSON file in the form of the paper's Listing 1:
    `{category: {subtask: {"class": "m2t", "input": [...], "output": ["<Caption_Placeholder>"]}}}`.

    The templates of the package speak of American Sign Language and English; for other `languages` (a checkpoint's
    `config.languages`) of those. Templates of one's own stay as they are.

    Raises:
        ValueError: another form, no template, a repeated one, or one without exactly one `<Motion_Placeholder>`.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        inputs = [task["input"] for tasks in content.values() for task in tasks.values()]
        if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in inputs):
            raise TypeError("input is no list of strings")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        form = '{category: {subtask: {"input": [...]}}}'
        raise ValueError(f"{path}: not a template file ({error}); expected {form}") from error
    templates = [text for texts in inputs for text in texts]
    if not templates:
        raise ValueError(f"{path}: no templates in it")
    for text in templates:
        if text.count("<Motion_Placeholder>") != 1 or "<motion>" in text:
            raise ValueError(f"{path}: a template needs exactly one <Motion_Placeholder>: {text!r}")
        if templates.count(text) > 1:  # it would be drawn more often than the others
            raise ValueError(f"{path}: this template is there {templates.count(text)} times: {text!r}")
    if Path(path).resolve().parent == TEMPLATES.resolve():
        templates = [_in_languages(text, languages) for text in templates]
    return [text.replace("<Motion_Placeholder>", "<motion>") for text in templates]


def _in_languages(template: str, languages: Mapping | None) -> str:
    """A template about ASL and English in other languages, where the written one is known."""
    written, signed = in_words(languages, "written"), in_words(languages, "signed") or "sign language"
    if not written or (written, signed) == ("English", "American Sign Language"):
        return template
    names = {"American Sign Language": signed, "ASL": signed, "English": written}

    def name(match: re.Match) -> str:
        article, word = match["article"] or "", names[match["name"]]
        return f"{article[:1]}{'n' * (word[0] in 'AEIO')} {word}" if article else word

    return re.sub(r"(?:\b(?P<article>[Aa]n?) )?\b(?P<name>American Sign Language|ASL|English)\b", name, template)
