"""The sign tokenizer: a VQ-VAE over motion features (section 3.1 of the paper, equations 1 and 2).

Shapes: B clips, T frames, F features a frame, L = ceil(T / downsample_factor) codes, C codebooks, D numbers per
codebook vector (of all three parts of the body together, when it is part-wise).
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_lslm import SignMotionVQVAEConfig
from .quantization_lslm import Codebook
from .rounding_lslm import full_float32, tolerance, windows

IGNORED_CODE = -100  # pads code sequences of different lengths, as in labels


@dataclass
class SignMotionVQVAEOutput(ModelOutput):
    """Output of [`SignMotionVQVAE`]: the loss of equation 2 and its three terms, (B, T, F) reconstructed features and
    (B, L, C) int64 codes, padded with -100."""

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    codebook_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None


@dataclass
class MotionEncoding(ModelOutput):
    """What the sign tokenizer makes of clips, and the language model reads.

    Attributes:
        codes: (B, L, C) int64, the choice from each codebook; -100 past each clip's end.
        latents: (B, L, D) float32, what was rounded to the codebooks; zeros past each clip's end. Computed in float32
            on a CPU: within `rounding_lslm.LATENTS`, 2e-6 of the clip's largest, of what float64 gives.
        lengths: (B,) int64 codes of each clip.
    """

    codes: torch.LongTensor | None = None
    latents: torch.FloatTensor | None = None
    lengths: torch.LongTensor | None = None

    def inputs(self) -> dict[str, torch.Tensor]:
        """As [`LslmForConditionalGeneration`] takes it."""
        return {"motion_codes": self.codes, "motion_latents": self.latents}

    def to(self, device) -> "MotionEncoding":
        return MotionEncoding(self.codes.to(device), self.latents.to(device), self.lengths.to(device))

    def split(self) -> list["MotionEncoding"]:
        """Clip by clip (B = 1), without padding."""
        return [
            MotionEncoding(codes[None, :length], latents[None, :length], length[None])
            for codes, latents, length in zip(self.codes, self.latents, self.lengths, strict=True)
        ]

    @classmethod
    def join(cls, encodings: list["MotionEncoding"]) -> "MotionEncoding":
        """The clips of several encodings in one, padded."""
        parts = [part for encoding in encodings for part in encoding.split()]
        codes = pad_sequence([part.codes[0] for part in parts], batch_first=True, padding_value=IGNORED_CODE)
        latents = pad_sequence([part.latents[0] for part in parts], batch_first=True)
        return cls(codes, latents, torch.cat([part.lengths for part in parts]))


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """(B,) lengths -> (B, size) bool, True inside each sequence."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def refuse_incomplete(model: PreTrainedModel, place, loaded: dict, ignore_mismatched_sizes: bool = False):
    """Raise a ValueError where `loaded`, the library's report of what it read from `place`, says that weights are not
    those of the checkpoint, or where they are not finite: such a model would answer, from random weights."""
    faults = {
        "it lacks": loaded["missing_keys"],
        "this model has no place for": loaded["unexpected_keys"],
        "other shapes have": () if ignore_mismatched_sizes else [key for key, *_ in loaded["mismatched_keys"]],
        "not finite are": [
            name
            for name, weight in model.state_dict().items()
            if weight.is_floating_point() and weight.device.type != "meta" and not weight.isfinite().all()
        ],
    }
    sentences = [
        f"{what} {', '.join(sorted(names)[:3])} ({len(names)} in all)" for what, names in faults.items() if names
    ]
    if sentences:
        raise ValueError(
            f"The weights in {place} are not whole: {'; '.join(sentences)}. Download or save the checkpoint again."
        )


