"""The words of a filter, and the columns of a store, in; a checked condition out.

    filter     = every {"or" every}
    every      = term {"and" term}
    term       = "not" term | "(" filter ")" | column test
    test       = ("=" | "!=" | "<" | "<=" | ">" | ">=") value
               | ["not"] "in" "(" value {"," value} ")"
               | ["not"] "contains" text
               | "is" ["not"] "null"
    value      = number | text in quotes | true | false | date
    column     = name | `name in backquotes`

A quote inside a text is written twice. Words of the grammar may be in capitals. Nothing of the text reaches the engine
of the store: it is taken apart here, and what is passed on is written anew by `zebra.search.conditions`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa

from zebra.errors import ConfigError, suggest_name
from zebra.search.conditions import (
    BooleanCondition,
    ComparisonCondition,
    ComparisonOperator,
    Condition,
    ContainsCondition,
    FilterColumn,
    FilterValue,
    IsNullCondition,
    NotCondition,
    column_kind,
)

MAX_FILTER_CHARS = 4096
"""Characters of a filter."""
MAX_NESTING = 12
"""Parentheses and `not` inside each other."""
KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "is", "null", "true", "false"})

_TOKEN_PATTERN = re.compile(
    r"""\s*(?:
      (?P<date>\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?)
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\w)
    | (?P<text>"(?:[^"]|"")*"|'(?:[^']|'')*')
    | (?P<column>`[^`]+`)
    | (?P<word>[^\W\d]\w*)
    | (?P<mark><=|>=|!=|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_MICROSECONDS_PER_UNIT = {"s": 10**6, "ms": 10**3, "us": 1}
"""Microseconds; nanoseconds and days go another way."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a filter, and where it stands."""

    kind: str
    """date, number, text, column, word, mark, or end."""
    text: str
    start: int
    end: int

    def is_one_of(self, *words: str) -> bool:
        """Say whether it is one of some words or marks of the grammar."""
        return self.kind in ("word", "mark") and self.text.lower() in words


def list_filterable_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return name and kind (text, number, date, yes/no) of the columns that a filter can look at."""
    return [(field.name, column_kind(field.type)) for field in schema if column_kind(field.type)]


def parse_filter(text: str, schema: pa.Schema) -> Condition:
    """Read a filter, such as `width >= 640 and not caption contains "dog"`.

    Args:
        schema: Of the store: names and types are checked against it.

    Raises:
        ConfigError: The filter cannot mean anything; the message shows the place, and the nearest column's name.
    """
    if len(text) > MAX_FILTER_CHARS:
        raise ConfigError(f"the filter has {len(text):,} characters; {MAX_FILTER_CHARS:,} are the most")
    return _Parser(text, schema).parse()


class _Parser:
    """Goes through the tokens from left to right, one rule of the grammar per method."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text = text
        self.schema = schema
        self.tokens = list(self._tokenize())
        self.position = 0

    def parse(self) -> Condition:
        condition = self.parse_or(0)
        if self.current.kind != "end":
            self.fail(f"{self.current.text!r} is not expected here; join conditions by and, or", self.current)
        return condition

    def parse_or(self, depth: int) -> Condition:
        parts = [self.parse_and(depth)]
        while self.accept("or"):
            parts.append(self.parse_and(depth))
        return BooleanCondition(parts, "OR") if len(parts) > 1 else parts[0]

    def parse_and(self, depth: int) -> Condition:
        parts = [self.parse_term(depth)]
        while self.accept("and"):
            parts.append(self.parse_term(depth))
        return BooleanCondition(parts, "AND") if len(parts) > 1 else parts[0]

    def parse_term(self, depth: int) -> Condition:
        if depth == MAX_NESTING:
            self.fail(f"more than {MAX_NESTING} parentheses and `not` stand inside each other", self.current)
        if self.accept("not"):
            return NotCondition(self.parse_term(depth + 1))
        if self.accept("("):
            inside = self.parse_or(depth + 1)
            self.expect(")")
            return inside
        return self.parse_predicate(self.parse_column())

    def parse_predicate(self, column: FilterColumn) -> Condition:
        token = self.advance()
        if token.is_one_of("=", "!=", "<", "<=", ">", ">="):
            return self.build_comparison(column, token, self.parse_value(column))
        if token.is_one_of("is"):
            opposite = self.accept("not")
            self.expect("null")
            return NotCondition(IsNullCondition(column)) if opposite else IsNullCondition(column)
        opposite = token.is_one_of("not")
        if opposite:
            token = self.advance()
        if token.is_one_of("in"):
            return _negate_if(self.parse_in_list(column), opposite)
        if token.is_one_of("contains"):
            if column.kind != "text":
                self.fail(f"{column.name!r} holds {column.type}; only a text contains another", token)
            value = self.advance()
            if value.kind != "text":
                self.fail('a text in quotes belongs here, such as "dog"', value)
            return _negate_if(ContainsCondition(column, _unquote(value)), opposite)
        return self.fail("one of = != < <= > >= in contains is belongs here", token)

    def parse_in_list(self, column: FilterColumn) -> Condition:
        self.expect("(")
        parts: list[Condition] = [ComparisonCondition(column, "=", self.parse_value(column))]
        while self.accept(","):
            parts.append(ComparisonCondition(column, "=", self.parse_value(column)))
        self.expect(")")
        return BooleanCondition(parts, "OR") if len(parts) > 1 else parts[0]

    def build_comparison(self, column: FilterColumn, token: Token, value: FilterValue) -> Condition:
        if column.kind == "yes/no" and token.text not in ("=", "!="):
            self.fail(f"{column.name!r} is true or false; it can be compared by = and != alone", token)
        operator: ComparisonOperator = token.text  # type: ignore[assignment]  # `test` looked at it
        return ComparisonCondition(column, operator, value)

    def parse_column(self) -> FilterColumn:
        token = self.advance()
        if token.kind == "text":
            self.fail("a condition begins with a column; a name with spaces stands in `backquotes`", token)
        if token.kind not in ("word", "column") or (token.kind == "word" and token.text.lower() in KEYWORDS):
            self.fail("the name of a column belongs here", token)
        name = token.text.strip("`")
        known = dict(list_filterable_columns(self.schema))
        if name in known:
            return FilterColumn(name, self.schema.field(name).type)
        if name in self.schema.names:
            held = self.schema.field(name).type
            self.fail(f"the column {name!r} holds {held}, which cannot be filtered", token)
        return self.fail(f"there is no column {name!r}.{suggest_name(name, known)}", token)

    def parse_value(self, column: FilterColumn) -> FilterValue:
        token = self.advance()
        if token.kind == "end":
            self.fail(f"a value for {column.name!r} belongs here", token)
        match column.kind:
            case "text" if token.kind == "text":
                return _unquote(token)
            case "yes/no" if token.is_one_of("true", "false"):
                return token.text.lower() == "true"
            case "number" if token.kind == "number":
                return self.parse_number(column, token)
            case "date" if token.kind in ("date", "text"):
                return self.parse_date(column, token)
        like = {"text": '"dog"', "yes/no": "true or false", "number": "640", "date": "2021-05-03"}
        return self.fail(f"{column.name!r} holds {column.kind}: write {like[column.kind]}", token)

    def parse_number(self, column: FilterColumn, token: Token) -> int | float:
        """Return an integer for a column of integers if it is one; else a number as the column would hold it."""
        if not pa.types.is_floating(column.type):
            if re.fullmatch(r"[+-]?\d+", token.text):
                return self.require_int64(int(token.text), token)
            value = float(token.text)
        else:
            with np.errstate(over="ignore"):
                value = float(column.type.to_pandas_dtype()(float(token.text)))
        if not math.isfinite(value):
            self.fail(f"{token.text} is more than {column.type} can hold", token)
        return value

    def parse_date(self, column: FilterColumn, token: Token) -> int:
        """Return a date in the column's unit since 1970; without a time zone, it is taken as UTC."""
        said = _unquote(token) if token.kind == "text" else token.text
        try:
            moment = datetime.fromisoformat(said)
        except ValueError:
            self.fail(f"{said!r} is no date such as 2021-05-03 or 2021-05-03T12:30:00", token)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        micros = (moment - _EPOCH) // timedelta(microseconds=1)
        if pa.types.is_date32(column.type):
            unit, name = 86_400 * 10**6, "days"
        elif pa.types.is_date64(column.type):
            unit, name = 10**3, "milliseconds"
        elif column.type.unit == "ns":
            return self.require_int64(micros * 1000, token)
        else:
            unit, name = (
                _MICROSECONDS_PER_UNIT[column.type.unit],
                {"s": "seconds", "ms": "milliseconds"}.get(column.type.unit, ""),
            )
        if micros % unit:
            self.fail(f"{column.name!r} holds whole {name}; leave the rest out", token)
        return micros // unit

    def require_int64(self, value: int, token: Token) -> int:
        if abs(value) >= 2**63:
            self.fail(f"{token.text} is more than a column of whole numbers can hold", token)
        return value

    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def advance(self) -> Token:
        """Return the next token and go on; the end stays the end."""
        token = self.current
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def accept(self, word: str) -> bool:
        """Go on if the next token is this one."""
        if not self.current.is_one_of(word):
            return False
        self.advance()
        return True

    def expect(self, word: str) -> None:
        if not self.accept(word):
            self.fail(f"{word!r} belongs here", self.current)

    def _tokenize(self) -> Iterator[Token]:
        place = 0
        while self.text[place:].strip():
            match = _TOKEN_PATTERN.match(self.text, place)
            if match is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                quote = self.text[start] in "\"'`"
                what = "this quote is not closed" if quote else f"{self.text[start]!r} means nothing here"
                self.fail(what, Token("mark", self.text[start], start, start + 1))
            kind = str(match.lastgroup)
            yield Token(kind, match[kind], match.start(kind), match.end())
            place = match.end()
        yield Token("end", "", len(self.text), len(self.text) + 1)

    def fail(self, problem: str, token: Token) -> NoReturn:
        """Show the place under the text, of which a long one is shown in part."""
        first = max(0, token.start - 60)
        shown = re.sub(r"\s", " ", self.text[first : token.end + 20])
        caret = " " * (token.start - first) + "^" * min(token.end - token.start, 60)
        raise ConfigError(f"the filter cannot be read: {problem}\n  {shown}\n  {caret}")


def _negate_if(condition: Condition, is_negated: Literal[True] | bool) -> Condition:
    return NotCondition(condition) if is_negated else condition


def _unquote(token: Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)
