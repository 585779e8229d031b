"""What a stage needs, told without its weights: `--dry_run true` reads configurations, texts and lengths of clips.

Counted: clips, tokens, steps, parameters, gradients, the states of AdamW, what a checkpoint holds. The memory of a step
and its operations come from a step on tensors without numbers: every operation of forward and backward runs by its
shapes alone. What nobody can count from here, what several GPUs add and how fast they are, is an estimate and says so.
"""

import contextlib
import json
import math
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ...hub_cards.languages import languages_of
from ...modeling_lslm import LslmConfig, LslmForConditionalGeneration, SignMotionVQVAE, SignMotionVQVAEConfig
from ...processing import SignMotionProcessor
from ..dataset.collators import EpochSampler, TranslationCollator, load_templates
from ..dataset.motion_text import read_texts
from ..dataset.spelling import rare_words
from ..dataset.streaming import StreamedMotionText

GIB = 2**30
PROCESSES = (1, 2, 4, 8)
# bfloat16 without sparsity, from NVIDIA's data sheets of the SXM modules
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12}
UTILISATION = 0.3, 0.4  # of that peak: an assumption, usual for models of this size
BYTES_OF_A_FRAME = 52 * 3 * 4  # of a clip in memory: float32 joints


@dataclass
class Needs:
    """What a run needs. Sizes in bytes, of one process where nothing else is said."""

    clips: int
    left_out: int  # longer than max_length
    tokens: float | None  # of a clip on average, prompt and answer included
    longest: int | None  # tokens
    steps: dict[int, int]  # optimizer steps by number of processes
    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    step: int  # at the worst moment of a step, beside weights and optimizer: activations, copies, gradients
    kept: int  # of `step`: what is left of it without gradients and copies of weights, with FSDP2
    sharded: int  # numbers of the weights that FSDP2 divides
    gathered: int  # of these, what is whole at one time
    flops: float  # of all steps together
    model: int  # file with the weights
    whole: bool  # whether that file holds the language model
    clips_memory: int
    loading: int  # host, while the model is loaded
    notes: list[str] = field(default_factory=list)

    @property
    def checkpoint(self) -> int:
        """Of a checkpoint to go on from: weights and optimizer."""
        return self.model + self.optimizer

    def memory(self, processes: int) -> int:
        """Of a process on its device, each with all weights (DDP, torchrun)."""
        buckets = self.gradients if processes > 1 else 0  # DDP has gradients once more, in the order it sends them
        foreach = 2 * self.gradients  # gradients, and what AdamW computes for all weights at once
        return self.weights + self.optimizer + buckets + max(self.step, foreach)

    def memory_fsdp(self, processes: int) -> int:
        """Of a process with FSDP2, whose weights, gradients and states are divided."""
        divided = self.weights + self.gradients + self.optimizer
        return divided // processes + 4 * self.gathered + self.kept  # bfloat16 weights and their gradients


class _Memory(TorchDispatchMode):
    """Bytes of the tensors that operations make and somebody still holds, beside the weights of `parts`; and the
    floating point operations."""

    def __init__(self, parts: Iterable[nn.Module]):
        super().__init__()
        self.held = self.peak = self.flops = 0
        # a weight that is only looked at in another shape is no new memory
        self.storages = {weight.untyped_storage()._cdata for part in parts for weight in part.state_dict().values()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.storages:
                self.storages.add(storage._cdata)
                self.held += storage.nbytes()
                self.peak = max(self.peak, self.held)
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return out

    def _free(self, storage: int, size: int):
        self.storages.discard(storage)
        self.held -= size


def _on_fakes(parts: Iterable[nn.Module]) -> None:
    """Put weights without numbers into modules that were made on the meta device; weights that are shared stay so."""
    fakes: dict[int, torch.Tensor] = {}
    for module in (module for part in parts for module in part.modules()):
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and id(tensor) not in fakes:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype)
                    trained = tensor.requires_grad
                    fakes[id(tensor)] = nn.Parameter(fake, trained) if tensors is module._parameters else fake
                if tensor is not None:
                    tensors[name] = fakes[id(tensor)]


def _step(loss: Callable[[], torch.Tensor], parts: Iterable[nn.Module], bf16: bool) -> _Memory:
    """A forward and a backward pass of `loss` through `parts`, within a `FakeTensorMode`."""
    with _Memory(parts) as memory:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
            value = loss()
        value.backward()
        del value
    return memory


