"""Scores of text against numbers worked out by hand, and against the libraries whose definitions they carry."""

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jiwer
import lslm_cli
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

import lslm.training.evaluation.sign_translation_metrics as package
from lslm.training.evaluation.sign_translation_metrics import (
    ALL,
    compare,
    confidence_intervals,
    normalize_words,
    signatures,
    text_metrics,
)
from lslm.training.evaluation.sign_translation_metrics.significance import _draws
from lslm.training.evaluation.sign_translation_metrics.text_metrics import BLOCKED, BLOCKLIST, DEFINITIONS, align

REFERENCES = ["Can I have a small coffee, please?", "My name is Dana and I want tea.", "No sugar for me today.", "Hi!"]
PREDICTIONS = ["Can I have a large coffee please?", "my name is Dana and I want tea.", "No milk for you.", ""]
DATA = REFERENCES, PREDICTIONS
pytestmark = pytest.mark.filterwarnings("ignore:cider has no value")  # many tests score one sentence
sentences = st.lists(st.sampled_from(["the", "The", "cat", "cat's", "sat", "on", "mat.", "mat", ",", "!"]), max_size=9)
pairs_of_texts = st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=5).map(
    lambda pairs: tuple([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
)


def score(reference, prediction, name):
    """One score of one pair, or of two lists."""
    both = [[text] if isinstance(text, str) else text for text in (reference, prediction)]
    return text_metrics(*both, definitions=[next(d for d in ALL if name in signatures([d]))])[name]


# --- words, WER, names ------------------------------------------------------------------------------------------------


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
    counts = {"substitutions": 1, "insertions": 1, "deletions": 2, "reference_words": 15, "utterances": 3}
    assert scores | counts == scores and all(type(scores[name]) is int for name in counts)
    assert scores["deletions_per_sentence"] == pytest.approx(2 / 3)
    assert scores["deletion_rate"] == pytest.approx(100 * 2 / 15)
    assert scores["wer"] == pytest.approx(100 * 4 / 15)  # over the corpus: not the mean of 20, 33 and 29 %
    assert scores["exact_match"] == 0.0 and "names" not in scores


def test_apostrophes_count_and_punctuation_does_not():
    scores = text_metrics(["I'd like it."], ["Id like it!!"])
    assert scores["wer"] == pytest.approx(100 / 3)
    scores = text_metrics(["I'd like it."], ["i'd LIKE, it"])
    assert scores["wer"] == 0.0 and scores["exact_match"] == 0.0 and scores["bleu4"] < 100


def test_the_perfect_translation():
    texts = ["Can I have a small coffee, please?", "My name is Dana and I want tea."]
    scores = text_metrics(texts, list(texts), [None, "Dana"])
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "rouge_l", "exact_match", "names_exact_match"):
        assert scores[name] == pytest.approx(100), name
    for name in ("wer", "insertions", "deletions", "substitutions", "wer_without_names", "names_character_error_rate"):
        assert scores[name] == 0, name


@pytest.mark.parametrize(
    "references, predictions, names, exact, letters_wrong, wer, wer_without",
    [
        ("My name is Anna.", "My name is anna!", "Anna", 100, 0, 0, 0),  # as WER sees it: lower case
        ("My name is Anna.", "My name is Hanno.", "Anna", 0, 50, 25, 0),  # one letter too many, one wrong
        ("My name is Anna.", "My name is.", "Anna", 0, 100, 25, 0),  # missing: all its letters
        ("My name is Anna.", "Your name is Anna.", "Anna", 100, 0, 25, 100 / 3),  # an error elsewhere is not the name's
        ("My name is Anna.", "My name is Anna Anna.", "Anna", 100, 0, 25, 100 / 3),  # said twice: nor is an insertion
        # anna -> "an" or "na", and the other half is an insertion: two letters wrong, one error left to the others
        ("My name is Anna.", "My name is An Na.", "Anna", 0, 50, 50, 100 / 3),
        # of two the first counts; the second is a word like others
        ("Anna, I am Anna.", "Anna, I am Hannah.", "Anna", 100, 0, 25, 100 / 3),
        ("I am Ann-Marie, hi.", "I am Ann-Marie, hi.", "Ann-Marie", 100, 0, 0, 0),  # two words to WER
        ("I am Ann-Marie, hi.", "I am, hi.", "Ann-Marie", 0, 100, 40, 0),
        ("I am O'Neil, hi.", "I am, hi.", "O'Neil", 0, 100, 25, 0),
        ("I am Mary Ann, hi.", "I am, hi.", "Mary Ann", 0, 100, 40, 0),
        # names are weighed by their letters, an utterance without a name is one of the other words
        (["I am Al.", "I am Dominik."], ["I am Ed.", "I am Dominic."], ["Al", "Dominik"], 0, 300 / 9, 200 / 6, 0),
        (["I am Ann.", "No tea."], ["", "No tea."], ["Ann", None], 0, 100, 60, 50),
    ],
)
def test_a_name_by_hand(references, predictions, names, exact, letters_wrong, wer, wer_without):
    given = ([text] if isinstance(text, str) else text for text in (references, predictions, names))
    scores = text_metrics(*given)
    assert scores["names_exact_match"] == exact
    assert scores["names_character_error_rate"] == pytest.approx(letters_wrong)
    assert (scores["wer"], scores["wer_without_names"]) == pytest.approx((wer, wer_without))


def test_a_name_that_is_not_in_its_reference_is_said_so():
    with pytest.raises(ValueError, match="the name 'Bob' is not in its reference 'i am anna'"):
        text_metrics(["I am Anna."], ["I am Anna."], ["Bob"])
    with pytest.raises(ValueError, match="2 references for 1 names"):
        text_metrics(["a", "b"], ["a", "b"], [None])


# --- alignment --------------------------------------------------------------------------------------------------------


def test_words_are_paired_before_one_is_left_out():
    # as many errors as leaving "a" out and putting "c" in
    assert align(["a", "b"], ["b", "c"]) == [("a", "b"), ("b", "c")]
    assert align(["a", "b", "c"], ["b", "c", "d"]) == [("a", None), ("b", "b"), ("c", "c"), (None, "d")]
    assert align(["a"], []) == [("a", None)] and align("", "ab") == [(None, "a"), (None, "b")] and align([], []) == []


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
@settings(deadline=None, max_examples=50)
def test_an_alignment_is_complete_and_shortest(reference, prediction):
    pairs = align(reference, prediction)
    assert [r for r, _ in pairs if r is not None] == reference and [p for _, p in pairs if p is not None] == prediction
    assert (None, None) not in pairs
    errors = sum(r != p for r, p in pairs)
    if reference:
        assert errors == round(jiwer.wer(" ".join(reference), " ".join(prediction)) * len(reference))


# --- BLEU and chrF ----------------------------------------------------------------------------------------------------


@given(pairs_of_texts)
@settings(deadline=None, max_examples=40)
def test_bleu_and_chrf_are_sacrebleu_s_for_any_text(texts):
    references, predictions = texts
    scores = text_metrics(*texts, definitions=["bleu", "bleu_lower", "bleu_none", "chrf"])
    for suffix, options in (("", {}), ("_lower", {"lowercase": True}), ("_none", {"tokenize": "none"})):
        for order in (1, 2, 3, 4):
            theirs = BLEU(max_ngram_order=order, **options).corpus_score(predictions, [references]).score
            assert scores[f"bleu{order}{suffix}"] == pytest.approx(theirs, abs=1e-9)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(predictions, [references]).score, abs=1e-9)


