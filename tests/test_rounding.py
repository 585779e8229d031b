"""Codes are those of float64, although float32 computes most of them: borders, padding, threads, precision."""

import copy

import pytest
import torch
from conftest import make_vqvae
from test_modeling_sign_motion import pad

from lslm import SignMotionVQVAE, SignMotionVQVAEConfig
from lslm.modeling_lslm import rounding_lslm
from lslm.modeling_lslm.quantization_lslm import Codebook

KINDS = {
    "whole": {},
    "linear": {"linear_path": True, "num_downsamples": 1},
    "residual": {"num_quantizers": 3},
    "all": {"partwise": True, "linear_path": True, "num_quantizers": 2},
}


def float64_codes(vqvae, features, mask=None):
    latents, lengths = vqvae.latents(features, mask)
    assert latents.dtype == torch.float64
    codes = vqvae.codebook(latents)
    return codes.masked_fill((torch.arange(codes.shape[1]) >= lengths[:, None])[..., None], -100)


def on_borders(vqvae, features):
    """The sign tokenizer with pairs of codes around latents of the clips, half way between them but for rounding."""
    vqvae = copy.deepcopy(vqvae)
    book = vqvae.codebook
    latents = torch.cat([vqvae.latents(torch.as_tensor(clip)[None])[0][0] for clip in features])
    generator = torch.Generator().manual_seed(1)
    remainder = latents.view(len(latents), book.num_parts, -1).clone()
    pick = torch.randperm(len(latents), generator=generator)[: book.size // 2]
    for number, weight in enumerate(book.weight.data.split(book.size)):
        part = number // book.num_quantizers
        middle = remainder[pick, part]
        away = torch.randn(middle.shape, generator=generator, dtype=torch.float64) * middle.std() / 8
        weight.copy_(torch.cat([middle + away, middle - away]))
        if (number + 1) % book.num_quantizers:
            remainder[:, part] -= weight.double()[torch.cdist(remainder[:, part], weight.double()).argmin(-1)]
    return vqvae


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def vqvae(features, request):
    return make_vqvae(features, **request.param)


@pytest.fixture(scope="module")
def border(vqvae, features):
    return on_borders(vqvae, features)


def test_latents_on_borders_have_the_codes_of_float64_alone_in_batches_and_on_threads(border, features):
    alone = [float64_codes(border, torch.as_tensor(clip)[None])[0] for clip in features]
    threads = torch.get_num_threads()
    try:
        for torch_threads in (1, 3):
            torch.set_num_threads(torch_threads)
            for clip, codes in zip(features, alone, strict=True):
                assert torch.equal(border.encode(torch.as_tensor(clip)[None]).codes[0], codes)
            batch, mask = pad(features, float("nan"))
            more = torch.nn.functional.pad(batch, (0, 0, 0, 7)), torch.nn.functional.pad(mask, (0, 7))
            for some, inputs in ((slice(0, 16), more), (slice(3, 9), (batch[3:9].double(), mask[3:9]))):
                for row, codes in zip(border.encode(*inputs).codes, alone[some], strict=True):
                    assert torch.equal(row[: len(codes)], codes) and (row[len(codes) :] == -100).all()
    finally:
        torch.set_num_threads(threads)


def test_float32_alone_does_not_decide_them(border, features):
    batch = pad(features)
    assert (border.encode(*batch, dtype=torch.float32).codes != float64_codes(border, *batch)).any()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6, 1e30, float("inf")])
def test_codes_of_features_of_any_size(vqvae, scale):
    features = torch.randn(3, 37, 623, generator=torch.Generator().manual_seed(2))
    features[:, 11] *= scale
    mask = torch.ones(3, 37).tril(30)
    assert torch.equal(vqvae.encode(features, mask).codes, float64_codes(vqvae, features, mask))


def test_a_long_clip_is_decided_from_the_frames_around(vqvae, monkeypatch):
    """Not from the whole clip, and as in it: at its start, at its end, and where stretches meet."""
    factor = vqvae.config.downsample_factor
    features = torch.randn(1, 150 * factor + 1, 623, generator=torch.Generator().manual_seed(3))
    expected = float64_codes(vqvae, features)[0]
    seen, encoder = [], vqvae.encoder.forward
    monkeypatch.setattr(vqvae.encoder, "forward", lambda clips, n: seen.append(clips.shape[1]) or encoder(clips, n))
    for doubts in ([0], [150], [70], [3, 50, 51, 149]):
        codes, doubt = torch.zeros_like(expected)[None], torch.zeros(1, 151, dtype=torch.bool)
        doubt[0, doubts] = True
        vqvae._decide(codes, doubt, features, None)
        assert torch.equal(codes[0, doubts], expected[doubts])
    assert len(seen) == 4
    assert max(seen) <= (2 * vqvae.encoder.reach + 3) * factor < features.shape[1]


