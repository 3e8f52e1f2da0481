"""Tables with a label column give labels, class names and splits, or an error."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.data.benchmarks.label_tables import read_label_table
from zebra.errors import DataError


@pytest.fixture
def table(tmp_path: Path, make_image):
    """A function that writes a table beside four images, and returns its path."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(make_image(number))

    def write(text: str, name: str = "set.csv") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def labels_by_id(benchmark) -> list[tuple[str, int]]:
    records = [benchmark.source.read(i) for i in range(len(benchmark.source))]
    return [(record.id, record.label) for record in records]


def test_distinct_labels_are_the_classes_in_alphabetical_order(table, make_image) -> None:
    benchmark = read_label_table(table("path,label\n0.jpg,dog\n1.jpg,cat\n"))
    assert (benchmark.name, benchmark.classnames) == ("set", ("cat", "dog"))
    assert labels_by_id(benchmark) == [("set.csv:2", 1), ("set.csv:3", 0)]
    assert benchmark.source.read(1).image == make_image(1)


def test_only_rows_of_the_split_are_read(table) -> None:
    path = table("path,label,split\n0.jpg,dog,train\n1.jpg,cat,test\n2.jpg,dog,test\n")
    assert labels_by_id(read_label_table(path)) == [("set.csv:3", 0), ("set.csv:4", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,split\n0.jpg,dog,train\n", "no row of the split 'val'"),
        ("path,label\n0.jpg,dog\n", "no column 'split'"),
    ],
)
def test_a_missing_split_is_an_error(table, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_label_table(table(text), "val")


def test_numeric_labels_need_class_names(table) -> None:
    path = table("path,label\n0.jpg,1\n")
    with pytest.raises(DataError, match=r"Write classnames\.txt beside it"):
        read_label_table(path)
    table("cat\ndog\n", "classnames.txt")
    benchmark = read_label_table(path)
    assert (labels_by_id(benchmark), benchmark.notes) == (
        [("set.csv:2", 1)],
        ("1 of 2 classes have no image here: cat",),
    )


def test_a_class_name_takes_precedence_over_a_number(table) -> None:
    table("7\n1\n", "classnames.txt")
    assert labels_by_id(read_label_table(table("path,label\n0.jpg,1\n")))[0][1] == 1


@pytest.mark.parametrize("label", ["horse", "2", "-1"])
def test_an_unknown_label_is_an_error_with_its_line(table, label: str) -> None:
    table("cat\ndog\n", "classnames.txt")
    with pytest.raises(DataError, match=rf"set\.csv:3: the label '{label}'"):
        read_label_table(table(f"path,label\n0.jpg,cat\n1.jpg,{label}\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [("0.jpg", "too few columns"), (",cat", "missing image"), ("0.jpg,", "neither a class name nor a number")],
)
def test_a_broken_row_is_an_error_with_its_line(table, line, message) -> None:
    with pytest.raises(DataError, match=rf"set\.csv:3: .*{message}"):
        read_label_table(table(f"path,label\n0.jpg,cat\n{line}\n"))


def test_a_table_without_labels_is_an_error_that_lists_its_columns(table) -> None:
    with pytest.raises(DataError, match=r"no label column .*Its columns are path, caption"):
        read_label_table(table("path,caption\n0.jpg,a cat\n"))


def test_jsonl_is_read(table) -> None:
    path = table('{"img": "0.jpg", "label": "cat"}\n{"img": "1.jpg", "label": "dog"}\n', "set.jsonl")
    assert labels_by_id(read_label_table(path)) == [("set.jsonl:1", 0), ("set.jsonl:2", 1)]


def test_parquet_of_the_hub_has_images_and_class_names(tmp_path: Path, make_image) -> None:
    rows = pa.table({"image": [{"bytes": make_image(1), "path": None}], "label": [1]})
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    header = {b"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(rows.replace_schema_metadata(header), tmp_path / "test.parquet")
    benchmark = read_label_table(tmp_path / "test.parquet")
    assert (benchmark.classnames, labels_by_id(benchmark)) == (("cat", "dog"), [("test.parquet:1", 1)])
    assert benchmark.source.read(0).image == make_image(1)