def test_the_signature_is_sacrebleu_s():
    bleu = BLEU()
    bleu.corpus_score(PREDICTIONS, [REFERENCES])
    assert signatures()["bleu4"] == f"BLEU|{bleu.get_signature()}"


def test_every_score_has_a_signature():
    scores = text_metrics(REFERENCES, PREDICTIONS, definitions=ALL)
    assert set(scores) == set(signatures(ALL)) | {"utterances"}
    assert len({signatures(ALL)[f"bleu4{suffix}"] for suffix in ("", "_lower", "_none", "_motiongpt")}) == 4


def test_bleu_of_motiongpt_by_hand():
    # lower case, an apostrophe is a blank
    assert score("The cat's on the mat!", "the cat S on the mat", "bleu4_motiongpt") == pytest.approx(100)
    # 3 of 3 words, one too few; no 4-gram and no smoothing
    assert score("the cat sat down", "the cat sat", "bleu1_motiongpt") == pytest.approx(100 * math.exp(1 - 4 / 3))
    assert score("the cat sat down", "the cat sat", "bleu3_motiongpt") == pytest.approx(100 * math.exp(1 - 4 / 3))
    assert score("the cat sat down", "the cat sat", "bleu4_motiongpt") == 0
    # 1-grams 3 of 4, 2-grams 1 of 3, 3-grams none: sacrebleu smooths, this does not
    assert score("a b c d", "a b x d", "bleu2_motiongpt") == pytest.approx(100 * math.sqrt(3 / 4 / 3))
    assert score("a b c d", "a b x d", "bleu3_motiongpt") == 0 < score("a b c d", "a b x d", "bleu3_none")


