"""Checkpoints carry their code: they translate in a process that has never seen our package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import motion_writers as write
import numpy as np
import pytest
import torch
from test_landmark_formats import flat_frames
from transformers import AutoModel, pipeline

from lslm import LslmForConditionalGeneration

pytest_plugins = ["training_fixtures"]
ROOT = Path(__file__).parent.parent

# Everything of ours, and what transformers itself does not need, cannot be imported.
STRANGER = """
import sys
for name in ("lslm", "lslm_cli", "peft", "accelerate", "datasets", "evaluate", "gguf", "sacrebleu", "matplotlib"):
    sys.modules[name] = None
"""


def stranger(code: str, cwd, **env) -> str:
    """Run Python in a fresh process without our package; -> what it printed."""
    env = os.environ | {"HF_HOME": str(cwd / "hf"), "PYTHONPATH": ""} | env
    env["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # sums depend on it
    process = subprocess.run(
        [sys.executable, "-c", STRANGER + code], capture_output=True, text=True, cwd=cwd, env=env, timeout=300
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.fixture(scope="module")
def clip(clips, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.npz"
    np.savez(path, joints=clips[1].astype(np.float32), fps=20.0)
    return path


def test_a_checkpoint_translates_without_the_package(checkpoint, clip, tmp_path, lslm_model, processor):
    """By the pipeline with and without its task's name, and by the Auto classes; logits are the same to the bit."""
    inputs = processor(motion=str(clip))
    torch.save({"inputs": dict(inputs), "logits": lslm_model(**inputs).logits}, tmp_path / "expected.pt")
    expected = pipeline("sign-translation", model=checkpoint, max_new_tokens=8)(str(clip))
    code = f"""
import json, torch
from transformers import AutoModel, AutoModelForMultimodalLM, AutoProcessor, pipeline
folder, clip = {checkpoint!r}, {str(clip)!r}
options = {{"model": folder, "trust_remote_code": True, "max_new_tokens": 8}}
texts = [pipeline("sign-translation", **options)(clip), pipeline(**options)(clip)]
expected = torch.load("expected.pt")
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(motion=clip)
same = [all(torch.equal(inputs[k], v) for k, v in expected["inputs"].items())]
for auto in (AutoModel, AutoModelForMultimodalLM):
    model = auto.from_pretrained(folder, trust_remote_code=True)
    same.append(torch.equal(model(**inputs).logits, expected["logits"]))
model.save_pretrained("again"); processor.save_pretrained("again")
texts.append(pipeline("sign-translation", model="again", trust_remote_code=True, max_new_tokens=8)(clip))
assert not [name for name in sys.modules if name == "lslm" and sys.modules[name]]
print("RESULT", json.dumps([texts, same]))
"""
    texts, same = json.loads(stranger(code, tmp_path).split("RESULT ")[1])
    assert texts == [expected] * 3 and same == [True] * 3


def test_a_sign_tokenizer_encodes_without_the_package(vqvae, extractor, features, clip, tmp_path):
    vqvae.save_pretrained(tmp_path / "tokenizer")
    extractor.save_pretrained(tmp_path / "tokenizer")
    code = f"""
from transformers import AutoFeatureExtractor, AutoModel
model = AutoModel.from_pretrained("tokenizer", trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained("tokenizer", trust_remote_code=True)
print("RESULT", model.encode(**extractor({str(clip)!r})).codes.tolist())
"""
    codes = json.loads(stranger(code, tmp_path).split("RESULT ")[1])
    assert codes == vqvae.encode(**extractor(str(clip))).codes.tolist()


