"""LSLM among the other parts of transformers, in every release that we support: a cache under either name, ways to
decode, Trainer, graphs, offloading, precision, chat messages; and what a release breaks that we have not seen."""

import json
import logging
import os
import re
import runpy
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from accelerate import cpu_offload, disk_offload
from datasets import Dataset
from test_remote_code import stranger
from transformers import AutoModel, DynamicCache, Trainer, TrainingArguments, pipeline
from transformers.modeling_outputs import BaseModelOutputWithPast

import lslm
from lslm import LslmConfig, LslmForConditionalGeneration, LslmModel, SignMotionProcessor, SignMotionVQVAE
from lslm.modeling_lslm.configuration_lslm import TESTED_WITH
from lslm.modeling_lslm.modeling_lslm import CACHE_NAME, CACHE_NAMES

LORA = {"r": 4, "lora_alpha": 8.0, "target_modules": ["q_proj", "down_proj"]}


@pytest.fixture(scope="module")
def model(make_lslm):
    """Reads latents, two to an embedding, as the demo does; its head is tied."""
    return make_lslm("llama-tied", motion_input="latents", codes_per_embedding=2).eval()


@pytest.fixture(scope="module")
def stacked(processor):
    return SignMotionProcessor(processor.feature_extractor, processor.tokenizer, codes_per_embedding=2)


@pytest.fixture(scope="module")
def batch(stacked, clips):
    """Two prompts, of two clips and of one; clips of different lengths, so there is padding and a mask."""
    return stacked(["First <motion> and then <motion>", "Only <motion>"], motion=[clips[0], clips[3], clips[1]])


@pytest.fixture(scope="module")
def one(stacked, clips):
    """The first of the prompts alone: for what takes no batches."""
    return stacked(["First <motion> and then <motion>"], motion=[clips[0], clips[3]])


def generate(model, inputs, **kwargs):
    return model.generate(**inputs, max_new_tokens=8, min_new_tokens=8, **kwargs)


# --- the cache, by whichever name -------------------------------------------------------------------------------------


def test_outputs_are_the_librarys_own_with_the_motion_embeddings(model, batch):
    with torch.no_grad():
        output, inner = model(**batch, output_hidden_states=True), model.model(**batch)
    assert list(output) == ["logits", CACHE_NAME, "hidden_states", "motion_embeds"]
    assert list(inner) == ["last_hidden_state", CACHE_NAME, "motion_embeds"]
    assert isinstance(inner, BaseModelOutputWithPast)
    assert len(output.hidden_states) == 3 and torch.equal(output.motion_embeds, inner.motion_embeds)


@pytest.mark.parametrize("headless", [False, True])
@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_cache_goes_in_under_either_name(model, batch, name, headless):
    own = DynamicCache(config=model.config.text_config)
    with torch.no_grad():
        (model.model if headless else model)(**batch, **{name: own})
    assert own.get_seq_length() == batch["input_ids"].shape[1]


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_cache_of_the_users_own_is_taken_under_either_name(model, batch, name):
    own = DynamicCache(config=model.config.text_config)
    assert torch.equal(generate(model, batch, **{name: own}), generate(model, batch))
    length = batch["input_ids"].shape[1]
    assert own.get_seq_length() == length + 7  # it was this one that was filled; the last token is not read
    own = DynamicCache(config=model.config.text_config)
    with torch.no_grad():
        whole = model(**batch).logits
        motion = {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}
        ids, mask = batch["input_ids"], batch["attention_mask"]
        cut = length - 2  # past the motion
        model(ids[:, :cut], attention_mask=mask[:, :cut], **motion, **{name: own})
        assert own.get_seq_length() == cut
        rest = model(ids[:, cut:], attention_mask=mask, **{name: own}).logits
    torch.testing.assert_close(rest, whole[:, cut:], rtol=1e-4, atol=1e-4)


def test_a_cache_under_both_names_is_refused(model, batch):
    caches = {name: DynamicCache(config=model.config.text_config) for name in CACHE_NAMES}
    for call in (model, model.model, model.generate):
        with pytest.raises(ValueError, match="two names of one thing"):
            call(**batch, **caches)


