"""Scores against numbers worked out by hand, and against sacrebleu itself."""

import numpy as np
import pytest
import sacrebleu

from lslm.processing.motion_features import LEFT_HAND, NUM_JOINTS, RIGHT_HAND
from lslm.training.metrics import (
    code_usage,
    nearest_neighbour_accuracy,
    normalize_words,
    reconstruction_errors,
    sign_descriptor,
    text_metrics,
)

# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words",
    [
        ("Can I have tea, please?", "can i have tea please"),
        ("I'd like O'Brien's milk-shake...", "i'd like o'brien's milk shake"),
        ("  Two\tcookies -- now!\n", "two cookies now"),
        ("Café №5 naïve_word", "café 5 naïve_word"),
        ("?!", ""),
    ],
)
def test_words_are_lower_case_word_characters_and_apostrophes(text, words):
    assert normalize_words(text) == words


def test_wer_with_each_kind_of_error():
    scores = text_metrics(
        [
            "I want the small tea.",  # want -> need: 1 substitution
            "No sugar today!",  # a word too many: 1 insertion
            "Can I have milk and coffee, please?",  # "and coffee" is missing: 2 deletions
        ],
        ["i need the small tea", "No, no sugar today", "Can I have milk please"],
    )
    counts = {
        name: scores[name] for name in ("substitutions", "insertions", "deletions", "reference_words", "utterances")
    }
    assert counts == {"substitutions": 1, "insertions": 1, "deletions": 2, "reference_words": 15, "utterances": 3}
    assert scores["wer"] == pytest.approx(100 * 4 / 15)  # over the corpus: not the mean of 20, 33 and 29 %
    assert scores["exact_match"] == 0.0 and "names" not in scores


def test_apostrophes_count_and_punctuation_does_not():
    scores = text_metrics(["I'd like it."], ["Id like it!!"])
    assert scores["wer"] == pytest.approx(100 / 3)
    scores = text_metrics(["I'd like it."], ["i'd LIKE, it"])
    assert scores["wer"] == 0.0 and scores["exact_match"] == 0.0 and scores["bleu4"] < 100


def test_bleu_and_chrf_are_sacrebleu_s():
    references = ["Can I have a small coffee, please?", "My name is Dana and I want tea.", "No sugar for me today."]
    predictions = ["Can I have a large coffee please?", "my name is Dana and I want tea.", "No milk for you."]
    scores = text_metrics(references, predictions)
    bleu = sacrebleu.corpus_bleu(predictions, [references], tokenize="13a", lowercase=False)
    assert scores["bleu4"] == pytest.approx(bleu.score) and 0 < bleu.score < 100
    first = sacrebleu.corpus_bleu([p.split(" ")[0] for p in predictions], [references])
    assert first.score != scores["bleu1"]
    assert scores["bleu1"] == pytest.approx(bleu.precisions[0] * bleu.bp) and scores["bleu1"] > scores["bleu2"]
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score)


def test_rouge_l_by_hand():
    # longest common subsequence "the cat on mat": 4 of 6 words in the reference, of 5 in the prediction
    scores = text_metrics(["the cat sat on the mat"], ["the cat on a mat"])
    assert scores["rouge_l"] == pytest.approx(100 * 2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6))


def test_the_perfect_translation():
    texts = ["Can I have a small coffee, please?", "My name is Dana and I want tea."]
    scores = text_metrics(texts, list(texts), [None, "Dana"])
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "rouge_l", "exact_match", "names_exact_match"):
        assert scores[name] == pytest.approx(100), name
    for name in ("wer", "insertions", "deletions", "substitutions", "wer_without_names", "names_character_error_rate"):
        assert scores[name] == 0, name


def test_nothing_said_is_all_deletions():
    scores = text_metrics(["I am Ann.", "No tea."], ["", "No tea."], ["Ann", None])
    assert scores["wer"] == pytest.approx(60) and (scores["deletions"], scores["insertions"]) == (3, 0)
    assert scores["names_exact_match"] == 0 and scores["names_character_error_rate"] == 100
    assert scores["wer_without_names"] == pytest.approx(100 * 2 / 4)
    assert text_metrics(["No tea."], [""])["bleu4"] == 0


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 references for 1 predictions"):
        text_metrics(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="0 references"):
        text_metrics([], [])
    with pytest.raises(ValueError, match="2 references for 1 names"):
        text_metrics(["a", "b"], ["a", "b"], [None])


