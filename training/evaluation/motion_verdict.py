"""Whether a model reads the motion, or writes what people usually say.

The evidence is in pairs of word errors, clip by clip:

- *shuffled*: the translation of each clip against that of another, about as long. A model that reads nothing of a clip
  but its length does no better with the right one; the texts it chooses from are the same. This decides whether the
  motion is read. It costs nothing: a translation depends on its clip alone, so the wrong clip's is at hand.
- *zeroed*: against the translation of no motion. The model never saw such input and may write anything, or nothing:
  this alone shows nothing, and a model whose WER is far above 100 loses against silence though it reads. But where
  zeros do as well, the motion that is read is no help.

A model can gain by what it never read: trained on shuffled pairs, it says some word more often to clips that look
alike, and where a split has few signs, the word may be right by chance in most of them. Such gains are small and, to an
interval over clips, certain; so a gain below `LEAST` is called what it is.
"""

from collections.abc import Sequence

import numpy as np

from .sign_translation_metrics import compare

FEWEST = 10  # clips; with fewer, an interval over clips says more than they can
SAMPLES = 1000  # of the bootstrap
LEAST = 0.05  # of other clips' WER
NOT_TESTED = {"verdict": "not tested", "summary": "Whether the motion is read was not tested."}


def other_clips(lengths: Sequence[int], seed: int) -> np.ndarray:
    """For each of at least 2 clips the index of another, about as long; each is given once.

    The clips stand in a ring, up by every other length and down by those between; each gets its neighbour's place.
    Equal lengths stand in random order.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(lengths)), lengths))
    ring = np.concatenate([order[::2], order[1::2][::-1]])
    others = np.empty_like(ring)
    others[ring] = np.roll(ring, 1)
    return others


def motion_verdict(
    references: Sequence[str], predictions: Sequence[str], shuffled: Sequence[str], zeroed: Sequence[str], seed: int
) -> dict:
    """Translations of the clips, of other clips and of no motion, on the same references: is the motion read?

    Returns:
        `verdict`: "helps", "read" (but no better than no motion), "hardly read", "no evidence", "too few clips" or
        "not tested";
        `summary`: a sentence with the figures; `clips`, their number. Unless there are too few: `difference`, how many
        points of WER other clips' translations are worse by, and `interval`, its paired 95 % bootstrap interval;
        `difference_zeroed` and `interval_zeroed`, the same of no motion; `samples` and `seed` of the bootstrap.
    """
    count = len(references)
    if count < FEWEST:
        summary = f"{count} clip{'s are' if count > 1 else ' is'} too few to tell whether the motion is read"
        return {"verdict": "too few clips", "summary": f"{summary}; it takes {FEWEST}.", "clips": count}
    # Clips of one sentence are no independent witnesses: a model that gives each sentence another by chance is right in
    # all of them or in none. And of few sentences an interval is too narrow. The one that is surer of less decides.
    pairs = (shuffled, None), (shuffled, references), (zeroed, None)
    by_clip, by_sentence, zeroed_test = (
        compare(references, others, predictions, ["wer"], SAMPLES, seed, groups).get("wer") for others, groups in pairs
    )
    shuffled_test = by_clip and min(by_clip, by_sentence, key=lambda test: test["low"])
    if shuffled_test is None or zeroed_test is None:
        return NOT_TESTED | {"summary": "Whether the motion is read was not tested: the references have no words."}
    if shuffled_test["low"] <= 0:
        verdict = "no evidence"
        summary = (
            f"No evidence that the motion is read: other clips' translations fit as well ({_points(shuffled_test)}"
        )
    elif shuffled_test["low"] < LEAST * shuffled_test["score"]:
        verdict = "hardly read"
        summary = (
            f"The motion is hardly read: other clips' translations are worse by less than {LEAST:.0%} of their WER, "
            f"which signs or words in common can explain ({_points(shuffled_test)}"
        )
    elif zeroed_test["low"] <= 0:
        verdict = "read"
        summary = (
            f"The motion is read, but is no help: other clips' translations are worse ({_points(shuffled_test)}), "
            f"those of no motion are not ({_points(zeroed_test)}"
        )
    else:
        verdict = "helps"
        summary = "The motion helps by {difference:.1f} points of WER over another clip's ({low:.1f} to {high:.1f}"
        summary = summary.format(**shuffled_test)
    return {
        "verdict": verdict,
        "summary": f"{summary}; {count} clips).",
        "clips": count,
        **_rounded(shuffled_test),
        **_rounded(zeroed_test, "_zeroed"),
        "samples": SAMPLES,
        "seed": seed,
    }


def _points(test: dict[str, float]) -> str:
    return "{difference:+.1f} points of WER, {low:+.1f} to {high:+.1f}".format(**test)


def _rounded(test: dict[str, float], suffix: str = "") -> dict:
    interval = [round(test["low"], 4), round(test["high"], 4)]
    return {f"difference{suffix}": round(test["difference"], 4), f"interval{suffix}": interval}
