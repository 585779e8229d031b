"""The exported language model says what the checkpoint says, to the letter, and needs nothing of ours."""

import http.server
import json
import subprocess
import sys
import threading

import lslm_cli
import numpy as np
import pytest
import torch
from conftest import make_vqvae
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.hub_cards.export import export_causal_lm
from lslm.modeling_lslm.modeling_lslm import MOTION_INPUTS

CLIPS = 50
NEW_TOKENS = 8


@pytest.fixture(scope="module")
def exported(tmp_path_factory, make_lslm, processor):
    """An LSLM, and the folder of its export."""
    return export("llama", tmp_path_factory, make_lslm, processor)


def export(name, tmp_path_factory, make_lslm, processor):
    options = {"lora": {"keep_backbone": True}, "vocabulary": {"motion_input": "vocabulary"}}.get(name, {})
    model = make_lslm({"vocabulary": "llama", "lora": "llama"}.get(name, name), **options).eval()
    if name == "lora":
        model.add_lora({"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]})
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2)
    model.generation_config.max_new_tokens = NEW_TOKENS
    folder = tmp_path_factory.mktemp(name)
    processor.system_prompt = "Answer in English." if name == "qwen2" else None
    model.save_pretrained(folder / "lslm")
    processor.save_pretrained(folder / "lslm")
    processor.system_prompt = None
    if name == "lora":
        model.merge_lora()
    return model, export_causal_lm(folder / "lslm", folder / "plain")


def messages(model) -> list[list[int]]:
    """Codes of CLIPS clips of 4 to 19 codes."""
    rng = np.random.default_rng(0)
    return [
        rng.integers(model.config.vqvae_config.codebook_size, size=rng.integers(4, 20)).tolist() for _ in range(CLIPS)
    ]


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "vocabulary", "lora"])
def test_logits_and_greedy_text_are_those_of_the_checkpoint(name, tmp_path_factory, make_lslm, processor):
    model, folder = export(name, tmp_path_factory, make_lslm, processor)
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert type(plain).__name__ == {"qwen2": "Qwen2ForCausalLM"}.get(name, "LlamaForCausalLM")
    processor.system_prompt = "Answer in English." if name == "qwen2" else None
    prompts, answers, texts = [], [], []
    for codes in messages(model):
        inputs = processor(motion_codes=[[code] for code in codes])
        words = "".join(f"<motion_{code}>" for code in codes)
        said = processor.prompt.replace("<motion>", f"<motion_start>{words}<motion_end>")
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": said}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert ids["input_ids"].shape == inputs["input_ids"].shape
        with torch.no_grad():
            expected = model(**inputs).logits
            found = plain(**ids).logits[..., : expected.shape[-1]]
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
        length = inputs["input_ids"].shape[1]
        answers.append(model.generate(**inputs)[0, length:].tolist())
        assert plain.generate(**ids)[0, length:].tolist() == answers[-1]
        prompts.append(ids["input_ids"][0].tolist())
        texts.append(processor.decode(answers[-1]))
        assert tokenizer.decode(answers[-1], skip_special_tokens=True).strip() == texts[-1]
    processor.system_prompt = None
    assert len(set(texts)) > CLIPS // 4  # it is not always the same


def test_continuous_batching_serves_it(exported, processor):
    """The engine that takes token ids alone: all clips at once, each with its own answer."""
    model, folder = exported
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    prompts, answers = [], []
    for codes in messages(model):
        inputs = processor(motion_codes=[[code] for code in codes])
        ids = inputs["input_ids"][0].clone()
        ids[ids == processor.motion_token_id] = torch.tensor(codes) + tokenizer.convert_tokens_to_ids("<motion_0>")
        prompts.append(ids.tolist())
        answers.append(model.generate(**inputs)[0, len(ids) :].tolist())
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=plain.generation_config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=plain.generation_config.suppress_tokens,
    )
    page = "page_size" if "page_size" in ContinuousBatchingConfig.__dataclass_fields__ else "block_size"  # until 5.23
    small = ContinuousBatchingConfig(max_memory_percent=0.02, num_blocks=64, max_batch_tokens=256, **{page: 32})
    found = plain.generate_batch(
        prompts, generation_config=config, continuous_batching_config=small, progress_bar=False, warmup=False
    )
    by_prompt = {tuple(result.prompt_ids): result.generated_tokens for result in found.values()}
    assert len(by_prompt) == CLIPS
    assert [by_prompt[tuple(prompt)] for prompt in prompts] == answers


