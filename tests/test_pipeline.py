"""`pipeline("sign-translation")`: every form of input, batches, generation arguments, bad input."""

import copy
import types

import numpy as np
import pytest
import torch
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from lslm import Motion, SignTranslationPipeline

SHORT = {"max_new_tokens": 8, "min_new_tokens": 8}


@pytest.fixture(scope="module")
def pipe(checkpoint):
    return pipeline("sign-translation", model=checkpoint, **SHORT)


@pytest.fixture(scope="module")
def joints(clips):
    """Three clips as a file would hold them, and short: float32, 5 to 30 frames."""
    return [clips[i].astype(np.float32) for i in (4, 1, 3)]


@pytest.fixture(scope="module")
def translate(lslm_model, processor):
    """A translation without a pipeline."""

    def translate(inputs, **options):
        sequences = lslm_model.generate(**inputs, **(options or SHORT))[:, inputs["input_ids"].shape[1] :]
        return processor.batch_decode(sequences)[0]

    return translate


@pytest.fixture(scope="module")
def expected(translate, processor, joints):
    texts = [translate(processor(motion=clip)) for clip in joints]
    assert len(set(texts)) == 3
    return texts


def answer(text):
    return [{"translation_text": text}]


def test_it_is_found_by_its_task(pipe):
    assert type(pipe) is SignTranslationPipeline
    assert pipe.task == "sign-translation"


