"""Words to values: a dataclass and argv in, its instance out; the only use of tyro."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import tyro

T = TypeVar("T")

# What a verb's fields can be beside flags.
PositionalStr = Annotated[str, tyro.conf.Positional]
PositionalStrs = Annotated[tuple[str, ...], tyro.conf.Positional]
RepeatedStr = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
With = Annotated[str | None, tyro.conf.arg(name="with")]
NotFlag = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="not")
]  # no name in Python
HiddenStrs = Annotated[tuple[str, ...], tyro.conf.Suppress]  # settable in Python only
KFlag = Annotated[int, tyro.conf.arg(aliases=["-k"])]


def parse_args(
    args_type: type[T], verb: str, argv: Sequence[str], *, description: str, default: T | None = None
) -> T:
    """Parse a verb's words; tyro prints help or usage and leaves by SystemExit (code 0 or 2)."""
    return tyro.cli(
        args_type,
        prog=f"zebra {verb}",
        args=list(argv),
        description=description,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.AvoidSubcommands,),
    )
