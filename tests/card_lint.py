"""What is wrong with a card (README.md) that its template may have caused. What the Hub takes it says itself: `lslm
publish` asks before it sends anything.
"""

import math
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import yaml
from huggingface_hub import DatasetCard, ModelCard, RepoCard, SpaceCard

CARDS = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_LEFT_OVERS = re.compile(
    r"\{\{|\}\}|\{%|%\}|\[More Information Needed\]|\bTODO\b|\bFIXME\b|(?<![\w.])-?nan\b|\bNaN %"
    r"|\bNone\b(?! (?:of|are|is|was|were|has|have|can|will)\b)"  # "None of them" and "None was" are English
)


def lint_card(text: str, kind: str = "model", files: Iterable[str] | None = None) -> list[str]:
    """What is wrong with a card; an empty list if nothing is.

    Args:
        text: the whole README.md.
        kind: "model", "dataset" or "space".
        files: the paths in the repository, to which relative links must lead; None: links are not followed.
    """
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    if not re.match(r"---[ \t]*\n.*?\n---[ \t]*(\n|\Z)", text, re.DOTALL):
        return ["no front matter: the card must begin with a line --- and YAML up to the next ---"]
    try:
        card: RepoCard = CARDS[kind](text)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"front matter: {' '.join(str(error).split()) or type(error).__name__}"]
    metadata, body = yaml.safe_load(text.split("\n---", 1)[0]), card.text
    prose = re.sub(r"`[^`\n]*`", "``", _FENCE.sub("", body))
    return [
        *_values(metadata),
        *_left_overs(metadata, prose, body),
        *_python(body),
        *_links(prose, None if files is None else {str(PurePosixPath(file)) for file in files}),
    ]


def _leaves(value, path: str = ""):
    """(path, value) of everything in the front matter that is neither a mapping nor a list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, value


def _values(metadata: dict):
    if not metadata.get("license"):
        yield "license: missing"
    for path, value in _leaves(metadata):
        if value is None or (isinstance(value, str) and value.strip() in ("", "None", "nan")):
            yield f"{path}: no value"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{path}: {value} is not a figure"
        elif path.startswith("model-index") and path.endswith("metrics.value") and isinstance(value, str):
            yield f"{path}: {value!r} is not a number"


def _left_overs(metadata: dict, prose: str, body: str):
    """Of a template: in values and text; in code its marks alone."""
    values = "\n".join(value for _, value in _leaves(metadata) if isinstance(value, str))
    for found in dict.fromkeys(m[0] for m in _LEFT_OVERS.finditer(f"{values}\n{prose}")):
        yield f"left over from a template: {found!r}"
    for fence in _FENCE.finditer(body):
        if re.search(r"\{%|\{\{ |\[More Information Needed\]", fence[3]):
            yield f"left over from a template in a block of code: {fence[3].strip().splitlines()[0]!r}"


def _python(body: str):
    for fence in _FENCE.finditer(body):
        if fence[2].lower() in ("python", "py"):
            try:
                compile(fence[3], "card", "exec")
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None)
                yield f"a block of Python does not compile: {getattr(error, 'msg', error)} (line {line} of the block)"


def _links(prose: str, files: set[str] | None):
    titles = re.findall(r"^#{1,6} (.+)$", prose, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}
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
