"""Recursive-descent parser for filters; column names and types are checked.

    filter       = conjunction {"or" conjunction}
    conjunction  = term {"and" term}
    term         = "not" term | "(" filter ")" | column predicate
    predicate    = ("=" | "!=" | "<" | "<=" | ">" | ">=") value
                 | ["not"] "in" "(" value {"," value} ")"
                 | ["not"] "contains" text
                 | "is" ["not"] "null"
    value        = number | text in quotes | true | false | date
    column       = name | `name in backquotes`

A quote inside a text is doubled. Keywords are case-insensitive. `contains` ignores case. Texts and column names are
compared in Unicode's form NFC. The filter text itself never reaches LanceDB: it is parsed here, and
`zebra.search.conditions` writes the SQL from the parsed condition.
"""

import math
import re
import unicodedata
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
"""Maximum length of a filter."""
MAX_NESTING = 12
"""Maximum nesting of parentheses and `not`."""
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
"""Factors for timestamp units; nanoseconds and days are handled separately."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a filter and its position."""

    kind: str
    """date, number, text, column, word, mark, or end."""
    text: str
    start: int
    end: int

    def is_one_of(self, *words: str) -> bool:
        """Return whether the token is one of some keywords or symbols."""
        return self.kind in ("word", "mark") and self.text.lower() in words


