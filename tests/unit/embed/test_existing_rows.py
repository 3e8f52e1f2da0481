"""Existing rows are found by location and digest, whether hashes collide or not."""

import numpy as np
import pyarrow as pa
import pytest

from zebra.data.locations import Location
from zebra.embed import existing_rows, row_index
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.stages import EMBED_COLUMNS, rows_to_table
from zebra.embed.values import ImageFeatures, StoreRow
from zebra.store import Store, StoreMetadata
from zebra.values import Record


def collide(texts):
    """Return hashes of which the index sees equal bits only; stamps use the others."""
    return np.fromiter((hash(text) & 0xFFFFFFFF for text in texts), np.uint64)


@pytest.fixture(params=[False, True], ids=["distinct hashes", "equal hashes"])
def store(tmp_path, monkeypatch, request):
    if request.param:
        monkeypatch.setattr(existing_rows, "hash_texts", collide)
        monkeypatch.setattr(row_index, "hash_texts", collide)
    with Store.create(tmp_path / "store", StoreMetadata("f", "m", 4, "fp32", "float32"), EMBED_COLUMNS) as store:
        yield store


def make_row(name, stamp="1", digest=None):
    digest = digest or f"digest of {name} {stamp}"
    vector_E = np.full(4, sum(digest.encode()), np.float32)
    return StoreRow(
        Location(name, f"{name} {stamp}", f"/{name}"), Record(name, b""), digest, ImageFeatures(8, 6, None, vector_E)
    )


def write(rows, *new_rows):
    rows.write(new_rows, rows_to_table(new_rows, rows.store.schema, rows.dataset_name))


def locations(*names, stamp="1"):
    return [Location(name, f"{name} {stamp}", f"/{name}") for name in names]


def stored(store):
    return [stamp for batch in store.scan(["stamp"]) for stamp in batch["stamp"].to_pylist()]


@pytest.mark.parametrize("reopen", [False, True], ids=["written rows", "indexed rows"])
def test_rows_are_found_replaced_and_pruned_by_their_location(store, reopen):
    rows = ExistingRows(store, "data")
    write(rows, *map(make_row, "abcd"))
    write(rows, *map(make_row, "ef"))
    rows = ExistingRows(store, "data") if reopen else rows
    assert rows.mark_seen([*locations("a", "z", "f"), *locations("b", "y", stamp="2")]) == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert rows.count_stale() == (3 if reopen else 0)  # c, d and e; rows of this run are not stale
    write(rows, make_row("b", "2"), make_row("z"))
    assert stored(store) == [*(f"{name} 1" for name in "acdef"), "b 2", "z 1"]
    assert rows.mark_seen([*locations("b"), *locations("b", stamp="2"), *locations("z")]) == [False, True, True]
    assert rows.delete_stale() == (3 if reopen else 0)
    remaining = "af" if reopen else "acdef"
    assert stored(store) == [*(f"{name} 1" for name in remaining), "b 2", "z 1"]
    assert rows.mark_seen(locations(*"abcdefz")) == [name in f"{remaining}z" for name in "abcdefz"]


def test_features_are_those_of_equal_bytes(store):
    rows = ExistingRows(store, "data")
    write(rows, make_row("a", digest="x"), make_row("b", digest="y"), make_row("c", digest="x"))
    for digest in "xy":
        assert rows.find_features(digest).vector_E.tolist() == [ord(digest)] * 4
    assert rows.find_features("z") is None
    write(rows, make_row("a", "2", digest="w"), make_row("b", "2", digest="w"))
    assert rows.find_features("x").vector_E.tolist() == [ord("x")] * 4  # that of c
    assert rows.find_features("y") is None  # replaced


def test_columns_that_the_data_lacks_come_from_the_same_location_or_equal_bytes(store):
    store.add_columns(pa.schema({"rating": pa.int64()}))
    rows = ExistingRows(store, "data")
    write(rows, make_row("a", digest="x"), make_row("b", digest="y"))
    ids = [id for batch in store.scan(["id"]) for id in batch["id"].to_pylist()]
    store.set_values(pa.table({"id": ids, "rating": [1, 2]}))
    rows = ExistingRows(store, "data")
    write(rows, make_row("a", "2", digest="x"), make_row("moved", digest="y"), make_row("new", digest="z"))
    ratings = {
        row["location"]: row["rating"] for batch in store.scan(["location", "rating"]) for row in batch.to_pylist()
    }
    assert ratings == {"a": 1, "b": 2, "moved": 2, "new": None}


def test_a_commit_reads_only_the_rows_that_it_replaces(store, monkeypatch):
    """Otherwise its cost would grow with the store."""
    rows = ExistingRows(store, "data")
    write(rows, *map(make_row, "abcd"))

    def refuse(*_args, **_options):
        raise AssertionError("reads a column of all rows")

    monkeypatch.setattr("zebra.store.lance_table.LanceTable.scan", refuse)
    write(rows, make_row("e"))
    write(rows, make_row("b", "2"), make_row("f"))
    rows.mark_seen(locations("a", "g"))
    assert len(store) == 6


def test_files_are_merged_while_a_run_lasts(store, monkeypatch):
    monkeypatch.setattr(existing_rows, "COMMITS_PER_MERGE", 4)
    monkeypatch.setattr("zebra.store.store.MIN_SMALL_FILES", 3)
    rows = ExistingRows(store, "data")
    for number in range(9):
        write(rows, make_row(f"{number}"), *([make_row("0", f"{number}")] if number == 3 else []))
    assert len(list(store.scan(["location"]))) == 2  # one file of the first eight commits
    assert sorted(stored(store)) == ["0 3", *(f"{number} 1" for number in range(1, 9))]
    assert rows.find_features("digest of 5 1").vector_E[0] == sum(b"digest of 5 1")


def test_a_row_takes_at_most_21_bytes(store):
    rows = ExistingRows(store, "data")
    write(rows, *(make_row(f"{number}") for number in range(1000)))
    rows = ExistingRows(store, "data")
    indexes = [array for index in (rows._locations, rows._digests) for array in index._entries._arrays]
    assert sum(array.nbytes for array in [*indexes, rows._is_unseen]) + 4 * len(rows._stamps) == 21_000
