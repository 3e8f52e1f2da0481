"""Filters select the same rows in Arrow, LanceDB and Python, and errors show their position."""

import datetime as dt
import math
import re
import unicodedata
from itertools import count

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import ConfigError
from zebra.search.conditions import BooleanCondition, ComparisonCondition, ContainsCondition, NotCondition
from zebra.search.filter_parser import MAX_NESTING, list_filterable_columns, parse_filter
from zebra.text.case_folding import SPECIAL_PATTERN

SCHEMA = pa.schema(
    {
        "Größe in px": pa.int64(),
        "small": pa.int16(),
        "x": pa.float64(),
        "half": pa.float32(),
        "text": pa.string(),
        "and": pa.large_string(),
        "ok": pa.bool_(),
        "day": pa.date32(),
        "when": pa.timestamp("ms", "Europe/Berlin"),
        "tags": pa.list_(pa.string()),
    }
)
PIECES = st.sampled_from(
    ["a", "B", "o'b", '"', "\\", "%", "_", "`", "é", "É", "ß", "ſ", "K", "K", "İ", "i", "zoo", " ", "--", ";", "\n",
     "ss", "e", "\u0301", "\u0307", "ﬁ", "Å", "\u1112", "\u1161", "σ", "ς", "日"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=4).map("".join)
INTEGERS = st.one_of(st.integers(-3, 3), st.sampled_from([2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63) + 1]))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 1.5, -2.0, 1e30]), st.floats(-3, 3).map(lambda value: round(value, 2))
)
CELLS = {
    "Größe in px": INTEGERS,
    "small": st.integers(-3, 3),
    "x": st.one_of(FLOATS, st.sampled_from([math.nan, math.inf, -math.inf])),
    "half": st.one_of(FLOATS, st.just(math.nan)),
    "text": TEXTS,
    "and": TEXTS,
    "ok": st.booleans(),
    "day": st.dates(dt.date(2020, 12, 30), dt.date(2021, 1, 3)),
    "when": st.datetimes(dt.datetime(2020, 12, 31), dt.datetime(2021, 1, 1)).map(
        lambda moment: moment.replace(microsecond=0, tzinfo=dt.UTC)
    ),
    "tags": st.lists(TEXTS, max_size=2),
}
NUMBER = count()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return lancedb.connect(tmp_path_factory.mktemp("lance"))


def quote(text):
    return '"' + text.replace('"', '""') + '"'


