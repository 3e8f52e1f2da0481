"""Command-line arguments parsed into dataclasses with tyro."""

import csv
import io
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
    return list_flag(lambda text: tuple(parse_item(item) for item in split_commas(text)), metavar)


def list_flag(
    parse: Callable[[str], tuple[Item, ...]], metavar: str
) -> tyro.constructors.PrimitiveConstructorSpec[tuple[Item, ...]]:
    """Return the annotation of a flag that `parse` turns into a tuple; it raises ValueError for an invalid value."""

    def parse_values(values: list[str]) -> tuple[Item, ...]:
        (text,) = values
        return parse(text)

    def is_instance(value: Any) -> bool:
        return isinstance(value, tuple)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=parse_values,
        is_instance=is_instance,
        str_from_instance=lambda value: [",".join(map(str, value))],
    )


def split_commas(text: str) -> list[str]:
    r"""Split a text at commas and line breaks; double quotes, as in CSV, or a backslash keep a comma.

    >>> split_commas('"T-shirt, tee shirt", cat, bread\\, rice')
    ['T-shirt, tee shirt', 'cat', 'bread, rice']

    Raises:
        ValueError: A quote is not closed, or text follows a closing quote.
    """
    try:
        rows = list(csv.reader(io.StringIO(text.strip()), skipinitialspace=True, escapechar="\\", strict=True))
    except csv.Error as error:
        raise ValueError(f"{text!r} is not a list separated by commas: {error}") from error
    return [item.strip() for row in rows for item in row]


RepeatedStr = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
CommaSeparatedStrs = Annotated[tuple[str, ...], comma_separated(str)]
CommaSeparatedInts = Annotated[tuple[int, ...], comma_separated(int, "N,N")]
HiddenStrs = Annotated[tuple[str, ...], tyro.conf.Suppress]
"""A config field without a flag."""

ModelArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
ModelOrStoreArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL|STORE")]
DataArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
DatasetArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
DatasetArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATASET...")]
ImageArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
TextArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TEXT...")]
ImageArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")]
RunArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
RunArgs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
StoreArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
OptionalTableArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
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
