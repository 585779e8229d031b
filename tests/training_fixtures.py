"""What the tests of training share: toy data, a toy language model and the toy checkpoints of the three stages.

A test file that wants the fixtures says `pytest_plugins = ["training_fixtures"]`. Nothing here is downloaded.
(PYTEST_DONT_REWRITE: some files import the helpers before pytest sees the fixtures.)
"""

import json
import multiprocessing
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import lslm_cli
import numpy as np
import pytest
import torch
from conftest import tiny_language_model, train_tokenizer
from datasets import Array3D, Dataset, Features, Value

from lslm.modeling_lslm import LslmForConditionalGeneration, SignMotionVQVAE, load_backbone_tokenizer
from lslm.processing import SignMotionFeatureExtractor, SignMotionProcessor
from lslm.processing.motion_features import HUMANML3D_BONE_LENGTHS, NUM_JOINTS, PARENTS, RAW_DIRECTIONS, RIGHT_HAND

FPS = 15.0
ROW_FEATURES = Features(
    {
        "id": Value("string"),
        "text": Value("string"),
        "name": Value("string"),
        "signs": [{"label": Value("string"), "take": Value("string"), "start": Value("int32"), "end": Value("int32")}],
        "fps": Value("float32"),
        "num_frames": Value("int32"),
        "joints_mm": Array3D((None, NUM_JOINTS, 3), "int16"),
    }
)
# where the right hand goes in each sign (metres: left, up, front)
SIGNS = {"tea": (0.5, 0.3, 0.2), "no": (-0.3, 0.6, 0.0), "please": (0.2, 0.9, 0.5)}
SIGNS |= {"a": (0.0, 0.2, 0.6), "l": (-0.4, 0.0, 0.3)}
UTTERANCES = {
    "train": ["tea please", "no tea", "please no", "a l", "tea", "no", "please tea", "no please"],
    "validation": ["tea no", "please"],
    "test": ["tea please", "l a", "no tea", "no tea please"],
}
ENGLISH = {"tea": "some tea", "no": "not now", "please": "if you please", "a l": "I am Al", "l a": "I am La"}


def a_signer(frames: int = 24) -> np.ndarray:
    """(T, 52, 3) float64 metres: somebody who stands still, with fingers spread a little."""
    joints = np.zeros((NUM_JOINTS, 3))
    joints[0] = 0, 0.93, 0
    for joint in range(1, NUM_JOINTS):
        spread = 0.15 * np.sin(joint) * np.array([0, 1.0, 1.0])
        direction = RAW_DIRECTIONS[joint] + spread
        joints[joint] = joints[PARENTS[joint]] + HUMANML3D_BONE_LENGTHS[joint] * direction / np.linalg.norm(direction)
    return np.repeat(joints[None], frames, axis=0)


