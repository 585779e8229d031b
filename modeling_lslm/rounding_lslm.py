"""How far float32 is to be trusted, so that float64 is asked only where it decides.

Shapes as in `modeling_sign_motion`: B clips, L codes, D numbers per latent, P parts of the body.
"""

import torch
from torch.nn import functional as F

UNIT = 2.0**-24  # unit roundoff of float32

LATENTS = 32 * UNIT
"""What the encoder's rounding errors may add up to, as a share of the largest latent of the clip (Euclidean norms).

No bound for the worst case is of use here. The sharpest one of first order, the sum over all layers of
|derivative| * gamma_n * |weights| |inputs| with gamma_n = n UNIT / (1 - n UNIT) (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1), is 4e-4 of a latent in the checkpoint of examples/asl_cafe and 3e-2 in MotionGPT's
network with random weights. Nearly every clip has codes that close to a border: 1 % of the decisions are within 3e-4
in the one, 10 % within 1e-3 in the other. But errors of thousands of sums, in a direction of many, do not add up so.
With roundings of mean zero that are independent (Higham and Mary 2019, A New Approach to Probabilistic Rounding Error
Analysis) and products of mean zero (the same, 2020, Sharper Probabilistic Backward Error Analysis), whatever the order
of summation, the standard deviation towards a border between two codes is 4e-8 and 2.2e-7 of a latent, less than 4
UNIT: what is allowed here is 8 of them, as unlikely to be too little as a tie in float64. Measured are norms of up to 4
and 7 UNIT, 10 with inputs far from a mean of zero, and towards a border a fifth of one.
"""

DISTANCES = 16 * UNIT
"""The same for |code|^2 - 2 latent code, of |code| (|code| + 2 |latent|): the standard deviation is below one UNIT."""


def full_float32(device: torch.device) -> bool:
    """Whether float32 is float32 on `device`: on a CPU that was not told to multiply in bfloat16 or TF32. Others may,
    cuDNN by default, and take algorithms whose errors are of another kind; there float64 decides everything. Weights
    that accelerate keeps elsewhere ("meta") come to a CPU where there is nothing better."""
    here = device.type == "cpu" or (device.type == "meta" and not torch.accelerator.is_available())
    mkldnn = torch.backends.mkldnn
    return here and {mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision} <= {"none", "ieee"}


def tolerance(latents: torch.Tensor, num_parts: int) -> torch.Tensor:
    """(B, L, D) float32 latents -> (B, 1, P): how far, at most, each may be from what float64 makes of the clip."""
    return LATENTS * latents.unflatten(-1, (num_parts, -1)).norm(dim=-1).amax(1, keepdim=True)


def in_doubt(distances, choices, remainder, codes, norms, tolerance) -> torch.Tensor:
    """(N,) bool: where a latent within `tolerance` may be nearest to another code.

    As the latent moves by t, its distance to any code changes by at most t (triangle inequality): the nearest one stays
    the nearest while the second is further away by more than 2 t, d2 - d1 > 2 t, or d2^2 - d1^2 > 2 t (d1 + d2). The
    difference of squares to two codes changes by at most 2 t times how far these are apart. That is less, but dearer,
    so it is looked at only where the first does not decide; of all codes, and in float64. What a quantizer leaves to
    the next one moves as the latent does, so this holds for each of them.

    Args:
        distances: (N, K) squared, without the |remainder|^2 that they share. choices: (N,) the least of them.
        remainder: (N, D) what is to be rounded. codes: (K, D). norms: (K,) their squares. tolerance: (N,).
    """
    choices = choices[:, None]
    first, second = distances.gather(-1, choices)[:, 0], distances.scatter(-1, choices, torch.inf).amin(-1)
    square, length = remainder.square().sum(-1), norms.max().sqrt()
    apart = sum((square + distance).clamp(min=0).sqrt() for distance in (first, second)).clamp(max=2 * length)
    computed = DISTANCES * length * (length + 2 * square.sqrt())
    doubt = ~(second - first > 2 * tolerance * apart + computed)  # and where one is not a number
    if doubt.any():
        nearest, rest, further = choices[doubt], remainder[doubt].double(), distances[doubt] - first[doubt, None]
        few = ~(further > (4 * tolerance * length + computed)[doubt, None])  # the bound of all codes
        others = few.any(0).nonzero()[:, 0]
        own, codes = codes[nearest[:, 0]].double(), codes[others].double()
        further = codes.square().sum(-1) - 2 * rest @ codes.T - (own.square() - 2 * rest * own).sum(-1, keepdim=True)
        near = ~(further > 2 * tolerance[doubt, None] * torch.cdist(own, codes)) & (others != nearest)
        doubt[doubt.clone()] = near.any(-1)
    return doubt


def windows(doubt: torch.Tensor, reach: int, lengths: torch.Tensor) -> list[tuple[int, int, int]]:
    """(B, L) bool -> (clip, first code, last code + 1) of the stretches that hold the codes in doubt and, where the
    clip goes on, `reach` codes around them."""
    near = F.max_pool1d(doubt[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0
    near &= torch.arange(doubt.shape[1], device=doubt.device) < lengths[:, None]
    edges = F.pad(near.int(), (1, 1)).diff()
    first, last = (edges == 1).nonzero().tolist(), (edges == -1).nonzero().tolist()
    return [(clip, start, end) for (clip, start), (_, end) in zip(first, last, strict=True)]
