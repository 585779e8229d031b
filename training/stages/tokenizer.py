"""Stage 1: train the VQ-VAE sign tokenizer (section 3.3, "Sign Language Tokenizer Training").

    lslm tokenizer --config training/recipes/smollm2-135m/1_tokenizer.yaml

Writes a folder with the sign tokenizer and its feature extractor (mean, standard deviation, frame rate, layout).
"""

import itertools
from dataclasses import dataclass

import torch
from transformers import set_seed

from ...hub_cards.languages import languages_of
from ...modeling_lslm import SignMotionVQVAE, SignMotionVQVAEConfig
from ...processing import SignMotionFeatureExtractor
from ...processing.motion_features import LEFT_HAND, RIGHT_HAND, feature_slices
from ..dataset.collators import EpochSampler, WindowCollator
from ..dataset.motion_text import MotionText, feature_statistics
from ..dataset.streaming import StreamedMotionText, streamed_statistics, train_loader, training_clips
from ..recipe import StageArguments
from ..recipe_keys import TokenizerKeys
from .dry_run import dry_run
from .resume import StageTrainer, run_stage, train_and_save

POSITIONS = feature_slices()["positions"]
# within the positions, which start at joint 1
ARMS = [joint - 1 for joint in (18, 19, 20, 21)]  # elbows, wrists
HANDS = [([joint - 1 for joint in hand], wrist - 1) for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21))]


@dataclass
class TokenizerArguments(TokenizerKeys, StageArguments):
    """All keys of a `1_tokenizer` recipe; every `TrainingArguments` field is one too."""

    def __post_init__(self):
        frames = 2**self.num_downsamples
        if self.window < frames:
            raise ValueError(f"window is {self.window}, expected the frames of a code at least: {frames}")
        for name in ("gradient_checkpointing", "activation_checkpointing", "neftune_noise_alpha"):
            if getattr(self, name, None) not in (None, False):
                raise ValueError(f"{name} is for language models, and the sign tokenizer is none: leave it out")
        super().__post_init__()


