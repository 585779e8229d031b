"""stages.yaml: the recipe of every stage that led to a model, what it was used on, and what changed on the way."""

import dataclasses
import hashlib
import re
import struct
from pathlib import Path

import yaml

from ..hub_cards.data_sets import data_folder, data_revision
from ..hub_cards.languages import read_metadata
from ..hub_cards.models import no_model
from ..hub_cards.yaml_files import read_yaml
from .dataset.motion_text import split_files
from .provenance import commit, machine, versions
from .recipe import StageArguments, plain

# What the weights do not depend on: how a run is watched, saved, evaluated, shared, and how fast it is. All else does.
PASSING = re.compile(
    r"output_dir|dry_run|resume_\w+|restore_\w+|logging_\w+|log_\w+|save_\w+|report_to|run_name|project|trackio_\w+|disable_tqdm"
    r"|push_to_hub\w*|hub_\w+|eval_\w+|per_device_eval_batch_size|metric_for_best_model|greater_is_better|do_\w+"
    r"|include_\w+|prediction_loss_only|batch_eval_metrics|debug|skip_memory_metrics|dataloader_(?!drop_last)\w+"
    r"|ddp_(?!find_unused)\w+|use_cpu|torch_empty_cache_steps|(gradient|activation)_checkpointing\w*"
)
# where the best checkpoint is what a run ends with, it matters which there are and how they are compared
CHOOSING = re.compile(
    r"eval_(strategy|steps|translations)|save_(strategy|steps)|metric_for_best_model|greater_is_better"
)
# What no run can go on with: its weights and its optimizer have other shapes, or what the key says is behind it.
FIXED = frozenset(
    "codebook_size code_dim partwise num_quantizers linear_path hidden_size num_downsamples num_res_blocks quantizer "
    "codebook_warmup fps convention target_skeleton backbone tokenizer model trainable lora_r motion_input "
    "projector_hidden_size codes_per_embedding right_handed ctc_steps ctc_batch_size ctc_learning_rate "
    "ctc_code_dropout ctc_variations optim optim_args load_in_4bit".split()
)
PARENTS = ("tokenizer", "backbone", "model")
MODEL_FILES = ("*.safetensors", "pytorch_model*.bin", "*.gguf", "*config.json", "tokenizer.json", "*.jinja", "*.model")
# recipe keys that stand behind a number of USED
CLIPS_PER_STEP = ("per_device_train_batch_size", "gradient_accumulation_steps")


def parents(args: StageArguments) -> dict[str, str]:
    """Key -> folder, Hub id or file, of the models that a stage begins with."""
    keys = ("model",) if getattr(args, "model", "") else PARENTS
    return {key: place for key in keys if (place := getattr(args, key, ""))}


def used(args: StageArguments) -> dict:
    """What the recipe's words stand for where it runs: fingerprints of what files and folders hold, clips a step. As it
    was when it was first asked for, which is before anything is loaded."""
    if "used" not in vars(args):
        args.used = _used(args)
    return args.used


def _used(args: StageArguments) -> dict:
    record: dict = {"data": _data_fingerprint(args)}
    record |= {key: _model_fingerprint(place) for key, place in parents(args).items()}
    if getattr(args, "templates", ""):
        record["templates"] = _fingerprint([Path(args.templates)])
    if takes := getattr(args, "takes", ""):
        files = sorted(file for file in Path(takes).glob("*/**/*") if file.is_file())
        labels = "\n".join(file.relative_to(takes).as_posix() for file in files)
        record["takes"] = hashlib.sha256(f"{labels}\n{_fingerprint(files)}".encode()).hexdigest()[:16]
    record["clips_per_step"] = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.stream:  # who deal the clips among themselves
        record["readers"] = args.world_size * max(args.dataloader_num_workers, 1)
    return record


def _data_fingerprint(args: StageArguments) -> str:
    """Of the training split; of shards that are streamed, their sizes and footers, which hold the statistics of each
    column: reading them all would take as long as an epoch."""
    files = [Path(file) for split in getattr(args, "splits", ["train"]) for file in split_files(args.data, split)]
    if not args.stream:
        return _fingerprint(files)
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as shard:
            size = shard.seek(-8, 2)
            shard.seek(max(size - struct.unpack("<I", shard.read(4))[0], 0))
            digest.update(str(size).encode() + shard.read())
    statistics = data_folder(args.data, "train") / "statistics.json"
    digest.update(statistics.read_bytes() if statistics.is_file() else b"")
    return digest.hexdigest()[:16]


def _model_fingerprint(place: str) -> str:
    from huggingface_hub import snapshot_download

    from ..modeling_lslm.backbone_lslm import find_backbone

    path = Path(find_backbone(place))
    if path.is_file():
        return _fingerprint([path])
    if not path.is_dir():
        patterns = [pattern for pattern in MODEL_FILES if not pattern.endswith((".bin", ".gguf"))]
        try:
            path = Path(snapshot_download(place, allow_patterns=patterns))
        except (OSError, ValueError) as error:  # those of the Hub's client are of these
            raise no_model(place, error) from error
    return _fingerprint(sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)}))