def test_a_prompt_with_motion_is_not_read_in_chunks(model, one):
    with pytest.raises(ValueError, match="prefill_chunk_size cuts the prompt"):
        generate(model, one, prefill_chunk_size=4)


def test_every_way_to_decode_says_what_greedy_says(model, make_lslm, batch, one):
    assert torch.equal(generate(model, batch, cache_implementation="static"), generate(model, batch))
    expected = generate(model, one)
    same = make_lslm("llama-tied", motion_input="latents", codes_per_embedding=2).eval()
    for kwargs in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": same}):
        assert torch.equal(generate(model, one, **kwargs), expected), list(kwargs)


@pytest.mark.parametrize("model_class", [LslmForConditionalGeneration, LslmModel, SignMotionVQVAE])
def test_a_tuple_when_no_dict_is_wanted(model, batch, model_class):
    if model_class is SignMotionVQVAE:
        module, inputs = model.model.vqvae, {k: batch[k] for k in ("input_features", "input_features_mask")}
    else:
        module, inputs = model if model_class is LslmForConditionalGeneration else model.model, batch
    with torch.no_grad():
        expected, found = module(**inputs), module(**inputs, return_dict=False)
        assert isinstance(found, tuple) and len(found) == len(expected)
        assert torch.equal(found[0], expected[0])
        module.config.return_dict = False
        try:
            assert isinstance(module(**inputs), tuple)
            assert not isinstance(module(**inputs, return_dict=True), tuple)
        finally:
            module.config.return_dict = True


# --- Trainer ----------------------------------------------------------------------------------------------------------


