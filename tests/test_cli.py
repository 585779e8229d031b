"""The `lslm` command as people run it: answers at once when asked for help; one line for each file, good or bad."""

import importlib
import json
import os
import pickle
import re
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import fields
from multiprocessing import forkserver
from pathlib import Path

import lslm_cli
import motion_writers
import numpy as np
import pytest
import test_mocap_formats as mocap
from conftest import make_clip
from safetensors import SafetensorError
from test_motion_formats import signer
from training_fixtures import FPS
from transformers import BertConfig, BertModel, TrainingArguments

from lslm.processing import Remark
from lslm.processing.readers.confined import Confined
from lslm.processing.readers.wording import as_flags
from lslm.training.dataset.motion_text import MotionText
from lslm.training.recipe_keys import EvaluateKeys
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.instruct import InstructArguments
from lslm.training.stages.tokenizer import TokenizerArguments

pytest_plugins = ["training_fixtures"]
LSLM = Path(sys.executable).with_name("lslm")
COMMANDS = ["translate", "inspect", "evaluate", "demo", "tokenizer", "align", "instruct", "adapt"]
RECIPES = {"tokenizer": TokenizerArguments, "align": AlignArguments, "instruct": InstructArguments}
RECIPES |= {"evaluate": EvaluateKeys}


