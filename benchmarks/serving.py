"""Does the exported language model say what LSLM says? On real clips: logits, greedy text, continuous batching.

    python benchmarks/serving.py MODEL OUT

MODEL is an LSLM with one codebook, OUT a new folder for its export and results.json.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.hub_cards.export import export_causal_lm
from lslm.training.dataset.motion_text import MotionText
from lslm.training.provenance import record_of_script, save_results

CLIPS, MAX_NEW_TOKENS = 50, 32


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("out", metavar="OUT")
    args = parser.parse_args()
    folder = export_causal_lm(args.model, str(Path(args.out) / "model"))
    lslm = LslmForConditionalGeneration.from_pretrained(args.model).eval()
    processor = SignMotionProcessor.from_pretrained(args.model).attach(lslm.model.vqvae)
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    data = MotionText("examples/asl_cafe", "test", processor.feature_extractor.fps, limit=CLIPS)
    first = tokenizer.convert_tokens_to_ids("<motion_0>")
    difference, same, prompts, answers, seconds = 0.0, 0, [], [], 0.0
    for joints in tqdm(data.joints, unit="clip"):
        codes = processor.encode_motion(joints).codes[0]
        inputs = processor(motion_codes=codes)
        ids = inputs["input_ids"].clone()
        ids[ids == processor.motion_token_id] = codes.flatten() + first
        expected = lslm(**inputs).logits
        exported = plain(ids).logits[..., : expected.shape[-1]]
        difference = max(difference, (exported - expected).abs().max().item())
        length, started = ids.shape[1], time.time()
        answer = plain.generate(ids, attention_mask=inputs["attention_mask"], max_new_tokens=MAX_NEW_TOKENS)
        seconds += time.time() - started
        answers.append(answer[0, length:].tolist())
        same += answers[-1] == lslm.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)[0, length:].tolist()
        prompts.append(ids[0].tolist())
    config = GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        eos_token_id=plain.generation_config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=plain.generation_config.suppress_tokens,
    )
    pages = ContinuousBatchingConfig(max_memory_percent=0.1, block_size=32, num_blocks=256, max_batch_tokens=512)
    started = time.time()
    batch = plain.generate_batch(prompts, generation_config=config, continuous_batching_config=pages, warmup=False)
    batch_seconds = time.time() - started
    served = {tuple(result.prompt_ids): result.generated_tokens for result in batch.values()}
    same_batched = sum(served[tuple(ids)] == answer for ids, answer in zip(prompts, answers, strict=True))
    texts = {tokenizer.decode(tokens, skip_special_tokens=True) for tokens in answers}
    results = {
        "metrics": {
            "clips": len(prompts),
            "largest_logit_difference": difference,
            "same_greedy_text": same,
            "same_text_by_continuous_batching": same_batched,
            "different_texts": len(texts),
            "seconds_one_by_one": round(seconds, 1),
            "seconds_continuous_batching": round(batch_seconds, 1),
        },
        **record_of_script(f"{torch.get_num_threads()} threads", "cpu"),
    }
    save_results(args.out, results)
    print(json.dumps(results["metrics"], indent=2))


if __name__ == "__main__":
    main()
