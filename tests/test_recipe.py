"""A recipe and flags to arguments: what wins, what is refused, and what the message says."""

import re
from pathlib import Path

import pytest
import yaml

from lslm.hub_cards.languages import languages_of
from lslm.hub_cards.yaml_files import load_yaml
from lslm.training import ablate, recipe
from lslm.training.blame import naming
from lslm.training.recipe import parse
from lslm.training.recipe_keys import TEMPLATES, EvaluateKeys
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.instruct import InstructArguments
from lslm.training.stages.tokenizer import TokenizerArguments

STAGES = {"1_tokenizer": TokenizerArguments, "2_align": AlignArguments, "3_instruct": InstructArguments}
RECIPES = sorted((Path(recipe.__file__).parent / "recipes").glob("*/*.yaml"))


@pytest.fixture
def read(tmp_path):
    """parse() of a recipe with this content and these flags."""

    def read(content: str, *flags: str, stage=TokenizerArguments):
        path = tmp_path / "recipe.yaml"
        out = "" if content.startswith("output_dir:") else f"output_dir: {tmp_path}/out\n"
        path.write_text(f"data: somewhere\n{out}{content}\n")
        return parse(stage, ["--config", str(path), *flags], "lslm test")

    return read


def test_a_flag_wins_over_the_file_wherever_it_stands(read, tmp_path):
    args = read("window: 48\nseed: 3\nquantizer: ema", "--window", "32")
    assert (args.window, args.seed, args.quantizer, args.fps) == (32, 3, "ema", 20.0)
    (tmp_path / "late.yaml").write_text("data: somewhere\nwindow: 48\nseed: 3\n")
    args = parse(TokenizerArguments, ["--window", "32", f"--config={tmp_path}/late.yaml"], "lslm test")
    assert (args.window, args.seed) == (32, 3)


def test_five_e_minus_five_is_a_number(read):
    assert read("learning_rate: 5e-5").learning_rate == 5e-5  # to YAML it is a string
    assert read("learning_rate: 5.0e-5").learning_rate == 5e-5
    assert read("learning_rate: 5e-5", "--learning_rate", "1e-4").learning_rate == 1e-4
    assert read("max_steps: 7\nbf16: 'true'").bf16 is True


def test_booleans_and_nothing(read):
    assert read("augment: false\nlimit: null").augment is False
    assert read("augment: true", "--augment", "false").augment is False
    assert read("augment: false", "--augment").augment is True
    assert read("limit: null").limit is None and read("", "--limit", "5").limit == 5


def test_lists_from_file_and_flags(read):
    both = ["projector", "language_model"]
    assert read("trainable: [projector, language_model]", stage=AlignArguments).trainable == both
    assert read("trainable: projector language_model", stage=AlignArguments).trainable == both
    assert read("trainable: projector", stage=AlignArguments).trainable == ["projector"]
    assert read("", "--trainable", *both, stage=AlignArguments).trainable == both
    assert read(
        "trainable: [projector, language_model]", "--trainable", "projector", stage=AlignArguments
    ).trainable == ["projector"]
    assert read("", stage=AlignArguments).trainable == ["projector"]  # the paper's choices
    assert read("", stage=InstructArguments).trainable == ["language_model"]


def test_an_unknown_key_or_flag_is_refused_with_a_suggestion(read):
    with pytest.raises(ValueError, match="recipe.yaml: unknown key 'learningrate'; did you mean learning_rate?"):
        read("learningrate: 1.0")
    with pytest.raises(ValueError, match=re.escape("unknown argument '--codebooksize'; did you mean --codebook_size?")):
        read("", "--codebooksize", "512")
    with pytest.raises(ValueError, match=re.escape("did you mean --window?")):
        read("", "--windw=3")
    with pytest.raises(ValueError, match="unknown key 'xyzzy'$"):
        read("xyzzy: 1")
    # stages know their own keys only
    with pytest.raises(ValueError, match="unknown key 'codebook_size'"):
        read("codebook_size: 4", stage=InstructArguments)


def test_an_abbreviated_flag_is_no_flag(read):
    with pytest.raises(ValueError, match="--max_steps"):
        read("", "--max_step", "5")


