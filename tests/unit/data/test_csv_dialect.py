"""CSV files in other dialects give the rows of the plain CSV, with a warning, or an error that says what to do."""

import csv
import gzip
import io
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data import table_files, text_lines
from zebra.data.csv_dialect import DELIMITERS
from zebra.data.table_files import BadRow, open_table
from zebra.errors import DataError

ROWS = [{"path": "0.jpg", "caption": "a red dog"}, {"path": "1.jpg", "caption": "ein Hündchen"}]


def write(path: Path, content: bytes | str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def rows_of(path: Path) -> list[object]:
    """Return the rows, with the reason in place of a bad row."""
    return [row.reason if isinstance(row, BadRow) else dict(row) for _, row in open_table(path).read(())]


def delimited(delimiter: str, end: str = "\n") -> str:
    return end.join(delimiter.join(line) for line in (("path", "caption"), *(row.values() for row in ROWS))) + end


@pytest.mark.parametrize(
    ("name", "content", "encoding", "message"),
    [
        ("t.csv", delimited("\t"), "utf-8", "is separated by tabs"),
        ("t.csv", delimited(";", "\r\n"), "utf-8-sig", "is separated by semicolons"),
        ("t.csv", delimited("|", "\r"), "utf-8", "is separated by vertical bars"),
        ("t.csv", "sep=;\r\n" + delimited(";", "\r\n"), "utf-8", "is separated by semicolons"),
        ("t.csv", '"sep=^"\n' + delimited("^"), "utf-8", r"is separated by '\^'"),
        ("t.csv", delimited("\t", "\r\n"), "utf-16", "is UTF-16 and is separated by tabs"),
        ("t.csv", delimited(","), "utf-32", "is UTF-32"),
        ("t.tsv", delimited(","), "utf-8", "is separated by commas"),
        ("t.tsv", "sep=,\n" + delimited(","), "utf-16", "is UTF-16 and is separated by commas"),
    ],
)
def test_another_dialect_is_read_with_a_warning(tmp_path: Path, name, content, encoding, message) -> None:
    path = write(tmp_path / name, content, encoding)
    with pytest.warns(UserWarning, match=rf"{name} {message}; it is read as such"):
        table = open_table(path)
    assert table.columns == ("path", "caption")
    assert [row for _, row in table.read(("path", "caption"))] == ROWS


@pytest.mark.parametrize("content", [delimited(","), delimited(",", "\r\n"), delimited(", "), delimited(",", "\r")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_plain_csv_is_read_without_a_warning(tmp_path: Path, content: str, encoding: str) -> None:
    assert rows_of(write(tmp_path / "t.csv", content, encoding)) == ROWS


def test_lines_are_counted_from_the_first_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sep=,\n" + delimited(","))
    assert [line for line, _ in open_table(path).read(())] == [3, 4]


def test_blanks_after_the_delimiters_of_the_header_belong_to_no_field(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'path, caption\n0.jpg, "a dog, too"\n1.jpg,  a cat\n')
    assert [row["caption"] for row in rows_of(path)] == ["a dog, too", "a cat"]


def test_a_blank_before_a_quote_is_named_if_the_header_has_none(tmp_path: Path) -> None:
    ((_, row),) = open_table(write(tmp_path / "t.csv", 'path,caption\n0.jpg, "a dog, too"\n')).read(())
    assert isinstance(row, BadRow)
    assert row.reason == "too many columns"
    assert "the quote must begin the field" in row.detail


@pytest.mark.parametrize("header", ['"a;b",caption', 'caption,"x|y"', '"path";"a,b"'])
def test_a_delimiter_inside_quotes_does_not_divide_the_header(tmp_path: Path, header: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(open_table(write(tmp_path / "t.csv", header + "\n")).columns) == 2


def test_known_names_decide_between_two_delimiters(tmp_path: Path) -> None:
    assert open_table(write(tmp_path / "t.csv", "path,caption,made by;with\n")).columns == (
        "path",
        "caption",
        "made by;with",
    )
    with pytest.warns(UserWarning, match="semicolons"):
        assert len(open_table(write(tmp_path / "u.csv", "path;caption, in English;title\n")).columns) == 3


@pytest.mark.parametrize("header", ["path,caption;title", "Datei;Name|Jahr"])
def test_a_doubtful_delimiter_is_an_error(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"may be separated by .* or .*Quote the column names"):
        open_table(write(tmp_path / "t.csv", header + "\n0.jpg,x\n"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", delimited(",").encode("utf-16-le"), "zero bytes, as in UTF-16 without a byte order mark"),
        ("t.csv", b"PK\x03\x04", "Excel workbook. Save the sheet as CSV"),
        ("t.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook. Save the sheet as CSV"),
        ("t.tsv", gzip.compress(b"path\tcaption\n", mtime=0), "compressed with gzip"),
        ("t.csv", b"PAR1\x15\x04", "Name it .parquet"),
        ("t.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("t.csv", b"<!DOCTYPE html>\n<html>", "a web page"),
        ("t.csv", delimited(",").encode("utf-16")[:-1], "damaged near line"),
        ("t.jsonl", b'\n[{"path": "0.jpg"},\n{"path": "1.jpg"}]\n', "JSON array. Write one object per line"),
        ("t.csv", b"\n\n", "first line of a CSV or TSV must name its columns"),
    ],
)
def test_a_file_that_is_no_such_table_is_an_error_with_the_remedy(tmp_path: Path, name, content, message) -> None:
    path = write(tmp_path / name, content)
    with warnings.catch_warnings(), pytest.raises(DataError, match=message) as caught:
        warnings.simplefilter("ignore")
        rows_of(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_jsonl_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    assert rows_of(write(tmp_path / "t.jsonl", '{"path": "é.jpg"}\n', encoding)) == [{"path": "é.jpg"}]


def test_a_repeated_key_makes_a_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '{"path": "0.jpg", "caption": "a", "caption": "b"}\n{"path": "1.jpg"}\n')
    (_, bad), (_, good) = open_table(path).read(())
    assert (bad, good) == (BadRow("broken JSON line", "repeated keys: caption"), {"path": "1.jpg"})


def test_a_line_that_is_too_long_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_CHARS", 40)
    long = "x" * 1000
    expected = [{"path": "0.jpg", "caption": "a"}, "row is too long", {"path": "1.jpg", "caption": "b"}]
    table = write(tmp_path / "t.csv", f"path,caption\n0.jpg,a\n1.jpg,{long}\n1.jpg,b\n")
    assert rows_of(table) == expected
    lines = ['{"path": "0.jpg", "caption": "a"}', f'{{"path": "{long}"}}', '{"path": "1.jpg", "caption": "b"}']
    assert rows_of(write(tmp_path / "t.jsonl", "\n".join(lines))) == expected
    assert rows_of(write(tmp_path / "u.jsonl", "\n".join(lines[1:]))) == expected[1:]
    with pytest.raises(DataError, match="first line of more than"):
        open_table(write(tmp_path / "t.csv", long))


def test_a_field_over_many_lines_that_is_too_long_makes_each_line_a_bad_row(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(table_files, "MAX_LINE_CHARS", 40)
    path = write(tmp_path / "t.csv", 'path,caption\n0.jpg,"' + "x\n" * 30 + '"\n1.jpg,b\n')
    lines, rows = zip(*open_table(path).read(()), strict=True)
    assert lines == tuple(range(2, 34))
    assert rows[0] == BadRow("row is too long", rows[0].detail)
    assert all(isinstance(row, BadRow) for row in rows)


def test_a_table_that_is_no_regular_file_is_an_error(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        (tmp_path / f"t.{suffix}").symlink_to("/dev/zero")
        with pytest.raises(DataError, match="not a regular file"):
            open_table(tmp_path / f"t.{suffix}")


# Python's csv.writer does not quote a carriage return if lines end with a line feed.
text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=8)


@given(
    rows=st.lists(st.tuples(text, text), max_size=4),
    delimiter=st.sampled_from([*DELIMITERS, "^"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    has_separator_line=st.booleans(),
    suffix=st.sampled_from(["csv", "tsv"]),
)
def test_any_dialect_gives_the_rows_of_the_plain_csv_or_an_error(
    tmp_path: Path, rows, delimiter, encoding, end, quoting, has_separator_line, suffix
) -> None:
    def write_table(name: str, first_line: str = "", encoding: str = "utf-8", **dialect) -> Path:
        buffer = io.StringIO()
        buffer.write(first_line)
        csv.writer(buffer, **dialect).writerows([("path", "caption"), *rows])
        return write(tmp_path / name, buffer.getvalue(), encoding)

    plain = write_table("plain.csv")
    separator_line = f"sep={delimiter}{end}" if has_separator_line else ""
    path = write_table(
        f"t.{suffix}", separator_line, encoding, delimiter=delimiter, lineterminator=end, quoting=quoting
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = rows_of(plain)
        assert expected == [{"path": path, "caption": caption} for path, caption in rows]
        if delimiter in DELIMITERS or has_separator_line:
            assert rows_of(path) == expected
        elif quoting == csv.QUOTE_ALL:
            with pytest.raises(DataError, match="the header cannot be read"):
                open_table(path)
        else:
            assert open_table(path).columns == ("path^caption",)