def test_the_client_needs_nothing_of_ours(exported, processor, clips, tmp_path):
    """It asks a server with the words of the clip; an unreadable file is one line, and the others are translated."""
    model, folder = exported
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            body = json.dumps({"choices": [{"message": {"content": " A coffee, please. "}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    np.savez(tmp_path / "clip.npz", joints=clips[1].astype(np.float32), fps=20.0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = "import runpy, sys; sys.modules['lslm'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    url = f"http://127.0.0.1:{server.server_port}/v1"
    argv = [sys.executable, "-c", code, str(folder / "client.py"), "nowhere.npz", "clip.npz", "--url", url]
    process = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    server.shutdown()
    assert process.returncode == 2 and process.stdout == "clip.npz: A coffee, please.\n"
    assert "nowhere.npz" in process.stderr and "Traceback" not in process.stderr
    (path, request), *others = asked
    codes = model.model.vqvae.encode(**processor.feature_extractor(str(tmp_path / "clip.npz"))).codes.flatten().tolist()
    words = "".join(f"<motion_{code}>" for code in codes)
    assert path == "/v1/chat/completions" and not others
    assert request["messages"][0]["content"].count(f"<motion_start>{words}<motion_end>") == 1


@pytest.mark.parametrize("partwise, stack", [(True, 1), (False, 2)])
def test_codes_that_are_no_words_go_in_as_embeddings(features, processor, backbones, tmp_path, capsys, partwise, stack):
    """Part-wise ones are too many, and an embedding of two is of no single one: what an engine gets is what
    `embed_prompts` makes of the prompt."""
    model = LslmForConditionalGeneration.from_backbone(
        backbones["llama"],
        make_vqvae(features, partwise=partwise),
        vocab_size=len(processor.tokenizer),
        motion_token_id=processor.motion_token_id,
        codes_per_embedding=stack,
    ).eval()
    model.generation_config.max_new_tokens = NEW_TOKENS
    processor = SignMotionProcessor(processor.feature_extractor, processor.tokenizer, codes_per_embedding=stack)
    model.save_pretrained(tmp_path / "lslm")
    processor.save_pretrained(tmp_path / "lslm")
    assert lslm_cli.main(["export", str(tmp_path / "lslm"), str(tmp_path / "out")]) == 0
    assert "without words for motion" in capsys.readouterr().out and not (tmp_path / "out" / "client.py").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    for clip in features[:5]:
        inputs = processor([processor.prompt], motion=processor.feature_extractor.pad([clip]))
        with torch.no_grad():
            embeds, _ = model.model.embed_prompts(*(inputs[k] for k in ("input_ids", *MOTION_INPUTS[:2])))
            expected, found = model(**inputs).logits, plain(inputs_embeds=embeds).logits
        assert torch.equal(found, expected)
        said = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        assert torch.equal(plain.generate(inputs_embeds=embeds, attention_mask=inputs["attention_mask"]), said)


def test_engines_find_no_code_of_ours_in_it(exported):
    """`transformers serve` asks for the processor of a folder, and refuses one that brings code."""
    _, folder = exported
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        assert "auto_map" not in content and content.get("processor_class") is None
    code = f"from transformers import AutoProcessor as A; A.from_pretrained({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_with_something_in_it_is_left_alone(checkpoint, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert lslm_cli.main(["export", checkpoint, str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