@contextmanager
def float32_by_default():
    """New parameters are float32, whatever dtype a model around them is made in. (`_keep_in_fp32_modules_strict` tells
    the loader, `_keep_in_fp32_modules` quantizers; neither is asked when a model is made.)"""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class MaskedConv1d(nn.Conv1d):
    """Conv1d over (B, C, T) whose output is zero past each sequence's end.

    Without it a clip's last frames would see what their longer batch neighbours make of the padding, and its codes
    would depend on the batch. The weights are cast to the input's dtype, so that the input decides the precision.
    """

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`lengths` (B,), or None where every sequence fills the tensor, which then needs no mask."""
        if hidden.shape[-1] % self.stride[0]:
            hidden = F.pad(hidden, (0, 1))
        bias = None if self.bias is None else self.bias.to(hidden.dtype)
        hidden = self._conv_forward(hidden, self.weight.to(hidden.dtype), bias)
        if lengths is None:
            return hidden, None
        lengths = torch.div(lengths + self.stride[0] - 1, self.stride[0], rounding_mode="floor")
        return hidden.mul_(length_mask(lengths, hidden.shape[-1])[:, None].to(hidden.dtype)), lengths


class ResidualBlock(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.conv1 = MaskedConv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = MaskedConv1d(width, width, 1)

    def forward(self, hidden, lengths):
        residual = hidden
        hidden, _ = self.conv1(F.relu(hidden), lengths)
        hidden, _ = self.conv2(F.relu_(hidden), lengths)
        return hidden.add_(residual)


def _residual_blocks(config) -> nn.ModuleList:
    # widest dilation first, as MotionGPT has it in both directions
    dilations = [3**i for i in reversed(range(config.num_res_blocks))]
    return nn.ModuleList(ResidualBlock(config.hidden_size, d) for d in dilations)


class Encoder(nn.Module):
    """(B, T, F) features -> (B, L, D) latents."""

    def __init__(self, config: SignMotionVQVAEConfig, feature_size: int):
        super().__init__()
        width = config.hidden_size
        self.factor = config.downsample_factor
        self.conv_in = MaskedConv1d(feature_size, width, 3, padding=1)
        self.down = nn.ModuleList(
            MaskedConv1d(width, width, 4, stride=2, padding=1) for _ in range(config.num_downsamples)
        )
        self.blocks = nn.ModuleList(_residual_blocks(config) for _ in range(config.num_downsamples))
        self.conv_out = MaskedConv1d(width, config.code_dim, 3, padding=1)
        self.linear = None
        if config.linear_path:
            self.linear = MaskedConv1d(feature_size, config.code_dim, self.factor, stride=self.factor)

    def forward(self, features, lengths):
        # The last code of a clip stands for up to `factor` frames: hold the last frame to fill it, so that no tail is
        # lost and what follows in the padded tensor does not matter.
        codes = torch.div(lengths + self.factor - 1, self.factor, rounding_mode="floor")
        size = -(-features.shape[1] // self.factor) * self.factor
        full = codes * self.factor
        # a graph cannot branch on a number, nor can a training step on tensors without any (its dry run)
        if not (self.training or torch.compiler.is_compiling()) and (full == size).all():
            full = None
        if full is not None or size > lengths.min():
            frame = torch.minimum(torch.arange(size, device=lengths.device)[None], lengths[:, None] - 1)
            features = features.gather(1, frame[..., None].expand(-1, -1, features.shape[-1]))
        if full is not None:
            features = features * length_mask(full, size)[..., None].to(features.dtype)
        features = features.transpose(1, 2)
        hidden, lengths = self.conv_in(features, full)
        hidden = F.relu_(hidden)
        for down, blocks in zip(self.down, self.blocks, strict=True):
            hidden, lengths = down(hidden, lengths)
            for block in blocks:
                hidden = block(hidden, lengths)
        hidden, _ = self.conv_out(hidden, lengths)
        if self.linear is not None:
            hidden = hidden.add_(self.linear(features, full)[0])
        return hidden.transpose(1, 2), codes

    @property
    def reach(self) -> int:
        """How many codes away a frame may be that a latent depends on: the receptive field to either side. A
        convolution sees its dilation further, and one that halves time 1 beyond the two numbers that it makes one."""
        frames = self.conv_out.dilation[0]
        for blocks in reversed(self.blocks):
            frames = 2 * (frames + sum(block.conv1.dilation[0] for block in blocks)) + 1
        return -(-(frames + self.conv_in.dilation[0]) // self.factor)


class Decoder(nn.Module):
    """(B, L, D) quantised latents -> (B, L * downsample_factor, F) features."""

    def __init__(self, config: SignMotionVQVAEConfig, feature_size: int):
        super().__init__()
        width = config.hidden_size
        self.conv_in = MaskedConv1d(config.code_dim, width, 3, padding=1)
        self.blocks = nn.ModuleList(_residual_blocks(config) for _ in range(config.num_downsamples))
        self.up = nn.ModuleList(MaskedConv1d(width, width, 3, padding=1) for _ in range(config.num_downsamples))
        self.conv_mid = MaskedConv1d(width, width, 3, padding=1)
        self.conv_out = MaskedConv1d(width, feature_size, 3, padding=1)
        self.linear = None
        if config.linear_path:
            self.linear = MaskedConv1d(config.code_dim, feature_size * config.downsample_factor, 1)

    def forward(self, latents, lengths):
        latents = (latents * length_mask(lengths, latents.shape[1])[..., None].to(latents.dtype)).transpose(1, 2)
        straight = None
        if self.linear is not None:
            frames = self.linear(latents, lengths)[0].transpose(1, 2)  # of a code, one after the other
            straight = frames.reshape(len(frames), -1, self.conv_out.out_channels)
        hidden = F.relu(self.conv_in(latents, lengths)[0])
        for blocks, up in zip(self.blocks, self.up, strict=True):
            for block in blocks:
                hidden = block(hidden, lengths)
            lengths = lengths * 2
            hidden, _ = up(hidden.repeat_interleave(2, dim=-1), lengths)
        hidden = F.relu(self.conv_mid(hidden, lengths)[0])
        features = self.conv_out(hidden, lengths)[0].transpose(1, 2)
        return features if straight is None else features + straight


def _features_of_parts(num_joints: int = 52) -> list[list[int]]:
    """Which of the 623 features belong to the body, the left hand (joints 22 to 36) and the right hand (37 to 51)."""
    parts: list[list[int]] = [[], [], []]
    for first, size, joints in (
        (0, 4, [0]),  # root
        (4, 3, range(1, num_joints)),  # positions
        (4 + 3 * (num_joints - 1), 6, range(1, num_joints)),  # rotations
        (4 + 9 * (num_joints - 1), 3, range(num_joints)),  # velocities
        (4 + 9 * (num_joints - 1) + 3 * num_joints, 4, [0]),  # contacts
    ):
        for row, joint in enumerate(joints):
            start = first + size * row
            parts[(joint >= 22) + (joint >= 37)] += range(start, start + size)
    return parts


class PartwiseEncoder(nn.Module):
    """An encoder for each part; (B, L, D) latents part after part."""

    def __init__(self, config: SignMotionVQVAEConfig):
        super().__init__()
        self.features = _features_of_parts()
        self.parts = nn.ModuleList(Encoder(config, len(part)) for part in self.features)

    def forward(self, features, lengths):
        latents = [encode(features[..., part], lengths) for encode, part in zip(self.parts, self.features, strict=True)]
        return torch.cat([hidden for hidden, _ in latents], -1), latents[0][1]

    @property
    def reach(self) -> int:
        return self.parts[0].reach


class PartwiseDecoder(nn.Module):
    """A decoder for each part."""

    def __init__(self, config: SignMotionVQVAEConfig):
        super().__init__()
        features = _features_of_parts()
        self.parts = nn.ModuleList(Decoder(config, len(part)) for part in features)
        places = sum(features, [])
        self.order = sorted(range(len(places)), key=places.__getitem__)

    def forward(self, latents, lengths):
        parts = latents.chunk(len(self.parts), -1)
        features = [decode(part, lengths) for decode, part in zip(self.parts, parts, strict=True)]
        return torch.cat(features, -1)[..., self.order]


class SignMotionVQVAE(PreTrainedModel):
    """VQ-VAE sign tokenizer: motion features to discrete codes and back.

    Input are *normalised* features (see `SignMotionFeatureExtractor`, which holds mean and standard deviation).

    The codes of a clip depend on the clip alone: not on padding or batch neighbours (masked convolutions), not on the
    model's dtype (the weights stay float32 whatever `.to(dtype)` asks for) and not on the order in which a device sums
    (codes are those of float64, where a tie between two codes does not happen by rounding: a CPU computes in float32
    and, where another code is nearly as near, again in float64).
    """

    config: SignMotionVQVAEConfig
    config_class = SignMotionVQVAEConfig
    main_input_name = "input_features"
    base_model_prefix = "vqvae"
    _auto_class = "AutoModel"  # checkpoints carry the code
    _no_split_modules = ["SignMotionVQVAE"]
    # it has none, so any will do: what an LSLM is loaded with is asked of its parts as well
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    # not all of "codebook": that would turn its flag into a float
    _keep_in_fp32_modules_strict = ["encoder", "decoder", "codebook.weight", "codebook.ema_sum", "codebook.ema_count"]

    def __init__(self, config: SignMotionVQVAEConfig):
        super().__init__(config)
        with float32_by_default():
            self.encoder = PartwiseEncoder(config) if config.partwise else Encoder(config, config.feature_size)
            self.codebook = Codebook(config)
            self.decoder = PartwiseDecoder(config) if config.partwise else Decoder(config, config.feature_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: weights that the model needs are not in the checkpoint, or it holds others, or numbers that are
                not finite.
        """
        report = kwargs.pop("output_loading_info", False)
        model, loaded = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        if pretrained_model_name_or_path is not None:
            refuse_incomplete(
                model, pretrained_model_name_or_path, loaded, kwargs.get("ignore_mismatched_sizes", False)
            )
        return (model, loaded) if report else model

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            # torch's own start for convolutions; transformers would otherwise use a plain N(0, 0.02)
            init.kaiming_uniform_(module.weight, a=5**0.5)
            bound = (module.in_channels * module.kernel_size[0]) ** -0.5
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, Codebook):
            bound = 1.0 / module.weight.shape[0]
            init.uniform_(module.weight, -bound, bound)
            init.ones_(module.started)
            if module.ema:
                init.zeros_(module.ema_sum)
                init.zeros_(module.ema_count)

    def _apply(self, fn, recurse=True):
        def move_only(tensor):
            moved = fn(tensor)
            # a cast would move latents across code borders; a change of device does not
            return tensor.to(moved.device) if moved.is_floating_point() and moved.dtype != tensor.dtype else moved

        return super()._apply(move_only, recurse)

    def num_codes(self, num_frames):
        """Codes for a clip of `num_frames` frames (int or tensor): ceil(frames / downsample_factor)."""
        return -(-num_frames // self.config.downsample_factor)

    @staticmethod
    def _lengths(features, mask):
        if mask is None:
            return torch.full((features.shape[0],), features.shape[1], dtype=torch.long, device=features.device)
        lengths = mask.sum(-1).long().to(features.device)
        if not torch.compiler.is_compiling():  # a graph cannot branch on a number
            if lengths.min() < 1:
                raise ValueError("every clip needs at least one valid frame; input_features_mask has a row of zeros")
            if (mask.long().diff() > 0).any():
                raise ValueError("clips are padded at the right: input_features_mask has a 0 before a 1")
        return lengths

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` on the device of the weights. Where accelerate keeps them all elsewhere (their device is "meta"), it
        stays: each layer is handed its own inputs on the device on which it runs."""
        return next((tensor.to(p.device) for p in self.parameters() if p.device.type != "meta"), tensor)

    @torch.no_grad()
    def latents(
        self,
        input_features: torch.Tensor,
        input_features_mask: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        """(B, T, F) normalised features, (B, T) mask of ones then zeros -> (B, L, D) latents before quantisation and
        (B,) lengths. In `dtype`, or float32 on a device that has no float64."""
        input_features = self._here(input_features)
        dtype = torch.float32 if input_features.device.type == "mps" else dtype
        with torch.autocast(device_type=input_features.device.type, enabled=False):
            return self.encoder(input_features.to(dtype), self._lengths(input_features, input_features_mask))

    @torch.no_grad()
    def encode(
        self,
        input_features: torch.Tensor,
        input_features_mask: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> MotionEncoding:
        """Motion features to codes (equation 1), with the latents that were rounded to them.

        Args:
            input_features: (B, T, F) normalised motion features, any float dtype.
            input_features_mask: (B, T), 1 for the frames of the clip, 0 for right padding; None: no padding.
            dtype: of the computation. torch.float64: the codes are those that float64 gives, at about the price of
                float32 on a CPU (see `rounding_lslm`). torch.float32: a code may change with the clip's neighbours; for
                clips that vary more than that anyway, and on a device without float64.
        """
        graph = torch.compiler.is_compiling()  # cannot branch on a number
        exact = dtype == torch.float64 and not graph and full_float32(self.device)
        latents, lengths = self.latents(input_features, input_features_mask, torch.float32 if exact else dtype)
        inside = length_mask(lengths, latents.shape[1]).to(latents.device)
        with torch.autocast(device_type=latents.device.type, enabled=False):
            if exact:
                errors = tolerance(latents, self.config.num_parts).expand(-1, latents.shape[1], -1)
                codes, doubt = self.codebook(latents, tolerance=errors)
                self._decide(codes, doubt & inside, input_features, input_features_mask)
            else:
                codes = self.codebook(latents)
        return MotionEncoding(codes.masked_fill(~inside[..., None], IGNORED_CODE), latents.float(), lengths)

    def _decide(self, codes, doubt, input_features, input_features_mask):
        """Put into (B, L, C) `codes`, where (B, L) `doubt` is true, what float64 gives for the frames around."""
        if not doubt.any():
            return
        features = self._here(input_features)
        frames = self._lengths(features, input_features_mask)
        places = windows(doubt, self.encoder.reach, self.num_codes(frames))
        factor = self.config.downsample_factor
        clips = [features[row, first * factor : min(last * factor, int(frames[row]))] for row, first, last in places]
        sizes = torch.tensor([len(clip) for clip in clips])
        again = self.codebook(self.encoder(pad_sequence(clips, batch_first=True).double(), sizes)[0])
        for (row, first, last), decided in zip(places, again, strict=True):
            here = doubt[row, first:last]
            codes[row, first:last][here] = decided[: last - first][here]

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """(B, L, C) codes -> (B, L, D) float32 codebook vectors; zeros where the code is -100.

        Raises:
            ValueError: another number of codebooks.
        """
        if codes.shape[-1] != self.config.num_codebooks:
            raise ValueError(
                f"the codes have shape {tuple(codes.shape)}, expected (clips, length, {self.config.num_codebooks}): a "
                "choice from each codebook"
            )
        codes = self._here(codes)
        vectors = self.codebook(codes=codes.clamp(min=0))
        return vectors * (codes[..., :1] >= 0).to(vectors.device)

    @torch.no_grad()
    def oddity(self, encoding: MotionEncoding) -> torch.Tensor:
        """(B,) float32: how far the latents of each clip lie from what they are rounded to, which is how unlike the
        training data it is: the mean square, averaged geometrically over codes and parts of the body, so that neither a
        moment nor a part decides alone."""
        squares = (self._here(encoding.latents) - self.embed(encoding.codes)).square()
        logs = squares.unflatten(-1, (self.config.num_parts, -1)).mean(-1).clamp(min=1e-12).log().mean(-1)
        lengths = encoding.lengths.to(logs.device)
        return ((logs * length_mask(lengths, logs.shape[1])).sum(-1) / lengths).exp()

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """(B, L, C) int64 codes, -100 past the end -> (B, L * downsample_factor, F) normalised features, zeros past the
        end. Drop the frames that the clip did not have (its last code may stand for fewer than `downsample_factor`)."""
        codes = self._here(codes)
        with torch.autocast(device_type=codes.device.type, enabled=False):
            return self.decoder(self.embed(codes), (codes[..., 0] >= 0).sum(-1))

    @can_return_tuple
    def forward(
        self,
        input_features: torch.FloatTensor,
        input_features_mask: torch.Tensor | None = None,
        observed_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SignMotionVQVAEOutput:
        """Equation 2 on a batch.

        Args:
            input_features: (B, T, F) normalised motion features.
            input_features_mask: (B, T), 1 for frames of the clip, 0 for right padding.
            observed_mask: (B, T, F), 0 for numbers that were filled in and not observed. They go in as they are, and
                what comes out in their place is not judged. None: all were observed.

        Returns:
            [`SignMotionVQVAEOutput`]. `loss` = L1 reconstruction + codebook term + `commitment_weight` * commitment
            term; means are over valid frames, the first one over what was observed in them.
        """
        frames = self._lengths(input_features, input_features_mask)
        latents, lengths = self.encoder(input_features, frames)
        mask = length_mask(lengths, latents.shape[1])
        quantized, codes, codebook_loss, commitment_loss = self.codebook(latents, mask)
        reconstruction = self.decoder(quantized.to(input_features.dtype), lengths)[:, : input_features.shape[1]]
        error = (reconstruction.float() - input_features.float()).abs() * self._feature_weights(input_features)
        valid = length_mask(frames, input_features.shape[1])
        if observed_mask is None:
            reconstruction_loss = (error * valid[..., None]).sum() / (valid.sum() * error.shape[-1])
        else:
            observed = valid[..., None] & observed_mask.bool()
            reconstruction_loss = (error * observed).sum() / observed.sum().clamp(min=1)
        return SignMotionVQVAEOutput(
            loss=reconstruction_loss + codebook_loss + self.config.commitment_weight * commitment_loss,
            reconstruction_loss=reconstruction_loss,
            codebook_loss=codebook_loss,
            commitment_loss=commitment_loss,
            reconstruction=reconstruction,
            codes=codes.masked_fill(~mask[..., None], IGNORED_CODE),
        )

    def _feature_weights(self, features: torch.Tensor) -> torch.Tensor:
        """(F,) weights: `position_weight` on the joint positions, 1 elsewhere.

        Layout (HumanML3D): 4 root numbers, 3(J-1) positions, 6(J-1) rotations, 3J velocities, 4 contacts; J follows
        from F = 12 J - 1.
        """
        weights = torch.ones(features.shape[-1], device=features.device)
        positions = 3 * ((self.config.feature_size + 1) // 12 - 1)
        weights[4 : 4 + positions] = self.config.position_weight
        return weights


__all__ = ["MotionEncoding", "SignMotionVQVAE", "SignMotionVQVAEOutput", "length_mask"]