@pytest.mark.parametrize(
    "content, flags",
    [
        ("max_steps: many", []),
        ("bf16: perhaps", []),
        ("", ["--max_steps", "many"]),
        *((f"max_steps: {value}", []) for value in ("[3]", "{a: 3}", "2.5", "2020-01-01", "null", "1" + 400 * "0")),
        *((f"output_dir: {value}", ["--max_steps", "1"]) for value in ("[a]", "5", "!!binary aGVsbG8=", "&a [*a]")),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line_that_names_the_key(read, content, flags):
    with pytest.raises(ValueError, match="max_steps|bf16|output_dir is") as error:
        read(content, *flags)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key, values, expected",
    [
        ("lr_scheduler_type", ["certainly", "3", "null", "[a]"], "one of linear, cosine, "),
        ("save_strategy", ["certainly", "{a: 1}", "true"], "one of no, steps, epoch, best"),
        ("lr_scheduler_kwargs", ["certainly", "3", "[a]", "{1: 2}"], "keys and values or a JSON file with them"),
        ("fsdp_config", ["certainly", "false", "[]"], "keys and values or a JSON file with them"),
        ("lr_scheduler_kwargs", ["2020-01-01"], "keys and values"),
        ("parallelism_config", ["{tp_size: 2}", "certainly", "0"], "nothing: leave it out"),
        ("include_for_metrics", ["3", "null", "[1, a]"], "a list"),
        ("optim_target_modules", ["{a: 1}", "[[a]]"], "text (in quotation marks) or a list"),
        ("debug", ["[a]", "3"], "text (in quotation marks) or a list"),
        ("ddp_static_graph", ["3", "[]"], "true or false"),
        ("eval_on_start", ["null", "3"], "true or false"),
        ("save_total_limit", ["1.5", "true", "[3]"], "a whole number"),
        ("warmup_steps", [".inf", "[3]", "true"], "a number"),
        ("num_downsamples", ["1000000000000000000"], "a whole number from 0 to 8"),  # 2 ** that is never done
        ("output_dir", ['""'], None),
    ],
)
def test_every_key_says_which_kind_of_value_it_takes(read, key, values, expected):
    for value in values:
        with pytest.raises(ValueError, match=f"^{key} is ") as error:
            read(f"{key}: {value}")
        assert expected is None or f", expected {expected}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        ("accelerator_config: {split: 3}", "accelerator_config is {'split': 3}: the Trainer of transformers does not "),
        ("neftune_noise_alpha: 5", "neftune_noise_alpha is for language models"),
        ("report_to: certainly", "report_to is 'certainly', expected none, all, or some of "),
    ],
)
def test_what_the_trainer_does_not_take_is_a_line_with_the_key(read, content, message):
    with pytest.raises(ValueError) as error:
        read(f"{content}\nbf16: false\nlearning_rate: 1e-4\nmax_steps: 3")
    assert str(error.value).startswith(message)


def test_only_what_the_trainer_itself_does_not_take_is_the_recipe_s():
    recipe = {"lr_scheduler_kwargs": {"cycles": 2}, "lr_scheduler_type": "cosine", "seed": 3, "window": 16}
    for error, guilty in (
        (TypeError("get_cosine_schedule_with_warmup() got an unexpected keyword argument 'cycles'"), ValueError),
        (TypeError("of ours"), TypeError),
        (ValueError("window is too small"), ValueError),
    ):
        with pytest.raises(guilty) as raised, naming(recipe):
            raise error
        assert (raised.value is not error) == ("cycles" in str(error))
        if raised.value is not error:
            assert str(raised.value).startswith("lr_scheduler_kwargs is {'cycles': 2}")


def test_a_recipe_s_values_are_recorded_as_it_has_them(read):
    args = read("accelerator_config: {even_batches: false}\nlr_scheduler_kwargs: {}\nsave_strategy: epoch")
    assert args.recipe["accelerator_config"]["even_batches"] is False and args.recipe["save_strategy"] == "epoch"
    yaml.safe_dump(args.recipe)  # into stages.yaml


