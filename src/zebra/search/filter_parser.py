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

from zebra.errors import ConfigError, nearest
from zebra.search.conditions import (
    Column,
    Comparison,
    Condition,
    Contains,
    Joined,
    Missing,
    Not,
    Operator,
    Value,
    kind_of,
)

LONGEST = 4096
"""Characters of a filter."""
DEEPEST = 12
"""Parentheses and `not` inside each other."""
WORDS = frozenset({"and", "or", "not", "in", "contains", "is", "null", "true", "false"})

_TOKEN = re.compile(
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
_UNITS = {"s": 10**6, "ms": 10**3, "us": 1}
"""Microseconds; nanoseconds and days go another way."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a filter, and where it stands."""

    kind: str
    """date, number, text, column, word, mark, or end."""
    said: str
    start: int
    end: int

    def means(self, *words: str) -> bool:
        """Say whether it is one of some words or marks of the grammar."""
        return self.kind in ("word", "mark") and self.said.lower() in words


def filterable(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return name and kind (text, number, date, yes/no) of the columns that a filter can look at."""
    return [(field.name, kind_of(field.type)) for field in schema if kind_of(field.type)]


def parse(text: str, schema: pa.Schema) -> Condition:
    """Read a filter, such as `width >= 640 and not caption contains "dog"`.

    Args:
        schema: Of the store: names and types are checked against it.

    Raises:
        ConfigError: The filter cannot mean anything; the message shows the place, and the nearest column's name.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"the filter has {len(text):,} characters; {LONGEST:,} are the most")
    return _Parser(text, schema).whole()


class _Parser:
    """Goes through the tokens from left to right, one rule of the grammar per method."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text = text
        self.schema = schema
        self.tokens = list(self._split())
        self.place = 0

    def whole(self) -> Condition:
        condition = self.any_of(0)
        if self.next.kind != "end":
            self.fail(f"{self.next.said!r} is not expected here; join conditions by and, or", self.next)
        return condition

    def any_of(self, depth: int) -> Condition:
        parts = [self.all_of(depth)]
        while self.take("or"):
            parts.append(self.all_of(depth))
        return Joined(parts, "OR") if len(parts) > 1 else parts[0]

    def all_of(self, depth: int) -> Condition:
        parts = [self.term(depth)]
        while self.take("and"):
            parts.append(self.term(depth))
        return Joined(parts, "AND") if len(parts) > 1 else parts[0]

    def term(self, depth: int) -> Condition:
        if depth == DEEPEST:
            self.fail(f"more than {DEEPEST} parentheses and `not` stand inside each other", self.next)
        if self.take("not"):
            return Not(self.term(depth + 1))
        if self.take("("):
            inside = self.any_of(depth + 1)
            self.expect(")")
            return inside
        return self.test(self.column())

    def test(self, column: Column) -> Condition:
        token = self.step()
        if token.means("=", "!=", "<", "<=", ">", ">="):
            return self.compare(column, token, self.value(column))
        if token.means("is"):
            opposite = self.take("not")
            self.expect("null")
            return Not(Missing(column)) if opposite else Missing(column)
        opposite = token.means("not")
        if opposite:
            token = self.step()
        if token.means("in"):
            return _opposite(self.one_of(column), opposite)
        if token.means("contains"):
            if column.kind != "text":
                self.fail(f"{column.name!r} holds {column.type}; only a text contains another", token)
            value = self.step()
            if value.kind != "text":
                self.fail('a text in quotes belongs here, such as "dog"', value)
            return _opposite(Contains(column, _unquoted(value)), opposite)
        return self.fail("one of = != < <= > >= in contains is belongs here", token)

    def one_of(self, column: Column) -> Condition:
        self.expect("(")
        parts: list[Condition] = [Comparison(column, "=", self.value(column))]
        while self.take(","):
            parts.append(Comparison(column, "=", self.value(column)))
        self.expect(")")
        return Joined(parts, "OR") if len(parts) > 1 else parts[0]

    def compare(self, column: Column, token: Token, value: Value) -> Condition:
        if column.kind == "yes/no" and token.said not in ("=", "!="):
            self.fail(f"{column.name!r} is true or false; it can be compared by = and != alone", token)
        operator: Operator = token.said  # type: ignore[assignment]  # `test` looked at it
        return Comparison(column, operator, value)

    def column(self) -> Column:
        token = self.step()
        if token.kind == "text":
            self.fail("a condition begins with a column; a name with spaces stands in `backquotes`", token)
        if token.kind not in ("word", "column") or (token.kind == "word" and token.said.lower() in WORDS):
            self.fail("the name of a column belongs here", token)
        name = token.said.strip("`")
        known = dict(filterable(self.schema))
        if name in known:
            return Column(name, self.schema.field(name).type)
        if name in self.schema.names:
            held = self.schema.field(name).type
            self.fail(f"the column {name!r} holds {held}, which cannot be filtered", token)
        return self.fail(f"there is no column {name!r}.{nearest(name, known)}", token)

    def value(self, column: Column) -> Value:
        token = self.step()
        if token.kind == "end":
            self.fail(f"a value for {column.name!r} belongs here", token)
        match column.kind:
            case "text" if token.kind == "text":
                return _unquoted(token)
            case "yes/no" if token.means("true", "false"):
                return token.said.lower() == "true"
            case "number" if token.kind == "number":
                return self.number(column, token)
            case "date" if token.kind in ("date", "text"):
                return self.date(column, token)
        like = {"text": '"dog"', "yes/no": "true or false", "number": "640", "date": "2021-05-03"}
        return self.fail(f"{column.name!r} holds {column.kind}: write {like[column.kind]}", token)

    def number(self, column: Column, token: Token) -> int | float:
        """Return an integer for a column of integers if it is one; else a number as the column would hold it."""
        if not pa.types.is_floating(column.type):
            if re.fullmatch(r"[+-]?\d+", token.said):
                return self.fits(int(token.said), token)
            value = float(token.said)
        else:
            with np.errstate(over="ignore"):
                value = float(column.type.to_pandas_dtype()(float(token.said)))
        if not math.isfinite(value):
            self.fail(f"{token.said} is more than {column.type} can hold", token)
        return value

    def date(self, column: Column, token: Token) -> int:
        """Return a date in the column's unit since 1970; without a time zone, it is taken as UTC."""
        said = _unquoted(token) if token.kind == "text" else token.said
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
            return self.fits(micros * 1000, token)
        else:
            unit, name = (
                _UNITS[column.type.unit],
                {"s": "seconds", "ms": "milliseconds"}.get(column.type.unit, ""),
            )
        if micros % unit:
            self.fail(f"{column.name!r} holds whole {name}; leave the rest out", token)
        return micros // unit

    def fits(self, value: int, token: Token) -> int:
        if abs(value) >= 2**63:
            self.fail(f"{token.said} is more than a column of whole numbers can hold", token)
        return value

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def step(self) -> Token:
        """Return the next token and go on; the end stays the end."""
        token = self.next
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def take(self, word: str) -> bool:
        """Go on if the next token is this one."""
        if not self.next.means(word):
            return False
        self.step()
        return True

    def expect(self, word: str) -> None:
        if not self.take(word):
            self.fail(f"{word!r} belongs here", self.next)

    def _split(self) -> Iterator[Token]:
        place = 0
        while self.text[place:].strip():
            match = _TOKEN.match(self.text, place)
            if match is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                quote = self.text[start] in "\"'`"
                what = "this quote is not closed" if quote else f"{self.text[start]!r} means nothing here"
                self.fail(what, Token("mark", self.text[start], start, start + 1))
            kind = str(match.lastgroup)
            yield Token(kind, match[kind], match.start(kind), match.end())
            place = match.end()
        yield Token("end", "", len(self.text), len(self.text) + 1)

    def fail(self, what: str, token: Token) -> NoReturn:
        """Show the place under the text, of which a long one is shown in part."""
        first = max(0, token.start - 60)
        shown = re.sub(r"\s", " ", self.text[first : token.end + 20])
        caret = " " * (token.start - first) + "^" * min(token.end - token.start, 60)
        raise ConfigError(f"the filter cannot be read: {what}\n  {shown}\n  {caret}")


def _opposite(condition: Condition, opposite: Literal[True] | bool) -> Condition:
    return Not(condition) if opposite else condition


def _unquoted(token: Token) -> str:
    quote = token.said[0]
    return token.said[1:-1].replace(quote * 2, quote)
