"""The sign tokenizer: codes that depend on the clip alone, equation 2 by hand, and how the codebook learns."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_vqvae
from transformers import AutoModel

from lslm import SignMotionVQVAE, SignMotionVQVAEConfig
from lslm.modeling_lslm.modeling_sign_motion import MotionEncoding, _features_of_parts
from lslm.modeling_lslm.quantization_lslm import Codebook
from lslm.processing.motion_features import LEFT_HAND, RIGHT_HAND, feature_slices


def pad(clips, filling=0.0):
    """(T, F) clips to a (N, T, F) batch with its mask; `filling` is what stands in the padding."""
    longest = max(map(len, clips))
    batch = torch.full((len(clips), longest, clips[0].shape[-1]), filling)
    mask = torch.zeros(len(clips), longest, dtype=torch.long)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = torch.as_tensor(clip)
        mask[row, : len(clip)] = 1
    return batch, mask


def codes_one_by_one(vqvae, clips):
    return [vqvae.encode(torch.as_tensor(clip)[None]).codes[0] for clip in clips]


def assert_same_codes(vqvae, clips, expected, filling=0.0):
    codes = vqvae.encode(*pad(clips, filling)).codes
    for row, alone in zip(codes, expected, strict=True):
        assert row[: len(alone)].tolist() == alone.tolist()
        assert (row[len(alone) :] == -100).all()


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"partwise": True},
        {"linear_path": True},
        {"partwise": True, "linear_path": True, "num_quantizers": 2},
    ],
    ids=["whole", "partwise", "linear", "all"],
)
def vqvae(features, request):
    return make_vqvae(features, **request.param)


@pytest.fixture(scope="module")
def expected(vqvae, features):
    return codes_one_by_one(vqvae, features)


# --- codes ------------------------------------------------------------------------------------------------------------


def test_the_clips_of_these_tests_have_varied_codes(expected):
    assert len(torch.cat(expected).unique()) > 16


def test_one_code_for_every_four_frames_and_one_for_the_rest(vqvae, features, expected):
    assert {len(clip) % 4 for clip in features} == {0, 1, 2, 3}
    for clip, codes in zip(features, expected, strict=True):
        assert len(codes) == -(-len(clip) // 4) == vqvae.num_codes(len(clip))
        assert codes.dtype == torch.int64 and codes.min() >= 0


@pytest.mark.parametrize("filling", [0.0, 7.0, float("nan"), float("inf")])
def test_codes_do_not_depend_on_batch_neighbours_or_on_what_is_in_the_padding(vqvae, features, expected, filling):
    assert len(features) == 16
    assert_same_codes(vqvae, features, expected, filling)


def test_latents_do_not_depend_on_batch_neighbours(vqvae, features):
    batch, lengths = vqvae.latents(*pad(features, 3.0))
    for row, length, clip in zip(batch, lengths, features, strict=True):
        alone = vqvae.latents(torch.as_tensor(clip)[None])[0][0]
        torch.testing.assert_close(row[:length], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("auto_class", [SignMotionVQVAE, AutoModel])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
@pytest.mark.parametrize("partwise", [False, True])
def test_codes_after_save_and_load_in_any_dtype(features, tmp_path, auto_class, dtype, quantizer, partwise):
    vqvae = make_vqvae(features, quantizer=quantizer, partwise=partwise)
    expected = codes_one_by_one(vqvae, features)
    vqvae.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path, **({} if dtype is None else {"dtype": dtype}))
    assert isinstance(loaded, SignMotionVQVAE)
    for (name, saved), (_, read) in zip(vqvae.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert saved.dtype == read.dtype and torch.equal(saved, read), name
    assert_same_codes(loaded, features, expected)


@pytest.mark.parametrize("convert", ["bfloat16", "half", "to", "double"])
@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_codes_after_a_cast(features, convert, quantizer):
    vqvae = make_vqvae(features, quantizer=quantizer)
    expected = codes_one_by_one(vqvae, features)
    cast = vqvae.to(torch.bfloat16) if convert == "to" else getattr(vqvae, convert)()
    assert {t.dtype for t in cast.state_dict().values()} == {torch.float32, torch.bool}
    assert_same_codes(cast, features, expected)


def test_codes_under_autocast(vqvae, features, expected):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_codes(vqvae, features, expected)


def test_codes_of_a_cast_parent(vqvae, features, expected):
    parent = torch.nn.ModuleDict({"vqvae": copy.deepcopy(vqvae), "other": torch.nn.Linear(2, 2)}).to(torch.bfloat16)
    assert parent["other"].weight.dtype == torch.bfloat16
    assert_same_codes(parent["vqvae"], features, expected)


def test_the_last_frame_reaches_the_last_code(vqvae, features):
    clip = next(clip for clip in features if len(clip) % 4 == 1 and len(clip) > 8)
    changed = clip.copy()
    changed[-1] += 0.5
    before, after = (vqvae.latents(torch.as_tensor(c)[None])[0][0] for c in (clip, changed))
    assert (before[-1] - after[-1]).abs().max() > 1e-3


def test_a_clip_without_frames_is_refused(vqvae, features):
    batch, mask = pad(features[:2])
    mask[1] = 0
    with pytest.raises(ValueError, match="at least one valid frame"):
        vqvae.encode(batch, mask)


def test_decoded_clips_do_not_depend_on_batch_neighbours(vqvae, expected):
    batch = torch.full((len(expected), max(map(len, expected)), expected[0].shape[1]), -100)
    for row, codes in zip(batch, expected, strict=True):
        row[: len(codes)] = codes
    decoded = vqvae.decode(batch)
    assert decoded.shape == (len(expected), 4 * batch.shape[1], 623)
    for row, codes in zip(decoded, expected, strict=True):
        alone = vqvae.decode(codes[None])[0]
        assert alone.abs().max() > 0.1
        torch.testing.assert_close(row[: len(alone)], alone, rtol=0, atol=1e-5)
        assert (row[len(alone) :] == 0).all()


# --- equation 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
@pytest.mark.parametrize("position_weight", [1.0, 3.0])
def test_loss_is_equation_2_over_valid_frames(features, quantizer, position_weight):
    beta = 0.4
    vqvae = make_vqvae(features, quantizer=quantizer, commitment_weight=beta, position_weight=position_weight)
    clips = features[:3]
    output = vqvae(*pad(clips, 9.0))

    weights = torch.ones(623, dtype=torch.float64)
    weights[4 : 4 + 3 * 51] = position_weight
    codebook = vqvae.codebook.weight.detach().double()
    reconstruction, between = [], []
    for clip in clips:
        latents = vqvae.latents(torch.as_tensor(clip)[None])[0][0]
        codes = torch.cdist(latents, codebook).argmin(-1)
        between.append((latents - codebook[codes]) ** 2)
        decoded = vqvae.decode(codes[None, :, None])[0, : len(clip)]
        reconstruction.append((torch.as_tensor(clip).double() - decoded).abs() * weights)
    reconstruction, between = torch.cat(reconstruction).mean().item(), torch.cat(between).mean().item()

    assert output.reconstruction_loss.item() == pytest.approx(reconstruction, rel=1e-5)
    assert output.commitment_loss.item() == pytest.approx(between, rel=1e-4)
    assert output.codebook_loss.item() == pytest.approx(between if quantizer == "gradient" else 0, rel=1e-4)
    total = reconstruction + beta * between + (between if quantizer == "gradient" else 0)
    assert output.loss.item() == pytest.approx(total, rel=1e-5)
    assert output.reconstruction.shape == (3, max(map(len, clips)), 623)


def test_position_weight_touches_the_positions_alone():
    vqvae = make_vqvae(None, position_weight=5.0)
    weights = vqvae._feature_weights(torch.zeros(2, 623))
    assert weights.tolist() == [1.0] * 4 + [5.0] * 153 + [1.0] * 466


# --- how the codebook learns ------------------------------------------------------------------------------------------


def small_codebook(quantizer, weight, **config):
    """Codebook with the codes of `weight`, in training, its averages as after an even use of all codes."""
    weight = torch.tensor(weight)
    config = {"codebook_size": len(weight), "code_dim": weight.shape[1], "quantizer": quantizer} | config
    codebook = Codebook(SignMotionVQVAEConfig(**config)).train()
    with torch.no_grad():
        codebook.weight.copy_(weight)
        if codebook.ema:
            codebook.ema_count.fill_(1 / len(weight))
            codebook.ema_sum.copy_(weight / len(weight))
    return codebook


EVERYWHERE = torch.ones(1, 3, dtype=torch.bool)


def test_gradient_codebook_learns_from_its_term_alone():
    codebook = small_codebook("gradient", [[0.0, 0.0], [4.0, 4.0], [9.0, 9.0]])
    latents = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]], requires_grad=True)
    quantized, codes, codebook_loss, commitment = codebook(latents, EVERYWHERE)
    assert codes.tolist() == [[[0], [1], [0]]]
    assert quantized.tolist() == [[[0, 0], [4, 4], [0, 0]]]

    (gradient,) = torch.autograd.grad(codebook_loss, codebook.weight, retain_graph=True)
    # d/dc of the mean over 6 numbers of (c - z)^2
    expected = torch.tensor([[-1.0, -2.0], [1.0, 0.0], [0.0, 0.0]]) * 2 / 6
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.grad(codebook_loss, latents, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(commitment, codebook.weight, retain_graph=True, allow_unused=True) == (None,)
    (pull,) = torch.autograd.grad(commitment, latents, retain_graph=True)
    torch.testing.assert_close(pull, (latents - quantized).detach() * 2 / 6)


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_gradients_go_straight_through_to_the_latents_and_not_to_the_codes(quantizer):
    codebook = small_codebook(quantizer, [[0.0, 0.0], [4.0, 4.0]])
    latents = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]], requires_grad=True)
    quantized, *_ = codebook(latents, EVERYWHERE)
    downstream = torch.arange(6.0).view(1, 3, 2)
    (quantized * downstream).sum().backward()
    assert torch.equal(latents.grad, downstream)
    assert codebook.weight.grad is None


def test_the_reconstruction_trains_the_encoder_and_positions_outside_the_clip_train_nothing(features):
    vqvae = make_vqvae(features).train()
    vqvae(*pad(features[:2])).reconstruction_loss.backward()
    assert all(p.grad.abs().max() > 0 for p in vqvae.encoder.parameters())
    assert all(p.grad.abs().max() > 0 for p in vqvae.decoder.parameters())
    assert vqvae.codebook.weight.grad is None
    in_a_batch = vqvae.encoder.conv_in.weight.grad.clone()
    vqvae.zero_grad()
    vqvae(*pad(features[:2], 50.0)).reconstruction_loss.backward()
    torch.testing.assert_close(vqvae.encoder.conv_in.weight.grad, in_a_batch, rtol=0, atol=1e-7)


def test_ema_follows_the_shares_and_sums_of_each_batch():
    codebook = small_codebook("ema", [[0.0], [10.0]], ema_decay=0.75, dead_code_threshold=0.01)
    codebook(torch.tensor([[[1.0], [2.0], [9.0], [99.0]]]), torch.tensor([[True, True, True, False]]))
    # shares 2/3 and 1/3, sums 3 and 9 of 3 latents; a quarter of the new, three quarters of the old (1/2; 0 and 5)
    counts, sums = [0.375 + 0.25 * 2 / 3, 0.375 + 0.25 / 3], [0.25 * 1.0, 0.75 * 5 + 0.25 * 3]
    assert codebook.ema_count.tolist() == pytest.approx(counts)
    assert codebook.ema_sum.flatten().tolist() == pytest.approx(sums)
    assert codebook.weight.flatten().tolist() == pytest.approx([s / c for s, c in zip(sums, counts, strict=True)])

    codebook(torch.tensor([[[0.0], [0.0]]]), torch.ones(1, 2, dtype=torch.bool))
    counts = [0.75 * counts[0] + 0.25, 0.75 * counts[1]]
    sums = [0.75 * sums[0], 0.75 * sums[1]]
    assert codebook.ema_count.tolist() == pytest.approx(counts)
    assert codebook.weight.flatten().tolist() == pytest.approx([s / c for s, c in zip(sums, counts, strict=True)])


def test_ema_moves_a_code_out_of_use_onto_a_latent_of_the_batch():
    codebook = small_codebook("ema", [[0.0], [10.0], [1000.0]], ema_decay=0.5, dead_code_threshold=0.2)
    batch = torch.tensor([[[0.5], [-0.5], [9.5], [10.5]]])
    mask = torch.tensor([[True, True, True, True]])
    steps = 0
    while codebook.weight[2] == 1000.0:
        codebook(batch, mask)
        steps += 1
        assert steps < 10
    assert steps == 3  # 1/3 halves until it is below a fifth of 1/3
    assert codebook.weight[2] in batch
    assert codebook.ema_count[2].item() == pytest.approx(1 / 3)
    assert codebook.ema_sum[2].item() == pytest.approx(codebook.weight[2].item() / 3)
    assert codebook.weight[:2].flatten().tolist() == pytest.approx([0, 10], abs=0.5)


def test_ema_does_not_take_a_latent_from_the_padding():
    torch.manual_seed(0)
    codebook = small_codebook("ema", [[0.0]] * 20, ema_decay=0.1)
    codebook(torch.tensor([[[1.0], [77.0]]]), torch.tensor([[True, False]]))
    assert 1.0 in codebook.weight and 77.0 not in codebook.weight


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_nothing_changes_in_eval_mode(features, quantizer):
    vqvae = make_vqvae(features, quantizer=quantizer).eval()
    before = copy.deepcopy(vqvae.state_dict())
    vqvae(*pad(features))
    vqvae.encode(*pad(features))
    assert all(torch.equal(before[name], value) for name, value in vqvae.state_dict().items())


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_before_the_start_latents_pass_and_the_codebook_rests(features, quantizer):
    vqvae = make_vqvae(None, quantizer=quantizer).train()
    vqvae.codebook.started.fill_(False)
    before = copy.deepcopy(vqvae.codebook.state_dict())
    latents = torch.randn(2, 3, 8)
    quantized, codes, codebook_loss, commitment = vqvae.codebook(latents, torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(quantized, latents)
    assert codebook_loss == commitment == 0
    assert codes.shape == (2, 3, 1)
    output = vqvae(*pad(features[:2]))
    assert output.loss == output.reconstruction_loss
    assert all(torch.equal(before[name], value) for name, value in vqvae.codebook.state_dict().items())


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_k_means_start_puts_the_codes_into_the_data(quantizer):
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 10, (6, 4))
    latents = torch.tensor((centres[:, None] + rng.normal(0, 0.1, (6, 50, 4))).reshape(-1, 4), dtype=torch.float32)
    codebook = small_codebook(quantizer, np.full((6, 4), 1e3, np.float32).tolist())
    codebook.started.fill_(False)
    random_start = (latents[torch.randperm(300, generator=torch.Generator().manual_seed(1))[:6]],)
    codebook.start_from(latents, generator=torch.Generator().manual_seed(1))
    codes = codebook.nearest(latents)
    assert codebook.started
    assert len(codes.unique()) == 6
    # every code is the mean of what it stands for, which its random start is not
    for code in range(6):
        torch.testing.assert_close(
            codebook.weight[code].detach(), latents[codes[:, 0] == code].mean(0), rtol=0, atol=1e-4
        )
    assert (
        torch.cdist(latents, codebook.weight.detach()).min(1).values.mean()
        < torch.cdist(latents, *random_start).min(1).values.mean()
    )
    if quantizer == "ema":
        assert codebook.ema_count.tolist() == pytest.approx((torch.bincount(codes[:, 0]) / 300).tolist())
        torch.testing.assert_close(codebook.ema_sum, codebook.weight * codebook.ema_count[:, None])


def test_k_means_start_needs_as_many_latents_as_codes():
    codebook = small_codebook("gradient", [[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match="2 latents for 3 codes"):
        codebook.start_from(torch.zeros(2, 1))


# --- a codebook for each part of the body -----------------------------------------------------------------------------


def test_the_parts_share_out_the_features():
    parts = _features_of_parts()
    assert sorted(sum(parts, [])) == list(range(623)) and [len(part) for part in parts] == [263, 180, 180]
    slices = feature_slices()
    for part, hand in zip(parts[1:], (LEFT_HAND, RIGHT_HAND), strict=True):
        expected = []
        for block, size, first in (("positions", 3, 1), ("rotations", 6, 1), ("velocities", 3, 0)):
            start = slices[block].start
            expected += [start + size * (joint - first) + k for joint in hand for k in range(size)]
        assert part == expected


def test_a_part_wise_code_is_a_choice_for_each_part():
    codebook = small_codebook("ema", [[0.0], [1.0], [4.0], [5.0], [8.0], [9.0]], codebook_size=2, partwise=True)
    latents = torch.tensor([[[0.1, 5.2, 8.3], [0.9, 4.0, 9.0]]], dtype=torch.float64)
    codes = codebook.nearest(latents)
    assert codes.tolist() == [[[0, 1, 0], [1, 0, 1]]]
    assert codebook.rows(codes).tolist() == [[[0, 3, 4], [1, 2, 5]]]
    assert codebook.lookup(codes).tolist() == [[[0, 5, 8], [1, 4, 9]]]
    choices = torch.cartesian_prod(*[torch.arange(2)] * 3)
    assert torch.equal(codebook.nearest(codebook.lookup(choices)), choices)


def test_part_wise_codes_follow_and_move_within_their_part():
    codebook = small_codebook(
        "ema", [[0.0], [99.0], [10.0], [11.0], [20.0], [21.0]], codebook_size=2, partwise=True, ema_decay=0.1
    )
    codebook(torch.tensor([[[1.0, 10.0, 20.5], [-1.0, 11.5, 20.5]]]), torch.ones(1, 2, dtype=torch.bool))
    assert codebook.weight[0].item() == pytest.approx(0, abs=0.1)
    assert codebook.weight[1].item() in (1.0, -1.0)  # out of use: onto what a body latent of the batch was
    assert 11.4 < codebook.weight[3].item() < 11.5 and codebook.weight[2].item() == pytest.approx(10)


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_part_wise_k_means_starts_each_part_in_its_own_data(quantizer):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(200, 3, 2, generator=generator) + torch.tensor([0.0, 50.0, 100.0])[:, None]
    codebook = small_codebook(quantizer, np.full((12, 2), 1e3, np.float32).tolist(), codebook_size=4, partwise=True)
    codebook.start_from(latents.flatten(1), generator=generator)
    centres = codebook.weight.detach().view(3, 4, 2).mean((1, 2))
    torch.testing.assert_close(centres, torch.tensor([0.0, 50.0, 100.0]), rtol=0, atol=1.0)
    if quantizer == "ema":
        torch.testing.assert_close(codebook.ema_count.view(3, 4).sum(1), torch.full((3,), 1 / 3))


# --- residual quantisation --------------------------------------------------------------------------------------------


def test_a_second_quantizer_says_what_the_first_leaves_over():
    codebook = small_codebook("ema", [[0.0], [10.0], [-2.0], [1.0]], codebook_size=2, num_quantizers=2)
    latents = torch.tensor([[[0.9], [-1.0], [8.2], [11.0]]], dtype=torch.float64)
    codes = codebook.nearest(latents)
    assert codes.tolist() == [[[0, 1], [0, 0], [1, 0], [1, 1]]]
    assert codebook.rows(codes).tolist() == [[[0, 3], [0, 2], [1, 2], [1, 3]]]
    assert codebook.lookup(codes).tolist() == [[[1.0], [-2.0], [8.0], [11.0]]]


def test_parts_have_quantizers_of_their_own():
    weight = [[[0.0], [10.0]], [[1.0], [2.0]], [[100.0], [200.0]], [[3.0], [5.0]], [[7.0], [9.0]], [[0.5], [0.7]]]
    codebook = small_codebook("ema", np.concatenate(weight).tolist(), codebook_size=2, num_quantizers=2, partwise=True)
    latents = torch.tensor([[12.1, 104.9, 9.55]], dtype=torch.float64)
    codes = codebook.nearest(latents)
    assert codes.tolist() == [[1, 1, 0, 1, 1, 0]]
    torch.testing.assert_close(codebook.lookup(codes), torch.tensor([[12.0, 105.0, 9.5]]))


def test_residual_codebooks_follow_what_they_stand_for():
    codebook = small_codebook(
        "ema", [[0.0], [10.0], [-1.0], [1.0]], codebook_size=2, num_quantizers=2, ema_decay=0.0, dead_code_threshold=0.0
    )
    codebook(torch.tensor([[[0.5], [-0.7], [9.0], [10.2]]]), torch.ones(1, 4, dtype=torch.bool))
    # the second one gets what was left over before this step: 0.5 and 0.2, -0.7 and -1.0
    torch.testing.assert_close(codebook.weight[:, 0], torch.tensor([-0.1, 9.6, -0.85, 0.35]))


@pytest.mark.parametrize("partwise", [False, True])
@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_each_residual_codebook_halves_the_error_of_a_k_means_start(quantizer, partwise):
    generator = torch.Generator().manual_seed(0)
    latents, errors = torch.randn(600, 3 if partwise else 1, generator=generator), []
    for quantizers in (1, 2, 3):
        config = {"codebook_size": 8, "num_quantizers": quantizers, "partwise": partwise}
        rows = 8 * quantizers * (3 if partwise else 1)
        codebook = small_codebook(quantizer, np.full((rows, 1), 1e3, np.float32).tolist(), **config)
        codebook.start_from(latents, generator=generator)
        errors.append((codebook.lookup(codebook.nearest(latents)) - latents).detach().abs().mean().item())
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1]


def test_what_a_configuration_cannot_mean_is_refused():
    assert SignMotionVQVAEConfig(partwise=True, num_quantizers=7).num_codebooks == 21
    with pytest.raises(ValueError, match="num_quantizers is 0"):
        SignMotionVQVAEConfig(num_quantizers=0)
    # what checkpoints of earlier days say, and no recipe could change
    assert not hasattr(SignMotionVQVAEConfig(dilation_growth_rate=3), "dilation_growth_rate")
    with pytest.raises(ValueError, match="dilation_growth_rate cannot be changed"):
        SignMotionVQVAEConfig(dilation_growth_rate=2)


def test_codes_of_another_number_of_codebooks_are_refused(vqvae, features):
    clip_codes = vqvae.encode(torch.as_tensor(features[0])[None]).codes
    for codes in (clip_codes[..., 0], clip_codes[..., :1].expand(-1, -1, 2)):
        with pytest.raises(ValueError, match=r"expected \(clips, length, \d\)"):
            vqvae.decode(codes)


def test_encodings_are_split_and_joined(vqvae, features):
    encoding = vqvae.encode(*pad(features[:3]))
    parts = encoding.split()
    assert [part.codes.shape[1] for part in parts] == encoding.lengths.tolist()
    assert all((part.codes >= 0).all() for part in parts)
    again = MotionEncoding.join([parts[0], MotionEncoding.join(parts[1:])])
    for name in ("codes", "latents", "lengths"):
        assert torch.equal(getattr(again, name), getattr(encoding, name))


def test_what_a_hand_does_changes_the_code_of_that_hand_alone(features):
    vqvae = make_vqvae(features, partwise=True)
    clip = torch.as_tensor(features[0])[None]
    before = vqvae.codebook.rows(vqvae.encode(clip).codes)
    for part, own in enumerate(_features_of_parts()):
        other = clip.clone()
        other[..., own] = torch.as_tensor(features[2])[None, : clip.shape[1], own]
        changed = (vqvae.codebook.rows(vqvae.encode(other).codes) != before).any((0, 1))
        assert changed.tolist() == [k == part for k in range(3)]
        decoded = vqvae.decode(vqvae.encode(other).codes) != vqvae.decode(vqvae.encode(clip).codes)
        assert set(decoded.any((0, 1)).nonzero().flatten().tolist()) <= set(own)


def test_the_linear_path_takes_each_frame_to_where_it_was():
    size, factor = 11, 4  # features of one joint
    vqvae = make_vqvae(None, feature_size=size, code_dim=size * factor, linear_path=True)
    with torch.no_grad():
        for path in (vqvae.encoder, vqvae.decoder):
            for convolution in (path.conv_out, path.linear):
                convolution.weight.zero_()
                convolution.bias.zero_()
        for frame in range(factor):
            for feature in range(size):
                vqvae.encoder.linear.weight[frame * size + feature, feature, frame] = 1.0
                vqvae.decoder.linear.weight[frame * size + feature, frame * size + feature] = 1.0
    clip = torch.randn(1, 3 * factor, size)
    latents, lengths = vqvae.encoder(clip, torch.tensor([3 * factor]))
    torch.testing.assert_close(vqvae.decoder(latents, lengths), clip)


def test_parts_need_the_features_of_52_joints():
    with pytest.raises(ValueError, match="partwise needs the 623 features of 52 joints, not 263"):
        SignMotionVQVAEConfig(partwise=True, feature_size=263)


def test_an_unknown_quantizer_is_refused():
    with pytest.raises(ValueError, match="rvq"):
        SignMotionVQVAEConfig(quantizer="rvq")


# --- resume -----------------------------------------------------------------------------------------------------------


def train(vqvae, batches):
    optimizer = torch.optim.SGD(vqvae.parameters(), lr=0.05)  # has no state of its own to carry over
    for batch in batches:
        optimizer.zero_grad()
        vqvae(*batch).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("quantizer", ["gradient", "ema"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(features, tmp_path, quantizer):
    config = {"quantizer": quantizer, "ema_decay": 0.6, "dead_code_threshold": 0.5}  # codes die all the time
    batches = [pad(features[i : i + 4]) for i in (0, 4, 8, 12, 2, 6)]
    whole = make_vqvae(features, **config).train()
    half = copy.deepcopy(whole)

    torch.manual_seed(5)
    train(whole, batches)

    torch.manual_seed(5)
    train(half, batches[:3])
    half.save_pretrained(tmp_path)
    random_state = torch.get_rng_state()  # moves of unused codes draw from it; Trainer checkpoints hold it
    resumed = SignMotionVQVAE.from_pretrained(tmp_path).train()
    assert not torch.equal(resumed.codebook.weight, whole.codebook.weight)
    torch.set_rng_state(random_state)
    train(resumed, batches[3:])

    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_codebook_that_has_not_started_is_saved_as_such(tmp_path):
    vqvae = make_vqvae(None)
    vqvae.codebook.started.fill_(False)
    vqvae.save_pretrained(tmp_path)
    assert not SignMotionVQVAE.from_pretrained(tmp_path).codebook.started
