"""A start for the projector from sentences alone, before the language model comes in (`ctc_steps`).

A projector with random weights tells the language model nothing, and a language model that is told nothing learns to
recite. Here the motion embeddings learn in minutes, without it, to resemble the embeddings of the words and letters
that are signed, in the order of the text: connectionist temporal classification (Graves et al., 2006) finds out by
itself which codes belong to which word. It supposes that the order of signs is about that of the words, which holds for
fingerspelling always and for sentences more or less; alignment proper, which comes next, supposes nothing.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ...modeling_lslm import LslmForConditionalGeneration
from ...processing import SignMotionProcessor
from ..dataset.spelling import rare_words, signs
from ..recipe_keys import AlignKeys

SHARPNESS = 10.0  # of the softmax over cosines, at the start


class SignReader(nn.Module):
    """A projector that is read without a language model: which word or letter each motion embedding resembles.

    Args:
        projector: (B, L, D) codebook vectors -> (B, M, H) motion embeddings.
        words: (V, H) float32, what the language model reads for each word or letter.
        bf16: the projector computes in bfloat16.
    """

    def __init__(self, projector: nn.Module, words: torch.Tensor, bf16: bool = False):
        super().__init__()
        self.projector, self.bf16 = projector, bf16
        self.directions = F.normalize(words, dim=-1)
        self.blank = nn.Parameter(torch.zeros(1, device=words.device))
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS, device=words.device))

    def forward(self, codebook_vectors: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, M, 1 + V) float32 log-probabilities; the first is CTC's blank."""
        with torch.autocast(codebook_vectors.device.type, torch.bfloat16, enabled=self.bf16):
            motion = self.projector(codebook_vectors)
        scores = self.sharpness * F.normalize(motion.float(), dim=-1) @ self.directions.T
        return torch.cat([self.blank.expand(*scores.shape[:-1], 1), scores], -1).log_softmax(-1)


def start_projector(
    model: LslmForConditionalGeneration,
    processor: SignMotionProcessor,
    codes: list[np.ndarray],
    texts: list[str],
    steps: int,
    seed: int,
    bf16: bool = False,
    **options,
) -> float:
    """Train the projector of `model` for so many steps.

    Args:
        codes: (L, C) int64 codes of each clip, or its (L, D) float32 latents.
        texts: what each says. bf16: compute in bfloat16. options: see [`train_reader`].

    Returns:
        the mean loss of the last tenth of the steps, for each word or letter.
    """
    vqvae = model.model.vqvae
    projector = model.model.projector.to(vqvae.device)
    targets, names = vocabulary(texts)
    words = word_embeddings(model, processor, names)
    reader = SignReader(projector, words.to(vqvae.device), bf16)
    embed, size = vqvae.embed, vqvae.config.codebook_size
    if codes[0].dtype.kind == "f":
        embed, size, codes = as_codes(codes, vqvae.device)
    loss = train_reader(reader, embed, size, codes, targets, steps, seed, **options)
    with torch.no_grad():  # as large as word embeddings again: directions are what was learnt
        some = [torch.from_numpy(clip).to(vqvae.device) for clip in codes[:256]]
        std = words.std() / torch.cat([projector(embed(clip[None])[0]) for clip in some]).std()
        projector.linear_2.weight.mul_(std)
        projector.linear_2.bias.mul_(std)
    projector.zero_grad()
    return loss


def train_reader(
    reader: SignReader,
    embed: Callable[[torch.Tensor], torch.Tensor],
    size: int,
    codes: list[np.ndarray],
    targets: list[torch.Tensor],
    steps: int,
    seed: int,
    batch_size: int = AlignKeys.ctc_batch_size,
    learning_rate: float = AlignKeys.ctc_learning_rate,
    code_dropout: float = AlignKeys.ctc_code_dropout,
) -> float:
    """Train `reader` for so many steps of `batch_size` clips.

    Args:
        embed: (B, L, C) codes, -100 past a clip's end -> (B, L, D) codebook vectors. size: of a codebook.
        codes: (L, C) int64 of each clip. targets: the numbers of what each says, see [`vocabulary`].

    Returns:
        the mean loss of the last tenth of the steps, for each word or letter.
    """
    device, stack = reader.blank.device, reader.projector.stack
    codes = [torch.from_numpy(clip) for clip in codes]
    generator = torch.Generator().manual_seed(seed)
    of_projector = [*reader.projector.parameters()]
    groups = [{"params": of_projector}, {"params": [reader.blank, reader.sharpness]}]
    optimizer = torch.optim.AdamW(groups, learning_rate, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    lately: list[float] = []
    with torch.enable_grad(), tqdm(range(steps), desc="starting the projector", unit="step") as bar:
        for step in bar:
            pick = torch.randint(len(codes), (batch_size,), generator=generator).tolist()
            batch = pad_sequence([codes[i] for i in pick], batch_first=True, padding_value=-100)
            valid = batch[..., :1] >= 0
            dropped = (torch.rand(valid.shape, generator=generator) < code_dropout) & valid
            noise = torch.randint(size, batch.shape, generator=generator)
            batch = torch.where(dropped, noise, batch).to(device)
            answers = [targets[i] for i in pick]
            loss = F.ctc_loss(
                reader(embed(batch).detach()).transpose(0, 1),
                torch.cat(answers).to(device),
                -(-valid.sum((1, 2)).to(device) // stack),
                torch.tensor([len(answer) for answer in answers], device=device),
                zero_infinity=True,
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(of_projector, 1.0)
            optimizer.step()
            schedule.step()
            if step >= 0.9 * steps:
                lately.append(float(loss.detach()))
            if step % 20 == 0:
                bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    return sum(lately) / max(len(lately), 1)


def as_codes(
    clips: list[np.ndarray], device: torch.device | str = "cpu"
) -> tuple[Callable[[torch.Tensor], torch.Tensor], int, list[np.ndarray]]:
    """(L, D) latents of each clip as if each were a code of its own: `embed`, `size` and `codes` for
    [`train_reader`]."""
    table = torch.from_numpy(np.concatenate(clips)).to(device)
    codes = np.split(np.arange(len(table))[:, None], np.cumsum([len(clip) for clip in clips])[:-1])
    return lambda codes: table[codes[..., 0].clamp(min=0)] * (codes >= 0), len(table), codes


def vocabulary(texts: list[str]) -> tuple[list[torch.Tensor], list[str]]:
    """What `texts` say as numbers, and the word or letter that each number stands for; 0 is CTC's blank."""
    rare = rare_words(texts)
    spoken = [signs(text, rare) for text in texts]
    words = sorted({sign for text in spoken for sign in text})
    number = {sign: index for index, sign in enumerate(words, 1)}
    return [torch.tensor([number[sign] for sign in text]) for text in spoken], words


@torch.no_grad()
def word_embeddings(
    model: LslmForConditionalGeneration, processor: SignMotionProcessor, words: list[str]
) -> torch.Tensor:
    """(V, H) float32: what the language model reads for each word or letter, the mean over its tokens."""
    ids = processor.tokenizer(words, add_special_tokens=False)["input_ids"]
    table = model.get_input_embeddings()
    return torch.stack([table(torch.tensor(word, device=table.weight.device)).float().mean(0) for word in ids])
