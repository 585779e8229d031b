"""The report and what it rests on: token probabilities, motion in the page, captions that are no HTML."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import FPS, make_clip
from training_fixtures import read_jsonl

from lslm.processing.pipeline_lslm import spell_out
from lslm.training.dataset.encodings import encode_clips
from lslm.training.evaluation.display import LEGEND, motion_payload
from lslm.training.evaluation.evaluate import evaluate, translate_clips
from lslm.training.evaluation.report import differences, report_html
from lslm.training.evaluation.sign_translation_metrics import text_metrics
from lslm.training.recipe_keys import EvaluateKeys

pytest_plugins = ["training_fixtures"]
HOSTILE = '</script><script>alert("x")</script> & <!--content--> Ärger <b>tea</b>'
RESULTS = {
    "metrics": {"wer": 50.0, "bleu4": 12.34, "utterances": 7},
    "intervals": {"wer": [41.26, 58.76]},
    "motion": {"verdict": "no evidence", "summary": "No evidence that the motion is read <x>."},
    "notes": ["the FID is of 7 clips"],
    "model": "m<o>del",
    "data": "d&ta",
    "split": "test",
    "command": 'lslm evaluate --data "<x>"',
    "seed": 0,
    "seconds": 1.2,
    "versions": {"torch": "2.13.0"},
    "machine": "x86_64",
    "signatures": {"wer": "WER <lower-cased>"},
}


class Page(HTMLParser):
    """Tags, attributes and text of a page, and what is in its JSON script."""

    def __init__(self, source: str):
        super().__init__()
        self.tags, self.attributes, self.text, self.content, self.inside = [], [], "", "", False
        self.feed(source)
        self.content = json.loads(self.content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        self.inside = dict(attrs).get("type") == "application/json"

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        self.text += data
        self.content += data if self.inside else ""


def row(name="a", reference="Some tea.", tokens=("Some", " tea", ".", ""), probabilities=None, **more):
    """A line of predictions.jsonl."""
    text = "".join(tokens).strip()
    chances = list(probabilities or np.linspace(0.25, 1.0, len(tokens)))
    given = {"id": name, "reference": reference, "prediction": text, "prompt": "What is <motion>?"}
    return given | {"tokens": list(tokens), "probabilities": chances} | more


# --- token probabilities ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short_model(make_lslm):
    model = make_lslm("llama").eval()
    model.generation_config.max_new_tokens = 8
    return model


def forced(model, processor, clip, num_beams) -> tuple[list[int], np.ndarray]:
    """The answer to one clip alone, and the probability of each of its tokens from one pass over prompt and answer."""
    batch = processor([processor.prompt], motion=processor.feature_extractor.pad([clip]))
    start = batch["input_ids"].shape[1]
    whole = model.generate(**batch, num_beams=num_beams or 1)
    inputs = dict(batch) | {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
    with torch.no_grad():
        chances = model(**inputs).logits[0, start - 1 : -1].double().softmax(-1)
    answer = whole[0, start:]
    return answer.tolist(), chances.gather(1, answer[:, None])[:, 0].numpy()


@pytest.mark.parametrize("num_beams", [None, 3])
def test_probabilities_are_those_of_a_forced_pass(short_model, processor, features, num_beams):
    clips = [features[i] for i in (0, 1, 5, 4)]
    encodings = encode_clips(short_model.model.vqvae, processor.feature_extractor, clips)
    translations = translate_clips(short_model, processor, encodings, batch_size=3, num_beams=num_beams)
    for clip, translation in zip(clips, translations, strict=True):
        answer, expected = forced(short_model, processor, clip, num_beams)
        assert len(translation.tokens) == len(translation.probabilities) == len(answer)
        assert all(0 <= chance <= 1 for chance in translation.probabilities) and min(translation.probabilities) < 0.9
        assert np.allclose(translation.probabilities, expected, rtol=1e-3)
        assert np.prod(translation.probabilities) == pytest.approx(np.prod(expected), rel=1e-3)
        assert translation.text == processor.decode(answer)


def test_an_answer_ends_with_its_end_of_turn_token(make_lslm, processor, features):
    model = make_lslm("llama").eval()
    model.generation_config.max_new_tokens = 8
    answers = [forced(model, processor, clip, None)[0] for clip in features[:3]]
    model.generation_config.eos_token_id = answers[0][3]  # whatever it says in the fourth place ends a turn now
    length = answers[0].index(answers[0][3]) + 1
    encodings = encode_clips(model.model.vqvae, processor.feature_extractor, features[:3])
    translations = translate_clips(model, processor, encodings)
    assert len(translations[0].tokens) == len(translations[0].probabilities) == length
    assert translations[0].text == "".join(translations[0].tokens).strip() == processor.decode(answers[0][:length])
    assert max(len(translation.tokens) for translation in translations) > length  # the others pad it


@pytest.mark.parametrize("text", ["Crème 🍵 für Zoë, please!", "two  blanks", ""])
def test_token_strings_join_to_the_text(make_tokenizer, text):
    tokenizer = make_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    strings = spell_out(tokenizer, ids, [1.0] * len(ids), []).tokens
    assert len(strings) == len(ids) and "".join(strings) == text and not any("\ufffd" in piece for piece in strings)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_hostile_text_stays_text():
    hostile = row(HOSTILE, HOSTILE, (HOSTILE[:20], HOSTILE[20:], ""), prompt=HOSTILE)
    hostile |= {"prompt_unseen_templates": HOSTILE, "prediction_unseen_templates": HOSTILE}
    plain, page = (
        Page(report_html(RESULTS, [shown], [make_clip(5)], FPS))
        for shown in (row(prompt_unseen_templates="x", prediction_unseen_templates="y"), hostile)
    )
    assert page.tags.count("script") == plain.tags.count("script") == 2
    assert "b" not in page.tags[page.tags.index("ol") :]
    assert page.text.count(HOSTILE) >= 5  # name, prompts, reference, output: nothing lost, nothing run
    assert len(page.content) == 1 and page.content[0]["fps"] == FPS and page.content[0]["name"] == HOSTILE
    assert "m<o>del" in page.text and 'lslm evaluate --data "<x>"' in page.text and "WER <lower-cased>" in page.text


def test_the_page_asks_the_network_for_nothing():
    source = report_html(RESULTS, [row()], [make_clip(5)], FPS)
    assert not any({"src", "href", "srcset", "data"} & set(attributes) for attributes in Page(source).attributes)
    requests = ("url(", "@import", "fetch(", "http://", "https://")
    assert "default-src 'none'" in source and not any(request in source for request in requests)


def test_each_row_has_the_motion_of_its_clip():
    clips = [make_clip(frames, frames) for frames in (5, 23, 9)]
    content = Page(report_html(RESULTS, [row(name) for name in "abc"], clips, FPS)).content
    assert content == [motion_payload(clip, FPS, name=name) for clip, name in zip(clips, "abc", strict=True)]


def test_words_are_tinted_by_their_probability_and_wrong_ones_marked():
    said = row("a", "Some hot tea.", ("No", " te", "a", ""), (0.4, 1.0, 0.75, 0.125))
    source = report_html(RESULTS, [said], [make_clip(5)], FPS)
    cards = source[source.index('<ol class="clips">') :]
    for piece in (
        '<span class="word unsure" style="--p:0.400" title="40\u00a0%"><mark class="wrong">No</mark></span>',
        '<span class="word" style="--p:0.750" title="75\u00a0%">tea</span>',
        '<mark class="missed">Some</mark> <mark class="missed">hot</mark> tea.',
        "2 word errors",
        "Sure of the whole sentence: 4\u00a0%. Least sure of “No”: 40\u00a0%.",
    ):
        assert piece in cards
    assert "cut off" not in cards and LEGEND in source
    cut = report_html(RESULTS, [row("a", "Some tea.", ("Some", " tea"))], [make_clip(5)], FPS)
    assert "It was cut off at the length limit." in cut and "1 of 7 clips" in cut


def test_an_empty_answer_and_an_empty_reference_are_shown():
    rows = [row("a", "Some tea.", ("",)), row("b", "", ("Tea", "")), row("c", "Tea.", ())]
    source = report_html(RESULTS, rows, [make_clip(5)] * 3, FPS)
    assert source.count('<span class="nothing">(nothing)</span>') == 3
    assert source.count("2 word errors") == 1 and source.count("1 word error<") == 2


def test_differences_are_those_of_the_word_error_rate():
    rng = np.random.default_rng(0)
    words = ["tea", "Tea,", "no", "it's", "a-b", "Ärger", "please."]
    for _ in range(50):
        reference, prediction = (" ".join(rng.choice(words, rng.integers(1, 8))) for _ in range(2))
        missed, wrong, errors = differences(reference, prediction)
        counts = text_metrics([reference], [prediction], definitions=["wer"])
        assert errors == counts["substitutions"] + counts["deletions"] + counts["insertions"]
        assert len(missed) == counts["substitutions"] + counts["deletions"]
        assert len(wrong) == counts["substitutions"] + counts["insertions"]
        assert all(reference[start:end].strip(" ,.-") == reference[start:end] for start, end in missed)
    assert differences("", "tea") == ([], [(0, 3)], 1) and differences("", "") == ([], [], 0)


def test_evaluate_writes_confidence_and_a_report(toy, checkpoint, tmp_path):
    keys = EvaluateKeys(str(toy / "set"), "test", str(tmp_path), checkpoint, limit=3, report_clips=2)
    results = evaluate(keys)
    ids = {f"test-{number:04d}" for number in range(3)}
    rows = read_jsonl(tmp_path / "predictions.jsonl")
    assert {row["id"] for row in rows} == ids
    for row in rows:
        assert row["prompt"].count("<motion>") == 1 and len(row["tokens"]) == len(row["probabilities"]) > 0
        assert row["prediction"] == "".join(row["tokens"]).strip()
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(page.content) == 2 and {clip["name"] for clip in page.content} == {n for n in ids if n in page.text}
    assert "2 of 3 clips" in page.text and f"{results['metrics']['wer']:.1f}" in page.text


def test_the_report_in_a_browser(browser, tmp_path):
    rows = [row("first <b>", "Some tea."), row("second", "No tea.")]
    (tmp_path / "report.html").write_text(report_html(RESULTS, rows, [make_clip(40), make_clip(30, 1)], FPS), "utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())

    def picture() -> str:
        page.wait_for_timeout(100)
        return page.locator("canvas.body").evaluate("canvas => canvas.toDataURL()")

    page.locator("figcaption.name", has_text="first <b>").wait_for()
    page.get_by_role("button", name="Pause").click()
    drawn = [picture()]
    page.locator("canvas.body").press("ArrowRight")
    drawn.append(picture())
    page.get_by_role("slider", name="Time").press("End")
    drawn.append(picture())
    page.keyboard.press("Tab")
    page.get_by_role("button", name="second").press("j")
    page.locator("figcaption.name", has_text="second").wait_for()
    assert page.locator(".clip.chosen").inner_text().count("second") == 1
    page.get_by_role("button", name="Pause").wait_for()
    page.locator("canvas.body").press(" ")  # once, not there and back
    page.get_by_role("button", name="Play").wait_for()
    drawn.append(picture())
    assert len(set(drawn)) == 4 and complaints == [] and len(asked) == 1
    context.close()
