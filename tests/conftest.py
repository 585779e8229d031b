"""What the model, processor and pipeline tests share: tiny random language models, a sign tokenizer, made-up clips.

Nothing here is downloaded and nothing is larger than a few hundred kilobytes.
"""

import logging
import os
import shutil
from multiprocessing import forkserver

# before transformers is imported: a test that asks the Hub for anything is wrong
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from lslm import (
    LslmForConditionalGeneration,
    SignMotionFeatureExtractor,
    SignMotionProcessor,
    SignMotionVQVAE,
    SignMotionVQVAEConfig,
)
from lslm.processing.motion_features import (
    HUMANML3D_BONE_LENGTHS,
    LEFT_HAND,
    NUM_JOINTS,
    PARENTS,
    RAW_DIRECTIONS,
    RIGHT_HAND,
)
from lslm.processing.processing_lslm import CHATML


class RefuseDeprecations(logging.Handler):
    """Transformers logs some of what it is going to remove, instead of warning: an error here as well."""

    # of assisted decoding, which passes them on within the library
    THE_LIBRARYS_OWN = "Passing `generation_config` together with generation-related arguments"

    def emit(self, record):
        message = record.getMessage()
        if "deprecat" in message.lower() and not message.startswith(self.THE_LIBRARYS_OWN):
            raise FutureWarning(message)


logging.getLogger("transformers").addHandler(RefuseDeprecations())
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


# What processes of the tests are forked from: whichever test needs one first, it holds what all of them would import.
FORKED = ["lslm.processing", "peft", *(f"lslm.training.stages.{stage}" for stage in ("tokenizer", "align", "instruct"))]


@pytest.fixture(scope="session", autouse=True)
def fork_server():
    forkserver.set_forkserver_preload(FORKED)
    forkserver.ensure_running()


def pytest_collection_modifyitems(items):
    """The one that takes minutes first: at the end, all others would have to wait for it."""
    items.sort(key=lambda item: "test_the_tutorial_runs" not in item.nodeid)


FPS = 20.0
SENTENCES = [
    "Translate the American Sign Language in <motion> into English.",
    "Can I have a small coffee with milk, please?",
    "My name is Dana. I want tea and two cookies today.",
    "Sorry, no sugar for me. How much is the sandwich?",
]
ARMS = [*range(16, 22), *LEFT_HAND, *RIGHT_HAND]


def make_clip(frames: int, seed: int = 0) -> np.ndarray:
    """(T, 52, 3) float64 metres: a standing person of standard proportions who waves arms and fingers and sways."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / FPS
    reach = np.where(np.isin(np.arange(NUM_JOINTS), ARMS), 0.6, 0.05)[:, None]
    swing = np.sin(2 * np.pi * (rng.uniform(0.3, 1.5, (NUM_JOINTS, 3)) * time + rng.uniform(0, 1, (NUM_JOINTS, 3))))
    directions = RAW_DIRECTIONS + reach * (swing + rng.uniform(-1, 1, (NUM_JOINTS, 3)))
    directions[:, 0] = 1.0  # the pelvis has no bone; any direction but zero
    bones = directions / np.linalg.norm(directions, axis=-1, keepdims=True) * HUMANML3D_BONE_LENGTHS[:, None]
    joints = np.zeros((frames, NUM_JOINTS, 3))
    joints[:, 0] = (0, 0.95, 0) + 0.02 * np.sin(time[:, 0] * rng.uniform(1, 3, 3))
    for joint in range(1, NUM_JOINTS):
        joints[:, joint] = joints[:, PARENTS[joint]] + bones[:, joint]
    return joints


def make_vqvae(clips_of_features, **config) -> SignMotionVQVAE:
    """A tiny random sign tokenizer whose codes lie among the latents of the clips, so that clips get varied codes."""
    sizes = {"hidden_size": 16, "codebook_size": 32, "code_dim": 8, "num_res_blocks": 2}
    torch.manual_seed(0)
    vqvae = SignMotionVQVAE(SignMotionVQVAEConfig(**{**sizes, **config})).eval()
    if clips_of_features is not None:
        latents = [vqvae.latents(torch.as_tensor(clip)[None])[0][0] for clip in clips_of_features]
        vqvae.codebook.start_from(torch.cat(latents).float(), generator=torch.Generator().manual_seed(0))
    return vqvae


@pytest.fixture(scope="session")
def clips() -> list[np.ndarray]:
    """Joints of 16 clips of 5 to 53 frames: every remainder of feature frames by 4."""
    lengths = [41, 6, 53, 5, 30, 23, 44, 31, 8, 9, 10, 11, 37, 50, 19, 28]
    return [make_clip(frames, seed) for seed, frames in enumerate(lengths)]


def train_tokenizer(texts: list[str], vocab_size: int, **roles: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the texts with ChatML's special tokens. `roles`: pad_token and the like."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    options = {"initial_alphabet": sorted(pre_tokenizers.ByteLevel.alphabet()), "show_progress": False}
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials, **options))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=specials[0], eos_token=specials[2], **roles)


def tiny_language_model(kind: str, **settings):
    """A random Llama ("llama") or Qwen2 ("qwen2") of two layers, 32 numbers wide unless the settings say so."""
    classes = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    config_class, model_class = classes[kind]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 512}
    return model_class(config_class(**sizes | settings))


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> str:
    """A byte-level BPE of 296 tokens with ChatML's special tokens and template."""
    tokenizer = train_tokenizer(SENTENCES, 296, unk_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def make_tokenizer(tokenizer_folder):
    """A fresh tokenizer at each call: processors add tokens to theirs."""
    return lambda: PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)


