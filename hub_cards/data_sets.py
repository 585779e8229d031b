"""A data set is given as a folder, or by its id on the Hub: where its files are, and its card."""

import re
from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

CARD = "README.md"
_commits: dict[str, str] = {}  # of data sets on the Hub: the one that this process has seen first, and stays with


def is_hub_id(place: str) -> bool:
    """Whether it looks like "owner/name", and is no folder here."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", place) is not None and not Path(place).is_dir()


def data_folder(place: str, *splits: str) -> Path:
    """`place` if it is a folder; of a data set on the Hub, the folder of its copy with the shards of these splits, its
    statistics and its card. What is in the cache serves where the Hub cannot be reached. A process stays with one
    commit, so that what is recorded is what was read.

    Raises:
        FileNotFoundError: there is neither.
    """
    if Path(place).is_dir():
        return Path(place)
    missing = f"no data set at {place}: expected a folder with {', '.join(f'{split}*.parquet' for split in splits)}"
    missing += ", or the Hub id of a data set"
    if not is_hub_id(place):
        raise FileNotFoundError(missing)
    patterns = [f"{part}{split}*.parquet" for split in splits for part in ("", "data/")]
    options = {"repo_type": "dataset", "revision": _commits.get(place)}
    try:
        folder = Path(snapshot_download(place, allow_patterns=[*patterns, "statistics.json", CARD], **options))
        _commits.setdefault(place, folder.name)
        return folder
    except (OSError, ValueError) as error:  # those of the Hub's client are of these
        raise FileNotFoundError(f"{missing} ({_in_short(error)})") from error


def data_revision(place: str, split: str) -> str | None:
    """The commit of a data set on the Hub whose copy is used here; None: it is a folder. Errors as of
    [`data_folder`]."""
    return data_folder(place, split).name if is_hub_id(place) else None


def data_card(place: str | Path) -> str | None:
    """The README.md of a data set; None: it has none.

    Raises:
        FileNotFoundError: it is on the Hub, and whether it has a card is not to be learnt.
    """
    if not is_hub_id(str(place)):
        card = Path(place, CARD)
        return card.read_text(encoding="utf-8") if card.is_file() else None
    options = {"repo_type": "dataset", "revision": _commits.get(str(place))}
    try:
        card = Path(hf_hub_download(str(place), CARD, **options))
        _commits.setdefault(str(place), card.parent.name)
        return card.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        known = not isinstance(error, LocalEntryNotFoundError) and isinstance(error, EntryNotFoundError)
        if known or try_to_load_from_cache(str(place), CARD, **options) is _CACHED_NO_EXIST:
            return None
        raise FileNotFoundError(
            f"the card ({CARD}) of the data set {place} can be read neither on the Hub nor in its cache, so its "
            f"languages and its licence are not known; go online, or give a folder ({_in_short(error)})"
        ) from error


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
