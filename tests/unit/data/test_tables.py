"""CSV, TSV, JSONL and Parquet give the same records, and a reason for each bad row."""

import csv
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.data import DataConfig
from zebra.data import columns, tables
from zebra.data.sources import open_images, open_source
from zebra.data.tables import TableSource
from zebra.errors import BadSample, DataError

DEFAULT = DataConfig()


@pytest.fixture(autouse=True)
def images(tmp_path: Path, make_image) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(make_image(number))


def outcomes(source: TableSource) -> dict[str, object]:
    """Return ID → captions of a usable sample or reason of a bad one."""
    result = {}
    for index in range(len(source)):
        try:
            record = source.read(index)
            result[record.id] = record.captions
        except BadSample as bad:
            result[bad.location] = bad.reason
    return result


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet"])
def any_table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two usable rows in each format."""
    path = tmp_path / f"captions.{request.param}"
    rows = [{"path": "0.jpg", "caption": "a, red\tdog"}, {"path": str(tmp_path / "1.jpg"), "caption": "zwei\nHünde"}]
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if request.param == "jsonl":
        return write(path, "".join(json.dumps(row) + "\n" for row in rows))
    separator = "," if request.param == "csv" else "\t"
    lines = [["path", "caption"], *(row.values() for row in rows)]
    return write(path, "".join(separator.join(f'"{field}"' for field in line) + "\r\n" for line in lines))


def test_every_format_gives_the_same_records(any_table: Path, make_image) -> None:
    source = TableSource(any_table, DEFAULT)
    first = 2 if any_table.suffix in (".csv", ".tsv") else 1
    records = [source.read(0), source.read(1)]
    assert [record.image for record in records] == [make_image(0), make_image(1)]
    assert [record.captions for record in records] == [("a, red\tdog",), ("zwei\nHünde",)]
    assert [record.id for record in records] == [f"{any_table.name}:{first}", f"{any_table.name}:{first + 1}"]


def test_a_table_is_converted_once(any_table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = outcomes(TableSource(any_table, DEFAULT))
    monkeypatch.setattr(tables, "parse_captions", None)
    assert outcomes(TableSource(any_table, DEFAULT)) == first


def test_a_source_can_be_pickled(any_table: Path) -> None:
    source = TableSource(any_table, DEFAULT)
    assert pickle.loads(pickle.dumps(source)).read(1) == source.read(1)


def test_a_changed_table_is_converted_again_and_has_another_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,caption\n0.jpg,a dog\n")
    before = open_source(path, DEFAULT)
    write(path, "path,caption\n0.jpg,a dog\n1.jpg,a cat\n")
    after = open_source(path, DEFAULT)
    assert (len(before), len(after)) == (1, 2)
    assert before.digest != after.digest


def test_other_caption_columns_give_other_records(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,caption,title\n0.jpg,one,two\n")
    assert outcomes(TableSource(path, DEFAULT)) == {"t.csv:2": ("one", "two")}
    assert outcomes(TableSource(path, DataConfig(caption_columns=("title",)))) == {"t.csv:2": ("two",)}


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "url\tfile\tlegende\nx\t2.jpg\tein Hund\n")
    config = DataConfig(image_column="file", caption_columns=("legende",))
    assert outcomes(TableSource(path, config)) == {"t.tsv:2": ("ein Hund",)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_groups_come_from_the_column_that_is_named(tmp_path: Path, make_image, suffix: str) -> None:
    (tmp_path / "a.png").write_bytes(make_image())
    rows = [{"path": "a.png", "caption": f"image {n}", "sku": sku} for n, sku in enumerate(("7", "7", "", "8"))]
    lines = (
        ["path,caption,sku", *(",".join(row.values()) for row in rows)] if suffix == "csv" else map(json.dumps, rows)
    )
    table = tmp_path / f"t.{suffix}"
    table.write_text("\n".join(lines) + "\n")
    source = TableSource(table, DataConfig(group_column="SKU"))
    assert [source.read(index).group for index in range(4)] == ["7", "7", None, "8"]
    assert {TableSource(table, DataConfig()).read(index).group for index in range(4)} == {None}
    with pytest.raises(DataError, match=r"no column 'skv'\. Did you mean 'sku'\?.*--data-options\.group-column"):
        TableSource(table, DataConfig(group_column="skv"))


@pytest.mark.parametrize("empty", [None, float("nan"), " "])
def test_a_row_without_a_group_is_used(tmp_path: Path, empty: object) -> None:
    rows = [{"path": "0.jpg", "caption": "a", "sku": 7.5}, {"path": "1.jpg", "caption": "b", "sku": empty}]
    write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    source = TableSource(tmp_path / "t.jsonl", DataConfig(group_column="sku"))
    assert [source.read(index).group for index in range(2)] == ["7.5", None]


def test_a_group_that_is_a_list_or_not_utf8_makes_one_bad_row(tmp_path: Path) -> None:
    rows = [{"path": "0.jpg", "caption": "a", "sku": ["7"]}, {"path": "1.jpg", "caption": "b", "sku": "8"}]
    config = DataConfig(group_column="sku")
    path = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert outcomes(TableSource(path, config)) == {"t.jsonl:1": "group is not text", "t.jsonl:2": ("b",)}
    path = write(tmp_path / "t.csv", b"path,caption,sku\n0.jpg,a,\xfc\n1.jpg,b,8\n")
    assert outcomes(TableSource(path, config)) == {"t.csv:2": "group is not UTF-8", "t.csv:3": ("b",)}


WEIGHTED = DataConfig(caption_columns=("name", "keywords"), caption_weights=(3.0, 1.0))


def test_captions_of_a_column_share_its_weight(tmp_path: Path) -> None:
    rows = [
        {"path": "0.jpg", "name": "cat", "keywords": ["pet", "animal", " "]},
        {"path": "1.jpg", "name": None, "keywords": ["dog", "pet"]},
        {"path": "2.jpg", "name": "owl"},
        {"path": "2.jpg", "name": "", "keywords": []},
    ]
    path = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    source = TableSource(path, WEIGHTED)
    records = [source.read(index) for index in range(3)]
    assert [record.captions for record in records] == [("cat", "pet", "animal"), ("dog", "pet"), ("owl",)]
    assert [record.caption_probabilities for record in records] == [(0.75, 0.125, 0.125), (0.5, 0.5), (1.0,)]
    assert outcomes(source)["t.jsonl:4"] == "empty caption"
    assert TableSource(path, DataConfig(caption_columns=("name", "keywords"))).read(0).caption_probabilities == ()


def test_weights_and_groups_work_together_and_bad_rows_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,name,keywords,sku\n0.jpg,cat,pet,7\n,dog,pet,8\n2.jpg,owl,bird\n")
    config = DataConfig(caption_columns=("keywords", "name"), caption_weights=(0.2, 0.8), group_column="sku")
    source = TableSource(path, config)
    record = source.read(0)
    assert (record.captions, record.caption_probabilities, record.group) == (("pet", "cat"), (0.2, 0.8), "7")
    assert outcomes(source)["t.csv:3"] == "missing image"
    assert len(source) == 3


@pytest.mark.parametrize(
    ("header", "config"),
    [
        ("Path,CAPTION", DEFAULT),
        (" Image , Text ", DEFAULT),
        ("FileName,Title", DEFAULT),
        ("image_path,caption", DEFAULT),
        ("Bild,Wort", DataConfig(image_column="bild", caption_columns=("WORT",))),
        ("Bild,bild", DataConfig(image_column="Bild", caption_columns=("bild",))),
    ],
)
def test_column_names_are_recognized_in_any_case_and_with_blanks(tmp_path: Path, header: str, config) -> None:
    assert outcomes(TableSource(write(tmp_path / "t.csv", f"{header}\n0.jpg,a dog\n"), config)) == {
        "t.csv:2": ("a dog",)
    }
    image, caption = header.split(",")
    table = write(tmp_path / "t.jsonl", json.dumps({image: "0.jpg", caption: "a dog"}))
    assert outcomes(TableSource(table, config)) == {"t.jsonl:1": ("a dog",)}


@pytest.mark.parametrize(
    ("header", "config", "message"),
    [
        ("path,caption,caption", DEFAULT, "2 columns named 'caption'"),
        ("path,caption,Caption", DEFAULT, r"2 columns named 'caption' \('caption', 'Caption'\)"),
        ("path,path ,caption", DEFAULT, "2 columns named 'path'"),
        ("file,file,caption", DataConfig(image_column="file"), "2 columns named 'file'"),
        ("path,Wort,WORT", DataConfig(caption_columns=("wort",)), "2 columns named 'wort'"),
    ],
)
def test_a_repeated_column_is_an_error(tmp_path: Path, header: str, config: DataConfig, message: str) -> None:
    with pytest.raises(DataError, match=rf"t\.csv has {message}.*Give each column a name of its own"):
        open_source(write(tmp_path / "t.csv", f"{header}\n0.jpg,a,b\n"), config)


def test_a_repeated_column_of_parquet_is_an_error(tmp_path: Path) -> None:
    columns = [pa.array(["0.jpg"]), pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["path", "caption", "caption"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="2 columns named 'caption'"):
        open_source(tmp_path / "t.parquet", DEFAULT)


def test_a_repeated_extra_column_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,year,year\n0.jpg,1,2\n")
    with pytest.raises(DataError, match="2 columns named 'year'"):
        open_images(path, DEFAULT, ["year"])


def test_unused_columns_may_repeat_or_have_no_name(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,caption,,,x,x\n0.jpg,a dog,,,1,2\n")
    assert outcomes(TableSource(path, DEFAULT)) == {"t.csv:2": ("a dog",)}


def test_the_first_of_several_image_columns_is_used_with_a_warning(tmp_path: Path, make_image) -> None:
    path = write(tmp_path / "t.csv", "image,path,caption\n1.jpg,0.jpg,a dog\n")
    with pytest.warns(UserWarning, match=r"from the column 'path', not from 'image'.*--data-options.image-column"):
        assert TableSource(path, DEFAULT).read(0).image == make_image(0)
    assert TableSource(path, DataConfig(image_column="image")).read(0).image == make_image(1)


def test_a_column_of_image_bytes_is_used_rather_than_one_of_paths(tmp_path: Path, make_image) -> None:
    rows = [{"path": "gone.jpg", "conditioning_image": make_image(8), "image": make_image(9), "caption": "a dog"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert TableSource(tmp_path / "t.parquet", DEFAULT).read(0).image == make_image(9)


@pytest.mark.parametrize("first_row", ["0.jpg,a dog", "1,0.JPG,a dog", "images/0.webp"])
def test_a_missing_header_is_named(tmp_path: Path, first_row: str) -> None:
    with pytest.raises(DataError, match=r"no header: its first line is a row .*such as path,caption"):
        TableSource(write(tmp_path / "t.csv", f"{first_row}\n{first_row}\n"), DEFAULT)


def test_a_header_in_another_encoding_gets_the_advice_to_save_as_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,légende\n0.jpg,x\n".encode("cp1252"))
    with pytest.raises(DataError, match="not UTF-8: save the file as UTF-8") as caught:
        open_source(path, DEFAULT)
    str(caught.value).encode()


def test_one_column_gets_the_advice_for_another_separator(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns are: path\^caption\..*before the header, such as sep=\^"):
        TableSource(write(tmp_path / "t.csv", "path^caption\n0.jpg^a dog\n"), DEFAULT)


def test_images_are_beside_a_linked_table_in_training_and_embedding(tmp_path: Path, make_image) -> None:
    (tmp_path / "blobs").mkdir()
    write(tmp_path / "blobs" / "9f86d0", "path,caption\n0.jpg,a dog\n")
    (tmp_path / "t.csv").symlink_to("blobs/9f86d0")
    assert TableSource(tmp_path / "t.csv", DEFAULT).read(0).image == make_image(0)
    (image_ref,) = open_images(tmp_path / "t.csv", DEFAULT).scan()
    assert image_ref.load().image == make_image(0)
    assert image_ref.location.path == str(tmp_path / "0.jpg")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("t.xlsx", "Save the sheet as CSV UTF-8"),
        ("t.json", "one JSON object per line"),
        ("t.txt", "If it is a table, name it .csv"),
        ("t.csv.gz", "Decompress it"),
        ("t.arrow", "Write it as .parquet"),
    ],
)
def test_a_table_in_another_format_gets_advice(tmp_path: Path, name: str, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        open_source(write(tmp_path / name, "x"), DEFAULT)


def test_a_list_of_very_many_columns_has_a_bearable_length(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ",".join(f"c{number}" for number in range(5000)) + ",\x1b[31m" + "x" * 999 + "\n")
    for config in (DEFAULT, DataConfig(image_column="c0", caption_columns=("nothing",))):
        with pytest.raises(DataError, match=r"c0, c1, .*\(4,961 more\)") as caught:
            open_source(path, config)
        assert len(str(caught.value)) < 1000


def test_rows_found_are_rows_used_and_rows_skipped(tmp_path: Path) -> None:
    rows = [
        "0.jpg,good",
        "https://example.org/0.jpg,x",
        "gone.jpg,x",
        ",x",
        "0.jpg,",
        "0.jpg",
        "0.jpg,a,b",
        '0.jpg,"x"y',
    ]
    source = open_source(write(tmp_path / "t.csv", "\n".join(["path,caption", *rows])), DEFAULT)
    assert len(source) == len(rows)
    assert list(outcomes(source).values()) == [
        ("good",),
        "image is a URL",
        "unreadable file",
        "missing image",
        "empty caption",
        "too few columns",
        "too many columns",
        "broken quotes",
    ]


def test_a_caption_in_another_encoding_is_shown_with_the_remedy(tmp_path: Path) -> None:
    source = TableSource(write(tmp_path / "t.csv", "path,caption\n0.jpg,ein Café\n".encode("cp1252")), DEFAULT)
    with pytest.raises(BadSample, match=r"caption is not UTF-8 \('ein Caf\\\\xe9'; save the file as UTF-8\)"):
        source.read(0)


def test_a_caption_that_is_too_long_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_CAPTION_CHARS", 10)
    path = write(tmp_path / "t.csv", "path,caption\n0.jpg,1234567890\n0.jpg,12345678901\n")
    assert outcomes(TableSource(path, DEFAULT)) == {"t.csv:2": ("1234567890",), "t.csv:3": "caption is too long"}


def test_a_missing_caption_column_is_an_error_with_the_columns_and_the_flag(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,words\n0.jpg,a dog\n")
    with pytest.raises(DataError, match=r"no caption column.*path, words.*--data-options.caption-columns"):
        open_source(path, DEFAULT)


def test_a_misspelled_column_gets_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,words\n0.jpg,a dog\n")
    with pytest.raises(DataError, match=r"'word'.*Did you mean 'words'"):
        open_source(path, DataConfig(caption_columns=("word",)))


def test_a_missing_image_column_is_an_error_with_the_flag(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '{"url": "x", "caption": "y"}\n')
    with pytest.raises(DataError, match=r"no image column.*url, caption.*--data-options.image-column"):
        TableSource(path, DEFAULT)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_an_empty_table_has_no_columns(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no columns"):
        TableSource(write(tmp_path / name, ""), DEFAULT)


def test_each_broken_csv_row_has_its_reason_and_the_others_are_read(tmp_path: Path) -> None:
    content = (
        b"\xef\xbb\xbfpath,caption,title\n"
        b"0.jpg,good,\n"
        b"0.jpg,caf\xe9,\n"
        b" ,nothing to see,\n"
        b"0.jpg, ,\n"
        b"0.jpg\n"
        b"0.jpg,a dog, running, far\n"
        b"\n"
        b"0.jpg,N\0L,\n"
        b"x\0.jpg,NUL,\n"
        b"none.jpg,gone,\n"
        b'0.jpg,"quoted" badly,\n'
        b"1.jpg,good,twice\n"
    )
    assert outcomes(TableSource(write(tmp_path / "t.csv", content), DEFAULT)) == {
        "t.csv:2": ("good",),
        "t.csv:3": "caption is not UTF-8",
        "t.csv:4": "missing image",
        "t.csv:5": "empty caption",
        "t.csv:6": "too few columns",
        "t.csv:7": "too many columns",
        "t.csv:9": "NUL character",
        "t.csv:10": "NUL character",
        "t.csv:11": "unreadable file",
        "t.csv:12": "broken quotes",
        "t.csv:13": ("good", "twice"),
    }


def test_rows_inside_an_unclosed_quote_are_all_counted(tmp_path: Path) -> None:
    rows = '0.jpg,good\n1.jpg,"open\n' + "2.jpg,lost\n" * 5
    result = outcomes(TableSource(write(tmp_path / "t.csv", "path,caption\n" + rows), DEFAULT))
    assert result.pop("t.csv:2") == ("good",)
    assert result == {f"t.csv:{line}": "broken quotes" for line in range(3, 9)}


def test_a_caption_of_a_megabyte_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,caption\n0.jpg," + "x" * 1_000_000 + "\n")
    assert len(TableSource(path, DEFAULT).read(0).captions[0]) == 1_000_000


def test_each_broken_json_line_has_its_reason_and_the_others_are_read(tmp_path: Path) -> None:
    content = (
        b'{"image": "0.jpg", "text": ["one", "", "two"]}\n'
        b'{"image": "0.jpg", "text": \n'
        b"[1]\n"
        b"\n"
        b'{"text": "no image"}\n'
        b'{"image": "0.jpg"}\n'
        b'{"image": "0.jpg", "text": 7}\n'
        b'{"image": ["0.jpg"], "text": "a list"}\n'
        b'{"image": "0.jpg", "text": "\\ud800"}\n'
        b'{"image": "0.jpg", "text": "\xff"}\n' + b"[" * 100_000 + b"\n"
        b'{"image": "1.jpg", "text": "good"}\n'
    )
    assert outcomes(TableSource(write(tmp_path / "t.jsonl", content), DEFAULT)) == {
        "t.jsonl:1": ("one", "two"),
        "t.jsonl:2": "broken JSON line",
        "t.jsonl:3": "broken JSON line",
        "t.jsonl:5": "missing image",
        "t.jsonl:6": "empty caption",
        "t.jsonl:7": "caption is not text",
        "t.jsonl:8": "missing image",
        "t.jsonl:9": "caption is not UTF-8",
        "t.jsonl:10": "caption is not UTF-8",
        "t.jsonl:11": "broken JSON line",
        "t.jsonl:12": ("good",),
    }


def test_parquet_may_contain_bytes_structs_and_lists_of_captions(tmp_path: Path, make_image) -> None:
    def source(name: str, images: list[object]) -> TableSource:
        columns = {"image": images, "caption": [["a", "b"], ["c"], []]}
        pq.write_table(pa.table(columns), tmp_path / name, row_group_size=2)
        return TableSource(tmp_path / name, DEFAULT)

    raw = source("bytes.parquet", [make_image(5), None, make_image(6)])
    struct = source("struct.parquet", [{"bytes": make_image(5), "path": "x"}, {"bytes": None, "path": "0.jpg"}, None])
    assert raw.read(0).image == struct.read(0).image == make_image(5)
    assert struct.read(1).image == make_image(0)
    assert outcomes(raw) == {
        "bytes.parquet:1": ("a", "b"),
        "bytes.parquet:2": "missing image",
        "bytes.parquet:3": "empty caption",
    }


def test_parquet_text_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    captions = pa.array([b"good", b"\xff\xfe", b"too"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"path": ["0.jpg"] * 3, "caption": captions}), tmp_path / "t.parquet")
    assert outcomes(TableSource(tmp_path / "t.parquet", DEFAULT)) == {
        "t.parquet:1": ("good",),
        "t.parquet:2": "caption is not UTF-8",
        "t.parquet:3": ("too",),
    }


def test_a_truncated_parquet_file_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["0.jpg"] * 99, "caption": ["x"] * 99}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    with pytest.raises(DataError, match="no complete Parquet file"):
        TableSource(write(tmp_path / "t.parquet", data[:-100]), DEFAULT)


def test_a_damaged_parquet_page_is_an_error_with_the_row(tmp_path: Path) -> None:
    table = pa.table({"path": [f"{i}.jpg" for i in range(999)], "caption": [f"caption {i}" for i in range(999)]})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[40:80] = bytes(40)
    with pytest.raises(DataError, match="damaged after row"):
        open_source(write(tmp_path / "t.parquet", bytes(data)), DEFAULT)


@given(body=st.lists(st.sampled_from([b"0.jpg", b",", b'"', b"\n", b"\xff", b"\0", b"a", b"\r", b"\\"])).map(b"".join))
def test_no_csv_crashes_and_ids_are_unique(tmp_path: Path, body: bytes) -> None:
    source = TableSource(write(tmp_path / "wild.csv", b"path,caption\n" + body), DEFAULT)
    assert len(outcomes(source)) == len(source)


@given(
    body=st.lists(st.sampled_from([b"{", b"}", b'"path":', b'"0.jpg"', b",", b"\n", b"\xff", b"[", b"1"])).map(b"".join)
)
def test_no_jsonl_crashes_and_ids_are_unique(tmp_path: Path, body: bytes) -> None:
    source = TableSource(write(tmp_path / "wild.jsonl", b'{"path": "0.jpg", "caption": "x"}\n' + body), DEFAULT)
    assert len(outcomes(source)) == len(source)


@given(
    rows=st.lists(
        st.lists(
            st.sampled_from(["0.jpg", "gone.jpg", "a dog", "", " ", "N\0L", "\udcff", '"', "\n", ",", ";"]),
            min_size=1,
            max_size=3,
        ),
        max_size=6,
    )
)
def test_every_row_that_was_written_is_used_or_skipped_with_its_reason(tmp_path: Path, rows: list[list[str]]) -> None:
    with (tmp_path / "t.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("path", "caption"), *rows])
    source = TableSource(tmp_path / "t.csv", DEFAULT)
    found = outcomes(source)
    num_usable = sum(isinstance(outcome, tuple) for outcome in found.values())
    num_skipped = sum(isinstance(outcome, str) and bool(outcome) for outcome in found.values())
    assert num_usable + num_skipped == len(source) == source.num_images() == len(rows)
    assert num_usable == sum(len(row) == 2 and row[0] == "0.jpg" and is_caption(row[1]) for row in rows)


def is_caption(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text and "\udcff" not in text
