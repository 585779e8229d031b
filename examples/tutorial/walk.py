"""Give every command of docs/tutorial.md, in its order, and compare what is printed with what the page shows.

    python examples/tutorial/walk.py            # from the root of the checkout; about ten minutes on two cores
    python examples/tutorial/walk.py --quick    # two steps of each stage: do the commands run?

Each line of the page is to be printed, in this order; "..." stands for any lines. Figures of training, which depend on
the machine, may differ. After two steps only the names of what was written are compared.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
import traceback
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
FEW_STEPS = "--max_steps 2 --save_steps 1 --warmup_steps 0 --per_device_train_batch_size 4".split()
QUICK = {  # what is added to the commands whose output depends on training
    "tokenizer": [*FEW_STEPS, "--codebook_size", "16", "--limit", "8"],
    "align": [*FEW_STEPS, "--ctc_steps", "2", "--limit", "8"],
    "instruct": [*FEW_STEPS, "--limit", "8"],
    "evaluate": "--limit 2 --report_clips 1".split(),
    "translate": [],
}


def commands_of(page: str) -> list[tuple[str, list[str]]]:
    """(command, lines that it prints) of each command in the console blocks of a Markdown page."""
    commands: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").split("\n")[:-1]:
            if line.startswith("$ "):
                commands.append((" ".join(line[2:].split()), []))
            else:
                commands[-1][1].append(line)
    return commands


def missing_line(expected: list[str], printed: str, any_figures: bool) -> str | None:
    """The first line of `expected` that was not printed after those before it, or None."""

    def plain(line: str) -> str:
        return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "0", line.strip()) if any_figures else line.strip()

    lines = iter([plain(line) for line in re.split(r"[\r\n]", printed)])
    return next((line for line in expected if line.strip() not in ("", "...") and plain(line) not in lines), None)


def run(words: list[str], env: dict[str, str]) -> tuple[int, str]:
    """The exit code of a command and what it prints, which is shown as it comes."""
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0) as process:
        printed = b""
        while process.stdout and (part := os.read(process.stdout.fileno(), 2**16)):
            sys.stdout.buffer.write(part)
            sys.stdout.flush()
            printed += part
    return process.returncode, printed.decode("utf-8", "replace")


def run_in_copies():
    """As [`run`], for commands of lslm: each in a copy of this process, which imports once what takes seconds."""
    import lslm_cli
    from transformers import LlamaForCausalLM, Trainer, pipeline  # noqa: F401

    from lslm.hub_cards import publish  # noqa: F401
    from lslm.training.evaluation import evaluate  # noqa: F401
    from lslm.training.stages import align, instruct, tokenizer  # noqa: F401

    def run_copy(words: list[str]) -> tuple[int, str]:
        sys.stdout.flush()
        reading, writing = os.pipe()
        if not (copy := os.fork()):
            code = 1
            try:
                for output in (1, 2):
                    os.dup2(writing, output)
                code = lslm_cli.main(words[1:])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        with open(reading, encoding="utf-8", errors="replace") as output:
            printed = output.read()
        print(printed, end="")
        return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), printed

    return run_copy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two steps of each stage, and their output not compared")
    quick = parser.parse_args().quick
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    faults, started = 0, time.time()
    run_copy = run_in_copies() if quick and hasattr(os, "fork") else None
    for command, expected in commands_of(PAGE.read_text(encoding="utf-8")):
        words = shlex.split(command)
        stage = words[1] if words[0] == "lslm" and words[1] in QUICK else None
        if quick and stage:
            words += QUICK[stage]
        print(f"$ {shlex.join(words)}", flush=True)
        begun = time.time()
        if run_copy and words[0] == "lslm":
            code, printed = run_copy(words)
        else:
            code, printed = run(words, env={**os.environ, "PATH": path})
        print(f"[{time.time() - begun:.0f} s, exit code {code}]", flush=True)
        fault = "a traceback" if "Traceback" in printed else None
        if quick and stage:
            if code and not any(line.startswith("lslm: ") for line in expected):
                fault = f"exit code {code}"
            expected = [line for line in expected if line.startswith("written to")]
        fault = fault or missing_line(expected, printed, any_figures=stage is not None)
        if fault:
            faults += 1
            print(f"!!! not as in {PAGE.name}: {fault}", flush=True)
    print(f"{faults} of the commands not as in {PAGE.name}; {(time.time() - started) / 60:.1f} minutes")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
