"""An embedding of motion for the FID: a small motion encoder and a bag of words, trained to find each other.

    lslm evaluate --data examples/asl_cafe --split test --output runs/scores --fid runs/motion_embedding

FID needs an embedding, and the one behind HumanML3D's FIDs (Guo et al., CVPR 2022) reads 263 numbers a frame and knows
no signs; none is published for 623. This one is trained from scratch on the training split of the data set that is
scored, so its FIDs compare tokenizers on that data set and mean nothing beside published ones. The folder keeps it
(config.json, model.safetensors); what it was trained on and how is its fingerprint, and FIDs compare within one folder.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler
from tqdm import tqdm, trange

from ...processing import SignMotionFeatureExtractor
from ...processing.motion_features import FEATURE_SIZE
from ..dataset.collators import EpochSampler
from ..dataset.motion_text import MotionText, feature_statistics, split_files

STRIDE = 4  # frames per step of the encoder, as many as a code stands for
WIDTH = 128  # of both encoders
SIZE = 64  # numbers per clip; few, because a covariance needs more clips than that
GROUP = 32  # texts to choose from, as in HumanML3D's R-precision
# `clips` bounds time and memory (2 bytes a feature): of a larger training split a random part is used.
TRAINING = {"clips": 4096, "steps": 200, "batch_size": 128, "learning_rate": 1e-3, "noise": 0.3, "seed": 0}


class _Block(nn.Module):
    """Residual convolution over (B, L, C) that sees nothing past a clip's end."""

    def __init__(self, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden, mask):
        inside = (self.norm(hidden) * mask).transpose(1, 2)
        return hidden + self.out(F.gelu(self.conv(inside)).transpose(1, 2))


class MotionEmbedding(nn.Module):
    """Motion and texts to vectors of 64 numbers and length 8: each number is of the order of one, and so is the scale
    of the FID. Float32 on CPU.

    Args:
        config: content of config.json: `vocabulary`, the words of the training texts; `settings`, what it was trained
            on and how (equal settings mean equal embeddings, on one machine); `retrieval`, see [`retrieval`].
    """

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(FEATURE_SIZE))
        self.register_buffer("std", torch.ones(FEATURE_SIZE))
        self.patches = nn.Conv1d(FEATURE_SIZE, WIDTH, STRIDE, stride=STRIDE)
        self.blocks = nn.ModuleList(_Block(dilation) for dilation in (1, 2, 4))
        self.dropout = nn.Dropout(0.2)
        self.motion_head = nn.Linear(2 * WIDTH, SIZE)
        self.numbers = {word: number for number, word in enumerate(config["vocabulary"], 1)}
        self.words = nn.EmbeddingBag(len(self.numbers) + 1, WIDTH, mode="mean", padding_idx=0)
        self.text_head = nn.Linear(WIDTH, SIZE)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    @classmethod
    def load(cls, folder: Path) -> "MotionEmbedding":
        model = cls(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        save_file(self.state_dict(), folder / "model.safetensors")  # last: where it is, all is there

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F) motion features, normalised and zero past each clip's end, and (B,) lengths -> (B, D)."""
        steps = torch.div(lengths + STRIDE - 1, STRIDE, rounding_mode="floor")
        features = F.pad(features, (0, 0, 0, -features.shape[1] % STRIDE))
        hidden = self.patches(features.transpose(1, 2)).transpose(1, 2)
        mask = (torch.arange(hidden.shape[1]) < steps[:, None])[..., None]
        for block in self.blocks:
            hidden = block(hidden, mask)
        mean = (hidden * mask).sum(1) / steps[:, None]
        largest = hidden.masked_fill(~mask, -torch.inf).amax(1)
        return self._sized(self.motion_head(self.dropout(torch.cat([mean, largest], -1))))

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """Texts -> (N, D). Words that the training split does not have are passed over."""
        bags = [[self.numbers[word] for word in words_of(text) if word in self.numbers] for text in texts]
        longest = max(1, *map(len, bags))
        padded = torch.tensor([bag + [0] * (longest - len(bag)) for bag in bags])
        return self._sized(self.text_head(self.words(padded)))

    def _sized(self, vectors):
        return F.normalize(vectors, dim=-1) * SIZE**0.5

    def normalize(self, features: np.ndarray) -> torch.Tensor:
        """(T, F) motion features -> normalised float32 features, by the statistics of the training split."""
        return (torch.as_tensor(np.asarray(features, np.float32)) - self.mean) / self.std

    @torch.no_grad()
    def embed_motion(self, clips: list[np.ndarray]) -> np.ndarray:
        """Clips of (T, F) motion features, not normalised -> (N, D) float32. One by one: an embedding depends on its
        clip alone, to the last bit."""
        self.eval()
        alone = [self(self.normalize(clip)[None], torch.tensor([len(clip)]))[0] for clip in clips]
        return torch.stack(alone).numpy()

    def description(self, folder: str) -> dict:
        """What to write beside an FID: FIDs compare where `weights` are equal."""
        weights = (name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(self.state_dict().items()))
        return {
            "name": f"motion-text embedding, {SIZE} numbers, InfoNCE on the training split",
            "folder": folder,
            "fingerprint": _digest([json.dumps(self.config["settings"], sort_keys=True).encode()]),
            "weights": _digest(weights),
            "retrieval": self.config["retrieval"],
        }


