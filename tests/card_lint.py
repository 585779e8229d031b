"""What is wrong with a card (README.md) that its template may have caused. What the Hub takes it says itself: `lslm
publish` asks before it sends anything.
"""

import math
import re

import yaml
from huggingface_hub import DatasetCard, ModelCard, SpaceCard

CARDS = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LEFT_OVERS = re.compile(
    r"\{\{|\}\}|\{%|%\}|\[More Information Needed\]|\bTODO\b|\bFIXME\b|(?<![\w.])-?nan\b|\bNaN %"
    r"|\bNone\b(?! (?:of|are|is|was|were|has|have|can|will)\b)"  # "None of them" and "None was" are English
)


def lint_card(text: str, kind: str = "model") -> list[str]:
    """What is wrong with a card; an empty list if nothing is. Relative links are, whatever they lead to.

    Args:
        text: the whole README.md. kind: "model", "dataset" or "space".

    Raises:
        what huggingface_hub raises if it cannot read the front matter.
    """
    body = CARDS[kind](text).text
    metadata = yaml.safe_load(text.split("---\n")[1])
    values, blocks = list(_leaves(metadata)), _FENCE.findall(body)
    prose = re.sub(r"`[^`\n]*`", "``", _FENCE.sub("", body))
    faults = [] if metadata.get("license") else ["license: missing"]
    for path, value in values:
        if value in (None, "") or (isinstance(value, float) and not math.isfinite(value)):
            faults.append(f"{path}: {value!r} is no value")
    printed = "\n".join([*(value for _, value in values if isinstance(value, str)), prose])
    faults += [f"left over from a template: {match[0]!r}" for match in _LEFT_OVERS.finditer(printed)]
    for language, code in blocks:
        if re.search(r"\{%|\{\{ ", code):
            faults.append(f"left over from a template in a block of code: {code.splitlines()[0]!r}")
        elif language == "python":
            try:
                compile(code, "card", "exec")
            except SyntaxError as error:
                faults.append(f"a block of Python does not compile: {error}")
    titles = re.findall(r"^#{1,6} (.+)$", prose, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    targets = re.findall(r"\]\(([^)]+)\)", prose)
    faults += [f"the link to {t} leads nowhere" for t in targets if t not in anchors and not t.startswith("https://")]
    return faults


def _leaves(value, path: str = ""):
    """(path, value) of everything in the front matter that is neither a mapping nor a list."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{path}.{key}")
    else:
        yield path, value
