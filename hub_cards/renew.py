"""Give a checkpoint on the Hub today's code, and leave its weights alone.

    lslm publish --code-only org/lslm-asl-cafe

transformers moves on, and the code that travels with a checkpoint has to follow. One commit holds what changes: the
*.py files, the entries of the configurations that point to them, and what the card says of versions.
"""

import json
import re
import tempfile
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, snapshot_download
from huggingface_hub.utils import validate_repo_id

from .cards import with_todays_versions
from .publish import CLIP, SCRIPTS, model_kind, read_json, try_commit, try_from_hub

# files that say where the code is, by these entries
CONFIGS = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
ENTRIES = ("auto_map", "custom_pipelines")
CARD = "README.md"


def renew_code(
    repo_id: str,
    *,
    revision: str | None = None,
    dry_run: bool = False,
    clip: str | None = None,
    message: str | None = None,
) -> str:
    """Give an LSLM or a sign tokenizer on the Hub the code of this package, in one commit, and try it from there.

    Args:
        repo_id: "owner/name".
        revision: a branch; made from main if it is not there. None: main.
        dry_run: print what would be sent; send nothing.
        clip: a motion file to try it on; None: the repository's example.npz. With neither it is only loaded.
        message: of the commit.

    Returns:
        The address of the commit (of the repository, if nothing was sent).

    Raises:
        ValueError: not an LSLM or a sign tokenizer, or its answer is not the one that it gave before.
        OSError: no such repository or file, no access, a broken connection.
    """
    validate_repo_id(repo_id)
    if clip and not Path(clip).is_file():
        raise FileNotFoundError(f"no file {clip}")
    api = HfApi()
    if not dry_run:
        api.whoami()
    new_branch = revision is not None and not api.revision_exists(repo_id, revision)
    before = api.model_info(repo_id, revision=None if new_branch else revision).sha
    with tempfile.TemporaryDirectory(prefix="lslm-publish-") as scratch:
        folder = Path(scratch)
        wanted = ["*.py", *CONFIGS, CARD, CLIP]  # no weights
        snapshot_download(repo_id, revision=before, local_dir=folder, allow_patterns=wanted)
        kind = model_kind(folder, repo_id)
        changes = renewed_files(folder, kind)
        for name, content in sorted(changes.items()):
            what = "deleted" if content is None else "changed" if (folder / name).exists() else "added"
            print(f"{what:>8}  {name}")
        where = repo_id + f" ({revision})" * bool(revision)
        if not changes:
            print(f"the code of {where} is today's", flush=True)
        if dry_run or not changes:
            return f"{constants.ENDPOINT}/{repo_id} (nothing was sent)"
        print(f"{len(changes):>8}  files, for {where}", flush=True)
        operations = [
            CommitOperationDelete(name) if content is None else CommitOperationAdd(name, content)
            for name, content in changes.items()
        ]
        if new_branch:
            api.create_branch(repo_id, branch=revision)
        message = message or "Renew the code with lslm"
        # the Hub refuses if somebody sent something since
        commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision, parent_commit=before)
        example = Path(clip).resolve() if clip else folder / CLIP  # it is read in another folder
        _compare(commit, before, repo_id, SCRIPTS[kind], example if example.is_file() else None)
    return str(commit.commit_url)


def renewed_files(folder: str | Path, kind: str) -> dict[str, bytes | None]:
    """What changes in a checkpoint that gets today's code.

    Args:
        folder: of the checkpoint; nothing is written to it.
        kind: "lslm" or "sign_motion_vqvae".

    Returns:
        The new content of each file, by its name; None: the file goes.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix="lslm-blank-") as scratch:
        blank = Path(scratch)
        _save_blank(blank, kind)
        files = {path.name: path.read_bytes() for path in blank.glob("*.py")}
        for name in CONFIGS:
            if (folder / name).is_file() and (blank / name).is_file():
                old, new = (read_json(where / name) for where in (folder, blank))
                if old != (new := _with_entries(old, new)):
                    files[name] = (json.dumps(new, indent=2) + "\n").encode()
    if (folder / CARD).is_file():
        # bytes: reading as text would turn the line ends of other systems into ours
        files[CARD] = with_todays_versions((folder / CARD).read_bytes().decode("utf-8")).encode()
    gone = dict.fromkeys(_no_longer_needed(folder, {name for name in files if name.endswith(".py")}))
    same = {name for name in files if (folder / name).is_file() and (folder / name).read_bytes() == files[name]}
    return gone | {name: content for name, content in files.items() if name not in same}


def _no_longer_needed(folder: Path, today: set[str]) -> set[str]:
    """Names of the *.py that the code of an earlier day imports and today's does not have. Others are the owner's."""
    needed: set[str] = set()
    new = {name for name in today if (folder / name).is_file()}
    while new:
        needed |= new
        code = "\n".join((folder / name).read_text(encoding="utf-8") for name in new)
        modules = re.findall(r"^\s*from \.(\w+) import", code, re.MULTILINE)
        new = {f"{module}.py" for module in modules if (folder / f"{module}.py").is_file()} - needed
    return needed - today


def _save_blank(folder: Path, kind: str) -> None:
    """Save the smallest checkpoint of a kind. Its code, and the entries that point to it, are those of every other."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from ..modeling_lslm import LslmConfig, LslmForConditionalGeneration, SignMotionVQVAE, SignMotionVQVAEConfig
    from ..processing import SignMotionFeatureExtractor, SignMotionProcessor

    vqvae = SignMotionVQVAE(SignMotionVQVAEConfig(hidden_size=1, codebook_size=1, code_dim=1))
    vqvae.save_pretrained(folder)
    extractor = SignMotionFeatureExtractor()
    extractor.save_pretrained(folder)
    if kind == "lslm":
        sizes = {"vocab_size": 4, "hidden_size": 2, "intermediate_size": 1, "num_hidden_layers": 1}
        text_config = {"model_type": "llama", "num_attention_heads": 1, "pad_token_id": None, **sizes}
        config = LslmConfig(vqvae_config=vqvae.config.to_dict(), text_config=text_config)
        LslmForConditionalGeneration(config).save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
        SignMotionProcessor(extractor, tokenizer).save_pretrained(folder)


def _with_entries(config: dict, today: dict, nested: bool = False) -> dict:
    """`config` with the entries of `today` that point to code, beside the owner's own; in a nested configuration, those
    that it has."""
    new = dict(config)
    for key, value in today.items():
        if key in ENTRIES and (key in config or not nested):
            new[key] = {**config.get(key, {}), **value}
        elif isinstance(value, dict) and isinstance(config.get(key), dict):
            new[key] = _with_entries(config[key], value, nested=True)
    return new


def _compare(commit: CommitInfo, before: str, repo_id: str, script: str, clip: Path | None) -> None:
    """Try both commits, the one before for what it makes of the clip: the weights are the same, so is the answer."""
    result = try_commit(commit, script, repo_id, clip)
    if clip is None:
        print(f"it loads; there is no {CLIP} to try it on: give --clip to see what it makes of one")
        return
    print(f"it works: {json.dumps(result, ensure_ascii=False)[:200]}", flush=True)
    try:
        expected = try_from_hub(script, repo_id, before, clip)
    except ValueError as error:
        print(f"the code before does not work with transformers {version('transformers')}: {error}")
        return
    if result != expected:
        raise ValueError(
            f"{commit.commit_url} was sent, but gives {result!r:.300} where the code before gave {expected!r:.300}"
        )
    print("the code before gave the same")