def lslm(*argv, program=(LSLM,), **kwargs) -> subprocess.CompletedProcess:
    """`lslm ARGV` in the environment of somebody who has set nothing."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "TOKENIZERS_", "TQDM_"))}
    env |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*program, *map(str, argv)], capture_output=True, text=True, env=env, timeout=300, **kwargs)


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_comes_at_once(argv):
    seconds, work = [], []
    for _ in range(3):
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = lslm(*argv)
        seconds.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        work.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert answer.returncode == 0 and answer.stderr == ""
    assert answer.stdout.startswith("usage: lslm") and len(answer.stdout.splitlines()) >= 10
    assert statistics.median(work) < 0.3  # importing torch alone takes 1.5 s
    # on a machine that has more to do than it can, the clock tells nothing
    assert statistics.median(seconds) < 0.5 or os.getloadavg()[0] > os.cpu_count()


def test_help_names_every_command():
    assert set(re.findall(r"(?m)^  ([a-z]+) ", lslm_cli.HELP)) == set(lslm_cli.COMMANDS)


@pytest.mark.parametrize("command", RECIPES)
def test_a_command_with_a_recipe_explains_every_key(command, capsys):
    with pytest.raises(SystemExit) as exit:
        lslm_cli.main([command])  # the same as with --help
    shown = capsys.readouterr().out
    assert exit.value.code == 0 and shown.startswith(f"usage: lslm {command} --config")
    arguments, trainer = RECIPES[command], {key.name for key in fields(TrainingArguments)}
    for key in fields(arguments):
        if arguments is EvaluateKeys or key.name not in trainer:
            (about,) = re.findall(rf"(?m)^  --{key.name} .*(?:\n {{20,}}.*)*", shown)
            assert key.metadata["help"] and key.metadata["help"] in " ".join(about.split())
            if key.default and isinstance(key.default, (int, float)):
                assert about.endswith(f"({str(key.default).lower().removesuffix('.0')})")
    # of the Trainer's it names some, which exist
    named = {name.replace("-", "_") for name in re.findall(r"--([a-z][\w-]+)", shown)}
    assert named <= {key.name for key in fields(arguments)} | {"config"}


def test_an_unknown_command_is_refused():
    answer = lslm("translte", "clip.npz")
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr == (
        "lslm: no command 'translte'; there are translate, inspect, extract, evaluate, demo, score, publish, data, "
        "export, tokenizer, align, instruct, adapt, ablate (lslm --help)\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        *(
            "ablate --config '' --dry-run",
            "ablate --config= --dry-run",
            "ablate --data '' --dry-run",
            "demo --model ''",
        ),
        *("data build '' out", "data build source out --texts ''", "score ''", "export '' out", "publish '' me/model"),
        *("translate ''", "inspect --format ''", "tokenizer --config ''", "tokenizer --config= --output_dir out"),
        *("tokenizer --data x --output_dir ''", "align --data x --templates=", "evaluate --data x --model ''"),
        *(
            "evaluate --data x --split test --output out --fid ''",
            "evaluate --data x --output ''",
            "evaluate --data ''",
        ),
    ],
)
def test_what_is_empty_is_no_default_and_no_folder(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lslm_cli.main(shlex.split(command)) == 2
    said = "".join(capsys.readouterr())
    assert said.count("\n") == 1 and re.match(
        "lslm: .* (is empty|needs a recipe file|Give (data|split): in the recipe)", said
    )
    assert not list(tmp_path.iterdir())


def test_the_version(capsys):
    assert lslm_cli.main(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_arguments_that_make_no_sense(capsys):
    for argv in (["translate"], ["translate", "x.npz", "--num-beams", "many"]):
        with pytest.raises(SystemExit) as exit:
            lslm_cli.main(argv)
        assert exit.value.code == 2 and "usage" in capsys.readouterr().err
    assert lslm_cli.main(["evaluate", "--data", "x"]) == 2
    said = "which split? Give split: in the recipe or --split: train, validation or test"
    assert capsys.readouterr().err == f"lslm: {said}\n"


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """`lslm export` that raises an error."""

    def failing(error: BaseException) -> int:
        def run(args):
            raise error

        monkeypatch.setattr(importlib.import_module("lslm_cli.export"), "run", run)
        return lslm_cli.main(["export", "a", "b"])

    return failing


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("fps is -5;\nexpected more"), "fps is -5; expected more"),
        (FileNotFoundError(2, "No such file or directory", "a.npz"), "a.npz: No such file or directory"),
        (zipfile.BadZipFile("File is not a zip file"), "File is not a zip file"),
        (SafetensorError("header too large"), "header too large"),
        (ImportError("needs peft: pip install peft"), "needs peft: pip install peft"),
        (MemoryError(), "MemoryError"),
        (ModuleNotFoundError(name="gradio"), "gradio is not installed; run: pip install 'lslm[space]'"),
        (ModuleNotFoundError(name="sacrebleu.metrics"), "sacrebleu is not installed; run: pip install 'lslm[train]'"),
    ],
)
def test_what_the_user_can_put_right_is_one_line(failing, capsys, monkeypatch, error, said):
    assert failing(error) == 2 and capsys.readouterr().err == f"lslm: {said}\n"
    monkeypatch.setenv("LSLM_DEBUG", "1")
    assert failing(error) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith(f"lslm: {said}\n")


@pytest.mark.parametrize(
    "kind", [TypeError, KeyError, AttributeError, AssertionError, RuntimeError, ModuleNotFoundError]
)
def test_a_fault_of_ours_is_said_to_be_one(failing, capsys, monkeypatch, kind):
    error = kind("seven") if kind is not ModuleNotFoundError else kind("seven", name="lslm.seven")
    assert failing(error) == 1
    fault, advice = capsys.readouterr().err.splitlines()
    assert fault.startswith("lslm: a fault in lslm, not in what you gave it: ")
    assert re.search(rf"{kind.__name__}: '?seven'? \(test_cli.py, line \d+\)$", fault)
    assert "LSLM_DEBUG=1" in advice and "report" in advice
    monkeypatch.setenv("LSLM_DEBUG", "1")
    assert failing(error) == 1 and "raise error" in capsys.readouterr().err


# --- translate --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(toy, tmp_path_factory):
    """{name: path}: two good clips and everything that is none."""
    folder = tmp_path_factory.mktemp("files")
    clips = MotionText(str(toy / "set"), "train", FPS, limit=4).joints
    np.savez(folder / "good.npz", joints=clips[0], fps=FPS)
    np.savez(folder / "also good.npz", joints=clips[3], fps=FPS)
    (folder / "empty.npz").touch()
    (folder / "directory.npz").mkdir()
    (folder / "pickle.npz").write_bytes(pickle.dumps({"joints": Path(folder)}))
    np.savez(folder / "one-frame.npz", joints=clips[0][:1], fps=FPS)
    np.savez(folder / "nan.npz", joints=np.full_like(clips[0], np.nan), fps=FPS)
    np.savez(folder / "joints.npz", joints=clips[0][:, :22], fps=FPS)
    (folder / "text.npz").write_text("This is no motion,\nit is text.\n")
    np.savez_compressed(folder / "two-hours.npz", joints=np.zeros((7200 * 8, 52, 3), np.float16), fps=8.0)
    np.savez(folder / "three-minutes.npz", joints=np.resize(clips[0], (int(180 * FPS), 52, 3)), fps=FPS)
    object_array = np.array([clips[0], "x"], dtype=object)
    np.savez(folder / "object.npz", joints=object_array, fps=FPS)
    names = [*(path.name for path in folder.iterdir()), "missing.npz"]
    return {name: str(folder / name) for name in sorted(names)}


BAD = {
    "missing.npz": "no such file; check the path",
    "empty.npz": "the file is empty",
    "directory.npz": "this is a directory without frames",
    "pickle.npz": r"asks for pathlib\S*, which is code",
    "one-frame.npz": "1 frame, expected at least 2",
    "nan.npz": "no joint has a number in any frame",
    "joints.npz": re.escape("has shape (24, 22, 3), expected (frames, 52, 3)").replace("24", r"\d+"),
    "text.npz": "not a motion file",
    "two-hours.npz": "120 minutes, the limit is .* cut the file into utterances",
    "three-minutes.npz": "the clip lasts 180 s .* cut it into utterances",
    "object.npz": "",
}
GOOD = {"good.npz": "Some tea and if you please.", "also good.npz": "I am Al."}


def test_bad_files_get_a_line_each_and_good_ones_their_translation(files, toy_model):
    answer = lslm("translate", *files.values(), "--model", toy_model)
    assert answer.returncode == 2
    assert answer.stdout.splitlines() == [f"{files[name]}: {GOOD[name]}" for name in files if name in GOOD]
    errors = answer.stderr.splitlines()
    assert "Traceback" not in answer.stderr and len(errors) == len(BAD), answer.stderr
    for line, name in zip(errors, (name for name in files if name in BAD), strict=True):
        assert line.startswith("lslm: ") and line.count(files[name]) == 1, line
        assert re.search(BAD[name], line), line


def test_json_is_one_object_per_file(files, toy_model, capsys):
    assert lslm_cli.main(["translate", "--json", "--model", str(toy_model), *files.values()]) == 2
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == list(files.values())
    for row, name in zip(rows, files, strict=True):
        if name in GOOD:
            assert set(row) == {"file", "text", "frames", "fps", "seconds"} and row["text"] == GOOD[name]
            assert row["fps"] == FPS and row["frames"] > 10 and 0 < row["seconds"] < 60
        else:
            assert set(row) == {"file", "error"} and re.search(BAD[name], row["error"]) and "\n" not in row["error"]


def test_one_good_file_is_nothing_but_its_translation(files, toy_aligned, tmp_path):
    """With a checkpoint like the shipped one: a LoRA adapter on a language model that lies elsewhere."""
    one = lslm("translate", files["good.npz"], "--model", toy_aligned, "--prompt", "<motion>", cwd=tmp_path)
    assert one.returncode == 0 and one.stderr == ""
    assert one.stdout.endswith("\n") and one.stdout.count("\n") == 1  # hardly trained, it may say anything


def test_no_library_draws_progress_bars_while_translating():
    # transformers does, with bare tqdm, when it unpacks a GGUF file; `checkpoints` stands for what is imported later
    code = """