def test_arrays_translate_without_the_package_and_other_files_say_what_to_install(checkpoint, clip, tmp_path):
    """SMPL-X parameters, landmarks and joints in .npz and .npy; a pickle, a BVH file and a folder are named."""
    params, hands_mean = write.a_motion(), np.zeros(90)
    files = [
        clip,
        write.save(tmp_path / "joints.npy", np.load(clip)["joints"]),
        write.amass_smplx(tmp_path / "amass.npz", params, 60.0),
        write.save(tmp_path / "motion-x.npy", write.motion_x(params)),
        write.save(tmp_path / "landmarks.npy", np.stack(flat_frames(258)[1])),
    ]
    foreign = {
        str(write.signavatars(tmp_path / "clip.pkl", params, hands_mean)): "a pickle",
        str(write.signavatars(tmp_path / "zip.pkl", params, hands_mean, torch_zip=True)): "a file of torch.save",
        str(write.soke_folder(tmp_path / "frames", params, hands_mean)): "a folder with a file per frame",
        str(tmp_path / "clip.bvh"): "a BVH file",
    }
    (tmp_path / "clip.bvh").write_text("HIERARCHY")
    clips = [{"path": str(path), "fps": 20.0} for path in files]
    code = f"""
import json
from transformers import pipeline
pipe = pipeline("sign-translation", model={checkpoint!r}, trust_remote_code=True, max_new_tokens=8)
problems = []
for path in {list(foreign)!r}:
    try:
        pipe(path, fps=20)
    except ValueError as error:
        problems.append([type(error).__name__, error.problem])
print("RESULT", json.dumps([pipe({clips!r}), problems]))
"""
    texts, problems = json.loads(stranger(code, tmp_path).split("RESULT ")[1])
    assert texts == pipeline("sign-translation", model=checkpoint, max_new_tokens=8)(clips)
    for what, (error, problem) in zip(foreign.values(), problems, strict=True):
        assert error == "MotionFileError" and f"this is {what}," in problem and "pip install lslm" in problem


def test_what_travels_with_a_processor_is_little_and_reads_arrays_alone(processor, tmp_path):
    """Who trusts a checkpoint can read its code: no parser of a foreign container, and no pickle."""
    processor.save_pretrained(tmp_path)
    files = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.py")}
    assert {"processing_lslm", "feature_extraction_lslm", "pipeline_lslm", "motion", "smplx_formats"} <= files.keys()
    assert sum(len(text.splitlines()) for text in files.values()) <= 2600
    readers = {path.stem for path in (ROOT / "processing" / "readers").glob("*.py")}
    assert len(readers) > 8 and not files.keys() & readers
    for text in files.values():
        assert not re.search(r"import (pickle|json|struct|xml)|allow_pickle=True|torch\.load", text)


def test_with_the_package_no_flag_is_needed(checkpoint, clip):
    """Our own classes are taken, not the copies beside the weights."""
    assert type(AutoModel.from_pretrained(checkpoint)) is LslmForConditionalGeneration
    pipe = pipeline(model=checkpoint, max_new_tokens=8)
    assert type(pipe.model) is LslmForConditionalGeneration and pipe.task == "sign-translation"
    assert type(AutoModel.from_pretrained(checkpoint, trust_remote_code=True)) is LslmForConditionalGeneration


def test_an_adapter_without_peft_says_what_to_do(make_lslm, processor, tmp_path):
    model = make_lslm(keep_backbone=True)
    model.add_lora({"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    code = """
from transformers import AutoModel
AutoModel.from_pretrained("model", trust_remote_code=True)  # folded in
try:
    AutoModel.from_pretrained("model", trust_remote_code=True, merge_lora=False)
except ImportError as error:
    print("RESULT", error)
"""
    assert "pip install peft" in stranger(code, tmp_path)


def test_every_stage_saves_the_code(toy_tokenizer, toy_aligned):
    for folder, entry in ((toy_tokenizer, "modeling_sign_motion"), (toy_aligned, "modeling_lslm")):
        config = json.loads((folder / "config.json").read_text())
        assert config["auto_map"]["AutoModel"].startswith(entry + ".")
        names = {path.name for path in folder.glob("*.py")}
        assert {"modeling_sign_motion.py", "configuration_lslm.py", "feature_extraction_lslm.py"} <= names
        assert "__init__.py" not in names
