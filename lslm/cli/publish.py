"""`lslm publish`: a checkpoint with its code and card to the Hub."""

import argparse


def hub_arguments(parser: argparse.ArgumentParser) -> None:
    """What everything that goes to the Hub can be told."""
    parser.add_argument("repo_id", metavar="ORG/NAME", help="on the Hub; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make it private, when it is made")
    parser.add_argument("--revision", metavar="BRANCH", help="send to this branch (main)")
    parser.add_argument("--dry-run", action="store_true", help="print the files and the card; send nothing")
    parser.add_argument("--message", help="of the commit")
    license_arguments(parser)


def license_arguments(parser) -> None:
    """What a card says of the licence."""
    parser.add_argument("--license", metavar="ID", help="as the Hub calls it (mit, other, ...)")
    parser.add_argument("--license-name", metavar="NAME", help="of a licence that the Hub does not list")
    parser.add_argument("--license-link", metavar="URL", help="its text")


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
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
    hub_arguments(parser)
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
        metavar="FILE",
        help="example clip, or none (default: one of the test split of the model's own data; with --code-only, the "
        "repository's example.npz)",
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        help="results.json for the card (default: FOLDER's, or ../scores' if of FOLDER)",
    )
    parser.add_argument("--base-model", metavar="ORG/NAME", help="language model, if the checkpoint does not tell")
    parser.parse_args = parser.parse_intermixed_args  # flags may stand between FOLDER and ORG/NAME
    return parser


def run(args) -> int:
    args = vars(args)
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
