"""Encodings of a whole split; codes are kept on disk, since clips that are not augmented have the same in every epoch
and run."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from ...modeling_lslm import MotionEncoding, SignMotionVQVAE
from ...processing import SignMotionFeatureExtractor
from ...processing.processing_lslm import encode_motion
from .motion_text import clip_features

BATCH = 32


def fingerprint(vqvae: SignMotionVQVAE, extractor: SignMotionFeatureExtractor, joints: list[np.ndarray]) -> str:
    """Changes with the weights of the sign tokenizer, its feature extractor or any joint of any clip."""
    digest = hashlib.sha256(b"codes (L, C)")
    # the encoder and the codebook alone decide about codes
    for name, tensor in sorted(vqvae.state_dict().items()):
        if name.startswith(("encoder.", "codebook.weight")):
            digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    digest.update(json.dumps(extractor.to_dict(), sort_keys=True, default=str).encode())
    for clip in joints:
        digest.update(str(clip.shape).encode() + np.ascontiguousarray(clip).tobytes())
    return digest.hexdigest()[:32]


@torch.no_grad()
def encode_clips(
    vqvae: SignMotionVQVAE,
    extractor: SignMotionFeatureExtractor,
    clips: list[np.ndarray],
    dtype: torch.dtype = torch.float64,
) -> list[MotionEncoding]:
    """(T, 52, 3) float32 joints or normalised (T, F) features of each clip -> its encoding, on CPU. `dtype`: see
    [`SignMotionVQVAE.encode`]."""
    encoded: dict[int, MotionEncoding] = {}
    order = sorted(range(len(clips)), key=lambda index: len(clips[index]))  # alike in length: little padding
    for start in tqdm(range(0, len(order), BATCH), desc="encoding motion", unit="batch", delay=1):
        indices = order[start : start + BATCH]
        features = [
            clip if clip.ndim == 2 else clip_features(extractor, clip) for clip in (clips[index] for index in indices)
        ]
        batch = encode_motion(vqvae, extractor, extractor.pad(features), dtype=dtype)
        encoded |= zip(indices, batch.to("cpu").split(), strict=True)
    return [encoded[index] for index in range(len(clips))]


def cached_codes(
    vqvae: SignMotionVQVAE, extractor: SignMotionFeatureExtractor, joints: list[np.ndarray], folder: str | None = None
) -> list[np.ndarray]:
    """Codes of every clip, from disk when they are there.

    Args:
        joints: (T, 52, 3) float32 metres per clip, at the extractor's frame rate.
        folder: where the files lie; default: `lslm/codes` in the Hugging Face cache. A file's name is the fingerprint
            of what made it, so a new tokenizer or changed data never meet old codes.

    Returns:
        one (L, C) int64 array per clip.
    """
    folder = Path(folder or Path(constants.HF_HOME) / "lslm" / "codes")
    path = folder / f"{fingerprint(vqvae, extractor, joints)}.safetensors"
    if not path.is_file():
        codes = [encoding.codes[0].numpy() for encoding in encode_clips(vqvae, extractor, joints)]
        arrays = {"codes": np.concatenate(codes), "lengths": np.array([len(c) for c in codes])}
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")  # renamed when it is whole: a kill leaves no half a file
        save_file(arrays, partial)
        os.replace(partial, path)
    arrays = load_file(path)
    return np.split(arrays["codes"], arrays["lengths"].cumsum()[:-1])


__all__ = ["cached_codes", "encode_clips", "fingerprint"]