def list_filterable_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return name and kind (text, number, date, yes/no) of the filterable columns."""
    return [(field.name, column_kind(field.type)) for field in schema if column_kind(field.type)]


def parse_filter(text: str, schema: pa.Schema) -> Condition:
    """Parse a filter, such as `width >= 640 and not caption contains "dog"`.

    Args:
        schema: Schema of the store, against which names and types are checked.

    Raises:
        ConfigError: The filter is invalid; the message shows the position and suggests a column name.
    """
    if len(text) > MAX_FILTER_CHARS:
        raise ConfigError(f"the filter has {len(text):,} characters; the maximum is {MAX_FILTER_CHARS:,}")
    return _Parser(unicodedata.normalize("NFC", text), schema).parse()


class _Parser:
    """A recursive-descent parser with one method per grammar rule."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text = text
        self.schema = schema
        self.tokens = list(self._tokenize())
        self.position = 0

    def parse(self) -> Condition:
        condition = self.parse_or(0)
        if self.current.kind != "end":
            self.fail(f"unexpected {self.current.text!r}; combine conditions with and, or", self.current)
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
            self.fail(f"parentheses and `not` are nested more than {MAX_NESTING} deep", self.current)
        if self.accept("not"):
            return NotCondition(self.parse_term(depth + 1))
        if self.accept("("):
            condition = self.parse_or(depth + 1)
            self.expect(")")
            return condition
        return self.parse_predicate(self.parse_column())

    def parse_predicate(self, column: FilterColumn) -> Condition:
        token = self.advance()
        if token.is_one_of("=", "!=", "<", "<=", ">", ">="):
            return self.build_comparison(column, token, self.parse_value(column))
        if token.is_one_of("is"):
            is_negated = self.accept("not")
            self.expect("null")
            return NotCondition(IsNullCondition(column)) if is_negated else IsNullCondition(column)
        is_negated = token.is_one_of("not")
        if is_negated:
            token = self.advance()
        if token.is_one_of("in"):
            return _negate_if(self.parse_in_list(column), is_negated)
        if token.is_one_of("contains"):
            if column.kind != "text":
                self.fail(f"{column.name!r} holds {column.type}; contains needs a text column", token)
            value = self.advance()
            if value.kind != "text":
                self.fail('expected a text in quotes, such as "dog"', value)
            return _negate_if(ContainsCondition(column, _unquote(value)), is_negated)
        return self.fail("expected one of = != < <= > >= in contains is", token)

    def parse_in_list(self, column: FilterColumn) -> Condition:
        self.expect("(")
        parts: list[Condition] = [ComparisonCondition(column, "=", self.parse_value(column))]
        while self.accept(","):
            parts.append(ComparisonCondition(column, "=", self.parse_value(column)))
        self.expect(")")
        return BooleanCondition(parts, "OR") if len(parts) > 1 else parts[0]

    def build_comparison(self, column: FilterColumn, token: Token, value: FilterValue) -> Condition:
        if column.kind == "yes/no" and token.text not in ("=", "!="):
            self.fail(f"{column.name!r} is true or false; use = or !=", token)
        operator: ComparisonOperator = token.text  # type: ignore[assignment]  # checked by `parse_predicate`
        return ComparisonCondition(column, operator, value)

    def parse_column(self) -> FilterColumn:
        token = self.advance()
        if token.kind == "text":
            self.fail("a condition starts with a column; put a name with spaces in `backquotes`", token)
        if token.kind not in ("word", "column") or (token.kind == "word" and token.text.lower() in KEYWORDS):
            self.fail("expected the name of a column", token)
        name = self.find_column(token.text.strip("`"))
        columns = dict(list_filterable_columns(self.schema))
        if name in columns:
            return FilterColumn(name, self.schema.field(name).type)
        if name in self.schema.names:
            column_type = self.schema.field(name).type
            self.fail(f"the column {name!r} holds {column_type}, which cannot be filtered", token)
        return self.fail(f"there is no column {name!r}.{suggest_name(name, columns)}", token)

    def find_column(self, name: str) -> str:
        """Return the column with this name in any Unicode form, or the name itself."""
        if name in self.schema.names:
            return name
        return next((column for column in self.schema.names if unicodedata.normalize("NFC", column) == name), name)

    def parse_value(self, column: FilterColumn) -> FilterValue:
        token = self.advance()
        if token.kind == "end":
            self.fail(f"expected a value for {column.name!r}", token)
        match column.kind:
            case "text" if token.kind == "text":
                return _unquote(token)
            case "yes/no" if token.is_one_of("true", "false"):
                return token.text.lower() == "true"
            case "number" if token.kind == "number":
                return self.parse_number(column, token)
            case "date" if token.kind in ("date", "text"):
                return self.parse_date(column, token)
        if column.name == "label" and token.kind in ("text", "word"):
            self.fail(f"'label' holds class numbers. {self.explain_class_filter(token)}", token)
        examples = {"text": '"dog"', "yes/no": "true or false", "number": "640", "date": "2021-05-03"}
        return self.fail(f"{column.name!r} holds {column.kind}; write {examples[column.kind]}", token)

    def explain_class_filter(self, token: Token) -> str:
        """Return how to filter by the name of a class."""
        if "class" in self.schema.names:
            name = token.text if token.kind == "text" else f'"{token.text}"'
            return f"Filter by name: class = {name}"
        return (
            "This store has no column of class names. zebra embed with --columns class adds one, if the images are in "
            "class folders or their labels have names; zebra columns joins any table"
        )

    def parse_number(self, column: FilterColumn, token: Token) -> int | float:
        """Return an integer for an integer column if possible, else a float rounded to the column's type."""
        if not pa.types.is_floating(column.type):
            if re.fullmatch(r"[+-]?\d+", token.text):
                return self.require_int64(int(token.text), token)
            value = float(token.text)
        else:
            with np.errstate(over="ignore"):
                value = float(column.type.to_pandas_dtype()(float(token.text)))
        if not math.isfinite(value):
            self.fail(f"{token.text} is out of range for {column.type}", token)
        return value

    def parse_date(self, column: FilterColumn, token: Token) -> int:
        """Return a date as the column's unit since 1970; without a time zone, it is UTC."""
        text = _unquote(token) if token.kind == "text" else token.text
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is not a date such as 2021-05-03 or 2021-05-03T12:30:00", token)
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
        microseconds = (date - _EPOCH) // timedelta(microseconds=1)
        if pa.types.is_date32(column.type):
            unit, name = 86_400 * 10**6, "days"
        elif pa.types.is_date64(column.type):
            unit, name = 10**3, "milliseconds"
        elif column.type.unit == "ns":
            return self.require_int64(microseconds * 1000, token)
        else:
            unit, name = (
                _MICROSECONDS_PER_UNIT[column.type.unit],
                {"s": "seconds", "ms": "milliseconds"}.get(column.type.unit, ""),
            )
        if microseconds % unit:
            self.fail(f"{column.name!r} holds whole {name}; round the value", token)
        return microseconds // unit

    def require_int64(self, value: int, token: Token) -> int:
        if abs(value) >= 2**63:
            self.fail(f"{token.text} is out of range for an integer column", token)
        return value

    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def advance(self) -> Token:
        """Return the current token and move to the next; the end token repeats."""
        token = self.current
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def accept(self, word: str) -> bool:
        """Move to the next token if the current one is `word`; return whether it was."""
        if not self.current.is_one_of(word):
            return False
        self.advance()
        return True

    def expect(self, word: str) -> None:
        if not self.accept(word):
            self.fail(f"expected {word!r}", self.current)

    def _tokenize(self) -> Iterator[Token]:
        position = 0
        while self.text[position:].strip():
            match = _TOKEN_PATTERN.match(self.text, position)
            if match is None:
                start = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                is_quote = self.text[start] in "\"'`"
                problem = "this quote is not closed" if is_quote else f"unexpected {self.text[start]!r}"
                self.fail(problem, Token("mark", self.text[start], start, start + 1))
            kind = str(match.lastgroup)
            yield Token(kind, match[kind], match.start(kind), match.end())
            position = match.end()
        yield Token("end", "", len(self.text), len(self.text) + 1)

    def fail(self, problem: str, token: Token) -> NoReturn:
        """Raise an error that shows the position of a token in (a part of) the filter."""
        start = max(0, token.start - 60)
        excerpt = re.sub(r"\s", " ", self.text[start : token.end + 20])
        caret = " " * (token.start - start) + "^" * min(token.end - token.start, 60)
        raise ConfigError(f"invalid filter: {problem}\n  {excerpt}\n  {caret}")


def _negate_if(condition: Condition, is_negated: Literal[True] | bool) -> Condition:
    return NotCondition(condition) if is_negated else condition


def _unquote(token: Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)
