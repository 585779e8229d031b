"""Check a model, data set or Space card (README.md) without the Hub."""

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

_VOCABULARY = json.loads(Path(__file__).with_name("vocabulary.json").read_text(encoding="utf-8"))
PIPELINE_TAGS, LICENSES, SPACE_COLORS, SPACE_SDKS = (
    frozenset(_VOCABULARY[name]["values"]) for name in ("pipeline_tags", "licenses", "space_colors", "space_sdks")
)
RELATIONS = ("adapter", "finetune", "merge", "quantized")
MAX_TAG, MAX_SHORT_DESCRIPTION = 64, 60
# words taken for codes: ISO 639-3 gives them to other languages
WRONG_LANGUAGES = {"asl": "Asilulu; American Sign Language is ase", "bsl": "no sign language; British is bfi"}

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_LEFT_OVERS = (
    (re.compile(r"\{\{|\}\}|\{%|%\}"), "template"),
    (re.compile(r"\[More Information Needed\]", re.IGNORECASE), "template"),
    # "None of them" and "None was" are English
    (re.compile(r"\bNone\b(?! (?:of|are|is|was|were|has|have|can|will)\b)"), "value"),
    (re.compile(r"(?<![\w.])-?nan\b|\bNaN %"), "value"),
    (re.compile(r"\bTODO\b|\bFIXME\b"), "note"),
)


def lint_card(text: str, kind: str | None = None, files: Iterable[str] | None = None) -> list[str]:
    """What is wrong with a card; an empty list if nothing is.

    Args:
        text: the whole README.md.
        kind: "model", "dataset" or "space". None: a card with one of the keys of a Space is a Space's, one with
            `task_categories` or `pretty_name` a data set's, others are models'.
        files: the paths in the repository, to which relative links (and a Space's `app_file`) must lead; None: links
            are not followed.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in (None, "model", "dataset", "space"):
        raise ValueError(f'kind must be "model", "dataset" or "space", not {kind!r}')
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    match = _FRONT_MATTER.match(text)
    if not match:
        return ["no front matter: the card must begin with a line --- and YAML up to the next ---"]
    try:
        card = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no calendar has
        return [f"front matter is not YAML: {' '.join(str(error).split())}"]
    if not isinstance(card, dict):
        return ["front matter is not a mapping of keys to values"]
    files = None if files is None else {str(PurePosixPath(file)) for file in files}
    kind = kind or _kind(card)
    body = text[match.end() :]
    problems = [*_empty_values(card), *_common(card, kind)]
    if kind == "model":
        problems += [*_model(card), *_model_index(card), *_names_wanted_by_license(card, body)]
    elif kind == "dataset":
        problems += _dataset(card)
    else:
        problems += _space(card, files)
    return problems + [*_left_overs(card, body), *_python(body), *_links(body, files)]


def _kind(card: dict) -> str:
    if card.keys() & {"sdk", "app_file", "colorFrom", "colorTo", "emoji"}:
        return "space"
    return "dataset" if card.keys() & {"task_categories", "pretty_name", "size_categories"} else "model"


def _list(value) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _walk(value, path: str = ""):
    """(path, leaf) of everything in the front matter."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, path)
    else:
        yield path, value


def _empty_values(card: dict):
    for path, value in _walk(card):
        if value is None or (isinstance(value, str) and value.strip() in ("", "None", "nan")):
            yield f"{path}: no value"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{path}: {value} is not a figure"


def _common(card: dict, kind: str):
    licenses = _list(card.get("license"))
    if not licenses and kind != "space":
        yield "license: missing"
    for license in licenses:
        if license not in LICENSES:
            yield f'license: {license!r} is not one of the Hub\'s; use "other" with license_name and license_link'
    if "other" in licenses:
        for key in ("license_name", "license_link"):
            if not card.get(key):
                yield f'{key}: missing; license "other" needs it'
    for code in _list(card.get("language")):
        # unquoted, YAML reads Norwegian (no) as false
        if not isinstance(code, str) or not re.fullmatch(r"[a-z]{2,3}|code|multilingual", code):
            yield f"language: {code!r} is not an ISO 639 code, such as en or ase"
        elif code in WRONG_LANGUAGES:
            yield f"language: {code} is {WRONG_LANGUAGES[code]}"
    tags = card.get("tags", [])
    if not isinstance(tags, list):
        yield "tags: not a list"
        tags = []
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TAG or "\n" in tag:
            yield f"tags: {tag!r} is not a string of at most {MAX_TAG} characters"
    texts = [tag for tag in tags if isinstance(tag, str)]
    for tag in sorted({tag for tag in texts if texts.count(tag) > 1}):
        yield f"tags: {tag} is there twice"
    for key in ("datasets", "base_model", "models"):
        for repo_id in _list(card.get(key)):
            try:
                validate_repo_id(repo_id)
            except HFValidationError:
                yield f"{key}: {repo_id!r} is not the id of a repository"


def _model(card: dict):
    tag = card.get("pipeline_tag")
    if tag is not None and tag not in PIPELINE_TAGS:
        yield f"pipeline_tag: {tag!r} is not one of the Hub's"
    relation = card.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        yield f"base_model_relation: {relation!r} is not one of {', '.join(RELATIONS)}"
    if relation is not None and not card.get("base_model"):
        yield "base_model: missing, but base_model_relation is there"
    if not isinstance(card.get("library_name", ""), str):
        yield "library_name: not a string"


