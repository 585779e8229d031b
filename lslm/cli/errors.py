"""What an error looks like on the command line, and whose it is."""

import os
import re
import sys
import traceback

# Of a damaged file, the network or the machine, though neither a ValueError nor an OSError. By name: importing their
# libraries takes seconds.
NOT_A_FAULT = {"BadZipFile", "DatasetGenerationError", "HTTPError", "ImportError", "MemoryError", "OutOfMemoryError"}
NOT_A_FAULT |= {"SafetensorError", "UnpicklingError", "YAMLError"}
EXTRAS = {"gradio": "space", "jinja2": "hub"}  # others are in "train"
# What of the machine reaches us in a RuntimeError: how its message reads, and what to say.
MACHINE = {
    r"DataLoader worker \(pid\S* .*(killed by signal|exited unexpectedly)|</torch_\S*>": "a data loader worker ended: "
    "most often memory is full, or /dev/shm, through which workers pass batches (docker run --shm-size). Give fewer "
    "--dataloader_num_workers, 0 for none; the same command goes on from the last checkpoint",
}


def report(error: Exception | KeyboardInterrupt) -> int:
    """Say on standard error what went wrong, after the traceback if LSLM_DEBUG is set.

    Returns:
        The exit code: 2 for what the user can put right, 1 for a fault of ours, 130 or 143 after a signal, 141 if
        nobody reads the output any more.
    """
    if isinstance(error, KeyboardInterrupt):
        print(f"lslm: {one_line(error) if error.args else 'interrupted'}", file=sys.stderr)
        return getattr(error, "exit_code", 130)
    if isinstance(error, BrokenPipeError):  # `| head` has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes there when Python ends
        return 141
    if os.environ.get("LSLM_DEBUG"):
        traceback.print_exception(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    missing = str(getattr(error, "name", None)).split(".")[0] if isinstance(error, ModuleNotFoundError) else None
    if missing and missing not in ("lslm", "lslm_cli"):
        code, lines = 2, [f"{missing} is not installed; run: pip install 'lslm[{EXTRAS.get(missing, 'train')}]'"]
    elif trouble := _of_the_machine(error):
        code, lines = 2, [trouble]
    elif isinstance(error, (ValueError, OSError)) or (kinds & NOT_A_FAULT and not missing):
        code, lines = 2, [one_line(error)]
    elif place := _loaded(error):
        what = f"{type(error).__name__}: {one_line(error)}"
        code, lines = 2, [f"{place}: cannot be loaded, a file in it is not as it was saved ({what[:300]})"]
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}, line {last.lineno}"
        code = 1
        lines = [
            f"a fault in lslm, not in what you gave it: {type(error).__name__}: {one_line(error)} ({where})",
            "LSLM_DEBUG=1 before the command shows the traceback; please report it, with that, to where you got lslm",
        ]
    for line in lines:
        print(f"lslm: {line}", file=sys.stderr)
    return code


def _loaded(error: BaseException) -> str | None:
    """The folder or Hub id that was being loaded when a library raised the error, if one was: what breaks in a library
    is what the files say, what breaks in ours is a fault of ours."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames[-1].f_globals.get("__name__", "").startswith("lslm"):
        return None
    loads = (frame for frame in frames if frame.f_code.co_name == "from_pretrained")
    return next((str(frame.f_locals.get("pretrained_model_name_or_path")) for frame in loads), None)


def _of_the_machine(error: BaseException) -> str | None:
    """What to say of an error that the machine is the reason for, with the message itself."""
    if isinstance(error, OSError) and error.filename:  # which says where
        return None
    text = one_line(error)
    return next((f"{said} ({text[:200]})" for pattern, said in MACHINE.items() if re.search(pattern, text)), None)


def one_line(error: BaseException) -> str:
    """The message of an error or a warning without its line breaks, and without its middle if a file made it long."""
    if isinstance(error, OSError) and error.strerror:  # without the number, which tells a reader nothing
        return printable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    text = str(error)
    if text.startswith("Caught ") and " in DataLoader worker process" in text:  # a traceback, the error its last line
        text = text.strip().splitlines()[-1].partition(": ")[2]
    text = " ".join(text.split()) or type(error).__name__
    return printable(text if len(text) < 1200 else f"{text[:900]} ... {text[-200:]}")


def printable(text: str) -> str:
    """`text` for a terminal; see `lslm.processing.motion_errors.printable`, whose import takes seconds."""
    if text.isprintable():
        return text
    from lslm.processing.motion_errors import printable

    return printable(text)
