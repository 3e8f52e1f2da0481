"""The command `zebra push MODEL org/name`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from zebra.cli.arguments import ModelArg, RepeatedStr, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.push import PushConfig

DESCRIPTION = """Upload a model to the Hugging Face hub, with a model card. It opens by the name hf:org/name.

Only files of the model are uploaded. The card has the training data and the scores that the model's README.md names,
those of --scores, and how zebra and the library of its layout open it. Edit README.md before you push to add to the
card. Log in first: hf auth login.
"""
RepoArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ORG/NAME")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(PushConfig):
    """Arguments of `zebra push`."""

    model: ModelArg
    repo: RepoArg
    scores: RepeatedStr = ()


def run(argv: Sequence[str]) -> int:
    """Upload the model and print how to open it."""
    args = parse_args(Args, "push", argv, description=DESCRIPTION)
    from zebra.workflows import push

    result = push.run(args)
    state = f"{len(result.files)} files" if result.is_uploaded else "up to date"
    echo(f'{result.repo}: {state}; open it with zebra.load("hf:{result.repo}")')
    if not result.has_license:
        echo("note: the card names no license, so nobody else may use the model; push again with --license", err=True)
    return EXIT_OK
