"""Entry point of `zebra VERB …`: dispatch, exit codes and error messages."""

import gc
import importlib
import os
import select
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from zebra import __version__
from zebra.errors import ZebraError, suggest_name
from zebra.gc_pause import pause_gc

VERBS = {
    "demo": "generate the built-in dataset, train, evaluate, write report.html",
    "menagerie": "generate the built-in dataset: training shards and evaluation datasets",
    "queries": "build the list of entries by which a training set is balanced",
    "curate": "build a training set from a pool of captioned images",
    "dedup": "find near duplicates among images, and remove them",
    "score": "score how well image and caption of each pair match",
    "train": "train a CLIP model on captioned images, or fine-tune one",
    "sweep": "train variants of a recipe by successive halving and compare them",
    "probe": "learn a classifier from example images, for zebra classify",
    "classify": "name what is in images, by labels in words or a learned classifier",
    "explain": "show what in an image matches texts, as heat maps",
    "embed": "embed images into a store for search",
    "columns": "list the columns of a store, join a table to it, or remove some",
    "search": "find images in a store by text or by image",
    "clusters": "group the images of a store, and name the groups",
    "outliers": "find images of a store that are unlike all others, or wrongly labeled",
    "serve": "serve search and classification over HTTP, with a web page",
    "evaluate": "evaluate a model on datasets: zero-shot, prompts, probes, retrieval",
    "compare": "compare evaluations side by side, with paired tests",
    "study": "analyze evaluations: groups, people, robustness, scaling, supervised",
    "overlap": "find evaluation images in training data, and their effect on accuracy",
    "human": "ask people the questions of a dataset and record their answers",
    "models": "list known models, with sizes, scores and whether they open",
    "export": "write a model in the layout of another library, or a store as files",
    "push": "upload a model to the Hugging Face hub, with a model card",
    "bench": "measure the speed of a model on this machine, beside other libraries",
    "doctor": "inspect and verify a model, captioned images, or the installation",
}

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_RESUMABLE, EXIT_BROKEN_PIPE = 0, 1, 2, 75, 141
"""Exit codes. EXIT_RESUMABLE: interrupted, with all progress saved; the same command continues. EXIT_BROKEN_PIPE: the
program that reads the output has exited, as `head` does; the code is that of a program that SIGPIPE ends."""


def run_and_exit() -> NoReturn:
    """Run the verb that this process was started with, and end the process."""
    code = main()
    gc.freeze()  # otherwise the interpreter looks for garbage among all objects before it ends: 0.15 s with torch
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    try:
        code = _run_verb(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_output_closed():
            raise
        # Otherwise the interpreter would flush the rest of the output at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


def _run_verb(argv: Sequence[str] | None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if not args or args[0] in ("-h", "--help"):
        echo(_format_help(), err=not args)
        return EXIT_OK if args else EXIT_USAGE
    if args[0] == "--version":
        echo(f"zebra {__version__}")
        return EXIT_OK
    verb, *verb_args = args
    if verb not in VERBS:
        echo(f"zebra: unknown verb: {verb!r}.{suggest_name(verb, VERBS)}\n\n{_format_help()}", err=True)
        return EXIT_USAGE
    if not debug:
        warnings.formatwarning = _format_warning
    try:
        with pause_gc():
            module = importlib.import_module(f"zebra.cli.{verb}")
        code: int = module.run(verb_args)
    except SystemExit as stop:  # raised by tyro after --help or for wrong usage
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except KeyboardInterrupt:
        echo("zebra: interrupted", err=True)
        return 130
    except ZebraError as error:
        if debug:
            raise
        echo(f"zebra {verb}: {error}", err=True)
        return EXIT_ERROR
    except Exception as error:  # a bug or an error of a library: print a message instead of a traceback
        if debug or _is_output_closed():
            raise
        echo(f"zebra {verb}: {type(error).__name__}: {error} (--debug shows the traceback)", err=True)
        return EXIT_ERROR
    return code


def _is_output_closed() -> bool:
    """Return whether the program that reads standard output has exited."""
    if not hasattr(select, "poll"):  # Windows, where a closed pipe is another error
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # not a file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def echo(text: str, *, err: bool = False) -> None:
    """Print to standard output, or to standard error if `err`."""
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def shorten_path(path: str) -> str:
    """Return a path below the working directory relative to it, and any other as it is."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning as one line for users, without the place in the code."""
    del category, filename, lineno, line
    return f"zebra: warning: {message}\n"


def _format_help() -> str:
    verbs = "\n".join(f"  zebra {verb:<10} {summary}" for verb, summary in VERBS.items())
    return (
        "zebra: train, evaluate and serve CLIP models.\n\n"
        f"{verbs}\n\n"
        "zebra VERB --help explains a verb. --debug prints the traceback of an error. --version prints the version."
    )