def format_value(name, value):
    """Return a value in the syntax of filters."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.date) else repr(value)


def column(name):
    return name if re.fullmatch(r"[a-z]\w*", name) and name != "and" else f"`{name}`"


@st.composite
def conditions(draw):
    """Draw a predicate as text, with the equivalent Python function of a row."""
    name = draw(st.sampled_from([name for name in CELLS if name != "tags"]))

    def is_missing(row):
        return row[name] is None or row[name] != row[name]

    kind = draw(st.sampled_from(["compare", "compare", "in", "null", "contains"]))
    if kind == "null":
        return f"{column(name)} is null", is_missing
    if kind == "contains" and name in ("text", "and"):
        part = draw(TEXTS)
        return (
            f"{column(name)} contains {quote(part)}",
            lambda row: not is_missing(row) and fold(part) in fold(row[name]),
        )
    cells = CELLS[name].filter(lambda value: not isinstance(value, float) or math.isfinite(value))
    if name in ("Größe in px", "small"):
        cells = st.one_of(cells, st.sampled_from([0.5, -1.5]))
    values = draw(st.lists(cells, min_size=1, max_size=3))
    if kind == "in":
        text = f"{column(name)} in ({', '.join(format_value(name, value) for value in values)})"
        return text, lambda row: not is_missing(row) and any(compare("=", row[name], v, name) for v in values)
    operator = draw(st.sampled_from(["=", "!="] if name == "ok" else ["=", "!=", "<", "<=", ">", ">="]))
    text = f"{column(name)} {operator} {format_value(name, values[0])}"
    return text, lambda row: not is_missing(row) and compare(operator, row[name], values[0], name)


def compare(operator, cell, value, name):
    """Compare two values: floats at the precision of the column, an integer and a float as floats."""
    if name == "half":
        cell, value = float(np.float32(cell)), float(np.float32(value))
    elif isinstance(value, float) or isinstance(cell, float):
        cell, value = float(cell), float(value)
    if isinstance(cell, str):
        cell, value = (unicodedata.normalize("NFC", text).encode() for text in (cell, value))
    return {
        "=": cell == value,
        "!=": cell != value,
        "<": cell < value,
        "<=": cell <= value,
        ">": cell > value,
        ">=": cell >= value,
    }[operator]


def fold(text):
    casefolded = unicodedata.normalize("NFC", text).casefold().replace("i\u0307", "i")
    return unicodedata.normalize("NFC", casefolded)


def combine(children):
    def join(parts, operator):
        texts, predicates = zip(*parts, strict=True)
        reduce = {"and": all, "or": any}[operator]
        return f"({f' {operator} '.join(texts)})", lambda row: reduce(predicate(row) for predicate in predicates)

    return st.one_of(
        st.builds(join, st.lists(children, min_size=2, max_size=3), st.sampled_from(["and", "or"])),
        children.map(lambda part: (f"not {part[0]}", lambda row: not part[1](row))),
    )


FILTERS = st.recursive(conditions(), combine, max_leaves=5)
ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), cells) for name, cells in CELLS.items()}), min_size=1, max_size=8
)


@given(table=ROWS, filters=st.lists(FILTERS, min_size=1, max_size=6))
def test_arrow_lancedb_and_python_agree(database, table, filters):
    arrow = pa.Table.from_pylist(table, SCHEMA)
    lance = database.create_table(f"t{next(NUMBER)}", arrow.append_column("number", pa.array(range(len(table)))))
    for text, predicate in filters:
        condition = parse_filter(text, SCHEMA)
        expected = [number for number, row in enumerate(table) if predicate(row)]
        assert np.flatnonzero(condition.mask(arrow).to_numpy(zero_copy_only=False)).tolist() == expected, text
        possible, certain = (
            set(
                lance.search()
                .where(condition.to_sql(certain=certain))
                .select(["number"])
                .to_arrow()["number"]
                .to_pylist()
            )
            for certain in (False, True)
        )
        assert certain <= set(expected) <= possible, condition.to_sql()
        is_special = re.compile("[^\\n -~éÉſσς日]")
        if not any(is_special.search(row[name] or "") for row in table for name in ("text", "and")):
            assert certain == possible


CELLS_OF_ONE_NAME = ["Café in the rain", "Cafe\u0301 in the rain", "CAFÉ IN THE RAIN", "CAFE\u0301"]


@pytest.mark.parametrize("needle", ["café", "CAFE\u0301", "Café"])
def test_every_unicode_form_and_case_of_a_word_is_found(needle):
    rows = pa.table({"text": [*CELLS_OF_ONE_NAME, "cafe", None]})
    mask = parse_filter(f'text contains "{needle}"', rows.schema).mask(rows)
    assert mask.to_pylist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("cell", "needle"),
    [
        ("Straße", "STRASSE"),
        ("STRASSE", "straße"),
        ("İstanbul", "istanbul"),
        ("istanbul", "İSTANBUL"),
        ("I\u0307zmir", "izmir"),
        ("ﬁsh", "FISH"),
        ("ΟΔΟΣ", "οδος"),
        ("\u1112\u1161\u11ab", "한"),
    ],
)
def test_texts_that_differ_by_full_case_folding_or_form_contain_each_other(cell, needle):
    rows = pa.table({"text": [cell]})
    assert parse_filter(f'text contains "{needle}"', rows.schema).mask(rows).to_pylist() == [True]


def test_equality_ignores_the_unicode_form_but_not_the_case():
    rows = pa.table({"text": ["é", "e\u0301", "É", "e"]})
    assert parse_filter('text = "e\u0301"', rows.schema).mask(rows).to_pylist() == [True, True, False, False]
    assert parse_filter('text not in ("é", "e")', rows.schema).mask(rows).to_pylist() == [False, False, True, False]


def test_a_column_is_found_in_any_unicode_form():
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        rows = pa.table({unicodedata.normalize(form, "größe"): [1, 2]})
        condition = parse_filter(unicodedata.normalize(other, "größe = 2"), rows.schema)
        assert condition.mask(rows).to_pylist() == [False, True]


def test_every_character_that_needs_care_is_special():
    characters = pa.array([chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000])
    special = pc.match_substring_regex(characters, SPECIAL_PATTERN).to_pylist()
    for character, is_special in zip(characters.to_pylist(), special, strict=True):
        casefolded = character.casefold()
        needs_care = unicodedata.normalize("NFC", character) != character or len(casefolded) > 1
        assert is_special or not (needs_care or unicodedata.combining(character)), hex(ord(character))


@given(st.text(max_size=40) | st.lists(PIECES | st.sampled_from(["text", "and", "(", "=", "in", "5"])).map(" ".join))
def test_any_text_is_a_filter_or_an_error_with_a_position(text):
    try:
        parse_filter(text, SCHEMA)
    except ConfigError as error:
        assert "^" in str(error)


def test_not_binds_closer_than_and_which_binds_closer_than_or():
    condition = parse_filter("ok = true or not small = 1 and small < 5", SCHEMA)
    assert isinstance(condition, BooleanCondition)
    assert condition.operator == "OR"
    assert isinstance(condition.conditions[0], ComparisonCondition)
    assert isinstance(condition.conditions[1], BooleanCondition)
    assert isinstance(condition.conditions[1].conditions[0], NotCondition)
    assert condition.columns == {"ok", "small"}


def test_each_row_matches_a_filter_or_its_negation():
    rows = pa.table({"small": pa.array([1, None, 3], pa.int16())}, pa.schema([SCHEMA.field("small")]))
    for text in ("small > 2", "small = 1", "small is null", "small in (1, 3)", "small != 1"):
        mask = parse_filter(text, SCHEMA).mask(rows).to_pylist()
        negated = parse_filter(f"not {text}", SCHEMA).mask(rows).to_pylist()
        assert [not value for value in mask] == negated
    assert parse_filter("small != 1", SCHEMA).mask(rows).to_pylist() == [False, False, True]


def test_keywords_are_case_insensitive_and_not_may_follow_the_column():
    assert parse_filter("text IS NOT NULL", SCHEMA) == NotCondition(parse_filter("text is null", SCHEMA))
    assert parse_filter("small NOT IN (1)", SCHEMA) == parse_filter("not small in (1)", SCHEMA)
    assert parse_filter('text not contains "a"', SCHEMA) == parse_filter('not text contains "a"', SCHEMA)


def test_a_quote_inside_a_text_is_doubled_and_a_backslash_is_literal():
    condition = parse_filter(r"""text contains 'it''s "\' """, SCHEMA)
    assert isinstance(condition, ContainsCondition)
    assert condition.text == "it's \"\\"


