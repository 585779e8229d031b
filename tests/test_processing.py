"""Feature extractor and processor, with the real tokenizers of Llama 3 and Qwen2.5 and with a tiny one for the rest."""

import base64
import importlib.util
import json
import sys
import threading
import types
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import SENTENCES, make_clip
from tokenizers import Tokenizer, processors
from transformers import AutoFeatureExtractor, AutoProcessor, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from lslm import Motion, SignMotionFeatureExtractor, SignMotionProcessor, joints_to_features
from lslm.processing import MotionFileError, feature_extraction_lslm
from lslm.processing.feature_extraction_lslm import resample
from lslm.processing.motion_features import JOINT_NAMES, mirrored, right_handed
from lslm.processing.processing_lslm import CUT, DEFAULT_PROMPT, MOTION_TOKENS
from lslm.training.dataset.motion_text import clip_features

START, END, PAD, MOTION = MOTION_TOKENS


def assert_same_batch(got, expected):
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


def asking(*blocks) -> list[dict]:
    """A chat of one message of the user."""
    return [{"role": "user", "content": list(blocks)}]


# --- the real tokenizers ----------------------------------------------------------------------------------------------


def packaged_file(package: str, path: str) -> Path:
    """A file of an installed package that is not imported: both packages import what is not installed here."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"needs the tokenizer file of PyPI's {package}: pip install --no-deps {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / path


def from_tiktoken(file: Path, special: list[str], digits: str = r"\p{N}{1,3}") -> Tokenizer:
    """A tiktoken file (a token and its rank in a line) as a fast tokenizer, without the package tiktoken."""

    def ranks(path):
        lines = (line.split() for line in Path(path).read_bytes().splitlines())
        return {base64.b64decode(token): int(rank) for token, rank in lines}

    load = types.SimpleNamespace(load_tiktoken_bpe=ranks)
    with mock.patch.dict(sys.modules, {"tiktoken": types.SimpleNamespace(load=load), "tiktoken.load": load}):
        converter = TikTokenConverter(str(file), extra_special_tokens=special)
        converter.pattern = converter.pattern.replace(r"\p{N}{1,3}", digits)
        return converter.converted()


# what matters of the published template: begin-of-text, the date, headers, trimming
LLAMA_TEMPLATE = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' + system + '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)


@pytest.fixture(scope="module")
def llama3():
    file = packaged_file("llama_models", "llama3/tokenizer.model")
    names = {0: "<|begin_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>", 9: "<|eot_id|>"}
    fast = from_tiktoken(file, [names.get(i, f"<|reserved_special_token_{i}|>") for i in range(256)])
    # as the published tokenizer.json has it: whoever tokenizes text gets it
    fast.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 128000)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
    tokenizer.chat_template = LLAMA_TEMPLATE
    assert len(tokenizer) == 128256
    assert tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|eot_id|>"]) == [128000, 128009]
    return tokenizer


@pytest.fixture(scope="module")
def qwen():
    file = packaged_file("dashscope", "resources/qwen.tiktoken")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|other_{i}|>" for i in range(19))]
    fast = from_tiktoken(file, special, digits=r"\p{N}")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    assert len(tokenizer) == 151665
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]) == [151643, 151645]
    return tokenizer


@pytest.fixture(scope="module", params=["llama3", "qwen"])
def real(request, tmp_path_factory):
    """Name, the processor on the real tokenizer, the same saved and loaded."""
    processor = SignMotionProcessor(SignMotionFeatureExtractor(), request.getfixturevalue(request.param))
    folder = tmp_path_factory.mktemp(request.param)
    processor.save_pretrained(folder)
    return request.param, processor, AutoProcessor.from_pretrained(folder)


def test_ids_of_the_motion_tokens_with_the_real_tokenizers(real):
    name, *processors = real
    placeholder = {"llama3": 128259, "qwen": 151668}[name]
    for processor in processors:
        ids = processor.tokenizer.convert_tokens_to_ids([START, END, PAD, MOTION])
        assert ids == list(range(placeholder - 3, placeholder + 1))
        assert processor.motion_token_id == placeholder
        assert len(processor.tokenizer) == placeholder + 1
        assert processor.tokenizer("a<motion><motion> b")["input_ids"].count(placeholder) == 2


def test_real_tokenizers_read_a_prompt_as_published(real):
    name, processor, _ = real
    # from the models' own cards: "Hello world" and digits in groups of three, or one by one
    words = processor.tokenizer("Hello world", add_special_tokens=False)["input_ids"]
    assert words == ([9906, 1917] if name == "llama3" else [9707, 1879])
    digits = processor.tokenizer("2024", add_special_tokens=False)["input_ids"]
    assert len(digits) == (2 if name == "llama3" else 4)


def test_prompt_of_the_real_tokenizers_begins_the_text_once(real):
    name, *processors = real
    codes = np.arange(5)[:, None]
    expected = {
        "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "qwen": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    }[name].format(DEFAULT_PROMPT.replace(MOTION, START + 5 * MOTION + END))
    for processor in processors:
        ids = processor(motion_codes=codes)["input_ids"][0]
        assert processor.tokenizer.decode(ids) == expected
        assert name != "llama3" or processor.tokenizer("x")["input_ids"][0] == ids[0]  # plain text gets it, too
        assert date.today().strftime("%d %b %Y") not in expected


def test_labels_with_the_real_tokenizers(real):
    name, *processors = real
    for processor in processors:
        batch = processor(motion_codes=[[1], [2], [3]], answer="A small coffee, please.")
        learnt = batch["labels"][0][batch["labels"][0] != -100]
        end = {"llama3": "<|eot_id|>", "qwen": "<|im_end|>"}[name]
        assert processor.tokenizer.decode(learnt) == "A small coffee, please." + end
        assert torch.equal(batch["input_ids"][0, -len(learnt) :], learnt)


def test_answers_are_cut_where_they_say_so_with_the_real_tokenizers(real):
    _, *processors = real
    for processor in processors:
        batch = processor(motion_codes=[[1]], answer=f"A tea for Y{CUT}o{CUT}n{CUT}g, please.")
        learnt = batch["labels"][0][batch["labels"][0] != -100]
        text = processor.tokenizer.decode(learnt)
        pieces = [processor.tokenizer.decode([token]) for token in learnt]
        assert text.startswith("A tea for Yong, please.") and CUT not in text
        assert pieces[3:9] == [" Y", "o", "n", "g", ",", " please"]


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_placeholders_are_one_per_four_frames_between_start_and_end(processor, clips):
    ids = processor.tokenizer.convert_tokens_to_ids([START, END, MOTION])
    for clip in clips:
        prompt = processor(motion=clip)["input_ids"][0].tolist()
        codes = -(-(len(clip) - 1) // 4)
        start = prompt.index(ids[0])
        assert prompt[start : start + codes + 2] == [ids[0], *[ids[2]] * codes, ids[1]]
        assert prompt.count(ids[2]) == codes


def test_two_clips_in_a_prompt_keep_their_order(processor, clips):
    batch = processor("<motion> then <motion>", motion=[clips[0], clips[1]])
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert f"{START}{10 * MOTION}{END} then {START}{2 * MOTION}{END}" in text
    assert batch["input_features_mask"].sum(-1).tolist() == [40, 5]


def test_a_batch_is_padded_left_for_prompts_and_right_for_motion(processor, clips, features):
    batch = processor(motion=[clips[0], clips[1]])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for row, clip in enumerate(clips[:2]):
        alone = processor(motion=clip)["input_ids"][0]
        assert torch.equal(ids[row][mask[row].bool()], alone)
        assert mask[row].tolist() == [0] * (ids.shape[1] - len(alone)) + [1] * len(alone)
        length = len(features[row])
        assert torch.equal(batch["input_features"][row, :length], torch.as_tensor(features[row]))
        assert (batch["input_features"][row, length:] == 0).all()
        assert batch["input_features_mask"][row].tolist() == [1] * length + [0] * (40 - length)
    assert ids[1][mask[1] == 0].unique().tolist() == [processor.tokenizer.convert_tokens_to_ids(PAD)]
    assert batch["input_features"].dtype == torch.float32


def test_labels_are_the_answer_and_its_end(processor, clips):
    answers = [SENTENCES[1], "No."]
    batch = processor(motion=[clips[0], clips[1]], answer=answers)
    prompts = processor(motion=[clips[0], clips[1]])
    for row, answer in enumerate(answers):
        labels, ids = batch["labels"][row], batch["input_ids"][row][batch["attention_mask"][row].bool()]
        learnt = labels[labels != -100]
        assert processor.tokenizer.decode(learnt) == answer + "<|im_end|>"
        assert (labels[: -len(learnt)] == -100).all()
        # what the model saw before it is, to the token, what it will see when it translates
        prompt = prompts["input_ids"][row][prompts["attention_mask"][row].bool()]
        assert ids.tolist() == prompt.tolist() + learnt.tolist()
    assert "labels" not in prompts


def test_normalised_features_give_the_same_batch_as_the_clips(processor, clips, features):
    texts = {"text": ["a <motion>", "b <motion>"], "answer": ["c", "d"]}
    made = processor.feature_extractor.pad(features[:2])
    assert_same_batch(processor(motion=made, **texts), processor(motion=clips[:2], **texts))


def test_chat_messages_give_what_the_call_gives(processor, clips):
    before, after = DEFAULT_PROMPT.split(f" {MOTION} ")
    text_before, text_after = ({"type": "text", "text": text} for text in (before, after))
    chat = asking(text_before, {"type": "motion", "motion": clips[0]}, text_after)
    expected = processor(motion=clips[0])
    assert_same_batch(processor.apply_chat_template(chat, tokenize=True, return_dict=True), expected)
    assert torch.equal(processor.apply_chat_template(chat, tokenize=True), expected["input_ids"])
    rendered = processor.apply_chat_template(chat)
    assert rendered == f"<|im_start|>user\n{DEFAULT_PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    assert processor.apply_chat_template([chat, chat]) == [rendered, rendered]

    answered = [*chat, {"role": "assistant", "content": "Tea."}]
    got = processor.apply_chat_template(answered, tokenize=True, return_dict=True, return_labels=True)
    assert_same_batch(got, processor(motion=clips[0], answer="Tea."))


def test_chat_messages_take_files_and_codes(processor, clips, tmp_path):
    np.savez(tmp_path / "clip.npz", joints=clips[0], fps=20.0)
    from_file, from_codes = (
        processor.apply_chat_template(asking({"type": "motion", **clip}), tokenize=True, return_dict=True)
        for clip in ({"path": str(tmp_path / "clip.npz")}, {"motion_codes": [[code] for code in range(10)]})
    )
    assert torch.equal(from_file["input_ids"], from_codes["input_ids"])
    assert from_codes["motion_codes"].tolist() == [[[code] for code in range(10)]]
    assert from_file["input_features"].shape == (1, 40, 623)
    with pytest.raises(ValueError, match="video"):
        processor.apply_chat_template(asking({"type": "video"}))


def test_the_system_prompt_comes_first_unless_the_chat_has_its_own(extractor, make_tokenizer):
    processor = SignMotionProcessor(extractor, make_tokenizer(), system_prompt="You translate.")
    text = processor.tokenizer.decode(processor(motion_codes=[[1]])["input_ids"][0])
    assert text.startswith("<|im_start|>system\nYou translate.<|im_end|>\n<|im_start|>user\n")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert processor.apply_chat_template(chat).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")


def test_a_tokenizer_without_chat_template_gets_chatml(extractor, make_tokenizer):
    tokenizer = make_tokenizer()
    expected = SignMotionProcessor(extractor, make_tokenizer())(motion_codes=[[1], [2]])["input_ids"]
    tokenizer.chat_template = None
    assert torch.equal(SignMotionProcessor(extractor, tokenizer)(motion_codes=[[1], [2]])["input_ids"], expected)


def test_text_without_motion_is_a_prompt_too(processor):
    batch = processor("How much is tea?")
    assert set(batch) == {"input_ids", "attention_mask"}
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert text == "<|im_start|>user\nHow much is tea?<|im_end|>\n<|im_start|>assistant\n"


def test_codes_are_padded_with_minus_100(processor):
    batch = processor(motion_codes=[[[1, 7], [2, 8], [3, 9]], [[4, 5]]])
    assert batch["motion_codes"].tolist() == [[[1, 7], [2, 8], [3, 9]], [[4, 5], [-100, -100], [-100, -100]]]
    placeholders = (batch["input_ids"] == processor.motion_token_id).sum(-1)
    assert placeholders.tolist() == [3, 1]


def test_codes_padded_by_the_sign_tokenizer_are_read_as_they_come(processor, vqvae, clips):
    features = processor(motion=clips[:2])
    codes = vqvae.encode(features["input_features"], features["input_features_mask"]).codes
    batch = processor(motion_codes=codes)
    assert torch.equal(batch["motion_codes"], codes)
    assert torch.equal(batch["input_ids"], features["input_ids"])


@pytest.mark.parametrize(
    ("text", "motions", "numbers"),
    [
        ("no place", 1, (0, 1)),
        ("<motion> and <motion>", 1, (2, 1)),
        (["<motion>", "<motion>"], 3, (2, 3)),
        ("<motion>", 0, (1, 0)),
    ],
)
def test_a_wrong_number_of_placeholders_is_an_error_with_both_numbers(processor, clips, text, motions, numbers):
    with pytest.raises(ValueError) as error:
        processor(text, motion=clips[:motions] or None)
    assert f"{numbers[0]} <motion> placeholder" in str(error.value) and f"{numbers[1]} clip" in str(error.value)


def test_wrong_calls_are_refused(processor, clips):
    codes = ([1, 2], [[[1]], [2]], [[1, 2], [3]], [[[-100]], [[1]]], [[[1, 2]], [[3]]])
    for wrong, message in (
        ({"motion": clips[0], "motion_codes": [[1]]}, "not both"),
        ({"motion": clips[:2], "answer": "one"}, "2 prompts but 1 answers"),
        ({}, "nothing to read"),
        ({"motion": []}, "empty"),
        ({"motion_codes": []}, "empty"),
        *(({"motion_codes": codes_of_clips}, "codes") for codes_of_clips in codes),
    ):
        with pytest.raises(ValueError, match=message):
            processor(**wrong)
    with pytest.raises(ValueError, match="assistant"):
        processor.apply_chat_template(asking({"type": "text", "text": "Hi"}), tokenize=True, return_labels=True)


def test_decoding_leaves_special_tokens_out(processor):
    ids = processor(motion_codes=[[1], [2]])["input_ids"]
    text = "user\nTranslate the American Sign Language in  into English.\nassistant"
    assert processor.batch_decode(ids) == [text]
    assert processor.decode(ids[0]) == text


# --- save and load ----------------------------------------------------------------------------------------------------


def test_everything_that_makes_runs_comparable_is_saved(make_tokenizer, vqvae, tmp_path):
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=623), rng.uniform(0.5, 2, 623)
    skeleton = rng.normal(size=(52, 3))
    extractor = SignMotionFeatureExtractor(
        fps=15.0, downsample_factor=8, target_skeleton=skeleton, mean=mean, std=std, max_seconds=7.5
    )
    processor = SignMotionProcessor(
        extractor, make_tokenizer(), prompt="What is said in <motion>?", system_prompt="Be brief."
    ).attach(vqvae)
    processor.save_pretrained(tmp_path)
    json.loads((tmp_path / "processor_config.json").read_text())
    clip = make_clip(30, seed=1)
    for cls in (SignMotionProcessor, AutoProcessor):
        loaded = cls.from_pretrained(tmp_path)
        assert type(loaded) is SignMotionProcessor
        assert (loaded.prompt, loaded.system_prompt) == ("What is said in <motion>?", "Be brief.")
        assert loaded.chat_template == processor.chat_template
        assert len(loaded.tokenizer) == len(processor.tokenizer) == 300
        got = loaded.feature_extractor
        assert (got.fps, got.downsample_factor, got.convention, got.max_seconds) == (15.0, 8, "humanml3d", 7.5)
        assert got.mean == mean.tolist() and got.std == std.tolist()
        np.testing.assert_array_equal(got.target_skeleton, skeleton)
        expected = processor(motion=clip, fps=30.0)
        assert all(torch.equal(value, expected[key]) for key, value in loaded(motion=clip, fps=30.0).items())
        assert loaded.tokenizer.padding_side == "left"


@pytest.mark.parametrize("skeleton", ["humanml3d", None])
def test_the_feature_extractor_alone_is_saved_and_loaded(tmp_path, skeleton):
    SignMotionFeatureExtractor(fps=25.0, target_skeleton=skeleton).save_pretrained(tmp_path)
    for cls in (SignMotionFeatureExtractor, AutoFeatureExtractor):
        loaded = cls.from_pretrained(tmp_path)
        assert type(loaded) is SignMotionFeatureExtractor
        assert (loaded.fps, loaded.target_skeleton, loaded.mean) == (25.0, skeleton, None)


# --- motion in and out ------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_module_then_normalised(extractor, clips):
    expected = joints_to_features(clips[0])
    np.testing.assert_allclose(extractor.to_features(clips[0]), expected, rtol=0, atol=1e-6)
    normalised = (expected - np.array(extractor.mean)) / np.array(extractor.std)
    np.testing.assert_allclose(extractor(clips[0])["input_features"][0], normalised, rtol=1e-5, atol=1e-4)


def raising_the_right_hand() -> np.ndarray:
    clip = make_clip(12)
    for side, height in (("left", 0.9), ("right", 1.3)):
        arm = [number for number, name in enumerate(JOINT_NAMES) if name.startswith(side) and number > 19]
        clip[:, arm, 1] += height - clip[:, arm[:1], 1]
    return clip


def test_who_signs_with_the_left_hand_is_read_as_in_a_mirror(tmp_path):
    """The hand that is held higher, along the torso, also where the other one was never seen and where the camera is
    tilted; not by default. It is saved."""
    extractor = SignMotionFeatureExtractor(right_handed=True)
    extractor.save_pretrained(tmp_path)
    clip = raising_the_right_hand()
    left_handed = mirrored(clip)
    expected = joints_to_features(clip).astype(np.float32)
    assert not np.allclose(SignMotionFeatureExtractor().to_features(left_handed), expected, atol=1e-3)
    for reads in (extractor, SignMotionFeatureExtractor.from_pretrained(tmp_path)):
        np.testing.assert_array_equal(reads.to_features(clip), expected)
        np.testing.assert_allclose(reads.to_features(left_handed), expected, atol=1e-6)
        np.testing.assert_allclose(clip_features(reads, left_handed), expected, atol=1e-6)
    lying = left_handed[..., [1, 0, 2]] * (1, -1, 1)  # up is to the left now
    assert np.array_equal(right_handed(lying), mirrored(lying))
    for wrist, mirrors in ((20, False), (21, True)):  # that of the high hand is gone, or that of the low one
        unseen = left_handed.copy()
        unseen[:, wrist] = np.nan
        assert np.array_equal(right_handed(unseen), mirrored(unseen) if mirrors else unseen, equal_nan=True)


def test_every_form_of_a_clip_gives_the_same_features(extractor, clips, tmp_path):
    clip = clips[0].astype(np.float32)
    np.savez(tmp_path / "clip.npz", joints=clip, fps=20.0)
    expected = extractor.to_features(clip)
    path = tmp_path / "clip.npz"
    motion = Motion(joints=clip, fps=20.0, valid=np.ones(clip.shape[:2], bool))
    for form in (path, str(path), motion, torch.as_tensor(clip), clip.tolist(), expected, torch.as_tensor(expected)):
        np.testing.assert_allclose(extractor.to_features(form), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(extractor.to_features(expected.tolist()), expected)


def test_a_list_is_one_clip_or_several(extractor, clips):
    one = extractor(clips[1].tolist())["input_features"]
    assert one.shape == (1, 5, 623)
    assert extractor(list(clips[1]))["input_features"].shape == (1, 5, 623)  # a list of frames
    assert extractor([clips[1], clips[3].tolist()])["input_features"].shape == (2, 5, 623)
    assert extractor((clips[1], clips[3]))["input_features_mask"].sum(-1).tolist() == [5, 4]
    assert extractor(extractor.to_features(clips[1]).tolist())["input_features"].shape == (1, 5, 623)


def test_integer_joints_are_millimetres(extractor, clips):
    millimetres = (clips[0] * 1000).round()
    np.testing.assert_array_equal(
        extractor.to_features(millimetres.astype(np.int16)), extractor.to_features(millimetres / 1000)
    )


def test_clips_are_resampled_to_the_frame_rate_of_the_model(clips):
    extractor = SignMotionFeatureExtractor(fps=15.0)
    clip = make_clip(61)
    halved = extractor.to_features(clip, fps=30.0)
    assert len(halved) == 30
    np.testing.assert_array_equal(halved, extractor.to_features(clip[::2], fps=15.0))
    motion = Motion(joints=clip, fps=30.0, valid=np.ones(clip.shape[:2], bool))
    np.testing.assert_array_equal(extractor.to_features(motion), halved)
    assert len(extractor.to_features(clip)) == 60  # without fps: as the model expects
    assert len(extractor.to_features(clip, fps=7.5)) == 120


def test_resampling_interpolates_in_time_and_keeps_gaps():
    ramp = np.arange(7.0)[:, None, None] * np.ones((1, 2, 3))
    np.testing.assert_allclose(resample(ramp, 20.0, 15.0)[:, 0, 0], [0, 4 / 3, 8 / 3, 4, 16 / 3])
    assert resample(ramp, 20.0, 20.0) is ramp
    assert resample(ramp[:2], 60.0, 15.0)[:, 0, 0].tolist() == [0, 1]  # never below two frames
    ramp[3, 1] = np.nan
    assert np.isnan(resample(ramp, 20.0, 40.0)[5:8, 1]).all() and np.isfinite(resample(ramp, 20.0, 40.0)[:, 0]).all()


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        (np.zeros((10, 51, 3)), r"\(10, 51, 3\)"),
        (np.zeros((10, 52, 2)), r"\(10, 52, 2\)"),
        (np.zeros((10, 622)), r"\(10, 622\)"),
        (np.zeros((2, 10, 52, 3)), r"\(2, 10, 52, 3\)"),
        (np.zeros(623), r"\(623,\)"),
        (np.zeros((0, 52, 3)), "0 frame"),
        (np.ones((1, 52, 3)), "1 frame"),
        (np.zeros((0, 623)), "0 frame"),
        (np.ones((2401, 52, 3)), "120 s.* limit"),
        (np.zeros((2401, 623)), "limit"),
        (np.full((10, 52, 3), np.nan), "all NaN"),
        (np.zeros((10, 52, 3)), "all joints are in one place"),
        (1000 * make_clip(10), "coordinates reach .* divide millimetres by 1000"),
        (np.full((10, 623), np.nan), "NaN"),
        (np.array([{"a": 1}, None], dtype=object), "object"),
        (np.array(["a", "b"]), "numbers"),
        (np.zeros((10, 52, 3), bool), "numbers"),
        (np.zeros((10, 52, 3), complex), "numbers"),
        ([[[0.0, 0.0], [0.0]], [[1.0]]], "different shapes"),
        (3, r"\(\)"),
        (None, "object"),
    ],
)
def test_what_is_no_clip_is_refused(extractor, motion, message):
    with pytest.raises(ValueError, match=message):
        extractor.to_features(motion)


@pytest.mark.parametrize("fps", [0, 0.0, -5.0, float("nan"), float("inf"), "fast"])
def test_what_is_no_frame_rate_is_refused(extractor, clips, features, fps):
    for motion in (clips[0], features[0]):
        with pytest.raises(ValueError, match="frames per second"):
            extractor.to_features(motion, fps=fps)


def test_features_of_another_frame_rate_are_refused(extractor, features):
    with pytest.raises(ValueError, match="cannot be resampled from 30 to 20"):
        extractor.to_features(features[0], fps=30)
    assert len(extractor.to_features(features[0], fps=20)) == len(features[0])


# --- the sign tokenizer in the processor ------------------------------------------------------------------------------


def test_motion_to_codes_and_back(extractor, make_tokenizer, vqvae, clips, features):
    processor = SignMotionProcessor(extractor, make_tokenizer()).attach(vqvae)
    encoding = processor.encode_motion(clips[:3])
    codes = [part.codes[0].numpy() for part in encoding.split()]
    assert [len(c) for c in codes] == [-(-len(f) // 4) for f in features[:3]]
    for got, clip in zip(codes, features, strict=False):
        assert got.tolist() == vqvae.encode(torch.as_tensor(clip)[None]).codes[0].tolist()
    assert processor.encode_motion(clips[1]).codes[0].tolist() == codes[1].tolist()
    made = processor.encode_motion(extractor(clips[:3]))  # or what the feature extractor made of them
    assert torch.equal(made.codes, encoding.codes) and torch.equal(made.latents, encoding.latents)
    batch = processor(motion_codes=encoding)
    assert torch.equal(batch["motion_codes"], encoding.codes) and torch.equal(batch["motion_latents"], encoding.latents)
    np.testing.assert_array_equal(processor.decode_motion(encoding.codes[0]), processor.decode_motion(codes[0]))
    one = processor.encode_motion(clips[1]).codes
    np.testing.assert_array_equal(processor.decode_motion(one), processor.decode_motion(codes[1]))
    with pytest.raises(ValueError, match=r"expected the codes \(length, codebooks\)"):
        processor.decode_motion([1, 2, 3])

    joints = processor.decode_motion(codes[1])
    assert joints.shape == (4 * len(codes[1]), 52, 3) and joints.dtype == np.float32
    assert np.isfinite(joints).all()
    cut = processor.decode_motion(codes[1].tolist(), num_frames=len(features[1]))
    np.testing.assert_array_equal(cut, joints[: len(features[1])])
    expected = extractor.to_joints(vqvae.decode(torch.as_tensor(codes[1])[None])[0].numpy())
    np.testing.assert_array_equal(joints, expected)


def test_normalised_features_become_the_joints_they_came_from(extractor, clips):
    features = extractor(clips[0])["input_features"][0].numpy()
    joints = extractor.to_joints(features)
    assert joints.shape == (40, 52, 3)
    # the same body, seen from its own starting place and heading: distances between joints tell
    spread = np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)
    original = np.linalg.norm(clips[0][:40, :, None] - clips[0][:40, None], axis=-1)
    np.testing.assert_allclose(spread, original, rtol=0, atol=2e-3)


def test_codes_need_an_attached_sign_tokenizer(extractor, make_tokenizer, clips):
    processor = SignMotionProcessor(extractor, make_tokenizer())
    for call in (lambda: processor.encode_motion(clips[0]), lambda: processor.decode_motion([1, 2])):
        with pytest.raises(ValueError, match="attach"):
            call()


# --- keywords ---------------------------------------------------------------------------------------------------------


def test_unknown_keywords_are_refused(processor, extractor, clips):
    for call in (
        lambda: processor(motion=clips[0], framerate=20),
        lambda: extractor(clips[0], sampling_rate=16000),
        lambda: extractor.pad([np.zeros((4, 623))], return_attention_mask=False),
        lambda: processor.apply_chat_template([{"role": "user", "content": "Hi"}], tokenise=True),
    ):
        with pytest.raises(TypeError, match="framerate|sampling_rate|return_attention_mask|tokenise"):
            call()


def test_prompts_are_padded_as_asked(processor):
    both = {"text": ["Hi", "How much is tea?"], "answer": ["Yes.", "Two."]}
    longest = processor(**both)
    ids, labels, pad = longest["input_ids"], longest["labels"], processor.tokenizer.pad_token_id
    size = ids.shape[1]
    for options, width in (
        ({"padding": "longest"}, size),
        ({"padding": "max_length", "max_length": size + 5}, size + 5),
        ({"pad_to_multiple_of": 64}, -(-size // 64) * 64),
        ({"truncation": True, "max_length": size}, size),
    ):
        batch = processor(**both, **options)
        assert batch["input_ids"].shape == batch["labels"].shape == (2, width)
        assert torch.equal(batch["input_ids"][:, -size:], ids) and torch.equal(batch["labels"][:, -size:], labels)
    right = processor(**both, padding_side="right")
    blank = int((longest["attention_mask"][0] == 0).sum())
    assert torch.equal(right["input_ids"][0, : size - blank], ids[0, blank:])
    assert (right["input_ids"][0, size - blank :] == pad).all() and (right["labels"][0, size - blank :] == -100).all()
    lists = processor(**both, padding=False, return_tensors=None)["input_ids"]
    assert [len(row) for row in lists] == [size - blank, size]
    for wrong, message in (
        ({"padding": "all"}, "padding is 'all'"),
        ({"padding": "max_length"}, "'max_length' with max_length"),
        ({"padding_side": "top"}, "padding_side"),
        ({"truncation": True, "max_length": size - 1}, f"{size} tokens.* limit is {size - 1}"),
    ):
        with pytest.raises(ValueError, match=message):
            processor(**both, **wrong)


def test_motion_is_padded_as_asked_and_not_cut(extractor, features):
    clips = features[:3]
    longest = max(map(len, clips))
    plain = extractor.pad(clips)
    as_dicts = [{"input_features": clip} for clip in clips]
    for same in (as_dicts, {"input_features": clips}, plain, {key: list(value) for key, value in plain.items()}):
        for name, value in extractor.pad(same).items():
            assert torch.equal(value, plain[name])
    for options, size in (
        ({"padding": "max_length", "max_length": longest + 3}, longest + 3),
        ({"pad_to_multiple_of": 16}, -(-longest // 16) * 16),
    ):
        batch = extractor.pad(clips, **options)
        assert batch["input_features"].shape[1] == size
        assert torch.equal(batch["input_features_mask"].sum(1), plain["input_features_mask"].sum(1))
        assert (batch["input_features"][:, longest:] == 0).all()
    for wrong, message in (
        ({"truncation": True, "max_length": longest - 1}, "not cut"),
        ({"padding_side": "left"}, "at the right"),
        ({"padding": False}, "without padding clips need one length"),
    ):
        with pytest.raises(ValueError, match=message):
            extractor.pad(clips, **wrong)
    with pytest.raises(ValueError, match="expected input_features, got input_values"):
        extractor.pad({"input_values": clips})


def test_the_end_of_a_chat_is_as_asked(processor):
    start = "<|im_start|>assistant\n"
    asked = [{"role": "user", "content": "Hi"}]
    answered = [*asked, {"role": "assistant", "content": "Two"}]
    assert processor.apply_chat_template(asked).endswith(start)
    assert not processor.apply_chat_template(asked, add_generation_prompt=False).endswith(start)
    assert processor.apply_chat_template(answered).endswith("<|im_end|>\n")
    assert processor.apply_chat_template(answered, add_generation_prompt=True).endswith(start)
    goes_on = processor.apply_chat_template(answered, continue_final_message=True)
    assert goes_on.endswith(f"{start}Two")
    ids = processor.apply_chat_template(answered, tokenize=True, continue_final_message=True)[0]
    assert processor.tokenizer.decode(ids) == goes_on


def test_variables_reach_the_chat_template(processor):
    template = "{{ mood }}: {{ messages[0].content }}"
    chat = [{"role": "user", "content": "Hi"}]
    assert processor.apply_chat_template(chat, chat_template=template, mood="Calm") == "Calm: Hi"
    assert processor.apply_chat_template(chat, tools=None) == processor.apply_chat_template(chat)
    for unknown in ("mood", "messages"):
        with pytest.raises(TypeError, match=unknown):
            processor.apply_chat_template(chat, **{unknown: "Calm"})


def test_a_motion_block_may_be_an_address(processor, clips, tmp_path):
    np.savez(tmp_path / "clip.npz", joints=clips[0], fps=20.0)
    expected, of_slower = (processor("<motion>", motion=str(tmp_path / "clip.npz"), fps=fps) for fps in (None, 30))

    def read(url, tokenize=True, **options):
        return processor.apply_chat_template(asking({"type": "motion", "url": url}), tokenize=tokenize, **options)

    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/clip.npz"
        assert_same_batch(read(url, return_dict=True), expected)
        assert_same_batch(read(url, return_dict=True, fps=30), of_slower)
        with pytest.raises(OSError, match=f"{url}.none: .*404"):
            read(f"{url}.none")
        assert "<motion>" in read(f"{url}.none", tokenize=False)  # only asked for when it is read
        (tmp_path / "clip.npz").write_bytes(b"no motion")
        with pytest.raises(MotionFileError, match=f"^{url}: not a motion file"):
            read(url)
        server.shutdown()
    with pytest.raises(ValueError, match="begins with https://"):
        read("file:///etc/passwd")


def test_what_needs_attention_in_a_file_is_logged_where_its_motion_is_dropped(clips, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(feature_extraction_lslm.logger, "warning", warnings.append)
    np.savez(tmp_path / "clip.npz", joints=clips[0][..., [0, 2, 1]] * (1, -1, 1), fps=20.0)
    extractor = SignMotionFeatureExtractor()
    motion = extractor.to_motion(tmp_path / "clip.npz")
    assert warnings == [] and [note.argument for note in motion.notes] == ["up"]
    extractor.to_features(tmp_path / "clip.npz")
    assert warnings == ["z up, turned to y up; if it is not; pass up='y'"]