@pytest.mark.parametrize(
    "content, stage",
    [
        *((f"{key}: {value}", TokenizerArguments) for key, value in (("window", 0), ("fps", 0), ("fps", ".nan"))),
        *((f"{key}: -1", TokenizerArguments) for key in ("limit", "learning_rate", "seed", "num_train_epochs")),
        *((f"{key}: 0", TokenizerArguments) for key in ("limit", "codebook_size", "per_device_train_batch_size")),
        *((f"{key}: mine", TokenizerArguments) for key in ("convention", "target_skeleton", "quantizer")),
        ("augment: 3", TokenizerArguments),
        ("max_length: 0", AlignArguments),
        ("code_dropout: 1.5", AlignArguments),
        ("motion_input: words", AlignArguments),
        ("num_beams: 0\nsplit: test\noutput: x", EvaluateKeys),
    ],
)
def test_values_with_which_there_can_be_no_run_are_refused_before_data_is_read(tmp_path, content, stage):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data: {tmp_path}/none\n{content}\n")
    with pytest.raises(ValueError, match=f"^{content.partition(':')[0]} is .*, expected ") as error:
        parse(stage, ["--config", str(path)], "lslm test")
    assert "\n" not in str(error.value)


def test_what_is_missing(read, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*nowhere.yaml"):
        parse(TokenizerArguments, ["--config", str(tmp_path / "nowhere.yaml")], "lslm test")
    with pytest.raises(ValueError, match="--config needs a recipe file"):
        parse(TokenizerArguments, ["--config"], "lslm test")
    with pytest.raises(ValueError, match="which data[?] Give data: in the recipe or --data"):
        parse(TokenizerArguments, ["--output_dir", str(tmp_path)], "lslm test")
    path = tmp_path / "list.yaml"
    path.write_text("- window\n- 3\n")
    with pytest.raises(ValueError, match="expected a list of `key: value` lines"):
        parse(TokenizerArguments, ["--config", str(path)], "lslm test")
    for keys in ("1: 2", "? [a]\n: 2", "window: " + "[" * 1000, "window: \udcff"):  # no words, too deep, not UTF-8
        path.write_text(keys, errors="surrogateescape")
        with pytest.raises(ValueError, match="list.yaml"):
            parse(TokenizerArguments, ["--config", str(path)], "lslm test")
    path.write_text("window: [3\n")
    with pytest.raises(ValueError, match="list.yaml"):  # not YAML at all
        parse(TokenizerArguments, ["--config", str(path)], "lslm test")


def test_a_key_that_is_there_twice_is_refused_with_both_lines(read, tmp_path):
    with pytest.raises(ValueError, match=r"recipe.yaml: 'window' is there twice, in lines 3 and 5; leave one out$"):
        read("window: 48\nseed: 3\n'window': 32")
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("rows:\n  vq: {stage: tokenizer}\n  vq: {stage: align, from: vq}\n")
    with pytest.raises(ValueError, match="matrix.yaml: 'vq' is there twice, in lines 2 and 3"):
        ablate.read_config(matrix)
    (tmp_path / "README.md").write_text("---\nlanguage: [en, ase]\nlicense: mit\nlanguage: [de, gsg]\n---\n# A set\n")
    with pytest.raises(ValueError, match="README.md: 'language' is there twice, in lines 2 and 4"):
        languages_of(tmp_path)
    # in one line, and spelled in two ways that are one key
    for keys in ("{b: 1, b: 2}", "{yes: 1, true: 2}", "{1: a, 1.0: b}", "{~: 1, null: 2}"):
        with pytest.raises(ValueError, match=r"x: '.*' is there twice, in lines 1 and 1"):
            load_yaml(f"a: {keys}", "x")
    # what YAML merges is not there twice
    assert load_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", "") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


@pytest.mark.parametrize("value", ["2001-13-45", "!!int x", "!!bool maybe", "!!timestamp x"])
def test_a_value_that_yaml_cannot_make_names_the_file(value):
    with pytest.raises(ValueError, match="^recipe.yaml: not YAML: "):
        load_yaml(f"seed: {value}", "recipe.yaml")


def test_nothing_reads_yaml_past_the_one_reader():
    root = Path(recipe.__file__).parents[1]
    files = [
        file for folder in ("training", "hub_cards", "lslm", "processing") for file in (root / folder).rglob("*.py")
    ]
    readers = [file.name for file in files if re.search(r"yaml\.(safe_|full_)?load", file.read_text(encoding="utf-8"))]
    assert len(files) > 60 and set(readers) == {"yaml_files.py"}


def test_there_are_recipes_for_all_stages_and_their_scores():
    for folder in {path.parent for path in RECIPES}:
        assert {path.stem for path in folder.glob("*.yaml")} == {*STAGES, "4_evaluate"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_recipe_fits_its_stage(path):
    if path.stem == "4_evaluate":
        args = parse(EvaluateKeys, ["--config", str(path)], "lslm evaluate")
        assert args.data and args.split == "test" and args.model == str(Path(args.output).with_name("3_instruct"))
        assert args.unseen_templates == str(TEMPLATES / "unseen.json")
        return
    args = parse(STAGES[path.stem], ["--config", str(path)], "lslm test")
    assert args.data and args.output_dir and (args.max_steps > 0 or args.num_train_epochs > 1)
    assert 1e-7 < args.learning_rate < 1e-1
    if path.stem != "1_tokenizer":
        assert set(args.trainable) <= {"projector", "language_model"} and Path(args.templates).is_file()


@pytest.mark.parametrize("folder", ["llama3.2-3b", "qwen2.5-3b"])
def test_the_recipes_for_the_paper_s_backbones_have_its_hyper_parameters(folder):
    """Table 9."""
    paths = {path.stem: path for path in RECIPES if path.parent.name == folder}
    one, two, three = (parse(STAGES[stem], ["--config", str(paths[stem])], "lslm test") for stem in STAGES)
    assert (one.codebook_size, one.learning_rate, one.per_device_train_batch_size * 8) == (1024, 2e-4, 256)
    for args in (two, three):
        assert (args.projector_learning_rate, args.learning_rate) == (1e-6, 5e-7)
        assert (args.per_device_train_batch_size, args.max_length, args.optim) == (16, 250, "adamw_torch")
    assert (two.trainable, three.trainable) == (["projector"], ["language_model"])


def test_an_argument_that_the_library_renamed_is_taken_by_either_name(read):
    """`gradient_checkpointing` is `activation_checkpointing` in later releases of transformers."""
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        for args in (
            read(f"{name}: true", stage=AlignArguments),
            read("", f"--{name}", "true", stage=AlignArguments),
            read("", f"--{name}=true", stage=AlignArguments),
            read("", f"--{name.replace('_', '-')}=true", stage=AlignArguments),
        ):
            assert args.gradient_checkpointing is True  # the old name is an alias where the new one exists
        for flag in ("--activation_checkpointing", "--gradient-checkpointing"):
            args = read(f"{name}: true", flag, "false", stage=AlignArguments)
            assert args.gradient_checkpointing is False and list(args.recipe.values()).count(False) == 1
    with pytest.raises(ValueError, match="two keys are names of one thing; leave out (gradient|activation)_checkpoint"):
        read("gradient_checkpointing: true\nactivation_checkpointing: true", stage=AlignArguments)


def test_the_evaluation_takes_a_recipe_and_flags_like_the_stages(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: here\nsplit: test\nnum_beams: 4\ncontrols: true\nunseen_templates: my.json\nseed: 3\n")
    flags = ["--config", str(path), "--num-beams", "2", "--controls", "false", "--report-clips=0", "--limit", "5"]
    args = parse(EvaluateKeys, flags, "lslm evaluate")
    assert (args.data, args.split, args.num_beams, args.seed, args.limit) == ("here", "test", 2, 3, 5)
    assert (args.controls, args.report_clips, args.unseen_templates, args.fid) == (False, 0, "my.json", None)
    default = str(TEMPLATES / "unseen.json")  # true in a recipe is the flag alone
    args = parse(EvaluateKeys, [*flags, "--unseen-templates", "--controls", "--output", "x"], "lslm evaluate")
    assert (args.unseen_templates, args.controls, args.output) == (default, True, "x")
    path.write_text("data: here\nunseen_templates: true\nnum_beam: 4")
    with pytest.raises(ValueError, match="unknown key 'num_beam'; did you mean num_beams?"):
        parse(EvaluateKeys, flags, "lslm evaluate")


def test_label_smoothing_is_refused(read):
    """The library's Trainer would smooth the token that is read, not the next one."""
    with pytest.raises(ValueError, match="label_smoothing_factor: .* Leave it out"):
        read("label_smoothing_factor: 0.1", stage=AlignArguments)
