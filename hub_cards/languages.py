"""Which languages a data set or a model is about: their codes, as the Hub's cards have them, and their names."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .data_sets import data_card
from .yaml_files import load_yaml, read_yaml

NAMES = read_yaml(Path(__file__).with_name("languages.yaml"))


def check_code(kind: str, code: str) -> None:
    """Raise ValueError unless `code` is that of a language which is "signed" or "written"."""
    if kind == "signed" and code not in NAMES["signed"]:
        raise ValueError(
            f"{code!r} is no sign language's code of ISO 639-3; expected ase (American), bfi (British), csl (Chinese), "
            "fsl (French), gsg (German), ...: all are in hub_cards/languages.yaml"
        )
    if kind == "written" and not is_written(code):
        signed = f"; that is {NAMES['signed'][code]}, which is signed" if code in NAMES["signed"] else ""
        raise ValueError(f"{code!r} is no code of a written language; expected en, de, zh, pt-BR, ...{signed}")


def is_written(code: str) -> bool:
    """Whether it looks like a BCP 47 code of a language that is not signed; of two letters only those of ISO 639-1."""
    first = code.partition("-")[0]
    listed = first in NAMES["written"] if len(first) == 2 else first not in NAMES["signed"]
    return listed and re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", code) is not None


def named(codes: Iterable[str]) -> dict[str, dict[str, str]] | None:
    """Codes -> `{"signed": {"gsg": "German Sign Language"}, "written": {"de": "German"}}`; None: there is no code."""
    languages: dict[str, dict[str, str]] = {"signed": {}, "written": {}}
    for code in codes:
        if code in NAMES["signed"]:
            languages["signed"][code] = NAMES["signed"][code]
        else:
            languages["written"][code] = NAMES["written"].get(code.partition("-")[0], code)
    return languages if any(languages.values()) else None


def in_words(languages: Mapping | None, kind: str) -> str | None:
    """The names of those that are "signed" or "written": "German and French"; None: not known."""
    names = list(dict.fromkeys(((languages or {}).get(kind) or {}).values()))
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or None


def metadata_of(card: str, where: str | Path = "README.md") -> dict:
    """The metadata of a card; none where it has none. `where`: its file, for messages.

    Raises:
        ValueError: what is there cannot be read.
    """
    match = re.match(r"---\s*\n(.*?)^---\s*$", card, re.DOTALL | re.MULTILINE)
    metadata = load_yaml(match[1], where, 1 + card[: match.start(1)].count("\n")) if match else None
    return metadata if isinstance(metadata, dict) else {}


def read_metadata(place: str | Path) -> dict:
    """The metadata of the card of a data set, a folder or a Hub id; none where there is no card. Errors as of
    [`data_card`]."""
    return metadata_of(data_card(place) or "", Path(place, "README.md"))


def languages_of(place: str | Path) -> dict[str, dict[str, str]] | None:
    """What the card of a data set, a folder or a Hub id, says of its languages, as [`named`] has them. Errors as of
    [`data_card`]."""
    codes = read_metadata(place).get("language") or []
    return named([codes] if isinstance(codes, str) else [code for code in codes if isinstance(code, str)])
