"""The codebook: nearest code (equation 1 of the paper), how it learns, how it starts.

Everything that training changes is a parameter or a persistent buffer, so a run that is killed and resumed from a
checkpoint ends where an uninterrupted run ends.
"""

import torch
from torch import nn
from torch.nn import functional as F


def _all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the processes of a distributed run; the tensor itself otherwise."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor


class Codebook(nn.Module):
    """K codes of D numbers.

    `quantizer="gradient"`: the codebook is a parameter and learns by `|| sg[latents] - codes ||^2` (equation 2).
    `quantizer="ema"`: each code is the moving average of the latents assigned to it, and a code that falls out of use
    is moved onto a latent of the batch (the EMA-and-reset quantizer of MotionGPT).

    Until `start_from` has been called (`started` is False) latents pass unquantised in training: a few hundred steps of
    plain auto-encoding followed by a k-means start keep all codes in use, which a random start does not.
    """

    def __init__(self, config):
        super().__init__()
        self.ema = config.quantizer == "ema"
        self.decay, self.dead_code_threshold = config.ema_decay, config.dead_code_threshold
        shape = config.codebook_size, config.code_dim
        if self.ema:
            self.register_buffer("weight", torch.empty(shape))
            self.register_buffer("ema_sum", torch.zeros(shape))
            self.register_buffer("ema_count", torch.zeros(shape[0]))
        else:
            self.weight = nn.Parameter(torch.empty(shape))
        self.register_buffer("started", torch.ones((), dtype=torch.bool))

    def nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """Equation 1: (..., D) latents -> (...) int64 index of the nearest code in squared L2."""
        flat, codes = latents.reshape(-1, latents.shape[-1]), self.weight.to(latents.dtype)
        # |x|^2 is the same for every code and left out
        distances = codes.pow(2).sum(-1) - 2 * flat @ codes.T
        return distances.argmin(-1).view(latents.shape[:-1])

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """(...) int64 codes -> (..., D) codebook vectors."""
        return F.embedding(codes, self.weight)

    def forward(self, latents: torch.Tensor, mask: torch.Tensor):
        """Quantise in training, with straight-through gradients.

        Args:
            latents: (B, L, D).
            mask: (B, L) bool, True where the position belongs to the clip.

        Returns:
            (B, L, D) quantised latents, (B, L) codes, and the scalar codebook and commitment losses.
        """
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
        """Set the codes by k-means over `latents` (N, D) and begin to quantise."""
        size = self.weight.shape[0]
        if len(latents) < size:
            raise ValueError(
                f"k-means start: {len(latents)} latents for {size} codes; give more clips or use fewer codes"
            )
        pick = torch.randperm(len(latents), generator=generator)[:size]
        self.weight.copy_(latents[pick.to(latents.device)])
        for _ in range(iterations):
            codes = self.nearest(latents)
            count = torch.bincount(codes, minlength=size).to(latents.dtype)
            total = torch.zeros_like(self.weight).index_add_(0, codes, latents)
            used = count > 0
            self.weight[used] = total[used] / count[used, None]
        if self.ema:
            count = torch.bincount(self.nearest(latents), minlength=size).float()
            # the averages start as if every batch so far had looked like this one
            self.ema_count.copy_(count.clamp(min=1.0) / count.sum())
            self.ema_sum.copy_(self.weight * self.ema_count[:, None])
        self.started.fill_(True)

    @torch.no_grad()
    def _follow(self, latents: torch.Tensor, codes: torch.Tensor):
        """One EMA step. The averages are of shares (they sum to 1), so batches of any size weigh the same."""
        size = self.weight.shape[0]
        count = _all_reduce(torch.bincount(codes, minlength=size).float())
        total = _all_reduce(torch.zeros_like(self.weight).index_add_(0, codes, latents))
        self.ema_count.lerp_(count / count.sum(), 1 - self.decay)
        self.ema_sum.lerp_(total / count.sum(), 1 - self.decay)
        dead = self.ema_count < self.dead_code_threshold / size
        self.weight.copy_(
            torch.where(dead[:, None], self.weight, self.ema_sum / self.ema_count.clamp(min=1e-9)[:, None])
        )
        if dead.any():
            self._move(dead, latents)

    def _move(self, dead: torch.Tensor, latents: torch.Tensor):
        """Put unused codes on random latents of the batch, with an even share to begin with."""
        pick = torch.randint(len(latents), (int(dead.sum()),))
        fresh = latents[pick.to(latents.device)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(fresh, 0)
        self.weight[dead] = fresh
        self.ema_count[dead] = 1.0 / len(dead)
        self.ema_sum[dead] = fresh / len(dead)


__all__ = ["Codebook"]