import sys, types, lslm_cli
checkpoints = sys.modules["lslm_cli.checkpoints"] = types.ModuleType("checkpoints")
checkpoints.shipped_or = checkpoints.load_pipeline = None
checkpoints.quiet = lambda: sys.exit([*__import__("tqdm.auto").auto.tqdm(range(3))] and 0)
sys.exit(lslm_cli.main(sys.argv[1:]))
"""
    answer = lslm("translate", "clip.npz", program=(sys.executable, "-c", code))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_a_guessed_frame_rate_is_told_in_one_line(files, toy_model, tmp_path, capfd):
    arrays = dict(zip(("pose", "left_hand", "right_hand"), signer(640, 480), strict=True))
    np.savez(tmp_path / "holistic.npz", **arrays, image_size=(640, 480))
    argv = ["translate", str(tmp_path / "holistic.npz"), "--model", str(toy_model)]
    assert lslm_cli.main(argv) == 0
    out, err = capfd.readouterr()
    assert out.count("\n") == 1
    said = "no frame rate in the file: taken as 15 fps, as usual for webcam landmarks; pass --fps"
    assert err == f"lslm: {tmp_path}/holistic.npz: {said}\n"
    np.savez(tmp_path / "broken.npz", **arrays | {"right_hand": np.zeros((19, 21, 3))})
    assert lslm_cli.main(["translate", str(tmp_path / "broken.npz"), "--model", str(toy_model)]) == 2
    assert capfd.readouterr().err.count("\n") == 1  # of a file that cannot be read only the reason
    assert lslm_cli.main([*argv, "--fps", "12"]) == 0
    assert capfd.readouterr().err == ""
    np.savez(tmp_path / "own.npz", joints=np.load(files["good.npz"])["joints"])
    assert lslm_cli.main(["translate", str(tmp_path / "own.npz"), "--model", str(toy_model)]) == 2
    assert re.fullmatch(r"lslm: \S+own.npz: no frame rate: .*; pass --fps\n", capfd.readouterr().err)
    assert lslm_cli.main(["translate", str(tmp_path / "own.npz"), "--model", str(toy_model), "--fps", str(FPS)]) == 0
    assert capfd.readouterr() == (f"{GOOD['good.npz']}\n", "")


def test_the_advice_on_a_file_fits_the_command_line(files, tmp_path, capsys):
    params = motion_writers.a_motion()
    joints = np.load(files["good.npz"])["joints"]
    upside_down = {name: motion_writers.in_axes(params, motion_writers.FLIP)[name] for name in motion_writers.HEAD}
    np.savez(tmp_path / "frames.npz", **upside_down | {"global_orient": params["global_orient"]})
    np.savez(tmp_path / "z-up.npz", joints=joints[..., [0, 2, 1]] * (1, -1, 1), fps=FPS)
    np.savez(tmp_path / "no-fps.npz", joints=joints)
    for path, said in (
        (files["text.npz"], "whatever its name; save the joints with np.savez(path, joints=joints, fps=fps)"),
        (tmp_path / "no-fps.npz", "no frame rate: add `fps` to the file; pass --fps"),
        (tmp_path / "frames.npz", "no frame rate: smplx files do not hold one; pass --fps"),
        (tmp_path / "z-up.npz", "z up, turned to y up; if it is not; pass --up y"),
    ):
        lslm_cli.main(["inspect", str(path)])
        assert capsys.readouterr().err.endswith(f"{said}\n"), path
    lslm_cli.main(["inspect", str(tmp_path / "frames.npz"), "--fps", "20", "--format", "smplerx"])
    assert "the person is upright along y, expected -y as in SMPLer-X; pass --up y" in capsys.readouterr().err


def test_a_clip_of_several_is_chosen_by_its_name(toy_model, tmp_path, capsys):
    writer, nodes, written, _ = mocap.animations("Idle", "rig|THANKS you")
    path = tmp_path / "signs.glb"
    path.write_bytes(writer.glb(nodes, animations=written))
    for command in (["inspect"], ["translate", "--model", str(toy_model)]):
        assert lslm_cli.main([*command, str(path)]) == 2
        said = "2 animations in the file: Idle, rig|THANKS you; pass --clip Idle"
        assert capsys.readouterr() == ("", f"lslm: {path}: {said}\n")
        assert lslm_cli.main([*command, str(path), "--clip", "THANKS you"]) == 2
        assert "pass --clip 'rig|THANKS you'\n" in capsys.readouterr().err
        assert lslm_cli.main([*command, str(path), "--clip", "rig|THANKS you"]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "example, said",
    [
        ("-y", "--up=-y"),
        ("a - b", "--up 'a - b'"),
        ("", "--up"),
        (None, "--up"),
        (True, "--up true"),
        ((3, 4), "--up 3x4"),
    ],
)
def test_a_remedy_can_be_pasted_into_a_shell(example, said):
    assert as_flags(Remark("no", "up", example), "no") == f"no; pass {said}"


def test_a_translation_of_several_lines_is_printed_as_one(files, toy_model, monkeypatch, capsys):
    from lslm.processing import SignMotionProcessor

    monkeypatch.setattr(SignMotionProcessor, "batch_decode", lambda self, sequences, **kwargs: ["Tea,\nplease. "])
    assert lslm_cli.main(["translate", files["good.npz"], "--model", str(toy_model)]) == 0
    assert capsys.readouterr().out == "Tea, please.\n"


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--model", "NOWHERE"], "NOWHERE"),
        (["--model", "EMPTY"], "EMPTY"),
        (["--model", "CUT"], "CUT: damaged checkpoint"),
        (["--model", "OTHER"], "OTHER is a model of type bert: expected a model that translates"),
        (["--prompt", "What is it?"], "<motion>"),
        (["--prompt", "\udcff<motion>"], "--prompt \\udcff<motion>: expected text in UTF-8"),
        (["--fps", "0"], "frames per second"),
        (["--fps", "-5"], "frames per second"),
    ],
)
def test_a_wrong_flag_is_one_line(files, toy_model, tmp_path, capfd, flags, said):
    (tmp_path / "EMPTY").mkdir()
    shutil.copytree(toy_model, tmp_path / "CUT")
    os.truncate(tmp_path / "CUT" / "model.safetensors", 3000)
    sizes = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path / "OTHER")
    capfd.readouterr()
    flags = [str(tmp_path / flag) if flag.isupper() else flag for flag in flags]
    model = [] if "--model" in flags else ["--model", str(toy_model)]
    assert lslm_cli.main(["translate", files["good.npz"], *model, *flags]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("lslm: ") and err.count("\n") == 1 and said in err, err


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.npz"
    np.savez(path, joints=make_clip(20), fps=20.0)
    return str(path)


HOSTILE = {  # protocol 4, each a dictionary
    # number 2**28 of what the unpickler remembers: 4 GB
    "memory": (b"r" + (2**28).to_bytes(4, "little"), "reading takes more than 1792 MB of memory, the limit; cut"),
    # a key whose hash takes 2**99 steps: a pair of what was on the stack, 99 times
    "time": (b"K\x01" + b"2\x86" * 99 + b"Ns", "reading takes more than 3 s, the limit; cut it into utterances"),
    # a key of 300,000 tuples, one in the other, whose hash takes the whole stack
    "stack": (b")" + b"\x85" * 300_000 + b"Ns", "reading ended the process that read; export the file again"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_file_that_keeps_the_machine_busy_gets_a_line(tmp_path, capsys, monkeypatch):
    for name, (pickled, _) in HOSTILE.items():
        (tmp_path / f"{name}.pkl").write_bytes(b"\x80\x04}" + pickled + b".")
    np.savez(tmp_path / "good.npz", joints=make_clip(20), fps=20.0)
    files = [str(tmp_path / f"{name}.pkl") for name in HOSTILE] + [str(tmp_path / "good.npz")]
    reader = Confined(seconds=3.0)
    monkeypatch.setattr("lslm_cli.motion_files._reader", lambda video: reader)
    assert lslm_cli.main(["inspect", *files, "--fps", "24"]) == 2
    out, err = capsys.readouterr()
    said = [f"lslm: {file}: {words}" for file, (_, words) in zip(files, HOSTILE.values(), strict=False)]
    lines = err.splitlines()
    assert len(lines) == 3 and all(line.startswith(words) for line, words in zip(lines, said, strict=True)), err
    assert out.startswith(files[-1])


def test_translating_imports_what_the_package_requires_alone():
    """torch, transformers, numpy and safetensors: setup.py."""
    code = """if True:
        import importlib.util, sys
        found = importlib.util.find_spec
        hidden = ["accelerate", "peft", "datasets", "evaluate", "sacrebleu", "matplotlib", "gguf", "jinja2"]
        importlib.util.find_spec = lambda name, *more: None if name in hidden else found(name, *more)
        sys.modules.update(dict.fromkeys(hidden))
        import lslm_cli.checkpoints, lslm_cli.inspect, lslm_cli.translate
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_tmpdir_with_a_long_name_is_no_matter(clip, tmp_path):
    long = tmp_path / ("d" * 120)
    long.mkdir()
    code = "import sys, lslm_cli; sys.exit(lslm_cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "inspect", clip]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(long)})
    assert ran.returncode == 0 and "20 frames" in ran.stdout, ran.stderr


