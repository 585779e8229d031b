"""One of two processes that share a model by FSDP2 as training/recipes/fsdp2.yaml says; tests/test_training.py runs it.

    torchrun --nproc_per_node 2 tests/sharded_process.py LSLM_FOLDER

accelerate takes FSDP for GPUs only; this does on CPUs what it does with that file.
"""

import re
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import yaml
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from lslm import LslmForConditionalGeneration

RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "fsdp2.yaml"


def main(folder: str) -> None:
    config = yaml.safe_load(RECIPE.read_text())["fsdp_config"]
    model = LslmForConditionalGeneration.from_pretrained(folder)
    features = torch.randn(1, 23, model.config.vqvae_config.feature_size, generator=torch.Generator().manual_seed(0))
    codes = model.model.vqvae.encode(features).codes
    ids = torch.tensor([[5, *[model.config.motion_token_id] * codes.shape[1], 6, 7, 8]])
    batch = {"input_ids": ids, "motion_codes": codes, "labels": ids.where(ids < 100, -100)}
    with torch.no_grad():
        expected = model(**batch).loss

    whole = {
        parameter
        for name, module in model.named_modules()
        if re.fullmatch(config["fsdp_ignored_modules"], name)
        for parameter in module.parameters()
    }
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for module in model.modules():
        if type(module).__name__ == config["fsdp_transformer_layer_cls_to_wrap"]:
            fully_shard(module, mp_policy=policy, ignored_params=whole)
    fully_shard(model, mp_policy=policy, ignored_params=whole)
    sharded = {name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)}
    assert sharded == {name for name, _ in model.named_parameters() if not name.startswith("model.vqvae.")}
    assert torch.equal(model.model.vqvae.encode(features).codes, codes)

    before = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    before = {name: tensor.clone() for name, tensor in before.items()}
    loss = model(**batch).loss
    torch.testing.assert_close(loss.detach().float(), expected, rtol=2e-2, atol=0)
    loss.backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3).step()
    after = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "model.projector.linear_1.weight" in moved and "model.language_model.norm.weight" in moved
    assert not any(name.startswith("model.vqvae.") for name in moved)


dist.init_process_group("gloo")
main(sys.argv[1])
dist.destroy_process_group()