def _model_index(card: dict):
    index = card.get("model-index")
    if index is None:
        return
    try:
        again = ModelCardData(**{"model-index": index}).to_dict()["model-index"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"model-index: {' '.join(str(error).split()) or type(error).__name__}"
        return
    if again != index:
        yield "model-index: huggingface_hub reads it and writes something else"
        return
    for model in index:
        for result in model["results"]:
            for metric in result["metrics"]:
                value = metric["value"]
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    yield f"model-index: the value of {metric.get('name', metric['type'])} is {value!r}, not a number"
                if "verified" in metric or "verifyToken" in metric:
                    yield "model-index: verified is the Hub's to say"


def _names_wanted_by_license(card: dict, body: str):
    for license in _list(card.get("license")):
        if not re.fullmatch(r"llama(3\.\d|4)", str(license)):
            continue
        if "Built with Llama" not in body:
            yield f'{license} wants the words "Built with Llama" in the card'
        title = re.search(r"^# (.+)$", _FENCE.sub("", body), re.MULTILINE)
        if title and not title[1].startswith("Llama"):
            yield f'{license} wants a model name that begins with "Llama", not {title[1]!r}'


def _dataset(card: dict):
    for task in _list(card.get("task_categories")):
        if task not in PIPELINE_TAGS:
            yield f"task_categories: {task!r} is not one of the Hub's"
    for size in _list(card.get("size_categories")):
        if not re.fullmatch(r"n<1K|n>1T|\d+[KMB]<n<\d+[KMBT]|n>1B", str(size)):
            yield f"size_categories: {size!r} is not of the form 1K<n<10K"
    for config in _list(card.get("configs")):
        if not isinstance(config, dict) or "config_name" not in config:
            yield "configs: each needs a config_name"


def _space(card: dict, files: set[str] | None):
    for key in ("title", "emoji", "colorFrom", "colorTo", "sdk"):
        if not isinstance(card.get(key), str):
            yield f"{key}: missing, or not a string"
    emoji = card.get("emoji")
    if isinstance(emoji, str) and not _is_emoji(emoji):
        yield f"emoji: {emoji!r} is not one"
    for key in ("colorFrom", "colorTo"):
        if isinstance(card.get(key), str) and card[key] not in SPACE_COLORS:
            yield f"{key}: {card[key]!r} is not one of {', '.join(sorted(SPACE_COLORS))}"
    sdk = card.get("sdk")
    if isinstance(sdk, str) and sdk not in SPACE_SDKS:
        yield f"sdk: {sdk!r} is not one of {', '.join(sorted(SPACE_SDKS))}"
    if sdk == "gradio":
        # unquoted, 6.30 is the number 6.3
        if not isinstance(card.get("sdk_version"), str) or not re.fullmatch(r"\d+(\.\d+){0,2}", card["sdk_version"]):
            yield f"sdk_version: {card.get('sdk_version')!r} is not a version such as 6.31.0, as a string"
        app = card.get("app_file")
        if not isinstance(app, str) or not app.endswith(".py"):
            yield f"app_file: {app!r} is not a Python file"
        elif files is not None and str(PurePosixPath(app)) not in files:
            yield f"app_file: there is no {app}"
    python = card.get("python_version")
    if python is not None and not (isinstance(python, str) and re.fullmatch(r"3\.\d+(\.\d+)?", python)):
        yield f'python_version: {python!r} is not a string such as "3.11"'
    description = card.get("short_description", "")
    if not isinstance(description, str) or len(description) > MAX_SHORT_DESCRIPTION:
        yield f"short_description: longer than {MAX_SHORT_DESCRIPTION} characters, or not a string"


def _is_emoji(text: str) -> bool:
    """One pictograph, with its modifiers."""
    return 0 < len(text) <= 10 and all(
        unicodedata.category(c) in ("So", "Sk", "Mn", "Me", "Cf") or c == "\ufe0f" for c in text
    )


def _left_overs(card: dict, body: str):
    """Of a template: in the text, not in code."""
    prose = re.sub(r"`[^`\n]*`", "``", _FENCE.sub("", body))
    values = "\n".join(value for _, value in _walk(card) if isinstance(value, str))
    for pattern, what in _LEFT_OVERS:
        for found in dict.fromkeys(m[0] for m in pattern.finditer(f"{values}\n{prose}")):
            yield f"left over from a {what}: {found!r}"
    for fence in _FENCE.finditer(body):
        if "{%" in fence[3] or "{{ " in fence[3] or "[More Information Needed]" in fence[3]:
            yield f"left over from a template in a block of code: {fence[3].strip().splitlines()[0]!r}"


def _python(body: str):
    for fence in _FENCE.finditer(body):
        if fence[2].lower() in ("python", "py"):
            try:
                compile(fence[3], "card", "exec")
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None)
                yield f"a block of Python does not compile: {getattr(error, 'msg', error)} (line {line} of the block)"


def _links(body: str, files: set[str] | None):
    prose = re.sub(r"`[^`\n]*`", "``", _FENCE.sub("", body))
    anchors = {_anchor(title) for title in re.findall(r"^#{1,6} (.+)$", prose, re.MULTILINE)}
    for target in dict.fromkeys(_LINK.findall(prose)):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        if target.startswith("#"):
            if target[1:] not in anchors:
                yield f"link to {target}: there is no such heading"
        elif files is not None:
            path = str(PurePosixPath(target.partition("#")[0].partition("?")[0]))
            if path not in files and not any(file.startswith(f"{path}/") for file in files):
                yield f"link to {target}: there is no such file"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
