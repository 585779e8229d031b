"""Fingerspelling: signers spell what they have no sign for, letter by letter, and a model reads it best the same way.

A tokenizer of a language model cuts "Emma" into pieces that have nothing to do with its letters, and a rare name into
other pieces each time. With `spell_rare_words` the answers of training say rare words letter by letter, each letter a
token; as text they are the same. Nobody has to mark what is spelled: what signers spell is rare.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable

from ...processing.processing_lslm import CUT

RARE = 20  # a word that fewer training texts have is rare
WORD = re.compile(r"[^\W_]+")


def rare_words(texts: Iterable[str]) -> set[str]:
    """Words of several letters, lower-cased, that fewer than `RARE` of the texts have."""
    counts = Counter(word for text in texts for word in {word.lower() for word in WORD.findall(text)})
    return {word for word, count in counts.items() if count < RARE and len(word) > 1}


def spelled(text: str, rare: Collection[str]) -> str:
    """`text` with a `CUT` between the letters of its `rare` words: "a tea for Emma" -> "a tea for E|m|m|a"."""
    return WORD.sub(lambda match: CUT.join(match[0]) if match[0].lower() in rare else match[0], text)


def signs(text: str, rare: Collection[str]) -> list[str]:
    """What may be signed for `text`, lower-cased: frequent words, with a blank before them as tokenizers want it, and
    the letters of `rare` ones."""
    words = (word.lower() for word in WORD.findall(text))
    return [sign for word in words for sign in (word if word in rare else [f" {word}"])]