@pytest.mark.parametrize(
    "reference, prediction, exact, letters_wrong, wer, wer_without",
    [
        ("My name is Anna.", "My name is Anna.", 1, 0, 0, 0),
        ("My name is Anna.", "My name is anna!", 1, 0, 0, 0),  # as WER sees it: lower case
        ("My name is Anna.", "My name is Hanno.", 0, 2, 25, 0),  # one letter too many, one wrong
        ("My name is Anna.", "My name is.", 0, 4, 25, 0),  # missing: all its letters
        ("My name is Anna.", "Your name is Anna.", 1, 0, 25, 100 / 3),  # an error elsewhere is not the name's
        ("My name is Anna.", "My name is Anna Anna.", 1, 0, 25, 100 / 3),  # said twice: an insertion, not the name's
    ],
)
def test_a_name_by_hand(reference, prediction, exact, letters_wrong, wer, wer_without):
    scores = text_metrics([reference, "No tea."], [prediction, "No tea."], ["Anna", None])
    assert scores["names"] == 1
    assert scores["names_exact_match"] == 100 * exact
    assert scores["names_character_error_rate"] == pytest.approx(100 * letters_wrong / 4)
    assert scores["wer"] == pytest.approx(wer * 4 / 6)  # the other utterance has two words, both right
    assert scores["wer_without_names"] == pytest.approx(wer_without * 3 / 5)


def test_a_name_split_in_two_words():
    # anna -> "an" or "na", and the other half is an insertion: two letters wrong, one error left to the other words
    scores = text_metrics(["My name is Anna."], ["My name is An Na."], ["Anna"])
    assert (scores["substitutions"], scores["insertions"]) == (1, 1)
    assert scores["names_exact_match"] == 0 and scores["names_character_error_rate"] == 50
    assert scores["wer"] == 50 and scores["wer_without_names"] == pytest.approx(100 / 3)


def test_a_name_that_the_reference_says_twice_counts_once():
    scores = text_metrics(["Anna, I am Anna."], ["Anna, I am Hannah."], ["Anna"])
    assert scores["names"] == 1 and scores["names_exact_match"] == 100  # the first; the second is a word like others
    assert scores["wer"] == 25 and scores["wer_without_names"] == pytest.approx(100 / 3)


def test_names_are_weighed_by_their_letters():
    scores = text_metrics(["I am Al.", "I am Dominik."], ["I am Ed.", "I am Dominic."], ["Al", "Dominik"])
    assert scores["names_exact_match"] == 0 and scores["names_character_error_rate"] == pytest.approx(100 * 3 / 9)
    assert scores["wer_without_names"] == 0 and scores["wer"] == pytest.approx(100 * 2 / 6)


@pytest.mark.parametrize("name", ["Ann-Marie", "O'Neil", "Mary Ann"])
def test_a_name_of_several_words_or_with_an_apostrophe(name):
    scores = text_metrics([f"I am {name}, hi."], [f"I am {name}, hi."], [name])
    assert scores["names_exact_match"] == 100 and scores["wer_without_names"] == 0
    scores = text_metrics([f"I am {name}, hi."], ["I am, hi."], [name])
    assert scores["names_exact_match"] == 0 and scores["names_character_error_rate"] == 100
    assert scores["wer_without_names"] == 0


def test_a_name_that_is_not_in_its_reference_is_said_so():
    with pytest.raises(ValueError, match="the name 'Bob' is not in its reference 'i am anna'"):
        text_metrics(["I am Anna."], ["I am Anna."], ["Bob"])


# --- motion -----------------------------------------------------------------------------------------------------------


def moved(joints, which, metres):
    joints = joints.copy()
    joints[:, which] += metres
    return joints


