"""A filter means the same to Arrow, to the engine of the index, and to a reader; what means nothing is pointed at."""

import datetime as dt
import math
import re
from itertools import count

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zebra.errors import ConfigError
from zebra.search.conditions import BooleanCondition, ComparisonCondition, ContainsCondition, NotCondition
from zebra.search.filter_parser import MAX_NESTING, list_filterable_columns, parse_filter

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
    [
        "a",
        "B",
        "o'b",
        '"',
        "\\",
        "%",
        "_",
        "`",
        "é",
        "É",
        "ß",
        "ſ",
        "K",
        "K",
        "İ",
        "i",
        "zoo",
        " ",
        "--",
        ";",
        "\n",
    ]
)
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


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def written(name, value):
    """Write a value as the grammar has it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.date) else repr(value)


def column(name):
    return name if re.fullmatch(r"[a-z]\w*", name) and name != "and" else f"`{name}`"


@st.composite
def conditions(draw):
    """One test of a column: its words, and what it says of a row, in plain Python."""
    name = draw(st.sampled_from([name for name in CELLS if name != "tags"]))

    def missing(row):
        return row[name] is None or row[name] != row[name]

    kind = draw(st.sampled_from(["compare", "compare", "in", "null", "contains"]))
    if kind == "null":
        return f"{column(name)} is null", missing
    if kind == "contains" and name in ("text", "and"):
        part = draw(TEXTS)
        pattern = re.compile(re.escape(part), re.IGNORECASE)
        return (
            f"{column(name)} contains {quoted(part)}",
            lambda row: not missing(row) and bool(pattern.search(row[name])),
        )
    cells = CELLS[name].filter(lambda value: not isinstance(value, float) or math.isfinite(value))
    if name in ("Größe in px", "small"):
        cells = st.one_of(cells, st.sampled_from([0.5, -1.5]))
    values = draw(st.lists(cells, min_size=1, max_size=3))
    if kind == "in":
        words = f"{column(name)} in ({', '.join(written(name, value) for value in values)})"
        return words, lambda row: not missing(row) and any(agrees("=", row[name], v, name) for v in values)
    operator = draw(st.sampled_from(["=", "!="] if name == "ok" else ["=", "!=", "<", "<=", ">", ">="]))
    words = f"{column(name)} {operator} {written(name, values[0])}"
    return words, lambda row: not missing(row) and agrees(operator, row[name], values[0], name)


def agrees(operator, cell, value, name):
    """Compare two values that are there: floats at the column's width, an integer with a float as floats."""
    if name == "half":
        cell, value = float(np.float32(cell)), float(np.float32(value))
    elif isinstance(value, float) or isinstance(cell, float):
        cell, value = float(cell), float(value)
    if isinstance(cell, str):
        cell, value = cell.encode(), value.encode()
    return {
        "=": cell == value,
        "!=": cell != value,
        "<": cell < value,
        "<=": cell <= value,
        ">": cell > value,
        ">=": cell >= value,
    }[operator]


def joined(children):
    def join(parts, word):
        said, meant = zip(*parts, strict=True)
        together = {"and": all, "or": any}[word]
        return f"({f' {word} '.join(said)})", lambda row: together(mean(row) for mean in meant)

    return st.one_of(
        st.builds(join, st.lists(children, min_size=2, max_size=3), st.sampled_from(["and", "or"])),
        children.map(lambda part: (f"not {part[0]}", lambda row: not part[1](row))),
    )


FILTERS = st.recursive(conditions(), joined, max_leaves=5)
ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), cells) for name, cells in CELLS.items()}),
    min_size=1,
    max_size=8,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=ROWS, filters=st.lists(FILTERS, min_size=1, max_size=6))
def test_arrow_the_index_and_plain_python_agree(database, table, filters):
    arrow = pa.Table.from_pylist(table, SCHEMA)
    kept = database.create_table(
        f"t{next(NUMBER)}", arrow.append_column("number", pa.array(range(len(table))))
    )
    for words, meant in filters:
        condition = parse_filter(words, SCHEMA)
        expected = [number for number, row in enumerate(table) if meant(row)]
        assert np.flatnonzero(condition.mask(arrow).to_numpy(zero_copy_only=False)).tolist() == expected, (
            words
        )
        found = kept.search().where(condition.to_sql()).select(["number"]).to_arrow()["number"]
        assert sorted(found.to_pylist()) == expected, condition.to_sql()


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(PIECES | st.sampled_from(["text", "and", "(", "=", "in", "5"])).map(" ".join)
)
def test_whatever_is_written_is_a_filter_or_a_message(text):
    try:
        parse_filter(text, SCHEMA)
    except ConfigError as error:
        assert "^" in str(error)


def test_and_binds_closer_than_or_and_not_closest():
    condition = parse_filter("ok = true or not small = 1 and small < 5", SCHEMA)
    assert isinstance(condition, BooleanCondition)
    assert condition.operator == "OR"
    assert isinstance(condition.conditions[0], ComparisonCondition)
    assert isinstance(condition.conditions[1], BooleanCondition)
    assert isinstance(condition.conditions[1].conditions[0], NotCondition)
    assert condition.columns == {"ok", "small"}