BACKBONES = ["llama", "llama-tied", "qwen2", "qwen2-tied"]
# Llama has to grow for the motion tokens; Qwen comes with spare rows, as the real one does
VOCAB = {"llama": 296, "qwen2": 320}
WITH_MOTION = 300


@pytest.fixture(scope="session")
def backbones(tmp_path_factory, tokenizer_folder) -> dict[str, str]:
    """Folders of tiny random language models, as a user would have them: weights, configuration, tokenizer."""
    folders = {}
    for name in BACKBONES:
        kind, _, tied = name.partition("-")
        torch.manual_seed(len(folders))
        settings = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": None, "tie_word_embeddings": bool(tied)}
        settings["initializer_range"] = 0.3  # far from uniform logits, so that decoding has something to decide
        model = tiny_language_model(kind, vocab_size=VOCAB[kind], **settings).float()
        with torch.no_grad():  # transformers starts biases at zero, where forgetting them would not be noticed
            for parameter_name, parameter in model.named_parameters():
                if parameter_name.endswith("bias"):
                    parameter.normal_(0, 0.3)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(folder)
        folders[name] = str(folder)
    return folders


@pytest.fixture(scope="session")
def extractor(clips) -> SignMotionFeatureExtractor:
    """Feature extractor with the mean and standard deviation of the clips."""
    extractor = SignMotionFeatureExtractor(fps=FPS)
    frames = np.concatenate([extractor.to_features(clip) for clip in clips])
    extractor.mean, extractor.std = frames.mean(0).tolist(), (frames.std(0) + 0.01).tolist()
    return extractor


@pytest.fixture(scope="session")
def features(extractor, clips) -> list[np.ndarray]:
    """(T, 623) normalised features of each clip."""
    return [extractor.normalize(extractor.to_features(clip)) for clip in clips]


@pytest.fixture(scope="session")
def processor(extractor, make_tokenizer) -> SignMotionProcessor:
    return SignMotionProcessor(extractor, make_tokenizer())


@pytest.fixture(scope="session")
def vqvae(features) -> SignMotionVQVAE:
    return make_vqvae(features)


@pytest.fixture(scope="session")
def make_lslm(backbones, vqvae, processor):
    """A fresh LSLM on the backbone of that name, or in that folder, at each call."""

    def make(name: str = "llama", **kwargs) -> LslmForConditionalGeneration:
        torch.manual_seed(3)
        return LslmForConditionalGeneration.from_backbone(
            backbones.get(name, name),
            vqvae,
            vocab_size=len(processor.tokenizer),
            motion_token_id=processor.motion_token_id,
            **kwargs,
        )

    return make


@pytest.fixture(scope="session")
def lslm_model(make_lslm) -> LslmForConditionalGeneration:
    """One LSLM for tests that only look."""
    return make_lslm("llama")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, lslm_model, processor) -> str:
    """`lslm_model` and its processor in a folder."""
    folder = str(tmp_path_factory.mktemp("checkpoint"))
    lslm_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, as playwright drives it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        started.program = program
        yield started
