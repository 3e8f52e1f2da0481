"""Command-line arguments parsed into dataclasses with tyro."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import tyro

T = TypeVar("T")
Item = TypeVar("Item")


def comma_separated(
    parse_item: Callable[[str], Item], metavar: str = "A,B"
) -> tyro.constructors.PrimitiveConstructorSpec[tuple[Item, ...]]:
    """Return the annotation of a flag whose value is a list separated by commas; "" is the empty list.

    Args:
        parse_item: Converts one item without surrounding white space; raises ValueError for an invalid one.
        metavar: The value's name in the help text.
    """

    def parse(values: list[str]) -> tuple[Item, ...]:
        (text,) = values
        return tuple(parse_item(item.strip()) for item in text.split(",")) if text.strip() else ()

    def is_instance(value: Any) -> bool:
        return isinstance(value, tuple)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=parse,
        is_instance=is_instance,
        str_from_instance=lambda value: [",".join(map(str, value))],
    )


RepeatedStr = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
CommaSeparatedStrs = Annotated[tuple[str, ...], comma_separated(str)]
CommaSeparatedInts = Annotated[tuple[int, ...], comma_separated(int, "N,N")]
HiddenStrs = Annotated[tuple[str, ...], tyro.conf.Suppress]
"""A config field without a flag."""

ModelArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
DataArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
DatasetArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
DatasetArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATASET...")]
ImageArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")]
RunArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
RunArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
StoreArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
QueryArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUERY")]
OutArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
TargetArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL|DATA")]

TemplateFlag = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="template")]
NotFlag = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="not")]
SamplesFlag = Annotated[int | None, tyro.conf.arg(name="samples")]
KFlag = Annotated[int, tyro.conf.arg(aliases=["-k"])]


def parse_args(args_type: type[T], verb: str, argv: Sequence[str], *, description: str, default: T | None = None) -> T:
    """Parse the arguments of a verb.

    The help text of a field is the docstring below it, also of a field that `args_type` inherits. tyro exits by
    SystemExit: with code 0 after --help, and with code 2 for an invalid flag or value. A ConfigError of `__post_init__`
    counts as an invalid value.
    """
    return tyro.cli(
        args_type,
        prog=f"zebra {verb}",
        args=list(argv),
        description=description,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.AvoidSubcommands,),
    )
