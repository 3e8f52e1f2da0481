"""Dispatch of `zebra VERB …`, exit codes and the one place where errors become messages."""

import importlib
import sys
from collections.abc import Sequence

from zebra import __version__
from zebra.errors import ZebraError, suggest_name

VERBS = {
    "demo": "make the menagerie, train on it, recognise a zebra, write report.html",
    "menagerie": "write the built-in world: training shards and evaluation sets",
    "train": "train a CLIP on captioned images",
    "classify": "name what is in pictures, by labels in words",
    "embed": "put pictures with their vectors into a store, to be searched",
    "search": "find pictures in a store by saying what is in them",
    "serve": "answer over HTTP, with a page to search and classify",
    "evaluate": "measure a model on data sets: zero-shot, prompts, probes, retrieval",
    "compare": "put evaluations beside each other, with paired tests",
    "study": "make more of evaluations: groups, people, robustness, scaling",
    "overlap": "find evaluation pictures in training data, and what they did to accuracy",
    "human": "ask people what is in the pictures of a data set, and keep the answers",
    "export": "write a model so that another library opens it",
    "doctor": "explain and verify a model, captioned images, or the installation",
}

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_RESUMABLE = 0, 1, 2, 75
"""Exit codes; STOPPED: a checkpoint was saved on request, run again to resume."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        echo(_format_help(), err=not words)
        return EXIT_OK if words else EXIT_USAGE
    if words[0] == "--version":
        echo(f"zebra {__version__}")
        return EXIT_OK
    verb, *rest = words
    if verb not in VERBS:
        echo(f"zebra: no verb {verb!r}.{suggest_name(verb, VERBS)}\n\n{_format_help()}", err=True)
        return EXIT_USAGE
    try:
        code: int = importlib.import_module(f"zebra.cli.{verb}").run(rest)
    except SystemExit as stop:  # tyro's way out: --help, or wrong usage
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except KeyboardInterrupt:
        echo("zebra: interrupted", err=True)
        return 130
    except ZebraError as mistake:
        if debug:
            raise
        echo(f"zebra {verb}: {mistake}", err=True)
        return EXIT_ERROR
    except Exception as fault:  # the last line of defence: a message instead of a traceback
        if debug:
            raise
        echo(f"zebra {verb}: {type(fault).__name__}: {fault} (--debug shows where)", err=True)
        return EXIT_ERROR
    return code


def echo(text: str, *, err: bool = False) -> None:
    """Print to standard output, or to standard error."""
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def _format_help() -> str:
    verbs = "\n".join(f"  zebra {verb:<10} {summary}" for verb, summary in VERBS.items())
    return (
        "zebra: train a CLIP, and recognise what you can name.\n\n"
        f"{verbs}\n\n"
        "zebra VERB --help explains a verb; --debug shows the traceback of an error; --version the version."
    )
