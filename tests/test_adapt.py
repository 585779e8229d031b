"""`lslm adapt`: takes of single signs of a new person become utterances, and a model learns to read them."""

import shutil
import unicodedata
from pathlib import Path

import lslm_cli
import numpy as np
import pytest
import yaml
from training_fixtures import COMMON, FPS, a_signer, recipe, sign_joints

from lslm import load_motion
from lslm.modeling_lslm import LslmForConditionalGeneration
from lslm.processing import SignMotionProcessor, SignTranslationPipeline
from lslm.training.dataset.augmentation import facing_the_camera
from lslm.training.dataset.motion_text import MotionText
from lslm.training.dataset.takes import SPEED, Composer, joined, read_takes, spelled_in, take_files
from lslm.training.recipe import parse
from lslm.training.stages import adapt

pytest_plugins = ["training_fixtures"]


def write_takes(folder: Path, labels=("tea", "a", "l"), count=2, seconds=None) -> Path:
    """FOLDER/LABEL/N.npz of somebody who stands elsewhere, turned."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            joints, _ = sign_joints([label], np.random.default_rng(number))
            joints = joints[..., [2, 1, 0]] * (1, 1, -1) + (3, 0, 1)
            if seconds:
                joints = np.resize(joints, (round(seconds * FPS), *joints.shape[1:]))
            np.savez(folder / label / f"{number}.npz", joints=joints.astype(np.float32), fps=np.float32(FPS))
    return folder


@pytest.fixture
def command(toy, toy_aligned, tmp_path):
    """`lslm adapt` of the toy model, with few steps."""
    few = {"max_steps": 4, "per_device_train_batch_size": 3, "save_strategy": "steps", "save_steps": 2}
    few |= {"gradient_accumulation_steps": 1, "bf16": False, "disable_tqdm": True}
    settings = yaml.safe_load(adapt.RECIPE.read_text()) | COMMON | few
    (tmp_path / "adapt.yaml").write_text(yaml.safe_dump(settings))

    def command(takes, output=tmp_path / "out", model=toy_aligned, **flags):
        flags = {"takes": takes, "output": output, "model": model, "config": tmp_path / "adapt.yaml"} | flags
        return ["adapt", *recipe(**flags)]

    return command


def weights(folder):
    return LslmForConditionalGeneration.from_pretrained(folder, merge_lora=False).state_dict()


# --- utterances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels, text, found",
    [
        (["hello", "i", "e", "m", "m", "a"], "Hello, I am Emma.", (2, "Emma")),
        (["a", "l", "tea"], "Tea for Al.", (0, "Al")),
        (["i", "get", "tea"], "I get tea.", None),
        (["t", "e", "a"], "Coffee.", None),
    ],
)
def test_the_word_that_labels_spell_is_found_in_the_text(labels, text, found):
    assert spelled_in(labels, text) == found


def test_takes_are_read_as_if_their_signer_stood_at_the_origin(tmp_path):
    takes = read_takes(take_files(write_takes(tmp_path)), 2 * FPS)
    assert {label: len(clips) for label, clips in takes.items()} == {"a": 2, "l": 2, "tea": 2}
    signed, _ = sign_joints(["tea"], np.random.default_rng(0))
    clip = takes["tea"][0]
    assert clip.dtype == np.float32 and len(clip) == 2 * len(signed) - 1
    np.testing.assert_allclose(clip[::2], facing_the_camera(signed), atol=1e-5)


def test_one_take_has_one_label(tmp_path):
    folder = write_takes(tmp_path)
    shutil.copy(folder / "a" / "0.npz", folder / "a" / "again.npz")  # harmless
    shutil.copy(folder / "a" / "1.npz", folder / "l" / "1.npz")
    with pytest.raises(ValueError, match=r"l.1.npz is the same take as .*a.1.npz: one take has one label; remove one"):
        read_takes(take_files(folder), FPS)


def test_a_label_is_the_same_however_a_file_system_writes_its_accent(tmp_path):
    folder = write_takes(tmp_path, ["tea"])
    (folder / "tea").rename(folder / unicodedata.normalize("NFD", "Ü"))
    assert list(take_files(folder)) == ["ü"]


def test_signs_are_joined_without_a_jump():
    left, right = a_signer(10), a_signer(8)
    right[:, 21] += 0.5
    both = joined([left, right], 20.0)
    assert both.dtype == np.float32 and len(both) == 10 + 7 + 8  # half a metre takes the longest of ways
    steps = np.linalg.norm(np.diff(both[:, 21], axis=0), axis=-1)
    assert steps.max() < 0.2 and np.all(both[:10] == left.astype(np.float32))
    assert len(joined([left, left], 20.0)) == 10 + 4 + 10


def test_an_utterance_has_the_takes_and_says_what_they_sign(toy):
    composer = Composer([MotionText(toy / "set", "train", FPS)], "set")
    assert composer.words == ["al"] and set(composer.rows) == {"a", "l", "tea", "no", "please"}
    rng = np.random.default_rng(0)
    takes = {"tea": [np.full((12, 52, 3), 7.0, np.float32)]}
    texts = set()
    for _ in range(30):
        text, joints = composer.compose(takes, rng)
        texts.add(text)
        ours = (joints == 7.0).all((1, 2)).sum()
        assert 12 / SPEED[1] - 1 <= ours <= 12 / SPEED[0] + 1
    assert texts == {"Some tea and if you please.", "Not now and some tea.", "Some tea.", "If you please and some tea."}


def test_words_are_made_up_of_the_letters_at_hand(toy):
    composer = Composer([MotionText(toy / "set", "train", FPS)], "set")
    takes = {letter: [np.zeros((8, 52, 3), np.float32)] for letter in "abl"}
    composer.rows["b"] = composer.rows["a"]
    drawn = [composer.compose(takes, np.random.default_rng(seed))[0] for seed in range(60)]
    words = {text.removeprefix("I am ").rstrip(".") for text in drawn}
    assert len(words) > 20 and all(word[0].isupper() and set(word.lower()) <= set("abl") for word in words)
    assert 5 < sum(not text.startswith("I am ") for text in drawn) < 40  # alone
    held_out = {word.lower() for word in words}
    again = [composer.compose(takes, np.random.default_rng(seed), held_out)[0] for seed in range(60)]
    assert not held_out & {text.removeprefix("I am ").rstrip(".").lower() for text in again}


# --- the command ------------------------------------------------------------------------------------------------------


def test_an_adapted_model_is_a_checkpoint_like_any_other(toy, toy_aligned, command, tmp_path, capsys):
    takes = write_takes(tmp_path / "takes")
    (takes / "tea" / ".DS_Store").write_bytes(b"no take")
    argv = command(takes)
    assert lslm_cli.main(argv) == 0
    said = capsys.readouterr().out
    assert "6 takes of 3 signs: a l tea" in said and "6 clips of" in said and "6 utterances of the takes" in said
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir() if file.is_file()} >= {file.name for file in toy_aligned.iterdir()} - {
        "training_args.bin"
    }
    before, after = weights(toy_aligned), weights(out)
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed and all("projector." in name or "lora_" in name for name in changed)
    record = yaml.safe_load((out / "stages.yaml").read_text())
    assert list(record) == ["tokenizer", "align", "adapt", "made_with"]
    assert record["adapt"]["splits"] == ["train"] and not adapt._has_more(str(toy / "set"))
    assert adapt._has_more(str(Path(__file__).parents[1] / "examples" / "asl_cafe"))
    assert record["adapt"]["share"] == 0.5 and record["adapt"]["data"] == str(toy / "set")
    assert set(record["adapt"]["used"]) >= {"takes", "data", "model"}
    # it is asked as before, and reads
    processors = [SignMotionProcessor.from_pretrained(folder) for folder in (toy_aligned, out)]
    assert processors[0].prompt == processors[1].prompt
    pipe = SignTranslationPipeline(model=LslmForConditionalGeneration.from_pretrained(out), processor=processors[1])
    assert isinstance(pipe(load_motion(takes / "tea" / "0.npz"))[0]["translation_text"], str)
    publish = ["publish", str(out), "me/reads-me", "--dry-run", "--base-model", "me/llama", "--license", "mit"]
    assert lslm_cli.main([*publish, "--clip", "none"]) == 0
    card = capsys.readouterr().out
    assert "learns to read one more person" in card and "4. adaptation" in card and str(takes) not in card
    # given again, it is left as it is; with other takes it is refused, even if a take only changes its label
    assert lslm_cli.main(argv) == 0 and "finished, and left as it is" in capsys.readouterr().out
    shutil.move(takes / "a" / "0.npz", takes / "l" / "2.npz")
    assert lslm_cli.main(argv) == 2 and "with another recipe: takes" in capsys.readouterr().err
    # a second person can follow
    more = write_takes(tmp_path / "more", ["l"])
    assert lslm_cli.main(command(more, tmp_path / "second", out)) == 0
    second = yaml.safe_load((tmp_path / "second" / "stages.yaml").read_text())
    assert list(second) == list(record) and second["adapt"]["before"] == record["adapt"]


def test_a_killed_adaptation_ends_with_the_same_weights(command, commands, tmp_path):
    takes = write_takes(tmp_path / "takes")
    commands.run(command(takes, tmp_path / "whole"))
    commands.kill(command(takes, tmp_path / "killed"), tmp_path / "killed" / "checkpoint-2", 3)
    commands.run(command(takes, tmp_path / "killed"))
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(whole[name].equal(killed[name]) for name in whole)


def test_takes_that_cannot_be_used_are_named_and_left_out(command, tmp_path, capsys):
    takes = write_takes(tmp_path / "takes", ["tea"])
    write_takes(tmp_path / "long", ["a"], seconds=20)
    shutil.move(tmp_path / "long" / "a", takes / "a")
    (takes / "tea" / "broken.npz").write_bytes(b"PK\3\4 and no more")
    (takes / "l").mkdir()
    (takes / "l.npz").write_bytes(b"")
    assert lslm_cli.main(command(takes)) == 0
    output = capsys.readouterr()
    assert "2 takes of 1 sign: tea" in output.out
    assert f"left out {takes}/tea/broken.npz: " in output.err
    assert f"left out {takes}/a/0.npz: it lasts 20.0 s, and a take is one sign of at most 8 s; cut it" in output.err
    assert "no take is left of a, l" in output.err
    assert f"left out {takes}/l.npz: it lies in no folder of a label" in output.err


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != "_lock"}


def test_what_makes_no_adaptation_is_refused(toy, toy_model, toy_tokenizer, command, tmp_path, capsys):
    takes = write_takes(tmp_path / "takes")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    unknown = write_takes(tmp_path / "unknown", ["tea"])
    (unknown / "tea").rename(unknown / "Teaa")
    broken = tmp_path / "broken" / "tea"
    broken.mkdir(parents=True)
    (broken / "1.npz").write_bytes(b"nothing")
    shutil.copytree(toy / "2_align", tmp_path / "elsewhere")
    stages = yaml.safe_load((tmp_path / "elsewhere" / "stages.yaml").read_text())
    for name in ("tokenizer", "align"):
        stages[name]["data"] = "no/such/set"
    (tmp_path / "elsewhere" / "stages.yaml").write_text(yaml.safe_dump(stages))
    cases = [
        (command(tmp_path / "nowhere"), "no folder of takes at"),
        (command(tmp_path / "empty"), "holds no takes: expected a folder for each letter or word"),
        (command(unknown), r"has no sign teaa (is it tea?), so no text says what that means"),
        (command(tmp_path / "broken"), "none of 1 take can be used"),
        (command(takes, takes / "out"), "lies in the folder of the takes"),
        (command(takes, model=toy_model), "has no adapter (LoRA) to train"),
        (command(takes, model=toy_tokenizer), "is a sign tokenizer, of lslm tokenizer: expected"),
        (command(takes, model=tmp_path / "elsewhere"), "was trained on no/such/set, not to be found here: give --data"),
        (command(takes, share=1.5), "share"),
        (command(takes, seed=-1), "seed"),
        (command(takes, splits="nosuch"), "no split 'nosuch'"),
    ]
    for argv, words in cases:
        assert lslm_cli.main(argv) == 2
        error = capsys.readouterr().err
        assert words in error.splitlines()[-1], error
        assert not _files(tmp_path / "out") and not (takes / "out").exists()


def test_data_that_does_not_say_where_its_signs_are_is_refused(toy, command, tmp_path, capsys):
    from datasets import load_dataset

    takes, bare = write_takes(tmp_path / "takes"), tmp_path / "bare"
    bare.mkdir()
    rows = load_dataset("parquet", data_files=str(toy / "set" / "data" / "train.parquet"), split="train")
    rows.remove_columns("signs").to_parquet(bare / "train.parquet")
    assert lslm_cli.main(command(takes, data=bare)) == 2
    assert "does not say where its signs are: expected a column signs" in capsys.readouterr().err


def test_what_a_model_was_trained_to_bear_it_goes_on_bearing(toy_aligned, command, tmp_path, monkeypatch):
    copy = shutil.copytree(toy_aligned, tmp_path / "copy")
    stages = yaml.safe_load((copy / "stages.yaml").read_text())
    stages["align"] |= {"mirror": 0.5, "tremor": 5.0, "spell_rare_words": True}
    (copy / "stages.yaml").write_text(yaml.safe_dump(stages))
    given = []
    monkeypatch.setattr(adapt, "run_stage", lambda stage, argv, train: given.extend(argv))
    assert lslm_cli.main(command(write_takes(tmp_path / "takes"), model=copy)) == 0
    flags = dict(zip(given[::2], given[1::2], strict=True))
    assert flags["--mirror"] == "0.5" and flags["--spell_rare_words"] == "True"
    assert flags["--tremor"] == "5.0"
    assert flags["--templates"].endswith("pretraining.json")  # it never was instructed


def test_takes_vary_more_than_what_the_model_knows(toy, toy_aligned, tmp_path, monkeypatch):
    drawn = []
    variation = adapt.Variation

    def recorded(**keys):
        drawn.append(variation(**keys))
        return drawn[-1]

    monkeypatch.setattr(adapt, "Variation", recorded)
    flags = {"takes": write_takes(tmp_path / "takes"), "data": toy / "set", "output_dir": tmp_path / "out"}
    flags |= {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "model": toy_aligned,
        "tremor": 5.0,
        "report_to": "none",
    }
    args = parse(adapt.AdaptArguments, recipe(**flags), "lslm adapt")
    clips, _ = adapt.mixture(args, SignMotionProcessor.from_pretrained(toy_aligned))
    assert (clips.vary.tremor, clips.vary.hand_turn) == (5.0, 0.0)  # of all clips
    (of_takes,) = drawn
    assert (of_takes.tremor, of_takes.hand_turn, of_takes.augment) == (0.0, adapt.OF_TAKES["hand_turn"], False)
    assert len(clips) == 8
    originals = MotionText(toy / "set", "train", FPS).joints
    assert all(any(np.array_equal(clip, other) for other in originals) for clip in clips.joints[:4])
    assert not any(any(np.array_equal(clip, other) for other in originals) for clip in clips.joints[4:])
