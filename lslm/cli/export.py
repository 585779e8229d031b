"""`lslm export`: the language model of a checkpoint for other engines."""

import argparse


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Write the language model of a checkpoint as a plain Llama or Qwen2 whose vocabulary has a word "
        "for each motion code, with the sign tokenizer and a client beside it. vLLM, TGI, `transformers serve` and "
        "others serve it unchanged; see docs/serving.md. Part-wise codes are too many to be words: then the language "
        "model is written alone, for engines that take embeddings.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="checkpoint")
    parser.add_argument("out", metavar="OUT", help="new folder")
    return parser


def run(args) -> int:
    from lslm.hub_cards.export import export_causal_lm

    folder = export_causal_lm(args.folder, args.out)
    if (folder / "client.py").is_file():
        print(f"written to {folder}; serve it, then: python {folder}/client.py CLIP")
    else:
        print(f"written to {folder}, without words for motion: its codes are none. docs/serving.md, embeddings")
    return 0