def test_reduced_bleu_leaves_frequent_words_and_punctuation_out():
    assert len(BLOCKLIST) == len(set(BLOCKLIST)) == 145 and len(BLOCKED) == 290
    words = "knead dough until smooth"
    assert score(words, "I'm going to knead, and The dough until smooth!", "rbleu") == pytest.approx(100)
    assert score("I'm going to knead the dough until smooth.", words, "rbleu") == pytest.approx(100)
    # hyphens vanish, case and other apostrophes stay; their list says "Cas" where it means "Was"
    assert score("our follow-up dough rises well", "followup dough rises well", "rbleu") == pytest.approx(100)
    assert score("dough was flour water salt", "dough Was flour water salt", "rbleu") < 100
    assert score("dough was flour water salt", "dough flour water salt", "rbleu") == pytest.approx(100)


def test_reduced_bleu_does_not_count_a_reference_of_which_nothing_is_left():
    references, predictions = ["knead dough until smooth", "And you?"], ["knead dough until smooth", "banana bread now"]
    assert score(references, predictions, "rbleu") == pytest.approx(100)
    # an empty prediction counts: 4 of 8 words were said
    references = ["knead dough until smooth", "wash every single banana"]
    assert score(references, ["knead dough until smooth", ""], "rbleu") < 50


# --- ROUGE-L and CIDEr ------------------------------------------------------------------------------------------------


def test_both_rouge_l_by_hand():
    # "the cat on mat": precision 4 of 5, recall 4 of 6
    precision, recall = 4 / 5, 4 / 6
    texts = "The cat sat on the mat.", "the cat on a mat"
    assert score(*texts, "rouge_l") == pytest.approx(200 * precision * recall / (precision + recall))
    assert score(*texts, "rouge_l_coco") == pytest.approx(100 * 2.44 * precision * recall / (recall + 1.44 * precision))
    assert score(*texts, "rouge_l_coco") < score(*texts, "rouge_l")  # recall is the worse one, and weighs more
    assert score("a b c", "c b a", "rouge_l_coco") == pytest.approx(100 / 3)
    assert score("a b c", "", "rouge_l_coco") == score("a b c", "?", "rouge_l_coco") == 0
    assert score(["a b", "c d"], ["a b", "x"], "rouge_l_coco") == 50  # mean over sentences


def test_cider_by_hand():
    # every n-gram is in one of two references: all weigh the same. First: 1- and 2-grams right, none longer.
    # Second: one of two words right.
    assert score(["a b", "c d"], ["a b", "c x"], "cider") == pytest.approx(1000 * (2 / 4 + 0.5 / 4) / 2)
    # "b" counts once; two bigrams too many
    length = math.exp(-(2**2) / (2 * 6**2))
    longer = (2 / math.sqrt(2 * 10) + 1 / math.sqrt(5)) / 4 * length
    assert score(["a b", "c d"], ["A b, b b!", "c d"], "cider") == pytest.approx(1000 * (longer + 2 / 4) / 2)
    # "a" is in both references: it weighs nothing
    assert score(["a b", "a c"], ["a", "a"], "cider") == 0


@pytest.mark.parametrize("references", [["I want tea."], ["I want tea.", "i want TEA"]])
def test_cider_without_two_different_references_has_no_value(references):
    with pytest.warns(UserWarning, match="cider has no value: .* needs two different references"):
        scores = text_metrics(references, references)
    assert "cider" not in scores and scores["bleu1"] == pytest.approx(100)
    assert "cider" not in confidence_intervals(references, references, samples=3)
    assert "cider" not in compare(references, references, references, samples=3)


