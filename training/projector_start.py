"""A start for the projector from sentences alone, before the language model comes in (`ctc_steps`).

A projector with random weights tells the language model nothing, and a language model that is told nothing learns to
recite. Here the motion embeddings learn in minutes, without it, to resemble the embeddings of the words and letters
that are signed, in the order of the text: connectionist temporal classification (Graves et al., 2006) finds out by
itself which codes belong to which word. It supposes that the order of signs is about that of the words, which holds for
fingerspelling always and for sentences more or less; alignment proper, which comes next, supposes nothing.
"""

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from lslm.modeling_lslm import LslmForConditionalGeneration
from lslm.processing import SignMotionProcessor

from .spelling import rare_words, signs

BATCH = 32
LEARNING_RATE = 3e-3
CODE_DROPOUT = 0.1
SHARPNESS = 10.0  # of the softmax over cosines, at the start


def start_projector(
    model: LslmForConditionalGeneration,
    processor: SignMotionProcessor,
    codes: list[np.ndarray],
    texts: list[str],
    steps: int,
    seed: int,
    bf16: bool = False,
) -> float:
    """Train the projector of `model` for so many steps of 32 clips.

    Args:
        codes: (L,) int64 codes of each clip. texts: what each says. bf16: compute in bfloat16.

    Returns:
        the mean loss of the last tenth of the steps, for each word or letter.
    """
    vqvae = model.model.vqvae
    device = vqvae.device
    projector = model.model.projector.to(device)
    codes = [torch.from_numpy(clip) for clip in codes]
    rare = rare_words(texts)
    spoken = [signs(text, rare) for text in texts]
    known = sorted({sign for text in spoken for sign in text})
    number = {sign: index for index, sign in enumerate(known, 1)}  # 0 is CTC's blank
    targets = [torch.tensor([number[sign] for sign in text]) for text in spoken]
    words = _embeddings(model, processor, known)
    std = words.std()
    directions = F.normalize(words, dim=-1)
    blank = torch.nn.Parameter(torch.zeros(1, device=device))
    sharpness = torch.nn.Parameter(torch.tensor(SHARPNESS, device=device))
    generator = torch.Generator().manual_seed(seed)
    own = [*projector.parameters()]
    optimizer = torch.optim.AdamW([{"params": own}, {"params": [blank, sharpness]}], LEARNING_RATE, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    lately: list[float] = []
    with torch.enable_grad(), tqdm(range(steps), desc="starting the projector", unit="step") as bar:
        for step in bar:
            pick = torch.randint(len(codes), (BATCH,), generator=generator).tolist()
            batch = pad_sequence([codes[i] for i in pick], batch_first=True, padding_value=-100)
            dropped = (torch.rand(batch.shape, generator=generator) < CODE_DROPOUT) & (batch >= 0)
            noise = torch.randint(vqvae.config.num_codes, batch.shape, generator=generator)
            batch = torch.where(dropped, noise, batch).to(device)
            lengths = -(-(batch >= 0).sum(-1) // model.config.codes_per_embedding)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                motion = projector(vqvae.embed(batch).detach())
            scores = sharpness * F.normalize(motion.float(), dim=-1) @ directions.T
            scores = torch.cat([blank.expand(*scores.shape[:-1], 1), scores], -1).log_softmax(-1)
            answers = [targets[i] for i in pick]
            loss = F.ctc_loss(
                scores.transpose(0, 1),
                torch.cat(answers).to(device),
                lengths,
                torch.tensor([len(answer) for answer in answers], device=device),
                zero_infinity=True,
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(own, 1.0)
            optimizer.step()
            schedule.step()
            if step >= 0.9 * steps:
                lately.append(float(loss.detach()))
            if step % 20 == 0:
                bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    with torch.no_grad():  # as large as word embeddings again: directions are what was learnt
        motion = torch.cat([projector(vqvae.embed(clip[None].to(device))[0]) for clip in codes[:256]])
        projector.linear_2.weight.mul_(std / motion.std())
        projector.linear_2.bias.mul_(std / motion.std())
    projector.zero_grad()
    return sum(lately) / max(len(lately), 1)


@torch.no_grad()
def _embeddings(model: LslmForConditionalGeneration, processor: SignMotionProcessor, known: list[str]) -> torch.Tensor:
    """(V, H) float32: what the language model reads for each word or letter, the mean over its tokens."""
    ids = processor.tokenizer(known, add_special_tokens=False)["input_ids"]
    table = model.get_input_embeddings()
    return torch.stack([table(torch.tensor(own, device=table.weight.device)).float().mean(0) for own in ids])
