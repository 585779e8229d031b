"""`lslm demo`: the demo page on this machine."""

import argparse
import os
from pathlib import Path


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Open the demo page on this machine: sign into the camera, choose an example or upload a clip, "
        "see the skeleton move, and read the translation with the probability of every word. No picture of the camera "
        "leaves the browser. Programs send a clip to POST /translate; docs/serving.md and GET /openapi.json say "
        "how. Ctrl+C stops it, when what was asked for is answered.",
        epilog="Needs pip install 'lslm[space]'. The same page as a Hugging Face Space: hub_cards/space/README.md.",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="FOLDER_OR_ID",
        help="checkpoints; two are compared side by side (default: the shipped ASL Cafe model)",
    )
    parser.add_argument("--port", type=int, metavar="N", help="port (default: the first free from 7860)")
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="who signs can keep the clip with what was signed: DIR/takes for `lslm adapt --takes`, DIR/sentences for "
        "`lslm data build`",
    )
    parser.add_argument(
        "--share", action="store_true", help="also a public address for three days, through the servers of gradio.live"
    )
    return parser


def run(args) -> int:
    """`lslm demo`: returns when it is interrupted."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from lslm.hub_cards.space import app

    from .checkpoints import SHIPPED, load_pipeline, quiet, shipped_or

    quiet()
    if args.keep and args.share:
        raise ValueError("--keep beside --share would fill your disk with what strangers sign: give one of them")
    models = list(dict.fromkeys(args.model or [shipped_or(None)]))
    print(f"Loading {', '.join(models)} ...", flush=True)
    pipes = {model: load_pipeline(model) for model in models}
    options = {"server_port": args.port, "share": args.share, "quiet": True}
    try:
        languages = [(pipe.model.config.languages or {}).get("signed") or {"ase"} for pipe in pipes.values()]
        examples = app.find_examples(SHIPPED.parent) if any("ase" in signed for signed in languages) else {}
        application, local, public = app.serve(pipes, examples, args.keep, **options)
    except OSError as error:
        if args.port is None or "port" not in str(error):
            raise
        raise OSError(f"port {args.port} is taken; name another with --port") from error
    for address in filter(None, (local, public)):
        print(f"The demo is at {address}  (Ctrl+C stops it)", flush=True)
    app.wait_for_the_end(application)
    return 0