def test_letters_that_rouge_does_not_see_are_said():
    with pytest.warns(UserWarning, match="rouge_l sees the letters a to z alone"):
        scores = text_metrics(["Schön, Tee"], ["schon Tee"], definitions=["rouge_l", "rouge_l_coco"])
    assert scores["rouge_l"] != scores["rouge_l_coco"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_metrics(["Tea – 5 €"], ["tea"], definitions=["rouge_l"])  # no letter among them


def test_references_without_words_have_no_wer():
    with pytest.warns(UserWarning, match="wer has no value: the references have no words"):
        scores = text_metrics(["?!"], ["what"], definitions=["wer", "chrf"])
    assert set(scores) == {"chrf", "utterances"}
    # beside others, such a reference costs what was said
    assert score(["?!", "I see."], ["what", "I see."], "wer") == 50


# --- what cannot be scored --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "references, predictions, said",
    [
        (["a", " \t"], ["a", "b"], "line 2 of the references is empty"),
        (["a", "b"], ["a"], "2 references for 1 predictions; expected one prediction"),
        ([], [], "0 references for 0 predictions"),
        (["a", None], ["a", "b"], r"line 2 of the references is None \(NoneType\); expected a string"),
        (["a"], [3], r"line 1 of the predictions is 3 \(int\); expected a string"),
        ("abc", ["a"], "references must be a list of sentences, not a str"),
        (["a"], "a", "predictions must be a list of sentences, not a str"),
        (["a"], None, "predictions must be a list of sentences, not a NoneType"),
        ([["a", "b"]], ["a"], r"line 1 of the references is \['a', 'b'\] \(list\)"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_line(references, predictions, said):
    for function in (text_metrics, confidence_intervals, lambda r, p: compare(r, p, p)):
        with pytest.raises(ValueError, match=said) as error:
            function(references, predictions)
        assert "\n" not in str(error.value)


# --- intervals and tests ----------------------------------------------------------------------------------------------

RESAMPLED = [name for name in ALL if name != "cider"]  # its weights would be others in a resample


def test_a_resample_scores_what_its_sentences_score():
    draws = _draws(len(REFERENCES), samples=7, seed=3)
    assert draws.shape == (7, 4) and (draws.sum(1) == 4).all() and len(np.unique(draws, axis=0)) > 3
    scores = []
    for draw in draws.astype(int):
        both = [[text for text, times in zip(side, draw, strict=True) for _ in range(times)] for side in DATA]
        scores.append(text_metrics(*both, definitions=RESAMPLED))
    intervals = confidence_intervals(*DATA, RESAMPLED, samples=7, seed=3)
    for name, interval in intervals.items():
        assert interval == pytest.approx(np.percentile([s[name] for s in scores], [2.5, 97.5])), name
    assert {"bleu1", "bleu4", "chrf", "rouge_l", "wer", "rbleu"} <= set(intervals) and "insertions" not in intervals


def test_a_resample_scores_the_names_that_its_sentences_have():
    references, names = (
        [f"Tea for {name}, please." for name in ("Ann", "Bo", "Cleo", "Dan")],
        ["Ann", "Bo", "Cleo", None],
    )
    predictions = ["Tea for Ann please", "Teas for Ob, please", "Tea for Leo.", "Tea, please, Dan."]
    intervals, scores = confidence_intervals(references, predictions, ["wer"], samples=9, names=names), []
    for draw in _draws(4, samples=9, seed=0).astype(int):
        sides = (
            [text for text, times in zip(side, draw, strict=True) for _ in range(times)]
            for side in (references, predictions, names)
        )
        scores.append(text_metrics(*sides, definitions=["wer"]))
    for name in ("wer_without_names", "names_exact_match", "names_character_error_rate"):
        assert intervals[name] == pytest.approx(np.percentile([s[name] for s in scores], [2.5, 97.5])), name
    assert len({intervals[name] for name in intervals}) == 4


def test_intervals_hold_the_score_and_depend_on_the_seed_alone():
    scores, found = text_metrics(*DATA, definitions=ALL), confidence_intervals(*DATA, ALL, samples=200)
    assert all(low <= scores[name] <= high for name, (low, high) in found.items())
    assert found == confidence_intervals(*DATA, ALL, samples=200, seed=0)
    assert found != confidence_intervals(*DATA, ALL, samples=200, seed=1)
    assert all(low == high for low, high in confidence_intervals(REFERENCES, REFERENCES, ["wer"]).values())


def test_a_system_does_not_differ_from_itself():
    for name, test in compare(REFERENCES, PREDICTIONS, PREDICTIONS, ALL, samples=50).items():
        assert test == {"score": test["other"], "other": test["other"], "difference": 0, "low": 0, "high": 0, "p": 1}, (
            name
        )


def test_a_difference_in_one_sentence_may_be_chance():
    test = compare(REFERENCES, [*PREDICTIONS[:-1], "Hi!"], PREDICTIONS, ["wer"], samples=99)["wer"]
    # handing the two versions to the other system turns the sign of the difference, and not its size
    assert test["p"] == 1 and test["difference"] == pytest.approx(-100 / 21)


def test_a_difference_in_most_sentences_is_none():
    references = [f"Can I have {number} coffees, please?" for number in range(20)]
    worse = [f"Can I have {number} cookies?" for number in range(20)]
    tests = compare(references, references, worse, ALL, samples=999)
    back = compare(references, worse, references, ALL, samples=999)
    assert set(tests) == {name for definition in DEFINITIONS.values() for name in definition.names}
    for name in ("bleu1", "bleu4", "chrf", "rouge_l", "wer", "cider"):
        low, difference, high, p = (tests[name][key] for key in ("low", "difference", "high", "p"))
        assert p == 0.001 and difference * (-1 if name == "wer" else 1) > 0, name
        assert low - 1e-9 <= difference <= high + 1e-9  # where all sentences differ alike the three are one
        mirrored = {"difference": -difference, "low": -high, "high": -low, "p": p}
        assert {key: back[name][key] for key in mirrored} == pytest.approx(mirrored)


def test_sentences_of_a_group_are_drawn_together():
    references, worse = ["a b", "a b", "c d", "e f"] * 5, ["a x", "a x", "c d", "e f"] * 5
    plain, alone, pairs, all_in_one = (
        compare(references, worse, references, ["wer"], samples=99, groups=groups)["wer"]
        for groups in (None, [*map(str, range(20))], references, ["one"] * 20)
    )
    assert plain == alone and pairs["low"] == 0 < plain["low"] and pairs["high"] > plain["high"]
    assert all_in_one["low"] == all_in_one["high"] == all_in_one["difference"] == plain["difference"] == 25


def test_chance_is_found_to_be_chance():
    """Two systems that err at random alike: p is small in few of many repetitions."""
    rng = np.random.default_rng(0)
    references = ["a b c d"] * 30
    small = 0
    for seed in range(40):
        one, two = (["a b c d" if right else "a b c x" for right in rng.random(30) < 0.6] for _ in range(2))
        small += compare(references, one, two, ["wer"], samples=99, seed=seed)["wer"]["p"] <= 0.1
    assert small <= 10  # 4 are expected


# --- as an `evaluate` module ------------------------------------------------------------------------------------------

FOLDER = Path(package.__file__).parent
PROGRAM = """
import json, socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
import evaluate
module = evaluate.load(sys.argv[1])
references, predictions = json.loads(sys.argv[2])
scores = module.compute(predictions=predictions, references=references, names=[None, "Dana", None, None], bootstrap=5)
module.add_batch(predictions=predictions[:2], references=references[:2])
module.add_batch(predictions=predictions[2:], references=references[2:])
scores["in batches"] = module.compute(definitions=["wer"])["wer"]
try:
    module.compute(predictions=[1], references=["a"])
except ValueError as error:
    scores["error"] = str(error)
scores["loaded"] = "lslm" in sys.modules
print(json.dumps(scores))
"""


def test_it_loads_from_its_folder_offline_anywhere(tmp_path):
    pytest.importorskip("evaluate")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(FOLDER), json.dumps(DATA)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    names = [None, "Dana", None, None]
    expected = text_metrics(*DATA, names)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert scores["signatures"] == signatures() and scores["names"] == 1
    intervals = confidence_intervals(*DATA, samples=5, names=names)
    assert scores["intervals"] == {k: list(v) for k, v in intervals.items()} and "names_exact_match" in intervals
    assert not scores["loaded"]  # it stands alone, as it does where only the folder was copied
    assert scores["in batches"] == pytest.approx(expected["wer"])
    assert scores["error"] == "line 1 of the predictions is 1 (int); expected a string"


# --- lslm score -------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ref").write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    Path("hyp").write_text("\r\n".join(PREDICTIONS) + "\r\n", encoding="utf-8")
    Path("old").write_text("\n".join(["No."] * 4), encoding="utf-8")


def run(capsys, *argv):
    code = lslm_cli.main(["score", *argv])
    return code, *capsys.readouterr()


def test_the_command_prints_scores_with_signatures(files, capsys):
    code, shown, said = run(capsys, "hyp", "ref", "--definitions", "bleu", "wer")
    lines = [line.split(maxsplit=2) for line in shown.splitlines()]
    expected = text_metrics(*DATA, definitions=["bleu", "wer"])
    assert code == 0 and [line[0] for line in lines] == list(expected)
    for name, value, *signature in lines:
        assert value == (f"{expected[name]:.2f}" if isinstance(expected[name], float) else str(expected[name]))
        assert signature == ([signatures()[name]] if name in signatures() else [])
    assert said == "lslm: hyp: 1 of 4 lines are empty, and count as deletions\n"


def test_the_command_with_intervals_and_against_another_system(files, capsys):
    _, shown, _ = run(capsys, "hyp", "ref", "--definitions", "wer", "--bootstrap", "20")
    low, high = confidence_intervals(*DATA, ["wer"], samples=20)["wer"]
    assert f"[{low:.2f}, {high:.2f}]" in shown.splitlines()[0]
    _, shown, _ = run(capsys, "hyp", "ref", "--definitions", "all", "--against", "old", "--bootstrap", "20")
    test = compare(*DATA, ["No."] * 4, ["wer"], samples=20)["wer"]
    line = "{score:.2f}  {other:8.2f}  {difference:+8.2f} [{low:+.2f}, {high:+.2f}] p {p:.3f}".format(**test)
    assert line in shown and "bleu4_motiongpt" in shown and "cider" in shown


def test_the_command_for_machines(files, capsys):
    code, shown, said = run(capsys, "hyp", "ref", "--json", "--against", "old", "--bootstrap", "9", "--seed", "4")
    result = json.loads(shown)
    assert code == 0 and said == "" and len(shown.splitlines()) == 1
    assert result["scores"] == pytest.approx(text_metrics(*DATA))
    assert result["against"] == pytest.approx(text_metrics(REFERENCES, ["No."] * 4))
    assert result["intervals"]["wer"] == list(confidence_intervals(*DATA, samples=9, seed=4)["wer"])
    assert result["test"]["bleu4"] == compare(*DATA, ["No."] * 4, samples=9, seed=4)["bleu4"]
    assert result["signatures"] == signatures() and len(result["notes"]) == 1


def test_the_command_on_one_sentence(files, capsys):
    Path("one").write_text("I want tea\u2028now.", encoding="utf-8")  # a line separator within a sentence
    code, shown, said = run(capsys, "one", "one")
    assert code == 0 and "cider" not in shown and "utterances" in shown
    assert said.startswith("lslm: cider has no value:") and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "argv, said",
    [
        (["hyp", "empty"], "lslm: empty is empty; expected one sentence a line"),
        (["empty", "ref"], "lslm: empty is empty; expected one sentence a line"),
        (["hyp", "blank"], "lslm: blank: line 3 is empty; leave this sentence out of both files"),
        (["short", "ref"], "lslm: short has 1 lines, ref has 4; expected a line for each"),
        (["hyp", "ref", "--against", "short"], "lslm: short has 1 lines, ref has 4; expected a line for each"),
        (["bytes", "ref"], "lslm: bytes is not UTF-8 text"),
        (["nowhere", "ref"], "lslm: nowhere: No such file or directory"),
        (
            ["hyp", "ref", "--definitions", "wers"],
            "lslm: no definition 'wers'; did you mean wer? there are bleu, bleu_lower",
        ),
        (["hyp", "ref", "--bootstrap", "0"], "lslm: 0 resamples; expected at least 1"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(files, capsys, argv, said):
    Path("empty").write_bytes(b"")
    Path("blank").write_text("a\nb\n\nc\n")
    Path("short").write_text("a\n")
    Path("bytes").write_bytes(b"\xff\xfe\x00")
    code, shown, message = run(capsys, *argv)
    assert code == 2 and shown == "" and message.startswith(said) and len(message.splitlines()) == 1


def test_the_help_names_every_definition(capsys):
    with pytest.raises(SystemExit):
        lslm_cli.main(["score", "--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in ALL) and "score HYP REF" in lslm_cli.HELP
