"""Make a small Qwen2 with random weights and a byte-level tokenizer of the ASL Cafe texts, as a folder.

    python examples/asl_cafe/ablations/tiny_qwen2.py runs/tiny-qwen2

No pretrained Qwen2 can be had without the Hub. This one shows that the recipes run on the architecture; it knows no
English but what ASL Cafe teaches it, so its scores say nothing about Qwen.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from lslm.processing.processing_lslm import CHATML
from lslm.training.dataset.motion_text import load_split
from lslm.training.recipe_keys import TEMPLATES

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="FOLDER", help="where the model and its tokenizer go")
    parser.add_argument("--data", default=str(Path(__file__).parents[1]), help="data set folder (ASL Cafe)")
    args = parser.parse_args()
    texts = [*load_split(args.data, "train")["text"], *(path.read_text() for path in sorted(TEMPLATES.glob("*.json")))]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=SPECIAL[0], eos_token=SPECIAL[2])
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(args.out)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(args.out)
    print(f"written to {args.out}: {len(tokenizer)} tokens, 4 layers of width 256")


if __name__ == "__main__":
    main()