def sign_joints(labels: list[str], rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """Joints of an utterance and where its signs are."""
    clips, signs, at = [], [], 0
    for label in labels:
        frames = int(rng.integers(10, 14))
        clip = a_signer(frames)
        way = np.sin(np.linspace(0, np.pi, frames))[:, None] * np.array(SIGNS[label]) + rng.normal(0, 0.01, 3)
        clip[:, [21, *RIGHT_HAND]] += way[:, None]
        clip[:, 19] += 0.5 * way
        clips.append(clip)
        signs.append({"label": label, "take": f"words/{label}/{rng.integers(10**6)}", "start": at, "end": at + frames})
        at += frames
    return np.concatenate(clips), signs


def write_rows(file: Path, rows: list[dict], features: dict, **options) -> None:
    """The columns `features` of rows as a parquet file."""
    columns = {name: [row[name] for row in rows] for name in features}
    Dataset.from_dict(columns, features=Features(features)).to_parquet(file, **options)


def write_data(folder: Path, splits=("train", "validation", "test")) -> Path:
    """A data set folder in the form of examples/asl_cafe: FOLDER/data/SPLIT.parquet."""
    (folder / "data").mkdir(parents=True)
    for number, split in enumerate(splits):
        rng = np.random.default_rng(number)
        rows = []
        for index, gloss in enumerate(UTTERANCES[split]):
            joints, signs = sign_joints(gloss.split(), rng)
            named = ENGLISH.get(gloss, "").startswith("I am")
            text = ENGLISH.get(gloss) or " and ".join(ENGLISH[word] for word in gloss.split())
            rows.append(
                {
                    "id": f"{split}-{index:04d}",
                    "text": text[0].upper() + text[1:] + ".",
                    "name": ENGLISH[gloss].split()[-1] if named else None,
                    "signs": signs,
                    "fps": FPS,
                    "num_frames": len(joints),
                    "joints_mm": np.round(joints * 1000).astype(np.int16),
                }
            )
        write_rows(folder / "data" / f"{split}.parquet", rows, ROW_FEATURES)
    return folder


def write_backbone(folder: Path, kind: str = "llama", width: int = 32) -> Path:
    """A tiny random Llama (or Qwen2) and a byte-level tokenizer that has learnt a few words, as a folder."""
    words = [*ENGLISH.values(), "Translate the American Sign Language in into English.", "user assistant system"]
    tokenizer = train_tokenizer(words * 4, 330, pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    settings = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    settings |= {"hidden_size": width, "intermediate_size": 3 * width // 2, "tie_word_embeddings": True}
    tiny_language_model(kind, vocab_size=len(tokenizer), **settings).save_pretrained(folder)
    return folder


def recipe(**keys) -> list[str]:
    """Keys and values as flags; a list gives several values."""
    flags = []
    for key, value in keys.items():
        flags += [f"--{key}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return flags


COMMON = {"eval_strategy": "no", "report_to": "none", "logging_steps": 1000, "disable_tqdm": "true"}
COMMON |= {"save_strategy": "no", "learning_rate": 3e-3}
TOY_VQVAE = {**COMMON, "fps": FPS, "window": 16, "hidden_size": 16, "code_dim": 8, "codebook_size": 16}
TOY_VQVAE |= {"num_res_blocks": 1, "per_device_train_batch_size": 3, "position_weight": 2.0}
TOY_INSTRUCT = {**COMMON, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
TOY_ALIGN = {**TOY_INSTRUCT, "system_prompt": "", "projector_hidden_size": 16}


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A folder for everything toy: data/ (a data set folder), llm/ and qwen2/ (language models)."""
    folder = tmp_path_factory.mktemp("toy")
    write_data(folder / "set")
    write_backbone(folder / "llm")
    write_backbone(folder / "qwen2", "qwen2")
    return folder


@pytest.fixture(scope="session")
def toy_tokenizer(toy) -> Path:
    """Stage 1, 40 steps."""
    out = toy / "1_tokenizer"
    flags = {"data": toy / "set", "output_dir": out, "max_steps": 40, "quantizer": "ema"}
    flags |= {"codebook_warmup": 0.5, "augment": "false"}  # so few steps are enough only for the clips as they are
    assert lslm_cli.main(["tokenizer", *recipe(**TOY_VQVAE | flags)]) == 0
    return out


@pytest.fixture(scope="session")
def toy_align(toy, toy_tokenizer) -> dict:
    """A recipe of stage 2 that trains projector and language model, but for its length and its folder."""
    folders = {"data": toy / "set", "tokenizer": toy_tokenizer, "backbone": toy / "llm"}
    return TOY_ALIGN | folders | {"trainable": ["projector", "language_model"]}


@pytest.fixture(scope="session")
def toy_aligned(toy, toy_align) -> Path:
    """Stage 2 with a LoRA adapter, 2 steps."""
    flags = {"output_dir": toy / "2_align", "max_steps": 2, "lora_r": 4, "projector_learning_rate": 1e-2}
    assert lslm_cli.main(["align", *recipe(**toy_align | flags)]) == 0
    return flags["output_dir"]


@pytest.fixture(scope="session")
def toy_model(toy, toy_align) -> Path:
    """A complete checkpoint whose every weight was trained to say the texts of the first four training clips."""
    flags = {"output_dir": toy / "model", "limit": 4, "augment": "false"}
    flags |= {"max_steps": 100, "logging_steps": 10, "learning_rate": 6e-3}
    assert lslm_cli.main(["align", *recipe(**toy_align | flags)]) == 0
    return flags["output_dir"]


@pytest.fixture
def fresh(toy, toy_tokenizer):
    """A new model on the toy language model, and its processor."""

    def fresh(codes_per_embedding=1):
        processor = SignMotionProcessor(
            SignMotionFeatureExtractor.from_pretrained(toy_tokenizer),
            load_backbone_tokenizer(str(toy / "llm")),
            prompt="<motion>",
            system_prompt="",
            codes_per_embedding=codes_per_embedding,
        )
        torch.manual_seed(0)
        model = LslmForConditionalGeneration.from_backbone(
            str(toy / "llm"),
            SignMotionVQVAE.from_pretrained(toy_tokenizer),
            vocab_size=len(processor.tokenizer),
            motion_token_id=processor.motion_token_id,
            keep_backbone=True,
            projector_hidden_size=16,
            codes_per_embedding=codes_per_embedding,
        )
        return model, processor

    return fresh


# --- runs in processes of their own, to be killed ---------------------------------------------------------------------


def _command(argv: list[str], log: str, hold_at: int | None, holding: str, environment: dict[str, str]) -> None:
    """`lslm ARGV` in this process; before the end of step `hold_at` it says so and waits to be killed."""
    os.environ.update({"LSLM_DEBUG": "1"} | environment)  # a log that explains a failure
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as in a command: data workers end when it is killed
    if hold_at is not None:
        import transformers.trainer
        from transformers import TrainerCallback

        class Hold(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == hold_at:
                    Path(holding).touch()
                    time.sleep(600)

        transformers.trainer.DEFAULT_CALLBACKS.append(Hold)
    sys.exit(lslm_cli.main(argv))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Commands:
    """Runs `lslm` commands in processes of their own. They are forked from a server that has imported what takes
    seconds to import, and has run nothing."""

    def __init__(self, folder: Path):
        self.context = multiprocessing.get_context("forkserver")
        self.folder, self.count = folder, 0

    def start(self, argv: list[str], hold_at: int | None = None, **environment: str):
        self.count += 1
        self.log, self.holding = self.folder / f"log{self.count}", self.folder / f"holding{self.count}"
        arguments = (argv, str(self.log), hold_at, str(self.holding), environment)
        process = self.context.Process(target=_command, args=arguments)
        process.start()
        return process

    def run(self, argv: list[str], processes: int = 1) -> None:
        """Run to the end; in several processes as torchrun would start them."""
        for process in [self.start(argv, **rank) for rank in self.ranks(processes)]:
            process.join(300)
            if process.exitcode != 0:
                process.kill()
                raise RuntimeError(f"lslm {argv[0]} ended with {process.exitcode}\n{self.log.read_text()[-3000:]}")

    @staticmethod
    def ranks(processes: int) -> list[dict[str, str]]:
        """What torchrun would put into the environment of each."""
        world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        return [{"RANK": str(n), "LOCAL_RANK": str(n), **world} for n in range(processes)] if processes > 1 else [{}]

    def kill(self, argv: list[str], checkpoint: Path, at_step: int) -> None:
        """Run, wait until `checkpoint` is there and `at_step` reached, then kill -9."""
        process = self.start(argv, at_step)
        deadline = time.time() + 300
        while not (checkpoint.is_dir() and self.holding.exists()):
            if time.time() > deadline or process.exitcode is not None:
                process.kill()
                raise RuntimeError(f"lslm {argv[0]} wrote no {checkpoint}\n{self.log.read_text()[-3000:]}")
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -9


@pytest.fixture(scope="session")
def commands(tmp_path_factory) -> Commands:
    return Commands(tmp_path_factory.mktemp("commands"))


def cut_short(checkpoint: Path, number: int) -> None:
    """Beside `checkpoint` a later one as a kill in the middle of saving leaves it: weights cut, the rest missing."""
    broken = checkpoint.with_name(f"checkpoint-{number}")
    broken.mkdir()
    shutil.copy(checkpoint / "config.json", broken)
    (broken / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:1000])


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