FORMS = {
    "str": lambda joints, features, path: str(path),
    "Path": lambda joints, features, path: path,
    "joints": lambda joints, features, path: joints,
    "features": lambda joints, features, path: features,
    "tensor": lambda joints, features, path: torch.as_tensor(joints),
    "nested list": lambda joints, features, path: joints.tolist(),
    "nested list of features": lambda joints, features, path: features.tolist(),
    "list of frames": lambda joints, features, path: list(joints),
    "Motion": lambda joints, features, path: Motion(joints, 20.0, np.ones(joints.shape[:2], bool)),
    "dict of joints": lambda joints, features, path: {"joints": joints, "fps": 20},
    "dict of a list": lambda joints, features, path: {"joints": joints.tolist(), "fps": 20, "text": "ignored"},
    "dict of features": lambda joints, features, path: {"features": features},
    "dict of a path": lambda joints, features, path: {"path": str(path)},
    "dict of a motion": lambda joints, features, path: {"motion": joints, "joints": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_one_clip_gives_one_translation(pipe, joints, extractor, expected, form, tmp_path):
    np.savez(tmp_path / "clip.npz", joints=joints[0], fps=20.0)
    clip = FORMS[form](joints[0], extractor.to_features(joints[0]), tmp_path / "clip.npz")
    assert pipe(clip) == answer(expected[0])


def test_integers_are_millimetres(pipe, joints):
    millimetres = (joints[0] * 1000).round().astype(np.int16)
    result = pipe(millimetres)
    assert pipe({"joints_mm": millimetres.tolist()}) == result == pipe({"joints_mm": millimetres.astype(np.float32)})
    assert result == pipe(millimetres / 1000.0)


def test_a_dict_brings_its_frame_rate_and_prompt(pipe, processor, translate, joints):
    inputs = processor("What does <motion> say?", motion=joints[0], fps=40.0)
    assert inputs["input_features"].shape[1] < len(joints[0]) / 1.9
    text = translate(inputs)
    asked = {"joints": joints[0], "fps": 40.0, "prompt": "What does <motion> say?"}
    assert pipe(asked) == answer(text)
    assert pipe(joints[0], fps=40.0, prompt="What does <motion> say?") == answer(text)
    assert pipe({"joints": joints[0]}) != answer(text)


MANY = {
    "list": lambda joints: list(joints),
    "tuple": lambda joints: tuple(joints),
    "nested lists": lambda joints: [clip.tolist() for clip in joints],
    "tensors": lambda joints: [torch.as_tensor(clip) for clip in joints],
    "dicts": lambda joints: [{"joints": clip} for clip in joints],
    "column": lambda joints: hf_dataset(joints)["joints"],
    "data set": lambda joints: hf_dataset(joints),
    "numpy column": lambda joints: hf_dataset(joints).with_format("numpy")["joints"],
}


def hf_dataset(joints):
    datasets = pytest.importorskip("datasets")
    rows = {"joints": [clip.tolist() for clip in joints], "text": ["a", "b", "c"], "fps": [20.0] * 3}
    return datasets.Dataset.from_dict(rows)


@pytest.mark.parametrize("form", MANY)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_several_clips_give_a_list(pipe, joints, expected, form, batch_size):
    assert pipe(MANY[form](joints), batch_size=batch_size) == [answer(text) for text in expected]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_generator_and_a_torch_data_set_are_read_lazily(pipe, joints, expected, batch_size):
    taken = []

    def clips():
        for clip in joints:
            taken.append(len(clip))
            yield clip

    results = pipe(clips(), batch_size=batch_size)
    assert not isinstance(results, list) and len(taken) <= 1
    assert list(results) == [answer(text) for text in expected]
    results = pipe(KeyDataset(hf_dataset(joints), "joints"), batch_size=batch_size)
    assert not isinstance(results, list)
    assert list(results) == [answer(text) for text in expected]
    assert isinstance(pipe(clip for clip in joints[:1]), (types.GeneratorType, torch.utils.data.IterableDataset))


def test_one_clip_in_a_list_and_clips_of_one_length(pipe, joints, expected):
    assert pipe([joints[0]]) == [answer(expected[0])]
    assert pipe(np.stack([joints[1], joints[1]])) == [answer(expected[1])] * 2
    assert pipe(torch.as_tensor(np.stack([joints[1]]))) == [answer(expected[1])]
    assert pipe([]) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_prompts_differ_within_a_batch(pipe, joints, expected, batch_size):
    rows = [{"joints": joints[0]}, {"joints": joints[1], "prompt": "Say <motion> in English, please."}]
    results = pipe(rows, batch_size=batch_size)
    assert results[0] == answer(expected[0])
    assert results[1] == pipe(joints[1], prompt="Say <motion> in English, please.") != answer(expected[1])


def test_arguments_of_generate(pipe, translate, processor, joints, expected):
    inputs = processor(motion=joints[0])
    for options in ({"num_beams": 3}, {"max_new_tokens": 3, "min_new_tokens": 3}):
        text = translate(inputs, **SHORT | options)
        assert text != expected[0]
        assert pipe(joints[0], **options) == pipe(joints[0], generate_kwargs=options) == answer(text)
    assert pipe(joints[0]) == answer(expected[0])  # arguments of a call stay with it


@pytest.mark.parametrize("batch_size", [1, 2])
def test_several_answers_to_each_clip(pipe, joints, expected, batch_size):
    results = pipe(list(joints), num_beams=2, num_return_sequences=2, batch_size=batch_size)
    assert [len(result) for result in results] == [2, 2, 2]
    for clip, result in zip(joints, results, strict=True):
        assert result == pipe(clip, num_beams=2, num_return_sequences=2)
        assert result[0] != result[1]


def test_a_saved_pipeline_is_one_again(pipe, joints, expected, tmp_path):
    pipe.save_pretrained(tmp_path)
    for task in ("sign-translation", None):
        again = pipeline(task, model=str(tmp_path), **SHORT)
        assert type(again) is SignTranslationPipeline
        assert again(list(joints), batch_size=2) == [answer(text) for text in expected]


def test_a_pipeline_of_objects(lslm_model, processor, joints, expected):
    pipe = pipeline("sign-translation", model=lslm_model, processor=processor, **SHORT)
    assert pipe(joints[0]) == answer(expected[0])


@pytest.mark.parametrize(
    "bad",
    [
        "no-such-clip.npz",
        {"path": "no-such-clip.npz"},
        {},
        {"fps": 20},
        {"joints": np.ones((5, 52, 3)), "path": "two.npz"},
        {"joints": np.ones((5, 51, 3))},
        {"joints": np.ones((5, 52, 3)), "fps": 0},
        {"joints_mm": "text"},
        np.ones((1, 52, 3)),
        torch.ones(3),
        [[1.0, 2.0], [3.0]],
        [[[1.0, 2.0, 3.0]], "clip"],
        3,
        None,
        b"bytes",
    ],
    ids=lambda bad: type(bad).__name__,
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_bad_input_is_a_value_error_or_an_os_error(pipe, bad, batch_size):
    with pytest.raises((ValueError, OSError), match="."):
        pipe(bad, batch_size=batch_size)


def test_a_prompt_without_its_placeholder_is_refused(pipe, joints):
    with pytest.raises(ValueError, match="0 <motion> placeholder"):
        pipe(joints[0], prompt="Translate this.")


# --- details ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2])
def test_details_are_tokens_probabilities_and_codes(pipe, processor, vqvae, joints, expected, batch_size):
    results = pipe(joints, details=True, batch_size=batch_size)
    encoding = copy.copy(processor).attach(vqvae).encode_motion(joints)
    codes = [part.codes[0].tolist() for part in encoding.split()]
    for (result,), text, code in zip(results, expected, codes, strict=True):
        assert result["translation_text"] == text == "".join(result["tokens"]).strip()
        assert len(result["tokens"]) == len(result["probabilities"]) == 8
        assert all(0 < chance <= 1 for chance in result["probabilities"])
        assert result["motion_codes"] == code


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"details": True, "num_beams": 2}, {"use_cache": False}])
def test_a_clip_is_encoded_once(pipe, processor, joints, monkeypatch, options):
    vqvae, encoded = pipe.model.model.vqvae, []
    forward = vqvae.encoder.forward
    monkeypatch.setattr(
        vqvae.encoder, "forward", lambda features, lengths: encoded.append(len(features)) or forward(features, lengths)
    )
    pipe(joints[:2], **options)
    assert encoded == [1, 1]
    options.pop("details", None)
    pipe.model.generate(**processor(motion=joints[0]), max_new_tokens=3, **options)
    assert encoded == [1, 1, 1]


def test_details_of_several_beams(pipe, joints):
    detailed, plain = (pipe(joints[:2], details=d, num_beams=3, num_return_sequences=2) for d in (True, False))
    texts = [[{"translation_text": answer["translation_text"]} for answer in answers] for answers in detailed]
    assert texts == plain and [len(answers) for answers in plain] == [2, 2]
