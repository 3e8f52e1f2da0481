"""Cached tables are written once, reused, and written again when damaged."""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from zebra.config.cache import cache_dir
from zebra.data import cached_table as cached_table_module
from zebra.data.cached_table import CachedTable
from zebra.errors import DataError

SCHEMA = pa.schema({"name": pa.string(), "data": pa.large_binary()})
ROWS = [("a", b"1"), ("b", None), ("ç", b"3")]


def forbidden():
    raise AssertionError("the rows were read again")
    yield


def test_rows_are_read_at_any_position() -> None:
    table = CachedTable.open_or_build(("k",), SCHEMA, ROWS)
    assert len(table) == 3
    assert table.row(2) == {"name": "ç", "data": b"3"}
    assert table.row(1) == {"name": "b", "data": None}


def test_a_second_opening_reads_no_rows() -> None:
    first = CachedTable.open_or_build(("k",), SCHEMA, ROWS)
    second = CachedTable.open_or_build(("k",), SCHEMA, forbidden())
    assert second.row(0) == first.row(0)
    assert second.digest == first.digest


def test_another_key_is_another_table() -> None:
    CachedTable.open_or_build(("k", 1), SCHEMA, ROWS)
    assert len(CachedTable.open_or_build(("k", 2), SCHEMA, ROWS[:1])) == 1


def test_the_digest_depends_on_the_rows() -> None:
    digests = [
        CachedTable.open_or_build((i,), SCHEMA, rows).digest
        for i, rows in enumerate([ROWS, ROWS, ROWS[::-1], [("a", b"2"), *ROWS[1:]]])
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_many_rows_are_written_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_table_module, "ROWS_PER_BATCH", 10)
    monkeypatch.setattr(cached_table_module, "BYTES_PER_BATCH", 1500)
    rows = [(str(i), bytes(i)) for i in range(60)] + [("x" * 1000, None)] * 8
    table = CachedTable.open_or_build(("k",), SCHEMA, rows)
    assert [table.row(i)["data"] for i in range(68)] == [data for _, data in rows]
    batches = table.arrow_table.to_batches()
    assert max(batch.num_rows for batch in batches) == 10
    assert max(batch.nbytes for batch in batches) < 3000


def test_a_damaged_file_is_written_again() -> None:
    path = CachedTable.open_or_build(("k",), SCHEMA, ROWS).path
    path.write_bytes(path.read_bytes()[:40])
    assert CachedTable.open_or_build(("k",), SCHEMA, ROWS).row(0)["name"] == "a"


def test_a_failing_reader_leaves_no_file(cache: Path) -> None:
    def broken():
        yield ROWS[0]
        raise DataError("cut")

    with pytest.raises(DataError, match="cut"):
        CachedTable.open_or_build(("k",), SCHEMA, broken())
    assert list((cache / "indexes").iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_variable(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="ZEBRA_CACHE"):
        CachedTable.open_or_build(("k",), SCHEMA, ROWS)


def test_only_the_path_is_pickled() -> None:
    table = CachedTable.open_or_build(("k",), SCHEMA, [("x" * 10_000, None)])
    table.row(0)
    pickled = pickle.dumps(table)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).row(0) == table.row(0)


def test_the_cache_folder_depends_on_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZEBRA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "zebra"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "zebra"