def test_the_librarys_trainer_evaluates_and_resumes(make_lslm, processor, features, tmp_path):
    """A plain Trainer with `compute_metrics`: it gets a row of logits per sample, no cache, no embeddings."""

    def collate(rows):
        return processor(
            [processor.prompt] * len(rows),
            motion=processor.feature_extractor.pad([features[row] for row in rows]),
            answer=["Tea."] * len(rows),
        )

    seen = []

    def metrics(prediction):
        seen.append((np.shape(prediction.predictions), np.shape(prediction.label_ids)))
        return {"right": float((prediction.predictions[:, :-1].argmax(-1) == prediction.label_ids[:, 1:]).sum())}

    def trainer(folder, steps):
        options = TrainingArguments(
            str(folder),
            max_steps=steps,
            save_steps=2,
            per_device_train_batch_size=2,
            per_device_eval_batch_size=2,
            learning_rate=1e-2,
            remove_unused_columns=False,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        torch.manual_seed(0)
        rows = list(range(6))
        return Trainer(
            make_lslm("llama"), options, collate, train_dataset=rows, eval_dataset=rows[:4], compute_metrics=metrics
        )

    whole = trainer(tmp_path / "whole", 4)
    whole.train()
    scores = whole.evaluate()
    assert scores["eval_loss"] > 0 and "eval_right" in scores
    (predictions, labels) = seen[0]
    assert predictions[:2] == labels and predictions[2] == 300
    again = trainer(tmp_path / "whole", 4)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for (name, a), b in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


# --- graphs -----------------------------------------------------------------------------------------------------------


def shorter(batch):
    """The same shapes, the second clip two frames shorter: as many embeddings, but another mask."""
    mask = batch["input_features_mask"].clone()
    mask[0, 36:] = 0
    return {**batch, "input_features_mask": mask}


@pytest.mark.parametrize("kind", ["compile", "export"])
def test_the_whole_model_with_a_mask_is_one_graph(model, batch, kind):
    inputs = {**batch, "use_cache": False}
    other = {**shorter(batch), "use_cache": False}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about the outputs that transformers records
        expected, changed = model(**inputs).logits, model(**other).logits
        if kind == "compile":
            torch._dynamo.reset()
            graph = torch.compile(model, fullgraph=True, backend="aot_eager")
        else:
            graph = torch.export.export(model, args=(), kwargs=inputs).module()
        # a graph computes latents in float64, and rounds them to float32
        torch.testing.assert_close(graph(**inputs).logits, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(graph(**other).logits, changed, rtol=0, atol=1e-4)
        assert (changed - expected).abs().max() > 1e-2
        with pytest.raises(RuntimeError, match="as many <motion> as motion embeddings"):
            graph(**{**inputs, "input_ids": inputs["input_ids"].flip(0).clamp(max=297)})


def test_a_sign_tokenizer_in_a_graph_takes_other_batches(vqvae, processor, features):
    """Sizes that are left open when it is exported: more clips, and longer ones."""
    few, more = (processor.feature_extractor.pad(features[:count], return_tensors="pt") for count in (2, 3))
    assert few["input_features"].shape[1] < more["input_features"].shape[1]
    sizes = {name: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for name in few}

    class Encode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vqvae = vqvae

        def forward(self, input_features, input_features_mask):
            return self.vqvae.encode(input_features, input_features_mask).codes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch.export.export(Encode(), args=(), kwargs=dict(few), dynamic_shapes=sizes).module()
    assert torch.equal(graph(**more), vqvae.encode(**more).codes)


def test_a_clip_without_a_valid_frame_is_refused_outside_graphs(model, batch):
    empty = batch["input_features_mask"].clone()
    empty[1] = 0
    with pytest.raises(ValueError, match="a row of zeros"):
        model(**{**batch, "input_features_mask": empty})


# --- offloading -------------------------------------------------------------------------------------------------------

PLACES = {
    "sign tokenizer on disk": {"vqvae": "disk", "language_model": "cpu", "projector": "cpu", "lm_head": "cpu"},
    "the rest on disk": {"vqvae": "cpu", "language_model": "disk", "projector": "disk", "lm_head": "disk"},
    "everything on disk": {"vqvae": "disk", "language_model": "disk", "projector": "disk", "lm_head": "disk"},
}


@pytest.mark.parametrize(
    "kind, motion_input",
    [("whole", "latents"), ("whole", "vocabulary"), ("backbone", "projector"), ("lora", "latents")],
)
def test_weights_elsewhere_change_nothing(make_lslm, processor, clips, tmp_path, kind, motion_input):
    model = make_lslm("llama-tied", motion_input=motion_input, keep_backbone=kind != "whole").eval()
    if kind == "lora":
        model.add_lora(LORA)
    inputs = processor(["First <motion> and then <motion>", "Only <motion>"], motion=[clips[0], clips[3], clips[1]])
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == processor.motion_token_id, -100)
    model.save_pretrained(tmp_path / "model")

    def look(model):
        with torch.no_grad():
            output = model(**inputs, labels=labels)
        return output.logits, output.loss

    def load(**options):
        return LslmForConditionalGeneration.from_pretrained(tmp_path / "model", **options).eval()

    logits, loss = look(model)
    maps = [
        {f"model.{k}".replace("model.lm_head", "lm_head"): v for k, v in place.items()} for place in PLACES.values()
    ]
    options = [{"device_map": places} for places in maps]
    options += [{"device_map": "auto", "max_memory": {"cpu": size}} for size in ("90KB", "300KB")]
    loaded = [load(offload_folder=str(tmp_path / "disk"), **more) for more in options]
    assert all("disk" in one.hf_device_map.values() for one in loaded)

    loaded += [
        cpu_offload(load(), torch.device("cpu")),
        disk_offload(load(), str(tmp_path / "more"), torch.device("cpu")),
    ]
    assert all(any(p.device.type == "meta" for p in one.parameters()) for one in loaded)
    for number, one in enumerate(loaded):
        found = look(one)
        assert torch.equal(found[0], logits) and torch.equal(found[1], loss), number
        with pytest.raises(ValueError, match="where weights are offloaded"):
            one.add_lora(LORA) if kind != "lora" else one.merge_lora()
    much_on_disk = loaded[1]
    expected = model.generate(**inputs, max_new_tokens=3)
    assert torch.equal(much_on_disk.generate(**inputs, max_new_tokens=3), expected)


def test_a_sign_tokenizer_on_disk_encodes_and_decodes_the_same(vqvae, processor, clips, tmp_path):
    vqvae.save_pretrained(tmp_path / "vqvae")
    away = SignMotionVQVAE.from_pretrained(
        tmp_path / "vqvae", device_map={"": "disk"}, offload_folder=str(tmp_path / "disk")
    )
    assert {p.device.type for p in away.parameters()} == {"meta"}
    codes = processor.attach(vqvae).encode_motion(clips[0]).codes[0]
    joints = processor.decode_motion(codes)
    try:
        assert torch.equal(processor.attach(away).encode_motion(clips[0]).codes[0], codes)
        assert np.array_equal(processor.decode_motion(codes), joints)
    finally:
        processor.attach(None)


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA])
def test_what_must_stay_float32_is_made_in_float32(model, lora):
    config = LslmConfig.from_dict({**model.config.to_dict(), "lora": lora})
    made = AutoModel.from_config(config, dtype=torch.bfloat16)
    strict = ("vqvae", "projector", "lora_")
    kinds = {name: p.dtype for name, p in made.named_parameters() if p.is_floating_point()}
    assert {kinds[name] for name in kinds if any(part in name for part in strict)} == {torch.float32}
    assert {kinds[name] for name in kinds if not any(part in name for part in strict)} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    alone = AutoModel.from_config(model.config.vqvae_config, dtype=torch.bfloat16)
    assert {p.dtype for p in alone.parameters()} == {torch.float32}