class TokenizerTrainer(StageTrainer):
    """Trainer that starts the codebook and logs the terms of the loss."""

    args: TokenizerArguments

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._position_std = torch.tensor(self.processing_class.std, dtype=torch.float32)[POSITIONS].view(-1, 3)
        self._terms: dict[str, torch.Tensor] = {}
        self._batches = 0

    def _get_train_sampler(self, train_dataset=None):
        return EpochSampler(len(self.train_dataset), self.args.seed)

    def get_train_dataloader(self):
        return train_loader(self) if self.args.stream else super().get_train_dataloader()

    def training_step(self, model, inputs, *args, **kwargs):
        codebook = self.accelerator.unwrap_model(model).codebook
        # decided by the step, not by a flag of the run: a resumed run starts the codebook at the same step or not at
        # all
        if not codebook.started and self.state.global_step >= int(self.args.codebook_warmup * self.state.max_steps):
            codebook.start_from(self._some_latents(model), generator=torch.Generator().manual_seed(self.args.seed))
        return super().training_step(model, inputs, *args, **kwargs)

    @torch.no_grad()
    def _some_latents(self, model) -> torch.Tensor:
        """Latents of up to 1024 clips of the training split for the k-means start."""
        vqvae, data = self.accelerator.unwrap_model(model), self.train_dataset
        if isinstance(data, StreamedMotionText):
            clips = data.items(epoch=0)  # the same in all processes
        else:
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.args.seed))
            clips = (data[index] for index in order.tolist())
        clips, latents = itertools.islice(clips, 1024), []
        while batch := list(itertools.islice(clips, self.args.train_batch_size)):
            batch = self.data_collator(batch)
            features, mask = batch["input_features"], batch["input_features_mask"]
            clip, lengths = vqvae.latents(features.to(vqvae.device), mask.to(vqvae.device))
            latents.append(torch.cat([row[:n] for row, n in zip(clip, lengths, strict=True)]))
        return torch.cat(latents).float()

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        extra = {}
        if self.args.arm_weight or self.args.finger_weight:
            extra = self._joint_errors(outputs.reconstruction, inputs)
            outputs.loss = outputs.loss + self.args.arm_weight * extra["arms"]
            outputs.loss = outputs.loss + self.args.finger_weight * extra["fingers"]
        if model.training:
            codebook = self.accelerator.unwrap_model(model).codebook
            rows = codebook.rows(outputs.codes[outputs.codes[..., 0] >= 0])
            share = torch.bincount(rows.flatten(), minlength=len(codebook.weight)) / rows.numel()
            # the geometric mean over the codebooks, which have even shares
            perplexity = torch.exp(-(share * share.clamp(min=1e-9).log()).sum()) / codebook.num_codebooks
            for name, value in (
                ("reconstruction", outputs.reconstruction_loss),
                ("commitment", outputs.commitment_loss),
                ("perplexity", perplexity),
                *extra.items(),
            ):
                self._terms[name] = self._terms.get(name, 0.0) + value.detach().float()
            self._batches += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _joint_errors(self, reconstruction, inputs) -> dict[str, torch.Tensor]:
        """L1 distance of arm joints, and of fingers relative to their wrist, from where they belong, in units of 3 cm.

        Normalised positions hide both: a wrist travels half a metre where a shoulder moves by centimetres, and two
        letters differ by two centimetres of a finger.
        """
        error = (reconstruction.float() - inputs["input_features"])[..., POSITIONS].unflatten(-1, (-1, 3))
        error = error * self._position_std.to(error.device)
        at_wrists = self.processing_class.convention == "signing"  # as they come
        fingers = torch.cat(
            [error[..., hand, :] - (0.0 if at_wrists else error[..., [wrist], :]) for hand, wrist in HANDS], -2
        )
        parts = (("arms", error[..., ARMS, :]), ("fingers", fingers))
        mask = inputs["input_features_mask"]
        if "observed_mask" not in inputs:
            return {name: (part.abs().mean((-1, -2)) * mask).sum() / mask.sum() / 0.03 for name, part in parts}
        joints = inputs["observed_mask"][..., POSITIONS][..., ::3] & mask.bool()[..., None]
        hands = [joints[..., hand] & (joints[..., [wrist]] | at_wrists) for hand, wrist in HANDS]
        observed = {"arms": joints[..., ARMS], "fingers": torch.cat(hands, -1)}
        return {
            name: (part.abs().mean(-1) * observed[name]).sum() / observed[name].sum().clamp(min=1) / 0.03
            for name, part in parts
        }

    def log(self, logs, *args, **kwargs):
        if self._batches and "loss" in logs:
            logs |= {name: round(float(total) / self._batches, 4) for name, total in self._terms.items()}
            self._terms, self._batches = {}, 0
        super().log(logs, *args, **kwargs)

    def _determine_best_metric(self, metrics, trial):
        """No checkpoint is the best before the codebook has started: without rounding every loss is small."""
        return self.accelerator.unwrap_model(self.model).codebook.started.item() and super()._determine_best_metric(
            metrics, trial
        )

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None


def main(argv: list[str]) -> None:
    """Run the stage; see the module's docstring."""
    run_stage(TokenizerArguments, argv, train)


def train(args: TokenizerArguments) -> None:
    if args.dry_run:
        return dry_run(args)
    set_seed(args.seed)
    extractor = SignMotionFeatureExtractor(
        fps=args.fps,
        downsample_factor=2**args.num_downsamples,
        convention=args.convention,
        target_skeleton=None if args.target_skeleton == "none" else args.target_skeleton,
    )
    clips = training_clips(args, extractor, window=args.window + 1)
    mean, std = (
        streamed_statistics(clips, args.data, extractor)
        if args.stream
        else feature_statistics(clips.joints, extractor, mirror=args.mirror > 0)
    )
    extractor.mean, extractor.std = mean.tolist(), std.tolist()
    validation = MotionText(args.data, "validation", args.fps) if args.eval_strategy != "no" else None
    names = ("codebook_size", "code_dim", "partwise", "num_quantizers", "linear_path", "hidden_size")
    names += ("num_downsamples", "num_res_blocks", "quantizer", "commitment_weight", "position_weight", "ema_decay")
    shape = {name: getattr(args, name) for name in names}
    model = SignMotionVQVAE(SignMotionVQVAEConfig(**shape, languages=languages_of(args.data)))
    model.codebook.started.fill_(args.codebook_warmup == 0)
    trainer = TokenizerTrainer(
        model=model,
        args=args,
        train_dataset=clips,
        eval_dataset=validation,
        data_collator=WindowCollator(extractor, args.window),
        processing_class=extractor,
    )
    train_and_save(trainer, None)
