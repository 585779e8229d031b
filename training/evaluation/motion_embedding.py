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
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedConfig, PreTrainedModel

from ...processing import SignMotionFeatureExtractor
from ..dataset.collators import EpochSampler
from ..dataset.motion_text import MotionText, feature_statistics

STRIDE = 4  # frames per step of the encoder, as many as a code stands for
GROUP = 32  # texts to choose from, as in HumanML3D's R-precision
# `clips` bounds time and memory (2 bytes a feature): of a larger training split a random part is used.
TRAINING = {"clips": 4096, "steps": 200, "batch_size": 128, "learning_rate": 1e-3, "noise": 0.3, "seed": 0}


class MotionEmbeddingConfig(PreTrainedConfig):
    """Shape of [`MotionEmbedding`], the words it knows, and what the folder says about it.

    Args:
        feature_size: numbers per frame of the motion features.
        hidden_size: width of both encoders.
        embedding_size: numbers per clip; small, because a covariance needs more clips than that.
        vocabulary: the words of the training texts.
        settings: what it was trained on and how; equal settings mean equal embeddings (on one machine).
        retrieval: see [`retrieval`], on the validation split; empty if there is none.
    """

    model_type = "lslm_motion_embedding"

    feature_size: int = 623
    hidden_size: int = 128
    embedding_size: int = 64
    vocabulary: list[str] | None = None
    settings: dict | None = None
    retrieval: dict | None = None


