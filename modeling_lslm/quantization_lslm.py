"""The codebook: nearest code (equation 1 of the paper), how it learns, how it starts.

Everything that training changes is a parameter or a persistent buffer, so a run that is killed and resumed from a
checkpoint ends where an uninterrupted run ends.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .rounding_lslm import in_doubt


def _all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the processes of a distributed run; the tensor itself otherwise."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor


class Codebook(nn.Module):
    """K codes of D numbers; for each of P parts of the body in a part-wise sign tokenizer, and for each of Q quantizers
    of a part in a residual one, where a codebook holds what those before it leave over and vectors are sums.

    A code is a choice from each of the C = P * Q codebooks, part after part. `weight` is (C * K, D).

    `quantizer="gradient"`: the codebook is a parameter and learns by `|| sg[latents] - codes ||^2` (equation 2).
    `quantizer="ema"`: each code is the moving average of the latents assigned to it, and a code that falls out of use
    is moved onto a latent of the batch (the EMA-and-reset quantizer of MotionGPT).

    Whatever needs `weight` while a model runs comes in through `forward`: there accelerate brings offloaded weights in
    for a moment.

    Until `start_from` has been called (`started` is False) latents pass unquantised in training: a few hundred steps of
    plain auto-encoding followed by a k-means start keep all codes in use, which a random start does not.
    """

    def __init__(self, config):
        super().__init__()
        self.ema = config.quantizer == "ema"
        self.decay, self.dead_code_threshold = config.ema_decay, config.dead_code_threshold
        self.num_parts, self.num_quantizers = config.num_parts, config.num_quantizers
        self.num_codebooks, self.size = config.num_codebooks, config.codebook_size
        shape = self.num_codebooks * self.size, config.code_dim
        if self.ema:
            self.register_buffer("weight", torch.empty(shape))
            self.register_buffer("ema_sum", torch.zeros(shape))
            self.register_buffer("ema_count", torch.zeros(shape[0]))
        else:
            self.weight = nn.Parameter(torch.empty(shape))
        self.register_buffer("started", torch.ones((), dtype=torch.bool))

    def nearest(self, latents: torch.Tensor, tolerance: torch.Tensor | None = None):
        """Equation 1: (..., P * D) latents -> (..., C) int64 numbers of the nearest codes in squared L2, part by part,
        and of each part quantizer by quantizer. With a tolerance (..., P), also (...) bool: where a latent no further
        away than that may have others (see `rounding_lslm.in_doubt`)."""
        flat = latents.reshape(-1, self.num_parts, self.weight.shape[-1])
        choices, doubt = [], False
        for book, codes in enumerate(self.weight.to(latents.dtype).split(self.size)):
            part = book // self.num_quantizers
            if book % self.num_quantizers == 0:
                remainder = flat[:, part]
            # |x|^2 is the same for every code and left out
            norms = codes.square().sum(-1)
            distances = torch.addmm(norms, remainder, codes.T, alpha=-2)
            choices.append(distances.argmin(-1))
            if tolerance is not None:
                doubt = doubt | in_doubt(
                    distances, choices[-1], remainder, codes, norms, tolerance[..., part].reshape(-1)
                )
            if (book + 1) % self.num_quantizers:
                remainder = remainder - codes[choices[-1]]
        choices = torch.stack(choices, -1).view(*latents.shape[:-1], self.num_codebooks)
        return choices if tolerance is None else (choices, doubt.view(latents.shape[:-1]))

    def rows(self, codes: torch.Tensor) -> torch.Tensor:
        """(..., C) int64 codes -> (..., C) the rows of `weight` that they stand for."""
        return codes + self.size * torch.arange(self.num_codebooks, device=codes.device)

    def _vectors(self, codes: torch.Tensor) -> torch.Tensor:
        """(..., C) int64 codes -> (..., P, Q, D) rows of `weight`."""
        return F.embedding(self.rows(codes), self.weight).unflatten(-2, (self.num_parts, self.num_quantizers))

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """(..., C) int64 codes -> (..., P * D) codebook vectors."""
        return self._vectors(codes).sum(-2).flatten(-2)

    def forward(
        self,
        latents: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        tolerance: torch.Tensor | None = None,
    ):
        """Latents to codes (`codebook(latents)`), codes to vectors (`codebook(codes=codes)`), or both, as in training
        (`codebook(latents, mask)`).

        Args:
            latents: (..., P * D), with a mask (B, L, P * D).
            mask: (B, L) bool, True where the position belongs to the clip.
            codes: (..., C) int64.
            tolerance: (..., P), see [`nearest`].

        Returns:
            What [`nearest`] returns; or (..., P * D) vectors, as [`lookup`]; or with a mask, (B, L, P * D)
            quantised latents with straight-through gradients, (B, L, C) codes, and the scalar codebook and commitment
            losses.
        """
        if codes is not None:
            return self.lookup(codes)
        return self.nearest(latents, tolerance) if mask is None else self._quantize(latents, mask)

    def _quantize(self, latents: torch.Tensor, mask: torch.Tensor):
        latents = latents.float()
        codes = self.nearest(latents.detach())
        zero = latents.new_zeros(())
        if self.training and not self.started:
            return latents, codes, zero, zero
        quantized = self.lookup(codes)
        share = mask[..., None] / (mask.sum() * latents.shape[-1])
        commitment = ((latents - quantized.detach()).square() * share).sum()
        codebook = zero if self.ema else ((quantized - latents.detach()).square() * share).sum()
        if self.ema and self.training:
            self._follow(latents[mask].detach(), codes[mask])
        return latents + (quantized - latents).detach(), codes, codebook, commitment

    @torch.no_grad()
    def start_from(self, latents: torch.Tensor, iterations: int = 20, generator: torch.Generator | None = None):
        """Set the codes by k-means over `latents` (N, P * D) and begin to quantise."""
        if len(latents) < self.size:
            raise ValueError(
                f"k-means start: {len(latents)} latents for {self.size} codes; give more clips or use fewer codes"
            )
        self.weight.zero_()
        for quantizer in range(self.num_quantizers):  # one after the other: they are made of what is left over
            rows = torch.arange(len(self.weight), device=latents.device) // self.size % self.num_quantizers == quantizer
            left_over = self._left_over(latents, self.nearest(latents))
            pick = [torch.randperm(len(latents), generator=generator)[: self.size] for _ in range(self.num_parts)]
            self.weight[rows] = left_over[torch.cat(pick).to(latents.device), self._book_of_row()[rows]]
            for _ in range(iterations):
                count, total = self._assigned(latents, self.nearest(latents))
                used = (count > 0) & rows
                self.weight[used] = total[used] / count[used, None]
        if self.ema:
            count, _ = self._assigned(latents, self.nearest(latents))
            # the averages start as if every batch so far had looked like this one
            self.ema_count.copy_(count.clamp(min=1.0) / count.sum())
            self.ema_sum.copy_(self.weight * self.ema_count[:, None])
        self.started.fill_(True)

    def _left_over(self, latents: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """(N, P * D) -> (N, C, D): what each codebook is to stand for, given what those before it say in `codes`."""
        vectors = self._vectors(codes)
        before = vectors.cumsum(-2) - vectors
        return (latents.view(len(latents), self.num_parts, 1, -1) - before).flatten(1, 2)

    def _book_of_row(self) -> torch.Tensor:
        """(C * K,) the codebook that each row of `weight` belongs to."""
        return torch.arange(self.num_codebooks, device=self.weight.device).repeat_interleave(self.size)

    def _assigned(self, latents: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How many of the (N, P * D) latents each row of `weight` got, and the sum of what it is to stand for."""
        rows = self.rows(codes).flatten()
        count = torch.bincount(rows, minlength=len(self.weight)).float()
        left_over = self._left_over(latents, codes).flatten(0, 1)
        return count, torch.zeros_like(self.weight).index_add_(0, rows, left_over)

    @torch.no_grad()
    def _follow(self, latents: torch.Tensor, codes: torch.Tensor):
        """One EMA step. The averages are of shares (they sum to 1), so batches of any size weigh the same."""
        count, total = map(_all_reduce, self._assigned(latents, codes))
        self.ema_count.lerp_(count / count.sum(), 1 - self.decay)
        self.ema_sum.lerp_(total / count.sum(), 1 - self.decay)
        dead = self.ema_count < self.dead_code_threshold / len(self.ema_count)
        self.weight.copy_(
            torch.where(dead[:, None], self.weight, self.ema_sum / self.ema_count.clamp(min=1e-9)[:, None])
        )
        if dead.any():
            self._move(dead, latents, codes)

    def _move(self, dead: torch.Tensor, latents: torch.Tensor, codes: torch.Tensor):
        """Put unused codes on random latents of the batch, with an even share to begin with."""
        pick = torch.randint(len(latents), (int(dead.sum()),))
        fresh = self._left_over(latents, codes)[pick.to(latents.device), self._book_of_row()[dead]]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(fresh, 0)
        self.weight[dead] = fresh
        self.ema_count[dead] = 1.0 / len(dead)
        self.ema_sum[dead] = fresh / len(dead)


__all__ = ["Codebook"]