def _fingerprint(files: list[Path]) -> str:
    """16 hex digits that change with the content of any file, and not with its name."""
    whole = hashlib.sha256()
    for file in files:
        blob = file.resolve()
        if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
            whole.update(blob.name.encode())  # of the Hub's cache, where a large file is called by its SHA-256
            continue
        digest = hashlib.sha256()
        with open(file, "rb") as content:
            while block := content.read(2**20):
                digest.update(block)
        whole.update(digest.hexdigest().encode())
    return whole.hexdigest()[:16]


def changed(args: StageArguments, earlier: dict) -> dict[str, tuple]:
    """Key -> (earlier, now) of what differs from an earlier recipe of this stage, of all that weights depend on."""
    fields = {field.name: field for field in dataclasses.fields(args)}
    before, now = earlier.get("used", {}), used(args)
    told = set(before) | set(CLIPS_PER_STEP if "clips_per_step" in before else ())
    best = args.load_best_model_at_end or any(map(earlier.get, ("load_best_model_at_end", "early_stopping_patience")))
    differences = {}
    for name in dict.fromkeys([*earlier, *args.recipe]):
        matters = not PASSING.fullmatch(name) or (best and CHOOSING.fullmatch(name))
        if name in fields and name not in told and matters:
            field = fields[name]
            factory = field.default_factory
            default = plain(field.default if factory is dataclasses.MISSING else factory())
            pair = earlier.get(name, default), args.recipe.get(name, default)
            if pair[0] != pair[1]:
                differences[name] = pair
    for name in before:
        if before[name] != now.get(name):
            pair = before[name], now.get(name)
            if name in fields:  # of a path: what was there
                pair = tuple(
                    content and f"{recipe.get(name, plain(fields[name].default))} ({content})"
                    for recipe, content in zip((earlier, args.recipe), pair, strict=True)
                )
            differences[name] = pair
    return differences


def read_stages(args: StageArguments, parent: str | None, checkpoint: Path | None = None) -> dict:
    """What stages.yaml is to hold: the recipe of each stage that led here by the stage's name, and under `made_with`
    what the last one ran on, with what the card of its data set says and, of one on the Hub, its commit (`revision`).
    `used` in a recipe is of [`used`]. A recipe that was changed when its run went on has the earlier values under
    `until_step_N`; that of a stage which goes on from a model of the same stage has that one's under `before`.

    Args:
        args: from `parse`.
        parent: folder or Hub id of the stage before, with a stages.yaml of its own; None: this is the first.
        checkpoint: from which the run goes on, with a stages.yaml of its own.

    Raises:
        ValueError: a stages.yaml is none.
    """
    stages = stages_of(parent) if parent else {}
    stages.pop("made_with", None)
    before = stages.pop(args.stage, None)  # a stage that goes on from one of its own kind comes last
    made_with = versions("lslm", "torch", "transformers")
    names = ("pretty_name", "license", "license_name", "license_link", "language", "origin")
    data_set = {name: value for name, value in read_metadata(args.data).items() if name in names}
    if revision := data_revision(args.data, "train"):
        data_set["revision"] = revision
    if data_set:
        made_with["data_set"] = data_set
    made_with["machine"] = machine(f"{args.world_size} x {args.device.type}")
    if code := commit():
        made_with["commit"] = code
    recipe = {name: value for name, value in args.recipe.items() if name != "resume_with_changes"} | {
        "used": used(args)
    }
    if earlier := recorded(checkpoint).get(args.stage) if checkpoint else None:
        recipe |= {name: value for name, value in earlier.items() if name.startswith("until_step_")}
        if differences := {name: old for name, (old, _) in changed(args, earlier).items()}:
            step = checkpoint.name.rpartition("-")[2]
            recipe[f"until_step_{step}"] = differences
    recipe |= {"before": before} if before else {}
    return stages | {args.stage: recipe, "made_with": made_with}


def stages_of(place: str) -> dict:
    """The content of a parent's stages.yaml, also of one on the Hub; {} where there is none."""
    from transformers.utils import cached_file

    if Path(place).is_dir():
        return recorded(place)
    file = cached_file(place, "stages.yaml", _raise_exceptions_for_missing_entries=False)
    return recorded(Path(file).parent) if file else {}


def model_revision(place: str) -> str | None:
    """The commit of a model on the Hub whose copy is used here; None: it is a folder."""
    from transformers.utils import cached_file

    return None if Path(place).is_dir() else Path(cached_file(place, "config.json")).parent.name


def recorded(folder: str | Path | None) -> dict:
    """The content of FOLDER/stages.yaml; {} where there is none."""
    path = folder and Path(folder, "stages.yaml")
    return read_yaml(path) if path and path.is_file() else {}


def last_stage(stages: dict) -> str | None:
    """The name of the stage that wrote `stages`."""
    return next((name for name in reversed(stages) if name != "made_with"), None)


def save_stages(stages: dict, folder: str | Path) -> None:
    """Write FOLDER/stages.yaml, whole or not at all."""
    path = Path(folder, "stages.yaml")
    partial = path.with_suffix(".partial")
    partial.write_text(yaml.safe_dump(stages, sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(path)