def test_reconstruction_errors_of_a_known_shift():
    joints = np.random.default_rng(0).normal(size=(7, NUM_JOINTS, 3))
    parts = ("upper_body_mm", "hands_mm", "left_hand_wrist_aligned_mm", "right_hand_wrist_aligned_mm")

    def errors(decoded):
        found = reconstruction_errors(joints, decoded)
        assert set(found) == set(parts)
        return [found[part] for part in parts]

    shift = np.array([0.003, 0.0, -0.004])  # 5 mm
    assert errors(joints) == [0, 0, 0, 0]
    assert errors(joints + shift) == pytest.approx([0, 0, 0, 0], abs=1e-9)  # the whole body: aligned at the root
    # right arm from the wrist on: 1 of 14 joints of the upper body, 15 of 30 finger joints; the hand itself is right
    assert errors(moved(joints, [21, *RIGHT_HAND], shift)) == pytest.approx([5 / 14, 2.5, 0, 0], abs=1e-9)
    assert errors(moved(joints, LEFT_HAND, shift)) == pytest.approx([0, 2.5, 5, 0], abs=1e-9)
    assert errors(moved(joints, [20], shift)) == pytest.approx([5 / 14, 0, 5, 0], abs=1e-9)
    assert errors(moved(joints, [4, 5, 10], shift)) == pytest.approx([0, 0, 0, 0], abs=1e-9)  # legs do not sign
    assert errors(moved(joints, [0], shift)) == pytest.approx([5 * 13 / 14, 5, 0, 0], abs=1e-9)  # the root itself


def test_code_usage():
    assert code_usage(np.repeat(np.arange(8), 5), 8) == {"codes_used": 8, "perplexity": pytest.approx(8)}
    assert code_usage(np.full(9, 3), 8) == {"codes_used": 1, "perplexity": pytest.approx(1)}
    # half of the time one code, half of it two others
    usage = code_usage(np.array([0, 0, 1, 2]), 512)
    assert usage["codes_used"] == 3 and usage["perplexity"] == pytest.approx(2**1.5)


def test_nearest_neighbour_accuracy_by_hand():
    known = np.array([[0.0, 0.0], [10.0, 0.0], [100.0, 100.0]])
    query = np.array([[1.0, 0.0], [6.0, 0.0], [4.0, 1.0], [70.0, 60.0]])
    assert nearest_neighbour_accuracy(known, ["a", "b", "c"], query, ["a", "b", "b", "c"]) == 75
    assert nearest_neighbour_accuracy(known, ["a", "a", "c"], query, ["a", "a", "a", "a"]) == 75


@pytest.mark.parametrize("frames", [1, 2, 3, 16, 40])
def test_a_sign_of_any_length_has_a_descriptor(frames):
    joints = np.random.default_rng(frames).normal(size=(frames, NUM_JOINTS, 3))
    descriptor = sign_descriptor(joints)
    assert descriptor.shape == (16 * (4 + 15 + 15) * 3,) and np.isfinite(descriptor).all()
    # where the person stands does not matter, what the arms do does
    assert np.allclose(sign_descriptor(joints + 1.0), descriptor)
    assert not np.allclose(sign_descriptor(moved(joints, [21, *RIGHT_HAND], 0.1)), descriptor)


def test_two_frames_are_interpolated():
    joints = np.zeros((2, NUM_JOINTS, 3))
    joints[1, 18] = 1.0
    arms = sign_descriptor(joints)[: 16 * 4 * 3].reshape(16, 4, 3)
    assert np.allclose(arms[:, 0] / arms[-1, 0], np.linspace(0, 1, 16)[:, None]) and not arms[:, 1:].any()


def test_the_same_sign_signed_slower_is_its_nearest_neighbour():
    rng = np.random.default_rng(0)
    signs = rng.normal(size=(5, 4, NUM_JOINTS, 3))
    slow = [
        np.stack([sign[int(i)] * (1 - i % 1) + sign[min(int(i) + 1, 3)] * (i % 1) for i in np.linspace(0, 3, 19)])
        for sign in signs
    ]
    known, query = np.stack([sign_descriptor(s) for s in signs]), np.stack([sign_descriptor(s) for s in slow])
    assert nearest_neighbour_accuracy(known, list("abcde"), query, list("abcde")) == 100
