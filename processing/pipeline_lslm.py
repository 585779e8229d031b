"""`pipeline("sign-translation")`: a motion clip to English."""

import os

import numpy as np
from transformers.pipelines import PIPELINE_REGISTRY, Pipeline

from .feature_extraction_lslm import is_clip
from .motion_formats import Motion

TASK = "sign-translation"


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
    argument of `generate` (`num_beams=4`).
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # the base class would pad motion at the left, like text; the processor pads a whole batch in `_forward`
        self.feature_extractor = None
        self.tokenizer = self.processor.tokenizer

    def _sanitize_parameters(self, prompt=None, fps=None, generate_kwargs=None, **kwargs):
        preprocess = {k: v for k, v in (("prompt", prompt), ("fps", fps)) if v is not None}
        # one by one, so that an argument of a call adds to those of the constructor
        return preprocess, {**(generate_kwargs or {}), **kwargs}, {}

    def __call__(self, inputs, **kwargs):
        single = isinstance(inputs, (str, os.PathLike, dict, Motion, np.ndarray)) or hasattr(inputs, "detach")
        if getattr(inputs, "ndim", 0) == 4:  # (N, T, 52, 3): several clips of one length
            inputs, single = list(inputs), False
        if single or is_clip(inputs):
            # in a list, so that a dict or array is not mistaken for something to iterate over
            return super().__call__([inputs], **kwargs)[0]
        if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__") and not _is_torch_dataset(inputs):
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
                raise ValueError(
                    f"a dict needs exactly one of path, motion, joints, joints_mm, features; it has {sorted(clip)}"
                )
            clip = np.asarray(clip[keys[0]], np.int64) if keys[0] == "joints_mm" else clip[keys[0]]
        extractor = self.processor.feature_extractor
        return {
            "features": extractor.normalize(extractor.to_features(clip, fps)),
            "prompt": prompt if prompt is not None else self.processor.prompt,
        }

    def _forward(self, model_inputs, **generate_kwargs):
        features, prompts = model_inputs["features"], model_inputs["prompt"]
        if isinstance(prompts, str):
            features, prompts = [features], [prompts]
        batch = self.processor.encode_features(prompts, features).to(self.device)
        sequences = self.model.generate(**batch, **generate_kwargs)
        sequences = getattr(sequences, "sequences", sequences)[:, batch["input_ids"].shape[1] :]
        return {"sequences": sequences.reshape(len(prompts), -1, sequences.shape[-1])}

    def postprocess(self, model_outputs):
        sequences = model_outputs["sequences"]
        texts = self.processor.batch_decode(sequences.reshape(-1, sequences.shape[-1]))
        return [{"translation_text": text} for text in texts]

    def save_pretrained(self, save_directory, **kwargs):
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)  # the base class forgets it


def _is_torch_dataset(value) -> bool:
    from torch.utils.data import Dataset

    return isinstance(value, Dataset)


def register_pipeline(model_class):
    """Make `pipeline("sign-translation")` known to this process."""
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=SignTranslationPipeline, pt_model=model_class, type="multimodal"
        )


__all__ = ["SignTranslationPipeline", "register_pipeline"]