# --- chat messages ----------------------------------------------------------------------------------------------------


@dataclass
class Message:
    role: str
    content: str | list | None
    tool_calls: list | None = None


class Fields:
    """As pydantic's models: pairs of names and values, which stay what they are; `model_dump` turns them into dicts."""

    def __init__(self, **values):
        self.values = values

    def __iter__(self):
        return iter(self.values.items())

    def model_dump(self):
        raise AssertionError("a clip would be taken apart")


class Block:
    """What has `model_dump` alone."""

    def __init__(self, **values):
        self.values = values

    def model_dump(self):
        return self.values


def test_chat_messages_may_be_objects(processor, clips):
    blocks = [{"type": "text", "text": "What is this?"}, {"type": "motion", "motion": clips[0]}]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": blocks}]
    objects = [Message("system", "Be brief."), Message("user", [Block(**b, path=None) for b in blocks])]
    expected = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
    for conversation in (objects, tuple(objects), SimpleNamespace(messages=objects)):
        found = processor.apply_chat_template(conversation, tokenize=True, return_dict=True)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    rendered = processor.apply_chat_template(chat)
    assert processor.apply_chat_template(objects) == rendered
    assert processor.apply_chat_template([objects, chat]) == [rendered] * 2
    assert processor.apply_chat_template([SimpleNamespace(messages=objects)]) == [rendered]
    asked = [*objects, replace(objects[0], role="assistant", content=None)]
    assert processor.apply_chat_template(asked) != rendered
    column = Dataset.from_list([{"chat": chat[:1]}, {"chat": chat[:1]}])["chat"]
    assert processor.apply_chat_template(column) == processor.apply_chat_template([chat[:1]] * 2)
    clip = lslm.Motion(clips[0], 20.0, np.isfinite(clips[0]).all(-1))
    blocks = Fields(role="user", content=[blocks[0], Fields(type="motion", motion=clip)])
    found = processor.apply_chat_template([objects[0], blocks], tokenize=True, return_dict=True)
    assert torch.equal(found["input_features"], expected["input_features"])


@pytest.mark.parametrize(
    "conversation, said",
    [
        (["hello"], "a dict, a dataclass or a pydantic model, not 'hello'"),
        ([], "no chat messages came"),
        ([{"role": "user", "content": [{"type": "motion"}]}], "a motion block has motion, path, url or motion_codes"),
        ([{"role": "user", "content": [{"text": "?"}]}], "a message block is 'text' or 'motion', not None"),
    ],
)
def test_what_is_no_chat_is_refused(processor, conversation, said):
    with pytest.raises(ValueError, match=said):
        processor.apply_chat_template(conversation)


