"""Pools of links: which files belong to one, and what their rows become."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.crawl import image_link, wat_document, write_wat

from zebra.config.data import DataConfig
from zebra.curate.pairs import make_uid
from zebra.curate.pools.link_pool import find_link_pool
from zebra.curate.pools.scan_links import scan_links
from zebra.engines import ThreadEngine
from zebra.errors import DataError


def scan(path: Path | str, folder: Path, **settings: Any) -> pa.Table:
    pool = find_link_pool(str(path), DataConfig(**settings))
    assert pool is not None
    units, _ = scan_links(pool, folder, lambda *_: None, ThreadEngine(1))
    return pa.concat_tables([pq.read_table(unit.path) for unit in units])


def pairs(table: pa.Table) -> list[tuple[str, str]]:
    return [(row["url"], row["text"]) for row in table.to_pylist() if row["reason"] is None]


def bad_rows(table: pa.Table) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in table.to_pylist() if row["reason"] is not None}


ROWS = [
    {"url": "https://a.org/1.jpg", "text": "a red horse", "width": 640, "similarity": 0.31},
    {"url": "https://a.org/2.jpg", "text": "a blue dog", "width": None, "similarity": 0.28},
]


@pytest.mark.parametrize(
    ("url", "text"), [("url", "text"), ("URL", "TEXT"), (" Image_URL", "caption"), ("image", "caption")]
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl", ".csv.gz", ".jsonl.gz", ".tsv.zst"])
def test_tables_of_every_format_and_naming_give_the_same_pairs(
    tmp_path: Path, suffix: str, url: str, text: str
) -> None:
    rows = [
        {url: row["url"], text: row["text"], "SIMILARITY": row["similarity"], "width": row["width"]} for row in ROWS
    ]
    path = tmp_path / f"links{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        delimiter = "\t" if ".tsv" in suffix else ","
        lines = [json.dumps(row) for row in rows]
        if ".jsonl" not in suffix:
            cells = [list(rows[0]), *(["" if value is None else str(value) for value in row.values()] for row in rows)]
            lines = [delimiter.join(row) for row in cells]
        data = "".join(f"{line}\n" for line in lines).encode()
        compress = {".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
        path.write_bytes(compress.get(path.suffix, bytes)(data))
    table = scan(path, tmp_path / "scan")
    assert pairs(table) == [(row["url"], row["text"]) for row in ROWS]
    assert table["uid"].to_pylist() == [make_uid(row["url"], row["text"]) for row in ROWS]
    assert table["similarity"].to_pylist() == [0.31, 0.28]
    assert table["given_width"].to_pylist() == [640, None]


def test_rows_that_cannot_be_used_are_counted_by_reason_with_their_line(tmp_path: Path) -> None:
    rows = [
        {"url": "https://a.org/1.jpg", "text": "a red horse"},
        {"url": None, "text": "no address"},
        {"url": 3, "text": "a number"},
        {"url": "https://a.org/2.jpg", "text": None},
        {"url": "https://a.org/3.jpg", "text": float("nan")},
        {"url": "https://a.org/4.jpg", "text": {"en": "nested"}},
        {"url": "https://a.org/5.jpg", "text": "\ud800"},
        {"url": "https://a.org/6.jpg", "text": "nul \0"},
        {"url": "https://a.org/\0.jpg", "text": "nul in the address"},
        {"url": "https://a.org/7.jpg", "text": ["two", "captions", "two"]},
    ]
    path = tmp_path / "links.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n[1]\n")
    table = scan(path, tmp_path / "scan")
    assert pairs(table) == [
        ("https://a.org/1.jpg", "a red horse"),
        ("https://a.org/7.jpg", "two"),
        ("https://a.org/7.jpg", "captions"),
    ]
    reasons = list(bad_rows(table).values())
    assert reasons == [
        *("missing address", "address is not text", "empty caption", "caption is not text", "caption is not text"),
        *("caption is not UTF-8", "NUL character", "NUL character", "broken JSON line", "broken JSON line"),
    ]
    assert bad_rows(table)["links.jsonl:2"] == "missing address"
    assert len(set(table["index"].to_pylist())) == 12


def test_the_uids_of_datacomp_are_kept(tmp_path: Path) -> None:
    uids = ["0" * 31 + "f", "AB" * 16, "not a digest", None]
    rows = [{"uid": uid, "url": f"https://a.org/{n}", "text": "a dog"} for n, uid in enumerate(uids)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "links.parquet")
    table = scan(tmp_path / "links.parquet", tmp_path / "scan")
    expected = [
        bytes(15) + b"\x0f",
        b"\xab" * 16,
        make_uid("https://a.org/2", "a dog"),
        make_uid("https://a.org/3", "a dog"),
    ]
    assert table["uid"].to_pylist() == expected


def test_files_with_other_columns_and_types_are_one_pool(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    link = {"url": "https://a.org/1.jpg", "text": "a red horse"}
    for name, others in {"a": {"score": 1, "nsfw": "no"}, "b": {"score": 0.5, "nsfw": 0.1}, "c": {}}.items():
        pq.write_table(pa.Table.from_pylist([link | others]), folder / f"{name}.parquet")
    pq.write_table(
        pa.Table.from_pylist([], schema=pa.schema({"url": pa.string(), "text": pa.string()})), folder / "d.parquet"
    )
    (folder / "e.csv").write_text("url,text,score\nhttps://a.org/2.jpg,a dog,high\n")
    table = scan(folder, tmp_path / "scan")
    assert table["score"].to_pylist() == ["1", "0.5", None, "high"]
    assert table["nsfw"].to_pylist() == ["no", "0.1", None, None]


def test_a_cell_of_another_type_is_null_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    rows = "".join(f"https://a.org/{n}.jpg,a dog,{n}\n" for n in range(1_500))
    path.write_text(f"url,text,score\n{rows}https://a.org/x.jpg,a dog,high\n")
    pool = find_link_pool(str(path), DataConfig())
    assert pool is not None
    units, unused = scan_links(pool, tmp_path / "scan", lambda *_: None, ThreadEngine(1))
    assert pa.concat_tables(pq.read_table(unit.path) for unit in units)["score"].to_pylist() == [*range(1_500), None]
    assert [(entry.reason, entry.count) for entry in unused] == [("cell of another type in the column score", 1)]


def test_damage_in_a_parquet_file_costs_its_row_group(tmp_path: Path) -> None:
    path = tmp_path / "links.parquet"
    rows = [{"url": f"https://a.org/{n}.jpg", "text": f"animal {n}"} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=10, compression="gzip", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(1)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size - 12
    data[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(data)
    table = scan(path, tmp_path / "scan")
    assert [text for _, text in pairs(table)] == [f"animal {n}" for n in (*range(10), *range(20, 30))]
    assert bad_rows(table) == {f"links.parquet:{n}": "damaged file" for n in range(11, 21)}


def test_bytes_that_are_no_text_cost_their_row(tmp_path: Path) -> None:
    text = pa.array([b"a dog", b"\xff\xfe", b"a cat"]).cast(pa.binary()).view(pa.string())
    table = pa.table({"url": [f"https://a.org/{n}" for n in range(3)], "text": text})
    pq.write_table(table, tmp_path / "links.parquet")
    found = scan(tmp_path / "links.parquet", tmp_path / "scan")
    assert [text for _, text in pairs(found)] == ["a dog", "a cat"]
    assert list(bad_rows(found).values()) == ["caption is not UTF-8"]


def test_a_cut_compressed_table_keeps_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "links.csv.gz"
    rows = "".join(f"https://a.org/{n}.jpg,animal {n * 7919}\n" for n in range(5_000))
    data = gzip.compress(f"url,text\n{rows}".encode())
    path.write_bytes(data[: len(data) // 2])
    table = scan(path, tmp_path / "scan")
    assert 1_000 < len(pairs(table)) < 4_000
    assert list(bad_rows(table).values()) == ["damaged file"]


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write_wat(tmp_path / "a.wat", [wat_document("https://a.org/", [image_link("a.jpg", alt="a")])] * 3_000)
    pool = find_link_pool(str(path), DataConfig())
    assert pool is not None
    read = pool.files[0].path.read_bytes()

    class Growing:
        schema, files = pool.schema, pool.files

        def read(self, *args: Any) -> Any:
            for batch in pool.read(*args):
                path.write_bytes(read * 2)
                yield batch

    with pytest.raises(DataError, match=r"a\.wat changed while it was read"):
        scan_links(Growing(), tmp_path / "scan", lambda *_: None, ThreadEngine(1))  # type: ignore[arg-type]
    assert not list((tmp_path / "scan").glob("*.json"))


def test_a_folder_of_all_kinds_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    (folder / "deep").mkdir(parents=True)
    write_wat(folder / "b.warc.wat.gz", [wat_document("https://b.org/", [image_link("b.jpg", alt="b")])])
    (folder / "deep/c.html").write_text('<base href="https://c.org/"><img src=c.jpg alt=c>')
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), folder / "a.parquet")
    (folder / "readme.md").write_text("a crawl")
    pool = find_link_pool(str(folder), DataConfig())
    assert pool is not None
    assert [file.name for file in pool.files] == ["a.parquet", "b.warc.wat.gz", "deep/c.html"]
    assert [(entry.reason, entry.example) for entry in pool.ignored] == [(".md", "readme.md")]
    table = scan(folder, tmp_path / "scan")
    assert [text for _, text in pairs(table)] == ["a red horse", "b", "c"]
    assert table["page"].to_pylist() == [None, "https://b.org/", None]
    assert pairs(scan(folder / "*.parquet", tmp_path / "scan")) == [("https://a.org/1.jpg", "a red horse")]
    assert len(scan(folder / "{a.parquet,deep/c.html}", tmp_path / "scan")) == 2
    with pytest.raises(DataError, match=r"no file .*b\.parquet"):
        find_link_pool(str(folder / "{a,b}.parquet"), DataConfig())


def test_layouts_with_images_are_no_pools_of_links(tmp_path: Path, make_pool: Any) -> None:
    photos = make_pool(["a horse"], name="photos")
    (photos / "index.html").write_text("<img src=0.png alt='a horse'>")
    (tmp_path / "images.csv").write_text("path,caption,url\nphotos/0.png,a horse,https://a.org/0.png\n")
    pq.write_table(pa.table({"jpg": [b"x"], "url": ["https://a.org"], "text": ["a"]}), tmp_path / "bytes.parquet")
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "00000.tar").write_bytes(b"")
    pq.write_table(pa.Table.from_pylist(ROWS), shards / "00000.parquet")
    for path in (
        photos,
        tmp_path / "images.csv",
        tmp_path / "bytes.parquet",
        shards,
        tmp_path / "missing",
        photos / "0.png",
    ):
        assert find_link_pool(str(path), DataConfig()) is None


def test_a_table_without_captions_is_an_error_that_names_the_columns(tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("url,alt_text\nhttps://a.org/1.jpg,a horse\n")
    with pytest.raises(DataError, match=r"no caption column.*alt_text.*--data-options\.caption-columns"):
        find_link_pool(str(tmp_path / "links.csv"), DataConfig())
    table = scan(tmp_path / "links.csv", tmp_path / "scan", caption_columns=("alt_text",))
    assert pairs(table) == [("https://a.org/1.jpg", "a horse")]


def test_an_interrupted_scan_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra.curate.pools.link_pool.ROWS_PER_BATCH", 2)
    folder = tmp_path / "pool"
    folder.mkdir()
    for name in "abc":
        links = [image_link(f"{name}{n}.jpg", alt=f"{name} {n}") for n in range(5)]
        write_wat(folder / f"{name}.wat.gz", [wat_document("https://a.org/", links)])

    def run(out: Path, stop_at: int | None = None) -> dict[str, bytes]:
        pool = find_link_pool(str(folder), DataConfig())
        assert pool is not None

        def callback(done: int, _total: int, _stage: str) -> None:
            if done == stop_at:
                raise KeyboardInterrupt

        units, _ = scan_links(pool, out, callback, ThreadEngine(1))
        return {unit.path.name: unit.path.read_bytes() for unit in units}

    expected = run(tmp_path / "whole")
    assert len(expected) == 9
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "scan", stop_at=1)
    (first,) = (tmp_path / "scan").glob("*.json")
    written = first.stat().st_mtime_ns
    assert run(tmp_path / "scan") == expected
    assert first.stat().st_mtime_ns == written
