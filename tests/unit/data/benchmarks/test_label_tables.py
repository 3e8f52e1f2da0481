"""Tables with a column of labels: names, numbers, splits, and what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.data.benchmarks.label_tables import read_label_table
from zebra.errors import DataError


@pytest.fixture
def table(tmp_path: Path, picture):
    """A function that writes a text beside four pictures, and returns its path."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))

    def write(text: str, name: str = "set.csv") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def found(benchmark) -> list[tuple[str, int]]:
    records = [benchmark.source.read(i) for i in range(len(benchmark.source))]
    return [(record.id, record.label) for record in records]


def test_names_that_occur_are_the_classes_in_alphabetical_order(table, picture) -> None:
    benchmark = read_label_table(table("path,label\n0.jpg,dog\n1.jpg,cat\n"))
    assert (benchmark.name, benchmark.classnames) == ("set", ("cat", "dog"))
    assert found(benchmark) == [("set.csv:2", 1), ("set.csv:3", 0)]
    assert benchmark.source.read(1).image == picture(1)


def test_only_rows_of_the_split_are_read(table) -> None:
    path = table("path,label,split\n0.jpg,dog,train\n1.jpg,cat,test\n2.jpg,dog,test\n")
    assert found(read_label_table(path)) == [("set.csv:3", 0), ("set.csv:4", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,split\n0.jpg,dog,train\n", "no row of the split 'val'"),
        ("path,label\n0.jpg,dog\n", "no column 'split'"),
    ],
)
def test_a_split_that_is_not_there_is_an_error(table, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_label_table(table(text), "val")


def test_numbers_need_names(table) -> None:
    path = table("path,label\n0.jpg,1\n")
    with pytest.raises(DataError, match=r"write classnames\.txt beside it"):
        read_label_table(path)
    table("cat\ndog\n", "classnames.txt")
    benchmark = read_label_table(path)
    assert (found(benchmark), benchmark.notes) == (
        [("set.csv:2", 1)],
        ("1 of 2 classes have no picture here: cat",),
    )


def test_a_class_called_by_a_number_is_meant_by_its_name(table) -> None:
    table("7\n1\n", "classnames.txt")
    assert found(read_label_table(table("path,label\n0.jpg,1\n")))[0][1] == 1


@pytest.mark.parametrize("label", ["horse", "2", "-1"])
def test_a_label_that_no_class_has_is_an_error_with_its_line(table, label: str) -> None:
    table("cat\ndog\n", "classnames.txt")
    with pytest.raises(DataError, match=rf"set\.csv:3: the label '{label}'"):
        read_label_table(table(f"path,label\n0.jpg,cat\n1.jpg,{label}\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.jpg", "too few columns"),
        (",cat", "missing image"),
        ("0.jpg,", "neither a class name nor a number"),
    ],
)
def test_a_broken_row_is_an_error_with_its_line_and_never_a_smaller_set(table, line, message) -> None:
    with pytest.raises(DataError, match=rf"set\.csv:3: .*{message}"):
        read_label_table(table(f"path,label\n0.jpg,cat\n{line}\n"))


def test_a_table_without_labels_is_an_error_that_lists_its_columns(table) -> None:
    with pytest.raises(DataError, match=r"no label column .*it has path, caption"):
        read_label_table(table("path,caption\n0.jpg,a cat\n"))


def test_jsonl_is_read(table) -> None:
    path = table('{"img": "0.jpg", "label": "cat"}\n{"img": "1.jpg", "label": "dog"}\n', "set.jsonl")
    assert found(read_label_table(path)) == [("set.jsonl:1", 0), ("set.jsonl:2", 1)]


def test_parquet_of_the_hub_brings_its_pictures_and_the_names_of_its_classes(tmp_path: Path, picture) -> None:
    rows = pa.table({"image": [{"bytes": picture(1), "path": None}], "label": [1]})
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    header = {b"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(rows.replace_schema_metadata(header), tmp_path / "test.parquet")
    benchmark = read_label_table(tmp_path / "test.parquet")
    assert (benchmark.classnames, found(benchmark)) == (("cat", "dog"), [("test.parquet:1", 1)])
    assert benchmark.source.read(0).image == picture(1)