def _translation_step(model: LslmForConditionalGeneration, clips: int, tokens: int, motion: int, answer: int):
    """What is to run for a batch of so many clips, each of so many tokens: motion embeddings, and the answer's."""
    config = model.config

    def loss():
        words = model.get_input_embeddings()(torch.zeros(clips, tokens, dtype=torch.long))
        if config.motion_input == "vocabulary":
            embeds = model.model.projector(torch.zeros(clips * motion, dtype=torch.long))
        else:
            size = config.vqvae_config.num_parts * config.vqvae_config.code_dim
            embeds = model.model.projector(torch.zeros(clips, motion * config.codes_per_embedding, size)).flatten(0, 1)
        place = torch.zeros(clips, tokens, 1, dtype=torch.bool)
        embeds = words.masked_scatter(place, embeds.to(words.dtype))
        states = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        scored = model.lm_head(states[:, -answer - 1 :])
        if config.motion_input == "vocabulary":
            words = model.model.projector(states=states[:, -answer - 1 :].to(scored.dtype))
            scored = torch.cat([scored, words], -1)
        labels = torch.zeros(clips, answer + 1, dtype=torch.long)
        return model.loss_function(scored, labels, vocab_size=scored.shape[-1])

    return loss


def file_size(tensors: dict[str, torch.Tensor]) -> int:
    """Bytes of a safetensors file."""
    at, entries = 0, {}
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        kind = {torch.float32: "F32", torch.bfloat16: "BF16"}.get(tensor.dtype, "I64")
        entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    header = len(json.dumps({"__metadata__": {"format": "pt"}} | entries, separators=(",", ":")))
    return 8 + math.ceil(header / 8) * 8 + at


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(tensor): tensor for tensor in tensors}.values())


def _checkpoints_activations(args) -> bool:
    return getattr(args, "activation_checkpointing", getattr(args, "gradient_checkpointing", False))


def _steps(args, clips: int, processes: int) -> int:
    """As the Trainer counts them."""
    if args.max_steps > 0:
        return args.max_steps
    batches = math.ceil(math.ceil(clips / args.per_device_train_batch_size) / processes)
    return math.ceil(args.num_train_epochs * max(math.ceil(batches / args.gradient_accumulation_steps), 1))


def _read_lengths(args, fps: float) -> tuple[list[int], list[str]]:
    """Frames and text of the training clips that have both."""
    data = StreamedMotionText(args.data, "train", fps, shuffle_buffer=0)
    clips = [(frames, text) for frames, text in data.lengths() if frames >= 2][: args.limit]
    if not clips:
        raise ValueError(f"{args.data}, train: no clip with a text and at least 2 frames")
    return [frames for frames, _ in clips], [text for _, text in clips]


def _optimizer_note(args) -> list[str]:
    name = str(getattr(args.optim, "value", args.optim))
    return [] if name.startswith("adamw_torch") else [f"the states of {name} are counted as AdamW's: 8 bytes a number"]


def predict_tokenizer(args) -> Needs:
    """Of stage 1, from its arguments."""
    frames, _ = _read_lengths(args, args.fps)
    names = ("codebook_size", "code_dim", "partwise", "num_quantizers", "linear_path", "hidden_size")
    names += ("num_downsamples", "num_res_blocks", "quantizer", "commitment_weight", "position_weight", "ema_decay")
    config = SignMotionVQVAEConfig(**{name: getattr(args, name) for name in names})
    with torch.device("meta"):
        model = SignMotionVQVAE(config)
    state, size = model.state_dict(), args.per_device_train_batch_size
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    weights, parameters = _bytes(state.values()), sum(weight.numel() for weight in model.parameters())
    with FakeTensorMode():
        _on_fakes([model])
        features = torch.zeros(size, args.window, config.feature_size)

        def loss():  # the codebook chooses by numbers, so that a step has its shapes and not its choices
            frames = torch.full((size,), args.window)
            latents, lengths = model.encoder(features, frames)
            distances = latents.flatten(0, 1)[:, : config.code_dim] @ model.codebook.weight[: config.codebook_size].T
            back = model.decoder(latents + 0 * distances.sum(), lengths)
            return (back - features).abs().mean()

        memory = _step(loss, [model], args.bf16)
    steps = {count: _steps(args, len(frames), count) for count in PROCESSES}
    return Needs(
        clips=len(frames),
        left_out=0,
        tokens=None,
        longest=None,
        steps=steps,
        parameters=parameters,
        trained=trained,
        weights=weights,
        gradients=4 * trained,
        optimizer=8 * trained,
        step=memory.peak,
        kept=memory.peak,
        sharded=0,
        gathered=0,
        flops=memory.flops * args.gradient_accumulation_steps * steps[1],
        model=file_size(state),
        whole=True,
        clips_memory=0 if args.stream else sum(frames) * BYTES_OF_A_FRAME,
        loading=weights,
        notes=_optimizer_note(args),
    )


