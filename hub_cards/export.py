"""Turn an LSLM into a plain causal language model that any engine serves. `lslm export FOLDER OUT`

The projector and the codebook do not change after training, so what the language model sees of a code is a constant:
one vector per code, which becomes the input embedding of a word `<motion_0>`, `<motion_1>`, ... Engines know text;
motion comes to them as these words. Part-wise codes are too many to be words; of such a checkpoint the language model
alone is written, for engines that take embeddings. docs/serving.md shows all sides.
"""

import copy
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from ..modeling_lslm import LslmConfig, LslmForConditionalGeneration
from ..processing import SignMotionProcessor
from ..processing.processing_lslm import DATE
from .models import config_of

TOKENIZER = "sign_tokenizer"  # folder of the sign tokenizer inside the exported one
CLIENT = Path(__file__).with_name("client.py")


@torch.no_grad()
def export_causal_lm(folder: str, out: str) -> Path:
    """Write the plain Llama or Qwen2 of a checkpoint, with a word for each motion code, sign tokenizer and client.

    Logits over the words that the checkpoint has are the checkpoint's own. The new words' logits are the mean of the
    others, so no greedy or beam search says one.

    Args:
        folder: an LSLM; a LoRA adapter is merged. Where a code is no word (several codebooks,
            `codes_per_embedding`, latents) only the language model is written.
        out: a new folder.

    Raises:
        ValueError: `out` is not empty.
    """
    target = Path(out)
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{out} is not empty; give a new folder")
    config_of(folder, LslmConfig)
    model = LslmForConditionalGeneration.from_pretrained(folder).eval()
    processor = SignMotionProcessor.from_pretrained(folder)
    vqvae = model.model.vqvae
    words, head = model.get_input_embeddings().weight, model.lm_head.weight
    codes_are_words = vqvae.config.num_codebooks == 1 and model.config.codes_per_embedding == 1
    codes_are_words &= model.config.motion_input != "latents"
    motion = words[:0]
    if codes_are_words:
        codes = torch.arange(vqvae.config.codebook_size, device=vqvae.device)
        motion = model.model.get_motion_embeds(motion_codes=codes[None, :, None]).to(words.dtype)
    text_config = copy.deepcopy(model.config.text_config)
    text_config.tie_word_embeddings = False
    text_config.vocab_size = len(words) + len(motion)
    plain = AutoModelForCausalLM.from_config(text_config, dtype=words.dtype)
    state = {f"model.{name}": weight for name, weight in model.model.language_model.state_dict().items()}
    state["model.embed_tokens.weight"] = torch.cat([words, motion])
    state["lm_head.weight"] = torch.cat([head, head.mean(0, keepdim=True).expand(len(motion), -1)])
    plain.load_state_dict(state)
    plain.generation_config = copy.deepcopy(model.generation_config)
    plain.generation_config.suppress_tokens += range(len(words), text_config.vocab_size)
    plain.save_pretrained(target)

    tokenizer = copy.deepcopy(processor.tokenizer)
    spare = len(words) - len(tokenizer)  # rows that the language model has and its tokenizer does not
    tokenizer.add_tokens([f"<unused_{number}>" for number in range(spare)], special_tokens=True)
    tokenizer.add_tokens([f"<motion_{code}>" for code in range(len(motion))], special_tokens=True)
    if len(tokenizer) != text_config.vocab_size:
        raise ValueError(f"{folder}: the tokenizer holds words that the language model has no embedding for")
    tokenizer.chat_template = _chat_template(processor)
    for key in ("processor_class", "auto_map"):  # or else engines look for our processor, and for its code
        tokenizer.init_kwargs.pop(key, None)
    tokenizer._set_processor_class(None)
    tokenizer.save_pretrained(target)
    if not codes_are_words:
        return target
    vqvae.save_pretrained(target / TOKENIZER)
    processor.feature_extractor.save_pretrained(target / TOKENIZER)
    (target / TOKENIZER / "prompt.txt").write_text(processor.prompt, encoding="utf-8")
    shutil.copyfile(CLIENT, target / "client.py")
    return target


def _chat_template(processor: SignMotionProcessor) -> str:
    """The chat template, with what the processor passes to it written in: engines do not know about it."""
    head = f"{{%- set date_string = {json.dumps(DATE)} %}}"
    if processor.system_prompt is not None:
        system = json.dumps([{"role": "system", "content": processor.system_prompt}])
        head += f"{{%- if messages[0].role != 'system' %}}{{%- set messages = {system} + messages %}}{{%- endif %}}"
    return head + processor.chat_template