@pytest.mark.parametrize(
    ("text", "problem", "token"),
    [
        ("smal = 1", "there is no column 'smal'. Did you mean 'small'?", "smal"),
        ("ok = true and tags = 1", "the column 'tags' holds list<", "tags"),
        ("small = ", "expected a value for 'small'", ""),
        ('small = "one"', "'small' holds number; write 640", '"one"'),
        ("text = 5", "'text' holds text; write \"dog\"", "5"),
        ("ok > true", "'ok' is true or false", ">"),
        ("ok = 1", "write true or false", "1"),
        ('day = "yesterday"', "'yesterday' is not a date such as", '"yesterday"'),
        ("day = 2021-05-03T12:00:00", "holds whole days", "2021-05-03T12:00:00"),
        ('small contains "1"', "contains needs a text column", "contains"),
        ("text contains 1", "expected a text in quotes", "1"),
        ("small 5", "expected one of = != < <= > >= in contains is", "5"),
        ("small = 1 small = 2", "combine conditions with and, or", "small"),
        ("(small = 1", "expected ')'", ""),
        ("small in 1", "expected '('", "1"),
        ("small is 1", "expected 'null'", "1"),
        ('text = "open', "this quote is not closed", '"'),
        ("small = 1; drop table", "unexpected ';'", ";"),
        ("small = 99999999999999999999", "out of range for an integer column", "99999999999999999999"),
        ("x = 1e999", "is out of range for double", "1e999"),
        ('"small" = 1', "a condition starts with a column", '"small"'),
        ("and = 1", "expected the name of a column", "and"),
        ("", "expected the name of a column", ""),
    ],
)
def test_an_error_names_the_problem_and_shows_its_position(text, problem, token):
    with pytest.raises(ConfigError) as raised:
        parse_filter(text, SCHEMA)
    message, excerpt, caret = str(raised.value).split("\n")
    assert problem in message
    assert excerpt == f"  {text}"
    assert caret.count("^") == max(1, len(token))
    if token:
        assert text[caret.index("^") - 2 :].startswith(token)


def test_filters_that_are_too_long_or_too_deep_are_rejected():
    with pytest.raises(ConfigError, match="are nested more than"):
        parse_filter("(" * MAX_NESTING + "small = 1" + ")" * MAX_NESTING, SCHEMA)
    with pytest.raises(ConfigError, match="the maximum is 4,096"):
        parse_filter("small = 1 or " * 400 + "small = 2", SCHEMA)


def test_lancedb_accepts_the_longest_filter(database):
    text = " or ".join(["small = 1"] * 300)
    rows = pa.table({"small": pa.array([1, 2, None], pa.int16())})
    lance = database.create_table("long", rows)
    assert lance.count_rows(parse_filter(text, rows.schema).to_sql()) == 1
    nested_text = "not (small = 9 or " * (MAX_NESTING // 2 - 1) + "small = 1" + ")" * (MAX_NESTING // 2 - 1)
    mask = parse_filter(nested_text, rows.schema).mask(rows)
    assert lance.count_rows(parse_filter(nested_text, rows.schema).to_sql()) == sum(mask.to_pylist())


def test_filterable_columns_are_listed_with_their_kind():
    assert list_filterable_columns(SCHEMA)[:2] == [("Größe in px", "number"), ("small", "number")]
    assert dict(list_filterable_columns(SCHEMA))["when"] == "date"
    assert "tags" not in dict(list_filterable_columns(SCHEMA))