def predict_translation(args, config: LslmConfig, processor: SignMotionProcessor) -> Needs:
    """Of stage 2 or 3, from its arguments and what they train: the configuration of the model, and its processor.

    Raises:
        ValueError: as of the stage.
    """
    from .translation import LengthLimit, new_adapter, set_trainable  # which imports what asks for this

    if "language_model" in args.trainable and args.lora_r and config.lora is None:
        config.lora = new_adapter(args)
    dtype = getattr(torch, args.dtype)
    with torch.device("meta"):
        model = LslmForConditionalGeneration._from_config(config, dtype=dtype)
    model.model.vqvae.requires_grad_(False)
    set_trainable(model, args.trainable, args)
    kept_names = model.kept_names()
    state = {name: weight for name, weight in model.state_dict().items() if name in kept_names}
    everything = [*model.parameters(), *model.buffers()]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    language_model = _bytes([*model.model.language_model.parameters(), *model.lm_head.parameters()])
    embeddings = _bytes(model.get_input_embeddings().parameters())
    count, gradients = sum(weight.numel() for weight in trained), _bytes(trained)

    frames, texts = _read_lengths(args, processor.feature_extractor.fps)
    rare = rare_words(read_texts(args.data, "train")) if args.spell_rare_words else set()
    templates = load_templates(args.templates, languages_of(args.data) or config.languages)
    limit = LengthLimit(TranslationCollator(processor, templates, rare), args.max_length or sys.maxsize)
    lengths = [limit.tokens(number, text) for number, text in zip(frames, texts, strict=True)]
    used = [index for index, length in enumerate(lengths) if not args.max_length or length <= args.max_length]
    if not used:
        raise ValueError(f"max_length is {args.max_length} tokens, but the shortest clip has {min(lengths)}")
    longest = max(used, key=lengths.__getitem__)
    motion = [processor.num_embeddings(processor.feature_extractor.num_codes(frames[i] - 1)) for i in used]
    answers = [lengths[i] - limit.around - embeddings for i, embeddings in zip(used, motion, strict=True)]

    size = args.per_device_train_batch_size
    model.config._attn_implementation = "sdpa"
    parts = [model.model.language_model, model.lm_head, model.model.projector]
    with FakeTensorMode():
        _on_fakes(parts)
        if _checkpoints_activations(args):
            _checkpoint_activations(model)
        model.train()
        step = _translation_step(model, size, lengths[longest], max(motion), max(answers))
        memory = _step(step, parts, args.bf16)
        kept = memory.peak
        if model.config.backbone is None and model.config.lora is None:
            for part in parts:  # as FSDP2 runs them: bfloat16, each gradient sent away at once
                for module in part.modules():
                    for name, weight in module._parameters.items():
                        if weight is not None:
                            module._parameters[name] = nn.Parameter(weight.to(torch.bfloat16), False)
            next(model.model.projector.parameters()).requires_grad_(True)  # or else there is no way back
            _checkpoint_activations(model)
            kept = _step(step, parts, args.bf16).peak
    order = list(EpochSampler(len(used), args.seed, [frames[i] for i in used], size * args.gradient_accumulation_steps))
    in_order = [lengths[used[index]] for _, index in order]
    padded = sum(max(in_order[at : at + size]) for at in range(0, len(in_order), size)) / math.ceil(
        len(in_order) / size
    )
    steps = {processes: _steps(args, len(used), processes) for processes in PROCESSES}
    layers = model.model.language_model.layers
    of_layer = sum(weight.numel() for weight in layers[0].parameters())
    of_language_model = sum(weight.numel() for name, weight in model.named_parameters() if ".vqvae." not in name)
    notes = _optimizer_note(args)
    if args.load_in_4bit:
        notes.append(
            "load_in_4bit is not in these figures; frozen weights take an eighth of their float32 size with it"
        )
    return Needs(
        clips=len(used),
        left_out=len(lengths) - len(used),
        tokens=sum(lengths[i] for i in used) / len(used),
        longest=lengths[longest],
        steps=steps,
        parameters=sum(weight.numel() for weight in model.parameters()),
        trained=count,
        weights=_bytes(everything),
        gradients=gradients,
        optimizer=2 * gradients,
        step=memory.peak,
        kept=kept,
        sharded=of_language_model,
        gathered=of_language_model - (len(layers) - 2) * of_layer,
        flops=memory.flops * padded / lengths[longest] * args.gradient_accumulation_steps * steps[1],
        model=file_size(state),
        whole=model.config.backbone is None,
        clips_memory=0 if args.stream else sum(frames[i] for i in used) * BYTES_OF_A_FRAME,
        loading=language_model + embeddings,
        notes=notes,
    )


