"""`pipeline("sign-translation")`: a motion clip to English."""

import os
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset
from transformers.pipelines import PIPELINE_REGISTRY, Pipeline

from .feature_extraction_lslm import is_clip
from .motion import Motion

TASK = "sign-translation"


class Translation(NamedTuple):
    """What the model said, and how sure it was.

    `tokens` are the pieces of `text`; a special token, as the end of the turn, is an empty one (an answer that was cut
    at the length limit has no end). `probabilities`: of each token given all before it, by the model alone (before
    `suppress_tokens` and other restrictions of the search); their product is the probability of the answer.
    """

    text: str
    tokens: list[str]
    probabilities: list[float]


def spell_out(tokenizer, ids: list[int], probabilities: list[float], ends: list[int]) -> Translation:
    """Token ids of an answer, up to the first of `ends`, as a `Translation`."""
    length = next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))
    tokens, before = [], ""
    for count in range(1, length + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=True)
        if text.endswith("\ufffd") and count < length:  # a character that takes several tokens goes to its last
            text = before
        tokens.append(text[len(before) :])
        before = text
    return Translation(before.strip(), tokens, probabilities[:length])


class SignTranslationPipeline(Pipeline):
    """Translate sign motion into text.

    ```python
    pipe = pipeline("sign-translation", model=folder)
    pipe("clip.npz")  # [{"translation_text": "..."}]
    ```

    A clip is a path, a `Motion`, joints (T, 52, 3) in metres (integers: millimetres) or motion features (T, 623), as
    numpy array, tensor or nested list; or a dict with one of the keys `path`, `motion`, `joints`, `joints_mm`,
    `features`, and optionally `fps` and `prompt`. A list, generator, `datasets` column or torch data set of clips
    gives one result each.

    Keyword arguments: `prompt` (contains `<motion>`), `fps` (of arrays), `generate_kwargs`, `batch_size`; any
    argument of `generate` (`num_beams=4`). With `details=True` a result also has `tokens`, the pieces of the text, and
    their `probabilities` (see `Translation`), `words` with the probability and the confidence of each, `confidence`
    (the expected share of right words) and `motion_codes`: for each step in time the code of every codebook. With
    `min_confidence=0.5` it has `confidence`, and where that is less, "" for the text and the `reason`.
    """

    _load_processor = True
    _load_tokenizer = _load_feature_extractor = _load_image_processor = _load_video_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # the base class would pad motion at the left, like text; the processor pads a whole batch in `_forward`
        self.feature_extractor = None
        self.tokenizer = self.processor.tokenizer
        self.processor.attach(self.model.model.vqvae)

    def _sanitize_parameters(
        self, prompt=None, fps=None, details=None, min_confidence=None, generate_kwargs=None, **kwargs
    ):
        if min_confidence is not None:
            self.model.check_confidence(min_confidence)
        preprocess = {k: v for k, v in (("prompt", prompt), ("fps", fps)) if v is not None}
        # one by one, so that an argument of a call adds to those of the constructor
        told = {k: v for k, v in (("details", details), ("min_confidence", min_confidence)) if v is not None}
        return preprocess, {**told, **(generate_kwargs or {}), **kwargs}, told

    def __call__(self, inputs, **kwargs):
        single = isinstance(inputs, (str, os.PathLike, dict, Motion, np.ndarray)) or hasattr(inputs, "detach")
        if getattr(inputs, "ndim", 0) == 4:  # (N, T, 52, 3): several clips of one length
            inputs, single = list(inputs), False
        if single or is_clip(inputs):
            # in a list, so that a dict or array is not mistaken for something to iterate over
            return super().__call__([inputs], **kwargs)[0]
        if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__") and not isinstance(inputs, Dataset):
            inputs = list(inputs)  # a list, a tuple or a column of `datasets`
            if not inputs:
                return []
        return super().__call__(inputs, **kwargs)

    def preprocess(self, clip, prompt=None, fps=None):
        """One clip to normalised (T, 623) features and its prompt."""
        if isinstance(clip, dict):
            prompt, fps = clip.get("prompt", prompt), clip.get("fps", fps)
            keys = [k for k in ("path", "motion", "joints", "joints_mm", "features") if clip.get(k) is not None]
            if len(keys) != 1:
                raise ValueError(f"a dict needs one of path, motion, joints, joints_mm, features, not {sorted(clip)}")
            clip = np.asarray(clip[keys[0]], np.int64) if keys[0] == "joints_mm" else clip[keys[0]]
        extractor = self.processor.feature_extractor
        return {
            "features": extractor.normalize(extractor.to_features(clip, fps)),
            "prompt": prompt if prompt is not None else self.processor.prompt,
        }

    def _forward(self, model_inputs, details=False, min_confidence=None, **generate_kwargs):
        features, prompts = model_inputs["features"], model_inputs["prompt"]
        if isinstance(prompts, str):
            features, prompts = [features], [prompts]
        encoding = self.processor.encode_motion(self.processor.feature_extractor.pad(features))
        batch = self.processor(prompts, motion_codes=encoding).to(self.device)
        told = details or min_confidence is not None
        generate = self.model.generate_with_probabilities if told else self.model.generate
        sequences = generate(**batch, **generate_kwargs)
        if told:
            answers = dict(zip(("sequences", "probabilities"), sequences, strict=True))
        else:
            answers = {"sequences": getattr(sequences, "sequences", sequences)[:, batch["input_ids"].shape[1] :]}
        answers = {name: rows.reshape(len(prompts), -1, rows.shape[-1]) for name, rows in answers.items()}
        more = {"motion_codes": encoding.codes, "oddity": self.model.model.vqvae.oddity(encoding)}
        return answers | (more if told else {})

    def postprocess(self, model_outputs, details=False, min_confidence=None):
        sequences = model_outputs["sequences"].flatten(0, -2)
        if "probabilities" not in model_outputs:
            return [{"translation_text": text} for text in self.processor.batch_decode(sequences)]
        ends = np.ravel(self.model.generation_config.eos_token_id).tolist()
        codes = [step for step in model_outputs["motion_codes"].flatten(0, -2).tolist() if step[0] >= 0]
        results = []
        for ids, chances in zip(sequences, model_outputs["probabilities"].flatten(0, -2), strict=True):
            answer = spell_out(self.tokenizer, ids.tolist(), chances.tolist(), ends)
            words, sure = self.model.confidence(answer.tokens, answer.probabilities, model_outputs["oddity"].item())
            result = {"translation_text": answer.text, "confidence": sure}
            if min_confidence is not None and sure < min_confidence:
                reason = f"confidence {int(100 * sure) / 100:.2f} is below {min_confidence:g}"
                result |= {"translation_text": "", "reason": reason}
            if details:
                more = {"tokens": answer.tokens, "probabilities": answer.probabilities}
                result |= more | {"words": words, "motion_codes": codes}
            results.append(result)
        return results

    def save_pretrained(self, save_directory, **kwargs):
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)  # the base class forgets it


def register_pipeline(model_class):
    """Make `pipeline("sign-translation")` known to this process."""
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=SignTranslationPipeline, pt_model=model_class, type="multimodal"
        )


__all__ = ["SignTranslationPipeline", "register_pipeline"]