class _Block(nn.Module):
    """Residual convolution over (B, L, C) that sees nothing past a clip's end."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(width, width)

    def forward(self, hidden, mask):
        inside = (self.norm(hidden) * mask).transpose(1, 2)
        return hidden + self.out(F.gelu(self.conv(inside)).transpose(1, 2))


class MotionEmbedding(PreTrainedModel):
    """Motion and texts to vectors of `embedding_size` numbers and length sqrt(embedding_size): each number is of the
    order of one, and so is the scale of the FID. Float32 on CPU."""

    config: MotionEmbeddingConfig
    config_class = MotionEmbeddingConfig
    main_input_name = "features"

    def __init__(self, config: MotionEmbeddingConfig):
        super().__init__(config)
        width, size = config.hidden_size, config.embedding_size
        self.register_buffer("mean", torch.zeros(config.feature_size))
        self.register_buffer("std", torch.ones(config.feature_size))
        self.patches = nn.Conv1d(config.feature_size, width, STRIDE, stride=STRIDE)
        self.blocks = nn.ModuleList(_Block(width, dilation) for dilation in (1, 2, 4))
        self.dropout = nn.Dropout(0.2)
        self.motion_head = nn.Linear(2 * width, size)
        self.numbers = {word: number for number, word in enumerate(config.vocabulary or (), 1)}
        self.words = nn.EmbeddingBag(len(self.numbers) + 1, width, mode="mean", padding_idx=0)
        self.text_head = nn.Linear(width, size)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.post_init()

    def _init_weights(self, module):
        """Nothing: torch's own start is good here."""

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
        return F.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5

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
        weights = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            weights.update(name.encode() + tensor.numpy().tobytes())
        return {
            "name": f"motion-text embedding, {self.config.embedding_size} numbers, InfoNCE on the training split",
            "folder": folder,
            "fingerprint": fingerprint(self.config.settings),
            "weights": weights.hexdigest()[:16],
            "retrieval": self.config.retrieval,
        }


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[\w']+", text.lower())


def bag_of(text: str) -> str:
    """What a bag of words sees of a text: equal for texts that it cannot tell apart."""
    return " ".join(sorted(words_of(text)))


def fingerprint(settings: dict) -> str:
    """A short name for the settings of an embedding."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def motion_embedding(folder: str, data: str, extractor: SignMotionFeatureExtractor, **training) -> MotionEmbedding:
    """The embedding in `folder`; where there is none, it is trained and saved there (one or two minutes on two cores).

    Args:
        folder: for one embedding. data: data set folder; its training split is learnt, its validation split tells what
            the embedding is worth. extractor: gives frame rate, convention and skeleton of the motion features; not
            their mean and deviation, so that tokenizers with statistics of their own share an embedding.
        training: instead of values of `TRAINING`.

    Raises:
        FileNotFoundError: no training split. ValueError: the folder holds an embedding of other data or settings, or
            there is nothing to contrast.
    """
    skeleton = extractor.target_skeleton
    settings = {
        "train": _digest(data, "train"),
        "fps": float(extractor.fps),
        "convention": extractor.convention,
        "target_skeleton": np.asarray(skeleton).tolist() if isinstance(skeleton, (list, tuple)) else skeleton,
        **TRAINING,
        **training,
    }
    place = Path(folder)
    if (place / "model.safetensors").is_file():  # written last
        model = MotionEmbedding.from_pretrained(folder)
        found = model.config.settings or {}
        different = [name for name in settings if found.get(name) != settings[name]]
        if different:
            raise ValueError(
                f"{folder}: this motion embedding differs in {', '.join(different)} from what was asked for, and FIDs "
                "in different embeddings do not compare; name another folder, and one will be trained there"
            )
        return model.eval()
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise ValueError(f"{folder}: neither empty nor a motion embedding; name a folder for one")
    model = _train(data, extractor, settings)
    model.config.retrieval = _validate(model, data, extractor)
    model.save_pretrained(folder)
    return model


def _digest(data: str, split: str) -> str:
    """Which files a split is: their content, wherever they lie."""
    digest = hashlib.sha256()
    for path in sorted(path for place in (Path(data), Path(data) / "data") for path in place.glob(f"{split}*.parquet")):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _train(data: str, extractor: SignMotionFeatureExtractor, settings: dict) -> MotionEmbedding:
    split = MotionText(data, "train", extractor.fps)
    rng = np.random.default_rng(settings["seed"])
    chosen = [i for i in rng.permutation(len(split)) if words_of(split.texts[i])][: settings["clips"]]
    texts = [split.texts[i] for i in chosen]
    bags = np.unique([bag_of(text) for text in texts], return_inverse=True)[1]
    if len(set(bags)) < 2:
        raise ValueError(f"{data}: a motion embedding needs clips with different texts, the training split has none")
    clips = [
        extractor.to_features(split.joints[i]).astype(np.float16)
        for i in tqdm(chosen, desc="motion embedding: features", unit="clip")
    ]
    vocabulary = sorted({word for text in texts for word in words_of(text)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        model = MotionEmbedding(
            MotionEmbeddingConfig(feature_size=extractor.feature_size, vocabulary=vocabulary, settings=settings)
        )
        # the statistics take clips in any form that the extractor reads, features included
        mean, std = feature_statistics(SimpleNamespace(joints=clips), extractor)
        model.mean.copy_(torch.from_numpy(mean))
        model.std.copy_(torch.from_numpy(std))
        _fit(model.train(), clips, texts, torch.from_numpy(bags), settings)
    return model.eval()


def _fit(model: MotionEmbedding, clips: list[np.ndarray], texts: list[str], bags: torch.Tensor, settings: dict) -> None:
    """InfoNCE in both directions. Clips of one length meet in a batch: length alone must not tell them apart."""
    size = min(settings["batch_size"], len(clips))
    sampler = EpochSampler(len(clips), settings["seed"], [len(clip) for clip in clips], size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings["learning_rate"], settings["steps"])
    queue, epoch = [], 0
    for _ in tqdm(range(settings["steps"]), desc="motion embedding: training", unit="step"):
        if len(queue) < size:  # the last few of an epoch wait for another
            sampler.set_epoch(epoch)
            queue, epoch = [index for _, index in sampler], epoch + 1
        batch, queue = queue[:size], queue[size:]
        features = [model.normalize(clips[i]) for i in batch]
        lengths = torch.tensor([len(clip) for clip in features])
        features = [clip + settings["noise"] * torch.randn_like(clip) for clip in features]
        motion = model(nn.utils.rnn.pad_sequence(features, batch_first=True), lengths)
        words = model.embed_texts([texts[i] for i in batch])
        logits = model.log_scale.exp() * (motion @ words.T) / motion.shape[-1]
        same = bags[batch][:, None] == bags[batch]
        logits = logits.masked_fill(same & ~torch.eye(size, dtype=torch.bool), -torch.inf)  # not wrong, so no negatives
        target = torch.arange(size)
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _validate(model: MotionEmbedding, data: str, extractor: SignMotionFeatureExtractor) -> dict:
    try:
        split = MotionText(data, "validation", extractor.fps)
    except FileNotFoundError:
        return {}
    return retrieval(model, [extractor.to_features(joints) for joints in split.joints], split.texts)


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
    bags = [bag_of(text) for text in texts]
    group = min(GROUP, len(clips))
    count = len(clips) // group * group
    order = np.random.default_rng(0).permutation(len(clips))[:count].reshape(-1, group)
    motion, words = torch.from_numpy(model.embed_motion(clips)), model.embed_texts(texts)
    hits = 0
    for members in order:
        nearest = members[(motion[members] @ words[members].T).argmax(1)]
        hits += sum(bags[i] == bags[j] for i, j in zip(members, nearest, strict=True))
    return {"top1": round(100.0 * hits / count, 2), "chance": round(100.0 / group, 2), "group": group, "clips": count}
