"""How sure one may be of the words of a translation: what the model gave them, made honest by a few numbers that
`lslm evaluate --calibrate` fitted to what it got right and wrong, and on clips that are no signing at all.

A logistic regression for each word (Platt scaling: Platt, 1999, "Probabilistic outputs for support vector machines";
on words of sentences as Kumar and Sarawagi, 2019, "Calibration of encoder decoder models").
"""

import math
import re

# What `evidence` gives of a word, each with its weight in the calibration. How sure the model is of the words beside it
# is not among them: few of them and a spelled name look like no signing by it, and the motion tells that better.
EVIDENCE = ("word", "motion")
# Probabilities nearer to 0 and 1 count as this. How many nines they have tells little: with fewer of them kept, words
# under conditions that the calibration has not seen were judged as well or better.
BOUND = 0.01


def words_of(tokens: list[str], probabilities: list[float]) -> list[tuple[str, float]]:
    """Words and the probability of each: that of all of its tokens, given the words before.

    A token '' within a text is a part of the character that the next one completes.
    """
    words, new, waiting = [], True, 1.0
    for token, chance in zip(tokens, probabilities, strict=True):
        chance, waiting = chance * waiting, 1.0
        if not token:
            waiting = chance
        for part in re.findall(r"\s+|\S+", token):
            if part.isspace():
                new = True
            elif new:
                words.append((part, chance))
                new = False
            else:
                words[-1] = (words[-1][0] + part, words[-1][1] * chance)
    return words


def evidence(probabilities: list[float], oddity: float) -> list[list[float]]:
    """For each word of a translation the numbers of `EVIDENCE`: the log odds of its probability, and how odd the motion
    is to the sign tokenizer (see `SignMotionVQVAE.oddity`)."""
    bounded = [min(max(chance, BOUND), 1 - BOUND) for chance in probabilities]
    return [[math.log(chance / (1 - chance)), oddity] for chance in bounded]


def confidences(probabilities: list[float], oddity: float, calibration: dict | None) -> list[float]:
    """For each word of a translation the probability that it is right.

    Args:
        probabilities: of the words, see [`words_of`].
        calibration: `config.calibration`: `bias` and a weight for each of `EVIDENCE`.

    Raises:
        ValueError: there is no calibration.
    """
    if calibration is None:
        raise ValueError(
            "this checkpoint has no calibration, so how sure it is means nothing yet; make one with `lslm evaluate "
            "--calibrate --model FOLDER --data DATA --split validation --output OUT`"
        )
    weights = [calibration[name] for name in EVIDENCE]
    sums = (
        calibration["bias"] + sum(weight * value for weight, value in zip(weights, row, strict=True))
        for row in evidence(probabilities, oddity)
    )
    return [1 / (1 + math.exp(-max(min(value, 30.0), -30.0))) for value in sums]


__all__ = ["EVIDENCE", "confidences", "evidence", "words_of"]