def test_output_that_nobody_reads_any_more_ends_quietly(clip):
    code = "import sys, lslm_cli; sys.exit(lslm_cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "inspect", *[clip] * 3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141


def test_what_files_say_steers_no_terminal(tmp_path, capsys, monkeypatch):
    """Escape sequences from the names of files and of arrays, and from what a model says."""
    hostile = "\x1b]0;owned\x07\x9b31m\u202egnp"
    clip = tmp_path / f"clip{hostile}.npz"
    np.savez(tmp_path / "arrays.npz", **{f"a{hostile}": np.zeros(3)})
    np.savez(clip, joints=make_clip(20), fps=20.0)
    assert lslm_cli.main(["inspect", str(tmp_path / "arrays.npz"), str(clip), str(tmp_path / f"none{hostile}")]) == 2
    answer = [{"translation_text": hostile}]
    monkeypatch.setattr("lslm_cli.checkpoints.load_pipeline", lambda model: lambda *_, **__: answer)
    assert lslm_cli.main(["translate", str(clip), str(clip)]) == 0
    said = "".join(capsys.readouterr())
    assert said.count("\\x1b]0;owned\\x07\\x9b31m\\u202egnp") >= 7
    assert all(line.isprintable() for line in said.split("\n"))


CONFIG, GENERATION, PROCESSOR = "config.json", "generation_config.json", "processor_config.json"


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        *[(CONFIG, "dtype", value) for value in ("evil", 7, ["float32"])],
        *[(CONFIG, "custom_pipelines", [1]), (CONFIG, "auto_map", 7), (CONFIG, "model_type", "evil")],
        *[(CONFIG, "quantization_config", 7), (CONFIG, "id2label", 7), (CONFIG, "backbone", "/nope")],
        *[(CONFIG, "motion_token_id", value) for value in (-1, "x", 10**6)],
        *[(CONFIG, "lora", value) for value in ("x", {"target_modules": 7}, {"r": 4, "target_modules": "(a+)+$"})],
        *[(CONFIG, "lora", {"target_modules": ["q_proj"]} | more) for more in ({"evil": 1}, {"r": 10**9}, {"r": "4"})],
        (CONFIG, "lora", {"target_modules": ["q_proj"], "r": 4, "rank_pattern": {"(a+)+$": 3}}),
        *[(CONFIG, "text_config", value) for value in (None, "x")],
        *[(CONFIG, "text_config.model_type", value) for value in ("evil", 7)],
        *[(CONFIG, "text_config.hidden_size", value) for value in (10**7, -1, "32", 2.5)],
        *[(CONFIG, "text_config.num_hidden_layers", value) for value in (10**6, 0)],
        *[(CONFIG, "text_config.vocab_size", value) for value in (10**10, -3)],
        *[(CONFIG, "text_config.hidden_act", "evil"), (CONFIG, "text_config.pad_token_id", 10**9)],
        *[(CONFIG, f"vqvae_config.{name}", 2**16) for name in ("hidden_size", "code_dim")],
        *[(CONFIG, "vqvae_config.codebook_size", value) for value in (True, 2**20)],
        *[(CONFIG, "vqvae_config.ema_decay", float("nan")), (CONFIG, "vqvae_config.quantizer", 7)],
        *[(GENERATION, "num_beams", value) for value in (10**9, "x")],
        *[(GENERATION, "max_new_tokens", value) for value in ("x", -1)],
        *[(GENERATION, "cache_implementation", "evil"), (GENERATION, "suppress_tokens", 7)],
        *[(GENERATION, "assistant_early_exit", 1), (GENERATION, "encoder_no_repeat_ngram_size", 10**9)],
        *[(GENERATION, "eos_token_id", value) for value in ("x", {"a": 1})],
        *[(GENERATION, "suppress_tokens", value) for value in ("x", [None])],
        *[
            (GENERATION, "bad_words_ids", [1]),
            (GENERATION, "stop_strings", 7),
            (GENERATION, "exponential_decay_length_penalty", [1, "a"]),
        ],
        *[(PROCESSOR, "feature_extractor.fps", value) for value in ("x", 0, 1e-9, 1e9)],
        *[(PROCESSOR, f"feature_extractor.{name}", 7) for name in ("mean", "std", "target_skeleton")],
        *[(PROCESSOR, "feature_extractor.mean", [{}]), (PROCESSOR, "feature_extractor.right_handed", "false")],
        *[(PROCESSOR, "feature_extractor.std", [0.0] * 623), (PROCESSOR, "feature_extractor", 7)],
        *[(PROCESSOR, "codes_per_embedding", value) for value in (0, "x")],
        *[("chat_template.jinja", None, text) for text in ("{% evil %}", "{{ 1/0 }}", "{{ 'a' * 10**10 }}")],
        *[(PROCESSOR, "prompt", 7), (PROCESSOR, "system_prompt", 7), (PROCESSOR, "processor_class", "Evil")],
    ],
)
def test_a_checkpoint_that_says_what_cannot_be_gets_a_line(checkpoint, tmp_path, capsys, clip, file, key, value):
    shutil.copytree(checkpoint, tmp_path / "model")
    path = tmp_path / "model" / file
    if key:
        content = json.loads(path.read_text())
        *above, name = key.split(".")
        (content[above[0]] if above else content)[name] = value
        value = json.dumps(content)
    path.write_text(value)
    started = time.monotonic()
    assert lslm_cli.main(["translate", "--model", str(tmp_path / "model"), clip]) == 2
    said = "".join(capsys.readouterr())
    assert said.startswith("lslm: ") and said.count("\n") == 1 and len(said) < 700 and "Traceback" not in said
    assert time.monotonic() - started < 10


def test_ctrl_c_while_the_reader_imports_is_for_the_command_alone(monkeypatch):
    handlers = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: handlers.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    importlib.import_module("lslm_cli.motion_files").start_reader()
    assert handlers == [signal.SIG_IGN] and signal.getsignal(signal.SIGINT) is before
