"""Codes of a whole split, kept on disk: clips that are not augmented have the same codes in every epoch and run."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from ...modeling_lslm import SignMotionVQVAE
from ...processing import SignMotionFeatureExtractor

BATCH = 32


def fingerprint(vqvae: SignMotionVQVAE, extractor: SignMotionFeatureExtractor, joints: list[np.ndarray]) -> str:
    """Changes with the weights of the sign tokenizer, its feature extractor or any joint of any clip."""
    digest = hashlib.sha256()
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
    joints: list[np.ndarray],
    dtype: torch.dtype = torch.float64,
    latents: bool = False,
) -> list[np.ndarray]:
    """(T, 52, 3) float32 joints of each clip -> its (L,) int64 codes, or (L, D) float32 `latents`. `dtype`: see
    [`SignMotionVQVAE.encode`]."""
    encoded: dict[int, np.ndarray] = {}
    order = sorted(range(len(joints)), key=lambda index: len(joints[index]))  # alike in length: little padding
    for start in tqdm(range(0, len(order), BATCH), desc="encoding motion", unit="batch"):
        indices = order[start : start + BATCH]
        features = [extractor.normalize(extractor.to_features(joints[index])) for index in indices]
        batch = extractor.pad(features, return_tensors="pt")
        inputs = (batch[k].to(vqvae.device) for k in ("input_features", "input_features_mask"))
        codes, vectors = (rows.cpu().numpy() for rows in vqvae.encode(*inputs, dtype, return_latents=True))
        for index, row, vector in zip(indices, codes, vectors, strict=True):
            encoded[index] = (vector if latents else row)[row >= 0]
    return [encoded[index] for index in range(len(joints))]


def cached_codes(
    vqvae: SignMotionVQVAE, extractor: SignMotionFeatureExtractor, joints: list[np.ndarray], folder: str | None = None
) -> list[np.ndarray]:
    """Codes of every clip, from disk when they are there.

    Args:
        joints: (T, 52, 3) float32 metres per clip, at the extractor's frame rate.
        folder: where the files lie; default: `lslm/codes` in the Hugging Face cache. A file's name is the fingerprint
            of what made it, so a new tokenizer or changed data never meet old codes.

    Returns:
        one (L,) int64 array per clip.
    """
    folder = Path(folder or Path(constants.HF_HOME) / "lslm" / "codes")
    path = folder / f"{fingerprint(vqvae, extractor, joints)}.safetensors"
    if not path.is_file():
        codes = encode_clips(vqvae, extractor, joints)
        arrays = {"codes": np.concatenate(codes), "lengths": np.array([len(c) for c in codes])}
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder)  # written aside and renamed: a kill leaves no half a file
        os.close(handle)
        save_file(arrays, partial)
        os.replace(partial, path)
    arrays = load_file(path)
    return np.split(arrays["codes"], arrays["lengths"].cumsum()[:-1])


__all__ = ["cached_codes", "encode_clips", "fingerprint"]