def test_a_filter_and_its_opposite_divide_the_rows():
    rows = pa.table({"small": pa.array([1, None, 3], pa.int16())}, pa.schema([SCHEMA.field("small")]))
    for words in ("small > 2", "small = 1", "small is null", "small in (1, 3)", "small != 1"):
        one = parse_filter(words, SCHEMA).mask(rows).to_pylist()
        other = parse_filter(f"not {words}", SCHEMA).mask(rows).to_pylist()
        assert [not value for value in one] == other
    assert parse_filter("small != 1", SCHEMA).mask(rows).to_pylist() == [False, False, True]


def test_words_of_the_grammar_may_be_in_capitals_and_not_may_stand_inside():
    assert parse_filter("text IS NOT NULL", SCHEMA) == NotCondition(parse_filter("text is null", SCHEMA))
    assert parse_filter("small NOT IN (1)", SCHEMA) == parse_filter("not small in (1)", SCHEMA)
    assert parse_filter('text not contains "a"', SCHEMA) == parse_filter('not text contains "a"', SCHEMA)


def test_a_quote_inside_a_text_is_written_twice_and_a_backslash_is_itself():
    condition = parse_filter(r"""text contains 'it''s "\' """, SCHEMA)
    assert isinstance(condition, ContainsCondition)
    assert condition.text == "it's \"\\"


@pytest.mark.parametrize(
    ("words", "said", "place"),
    [
        ("smal = 1", "there is no column 'smal'. Did you mean 'small'?", "smal"),
        ("ok = true and tags = 1", "the column 'tags' holds list<", "tags"),
        ("small = ", "a value for 'small' belongs here", ""),
        ('small = "one"', "'small' holds number: write 640", '"one"'),
        ("text = 5", "'text' holds text: write \"dog\"", "5"),
        ("ok > true", "'ok' is true or false", ">"),
        ("ok = 1", "write true or false", "1"),
        ('day = "yesterday"', "'yesterday' is no date such as", '"yesterday"'),
        ("day = 2021-05-03T12:00:00", "holds whole days", "2021-05-03T12:00:00"),
        ('small contains "1"', "only a text contains another", "contains"),
        ("text contains 1", "a text in quotes belongs here", "1"),
        ("small 5", "one of = != < <= > >= in contains is belongs here", "5"),
        ("small = 1 small = 2", "join conditions by and, or", "small"),
        ("(small = 1", "')' belongs here", ""),
        ("small in 1", "'(' belongs here", "1"),
        ("small is 1", "'null' belongs here", "1"),
        ('text = "open', "this quote is not closed", '"'),
        ("small = 1; drop table", "';' means nothing here", ";"),
        (
            "small = 99999999999999999999",
            "more than a column of whole numbers can hold",
            "99999999999999999999",
        ),
        ("x = 1e999", "is more than double can hold", "1e999"),
        ('"small" = 1', "a condition begins with a column", '"small"'),
        ("and = 1", "the name of a column belongs here", "and"),
        ("", "the name of a column belongs here", ""),
    ],
)
def test_a_mistake_is_named_and_its_place_is_shown(words, said, place):
    with pytest.raises(ConfigError) as caught:
        parse_filter(words, SCHEMA)
    message, shown, caret = str(caught.value).split("\n")
    assert said in message
    assert shown == f"  {words}"
    assert caret.count("^") == max(1, len(place))
    if place:
        assert words[caret.index("^") - 2 :].startswith(place)


def test_filters_that_would_take_too_long_are_refused():
    with pytest.raises(ConfigError, match="inside each other"):
        parse_filter("(" * MAX_NESTING + "small = 1" + ")" * MAX_NESTING, SCHEMA)
    with pytest.raises(ConfigError, match="4,096 are the most"):
        parse_filter("small = 1 or " * 400 + "small = 2", SCHEMA)


def test_the_longest_filter_is_understood_by_the_engine_too(database):
    words = " or ".join(["small = 1"] * 300)
    rows = pa.table({"small": pa.array([1, 2, None], pa.int16())})
    kept = database.create_table("long", rows)
    assert kept.count_rows(parse_filter(words, rows.schema).to_sql()) == 1
    deep = "not (small = 9 or " * (MAX_NESTING // 2 - 1) + "small = 1" + ")" * (MAX_NESTING // 2 - 1)
    mask = parse_filter(deep, rows.schema).mask(rows)
    assert kept.count_rows(parse_filter(deep, rows.schema).to_sql()) == sum(mask.to_pylist())


def test_columns_that_can_be_filtered_are_listed_with_what_they_hold():
    assert list_filterable_columns(SCHEMA)[:2] == [("Größe in px", "number"), ("small", "number")]
    assert dict(list_filterable_columns(SCHEMA))["when"] == "date"
    assert "tags" not in dict(list_filterable_columns(SCHEMA))