@pytest.mark.parametrize("config", [*KINDS.values(), {"num_res_blocks": 3}, {"num_downsamples": 0}])
def test_a_latent_sees_as_far_as_the_layers_say(config):
    vqvae = make_vqvae(None, **config)
    factor, reach = vqvae.config.downsample_factor, vqvae.encoder.reach
    here = reach + 2
    features = torch.randn(1, (2 * here + 1) * factor, 623, requires_grad=True)
    vqvae.encoder(features, torch.tensor([features.shape[1]]))[0][0, here].abs().sum().backward()
    seen = (features.grad[0].abs().sum(-1) > 0).nonzero().flatten() // factor - here
    assert seen.min() == -reach and seen.max() == reach


@pytest.mark.parametrize("config", [*KINDS.values(), {"hidden_size": 256, "code_dim": 128, "num_res_blocks": 3}])
def test_latents_keep_their_tolerance(config):
    """Half of what is allowed, also beside frames that are much larger and with inputs far from a mean of zero."""
    vqvae = make_vqvae(None, **config)
    features = torch.randn(4, 64, 623, generator=torch.Generator().manual_seed(4))
    features[1, 20] *= 1e3
    features[2] += 10.0
    features[3] *= torch.logspace(-3, 3, 623)
    parts = vqvae.config.num_parts
    latents = vqvae.encode(features).latents
    errors = (latents - vqvae.latents(features)[0]).unflatten(-1, (parts, -1)).norm(dim=-1)
    assert (errors <= rounding_lslm.tolerance(latents, parts) / 2).all() and errors.max() > 0


@pytest.mark.parametrize("num_parts, num_quantizers", [(1, 1), (1, 3), (3, 2)])
def test_no_latent_within_the_tolerance_has_other_codes_unless_in_doubt(num_parts, num_quantizers):
    config = SignMotionVQVAEConfig(code_dim=6, codebook_size=16, partwise=num_parts == 3, num_quantizers=num_quantizers)
    book, generator = Codebook(config), torch.Generator().manual_seed(5)
    with torch.no_grad():
        book.weight.normal_(generator=generator)
    latents = torch.randn(400, num_parts * 6, generator=generator)
    tolerance = torch.full((400, num_parts), 0.05)
    codes, doubt = book(latents, tolerance=tolerance)
    assert 20 < doubt.sum() < 380
    changed = torch.zeros(400, dtype=torch.bool)
    for towards in range(16):  # straight to each of the codes, from the one that was chosen
        for book_of_part in range(num_quantizers):
            number = torch.arange(num_parts) * num_quantizers + book_of_part
            rows = book.weight.detach().view(-1, 16, 6)
            step = rows[number, towards] - rows[number, codes[:, number]]
            step = 0.05 * step / step.norm(dim=-1, keepdim=True).clamp(min=1e-9)
            changed |= (book(latents.double() + step.flatten(1).double()) != codes).any(-1)
    assert not (changed & ~doubt).any() and changed.sum() > 20


def test_a_cpu_that_multiplies_in_bfloat16_decides_in_float64(border, features):
    batch = pad(features[:4])
    expected, before = float64_codes(border, *batch), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert not rounding_lslm.full_float32(torch.device("cpu"))
        assert torch.equal(border.encode(*batch).codes, expected)
    finally:
        torch.set_float32_matmul_precision(before)
    assert rounding_lslm.full_float32(torch.device("cpu")) and not rounding_lslm.full_float32(torch.device("cuda"))


def test_most_codes_need_no_float64(features):
    vqvae = make_vqvae(features)
    latents, lengths = vqvae.latents(*pad(features), torch.float32)
    tolerance = rounding_lslm.tolerance(latents, 1).expand(-1, latents.shape[1], -1)
    doubt = vqvae.codebook(latents, tolerance=tolerance)[1]
    assert sum(row[:length].sum() for row, length in zip(doubt, lengths, strict=True)) < 0.02 * lengths.sum()


def test_codes_of_one_codebook_of_one_code():
    vqvae = SignMotionVQVAE(SignMotionVQVAEConfig(hidden_size=8, code_dim=4, codebook_size=1)).eval()
    assert (vqvae.encode(torch.randn(1, 9, 623)).codes == 0).all()