def _checkpoint_activations(model) -> None:
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def report(args, needs: Needs) -> str:
    """What `needs` says, in words and a table."""

    def gib(size: float) -> str:
        return f"{size / GIB:.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"

    lines = [f"dry run of {args.stage}: nothing is trained or written", "", "counted"]
    clips = f"  {needs.clips:,} clips"
    if needs.tokens is not None:
        clips += f" of {needs.tokens:.0f} tokens on average, the longest {needs.longest}"
    if needs.left_out:
        clips += f"; {needs.left_out:,} longer than max_length {args.max_length} are left out"
    lines.append(clips)
    lines.append(f"  {needs.parameters / 1e6:,.1f} M parameters, of which {needs.trained / 1e6:,.1f} M train")
    lines.append(
        f"  weights {gib(needs.weights)}, gradients {gib(needs.gradients)}, AdamW {gib(needs.optimizer)} a process"
    )
    holds = "with the language model" if needs.whole else "without the language model, which is that of the backbone"
    holds = holds if needs.tokens is not None else "the sign tokenizer"
    lines.append(f"  model.safetensors {gib(needs.model)}: {holds}")
    kept = args.save_total_limit
    if str(getattr(args.save_strategy, "value", args.save_strategy)) != "no":
        several = f"; {kept} of them, one more while saving" if kept else "; no save_total_limit: all are kept"
        lines.append(f"  each checkpoint to go on from {gib(needs.checkpoint)}{several}")
    lines.append(
        f"  host memory of a process: clips {gib(needs.clips_memory)}; while loading {gib(needs.loading)}"
        f"{'' if needs.whole else ' (process 0: while saving, too)'}; torch itself about 1 GiB"
    )
    lines.append("")
    lines.append(
        f"computed, not measured: a step on tensors without numbers (batch {args.per_device_train_batch_size} of the "
        f"longest clips, fused attention) holds {gib(needs.step)} beside weights and AdamW"
    )
    fsdp = needs.whole and needs.tokens is not None
    head = ["processes", "clips a step", "steps", "memory of each"]
    head += ["with FSDP2"] if fsdp else []
    rows = [head + [f"minutes, {name}" for name in PEAK_FLOPS]]
    for count in PROCESSES:
        together = args.per_device_train_batch_size * args.gradient_accumulation_steps * count
        row = [str(count), str(together), f"{needs.steps[count]:,}", gib(needs.memory(count))]
        row += [gib(needs.memory_fsdp(count)) if count > 1 else ""] if fsdp else []
        flops = needs.flops * needs.steps[count] / needs.steps[1]  # of each process
        for peak in PEAK_FLOPS.values():
            fast, slow = (flops / (peak * share) / 60 for share in reversed(UTILISATION))
            row.append(f"{fast:,.0f} to {slow:,.0f}" if slow >= 1 else "under 1")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    low, high = UTILISATION
    lines.append(
        f"assumed: {', '.join(f'{name} {peak / 1e12:.0f}' for name, peak in PEAK_FLOPS.items())} TFLOP/s of bfloat16, "
        f"of which {low:.0%} to {high:.0%} are reached; reading of data, evaluation and saving cost nothing"
    )
    return "\n".join([*lines, *(f"note: {note}" for note in needs.notes)])


def dry_run(args, *parts) -> None:
    """Print what a stage needs: [`predict_tokenizer`] from its arguments alone, else [`predict_translation`]."""
    if args.process_index == 0:
        print(report(args, predict_translation(args, *parts) if parts else predict_tokenizer(args)), flush=True)
