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
        (
            "path,label,split\n0.jpg,dog,train\n1.jpg,cat,Test \n",
            "no row of the split 'val'. Its splits are: Test, train$",
        ),
        ("path,label,SPLIT\n0.jpg,dog,\n", "no row of the split 'val'. Its splits are: none"),
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


@pytest.mark.parametrize("labels", [("0.0", "1.0"), ("-1", "1"), ("+1", "2."), ("0.5", "1.5")])
def test_numbers_in_any_form_are_no_class_names(table, labels: tuple[str, str]) -> None:
    with pytest.raises(DataError, match=r"numeric labels without class names.*classnames\.txt"):
        read_label_table(table(f"path,label\n0.jpg,{labels[0]}\n1.jpg,{labels[1]}\n"))


def test_whole_numbers_with_a_decimal_point_are_labels(table, tmp_path: Path) -> None:
    table("cat\ndog\n", "classnames.txt")
    assert labels_by_id(read_label_table(table("path,label\n0.jpg,1.0\n1.jpg,0\n"))) == [
        ("set.csv:2", 1),
        ("set.csv:3", 0),
    ]
    pq.write_table(pa.table({"path": ["0.jpg", "1.jpg"], "label": [1.0, 0.0]}), tmp_path / "set.parquet")
    assert labels_by_id(read_label_table(tmp_path / "set.parquet")) == [("set.parquet:1", 1), ("set.parquet:2", 0)]


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
    with pytest.raises(DataError, match=r"no label column .*Its columns are: path, caption"):
        read_label_table(table("path,caption\n0.jpg,a cat\n"))


def test_a_missing_header_is_named(table) -> None:
    with pytest.raises(DataError, match=r"no header: its first line is a row \(0\.jpg, cat\)"):
        read_label_table(table("0.jpg,cat\n1.jpg,dog\n"))


def test_advice_names_no_flag_that_the_command_lacks(table) -> None:
    with pytest.raises(DataError, match=r"no image column.*Rename the column of the images to path") as caught:
        read_label_table(table("photo,label\n0.jpg,cat\n"))
    assert "--" not in str(caught.value)


def test_columns_are_recognized_as_in_training(table, make_image) -> None:
    with pytest.warns(UserWarning, match="separated by semicolons"):
        benchmark = read_label_table(table("Filename; Class;SPLIT\n0.jpg; cat;test\n.\\1.jpg; dog; test\n"))
    assert labels_by_id(benchmark) == [("set.csv:2", 0), ("set.csv:3", 1)]
    assert benchmark.source.read(1).image == make_image(1)


def test_a_repeated_label_column_is_an_error_and_another_one_is_noted(table) -> None:
    with pytest.raises(DataError, match="2 columns named 'label'"):
        read_label_table(table("path,label,Label\n0.jpg,a,b\n"))
    benchmark = read_label_table(table("path,class,label\n0.jpg,a,b\n"))
    assert benchmark.classnames == ("b",)
    assert benchmark.notes == ("the labels are from the column 'label', not from 'class'",)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("https://example.org/0.jpg,cat", "image is a URL"),
        ("0.jpg,\udce9", "label is not UTF-8"),
        ("0.jpg,", "missing label"),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error_with_the_reason(table, tmp_path: Path, cell: str, message: str) -> None:
    path = table("")
    path.write_bytes(f"path,label\n{cell}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"set\.csv:2: {message}"):
        read_label_table(path)


def test_a_label_that_is_no_number_is_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["0.jpg"], "label": [float("nan")]}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match="missing label"):
        read_label_table(tmp_path / "set.parquet")


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