# --- releases that nobody has seen ------------------------------------------------------------------------------------

# where transformers says what the cache is called
NAMES_THE_CACHE = [
    "modeling_outputs.py",
    "masking_utils.py",
    "modeling_layers.py",
    "utils/generic.py",
    "generation/utils.py",
    "generation/candidate_generator.py",
    "models/llama/modeling_llama.py",
]


def renamed_library(folder: Path, name: str):
    """The transformers at hand as FOLDER/transformers, with another name for the cache."""
    source = Path(transformers.__file__).parent

    def mirror(inside: str):
        (folder / "transformers" / inside).mkdir(parents=True)
        for entry in (source / inside).iterdir():
            place = f"{inside}/{entry.name}".removeprefix("./")
            new = folder / "transformers" / place
            if any(file.startswith(f"{place}/") for file in NAMES_THE_CACHE):
                mirror(place)
            elif place in NAMES_THE_CACHE:  # as a variable, a keyword, an attribute or a key; not in names of modules
                text = entry.read_text(encoding="utf-8")
                new.write_text(
                    re.sub(
                        rf"(?<![\w.]){CACHE_NAME}\b(?![\w.]*\s+import)|(?<=\w\.){CACHE_NAME}\b(?!\s+import)", name, text
                    )
                )
            elif entry.name != "__pycache__":
                os.symlink(entry, new)

    mirror(".")


def test_what_travels_works_where_the_cache_has_a_third_name(checkpoint, clips, tmp_path):
    np.savez(tmp_path / "clip.npz", joints=clips[1].astype(np.float32), fps=20.0)
    renamed_library(tmp_path / "library", "kv_store")
    expected = [
        pipeline("sign-translation", model=checkpoint, max_new_tokens=8)(str(tmp_path / "clip.npz"), num_beams=beams)
        for beams in (1, 3)
    ]
    code = f"""
import json, transformers
from transformers import pipeline
pipe = pipeline("sign-translation", model={checkpoint!r}, trust_remote_code=True, max_new_tokens=8)
texts = [pipe("clip.npz", num_beams=beams) for beams in (1, 3)]
from transformers.modeling_outputs import BaseModelOutputWithPast
print("RESULT", json.dumps([transformers.__file__, list(BaseModelOutputWithPast.__dataclass_fields__), texts]))
"""
    file, fields, texts = json.loads(stranger(code, tmp_path, PYTHONPATH=str(tmp_path / "library")).split("RESULT ")[1])
    assert Path(file).is_relative_to(tmp_path) and "kv_store" in fields and CACHE_NAME not in fields
    assert texts == expected


@pytest.mark.parametrize(
    "ahead, ours, said", [(6, False, True), (0, False, False), (6, True, False), ("main", False, False)]
)
def test_code_that_travels_says_which_releases_it_was_tested_with(monkeypatch, caplog, ahead, ours, said):
    """Where a newer one is at hand; not where our package is, which pip holds to the same releases."""
    major, minor = map(int, TESTED_WITH[1].split("."))
    newer = f"{major}.{minor + ahead}.7.dev0" if isinstance(ahead, int) else ahead
    monkeypatch.setattr(transformers, "__version__", newer)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    file = Path(lslm.modeling_lslm.__file__).with_name("configuration_lslm.py")
    package = "lslm.modeling_lslm" if ours else "transformers_modules.org.name"
    monkeypatch.setitem(sys.modules, f"{package}.confidence_lslm", lslm.modeling_lslm.confidence_lslm)
    runpy.run_path(str(file), run_name=f"{package}.configuration_lslm")
    tested = f"tested with transformers {' to '.join(TESTED_WITH)}; this is {newer}."
    assert (tested in caplog.text) == said and (f"'transformers<{major}.{minor + 1}'" in caplog.text) == said