def _digest(parts: Iterable) -> str:
    """A short name for the bytes of all parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[\w']+", text.lower())


def bag_of(text: str) -> str:
    """What a bag of words sees of a text: equal for texts that it cannot tell apart."""
    return " ".join(sorted(words_of(text)))


def motion_embedding(folder: str, data: str, extractor: SignMotionFeatureExtractor) -> MotionEmbedding:
    """The embedding in `folder`; where there is none, it is trained and saved there (one or two minutes on two cores).

    Args:
        folder: for one embedding. data: data set folder; its training split is learnt, its validation split tells what
            the embedding is worth. extractor: gives frame rate, convention and skeleton of the motion features; not
            their mean and deviation, so that tokenizers with statistics of their own share an embedding.

    Raises:
        FileNotFoundError: no training split. ValueError: the folder holds an embedding of other data or settings, or
            there is nothing to contrast.
    """
    settings = {
        "train": _digest(np.memmap(file, mode="r") for file in split_files(data, "train")),
        "fps": float(extractor.fps),
        "convention": extractor.convention,
        "target_skeleton": extractor.target_skeleton,
        **TRAINING,
    }
    place = Path(folder)
    if (place / "model.safetensors").is_file():
        model = MotionEmbedding.load(place)
        kept = model.config["settings"]
        different = [name for name in settings if kept.get(name) != settings[name]]
        if different:
            raise ValueError(
                f"{folder}: this motion embedding differs in {', '.join(different)} from what was asked for, and FIDs "
                "in different embeddings do not compare; name another folder, and one will be trained there"
            )
        return model
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise ValueError(f"{folder}: neither empty nor a motion embedding; name a folder for one")
    model = _train(data, extractor, settings)
    try:
        validation = MotionText(data, "validation", extractor.fps, max_seconds=extractor.max_seconds)
    except FileNotFoundError:
        pass
    else:
        clips = [extractor.to_features(joints) for joints in validation.joints]
        model.config["retrieval"] = retrieval(model, clips, validation.texts)
    model.save(place)
    return model


def _train(data: str, extractor: SignMotionFeatureExtractor, settings: dict) -> MotionEmbedding:
    """InfoNCE in both directions. Clips of one length meet in a batch: length alone must not tell them apart."""
    split = MotionText(data, "train", extractor.fps, max_seconds=extractor.max_seconds)
    order = np.random.default_rng(settings["seed"]).permutation(len(split))
    chosen = [i for i in order if words_of(split.texts[i])][: settings["clips"]]
    texts = [split.texts[i] for i in chosen]
    bags = torch.from_numpy(np.unique([bag_of(text) for text in texts], return_inverse=True)[1])
    if len(bags.unique()) < 2:
        raise ValueError(f"{data}: a motion embedding needs clips with different texts, the training split has none")
    clips = [
        extractor.to_features(split.joints[i]).astype(np.float16)
        for i in tqdm(chosen, desc="motion embedding: features", unit="clip")
    ]
    mean, std = feature_statistics(clips, extractor)
    size = min(settings["batch_size"], len(clips))
    sampler = EpochSampler(len(clips), settings["seed"], [len(clip) for clip in clips], size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        vocabulary = sorted({word for text in texts for word in words_of(text)})
        model = MotionEmbedding({"vocabulary": vocabulary, "settings": settings, "retrieval": {}})
        model.mean.copy_(torch.from_numpy(mean))
        model.std.copy_(torch.from_numpy(std))
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings["learning_rate"], settings["steps"])
        batches = iter(())
        for step in trange(settings["steps"], desc="motion embedding: training", unit="step"):
            epoch, number = divmod(step, len(clips) // size)
            if number == 0:
                sampler.set_epoch(epoch)
                batches = iter(BatchSampler(sampler, size, drop_last=True))
            batch = [index for _, index in next(batches)]
            features = [model.normalize(clips[i]) for i in batch]
            lengths = torch.tensor([len(clip) for clip in features])
            features = [clip + settings["noise"] * torch.randn_like(clip) for clip in features]
            motion = model(nn.utils.rnn.pad_sequence(features, batch_first=True), lengths)
            words = model.embed_texts([texts[i] for i in batch])
            logits = model.log_scale.exp() * (motion @ words.T) / SIZE
            same = bags[batch][:, None] == bags[batch]
            logits = logits.masked_fill(same & ~torch.eye(size, dtype=torch.bool), -torch.inf)  # no wrong answers
            target = torch.arange(size)
            loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def retrieval(model: MotionEmbedding, clips: list[np.ndarray], texts: list[str]) -> dict:
    """How often a clip finds its text among 32: does the embedding mean anything?

    Args:
        clips: (T, F) motion features, not normalised. texts: of each.

    Returns:
        `top1`: percent of clips whose nearest text in their group is theirs, or one of the same words; `chance`: what
        guessing gives; `group`: texts in a group, 32 unless there are fewer; `clips`: how many were in a full group.
        Groups are drawn at random with a fixed seed.
    """
    size = min(GROUP, len(clips))
    count = len(clips) // size * size
    groups = np.random.default_rng(0).permutation(len(clips))[:count].reshape(-1, size)
    motion, words = torch.from_numpy(model.embed_motion(clips)), model.embed_texts(texts)
    nearest = (motion[groups] @ words[groups].transpose(1, 2)).argmax(-1).numpy()
    bags = np.array([bag_of(text) for text in texts])[groups]
    hits = bags == np.take_along_axis(bags, nearest, axis=1)
    return {"top1": round(100 * hits.mean(), 2), "chance": round(100 / size, 2), "group": size, "clips": count}
