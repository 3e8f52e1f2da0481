"""A store returns appended rows in order, and each change is one version."""

import subprocess
import sys
import threading
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.store import Store, StoreError, StoreMetadata
from zebra.store.export import export_parquet


def ids(store):
    return [name for batch in store.scan(["id"]) for name in batch["id"].to_pylist()]


def make_ids(first, last):
    return [f"id-{n}" for n in range(first, last)]


def all_rows(store):
    return pa.Table.from_batches(store.scan(store.schema.names)).to_pylist()


def test_rows_are_returned_in_the_order_of_appending(store, rows):
    store.append(rows(5, 9))
    store.append(rows(0, 5).to_batches()[0])
    assert ids(store) == [*make_ids(5, 9), *make_ids(0, 5)]
    assert len(store) == 9


def test_every_column_is_returned_unchanged(store, rows):
    table = rows(0, 7)
    store.append(table)
    for row, expected in zip(all_rows(store), table.to_pylist(), strict=True):
        vector = np.array(expected.pop("vector")).astype(np.float16)
        assert row.pop("vector") == vector.tolist()
        assert row == expected | {"offset": None, "size": None}


def test_another_process_reads_appended_rows(store, rows):
    store.append(rows(0, 3))
    code = f"from pathlib import Path; from zebra.store import Store; print(len(Store.open(Path({str(store.path)!r}))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "3\n"


def test_metadata_and_extra_columns_are_stored(tmp_path, metadata, rows):
    columns = pa.schema([pa.field("label", pa.int64(), nullable=False), ("taken", pa.timestamp("us"))])
    Store.create(tmp_path / "s", metadata, columns).append(rows(0, 2).append_column("label", pa.array([4, None])))
    reopened = Store.open(tmp_path / "s")
    assert reopened.metadata == metadata
    assert pa.Table.from_batches(reopened.scan(["label", "taken"])).to_pylist() == [
        {"label": 4, "taken": None},
        {"label": None, "taken": None},
    ]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_are_read_as_one_matrix_in_the_type_of_the_store(tmp_path, rows, dtype):
    store = Store.create(tmp_path / "s", StoreMetadata("f", "m", 8, "fp32", dtype))
    store.append(rows(0, 3))
    store.append(rows(3, 5))
    stored_ids, vectors = store.read_vectors()
    expected = np.array(rows(0, 5)["vector"].to_pylist(), np.float32).astype(dtype)
    assert stored_ids.to_pylist() == make_ids(0, 5)
    assert vectors.dtype == dtype
    assert np.array_equal(vectors, expected)


def test_an_empty_store_has_an_empty_matrix_of_vectors(store):
    stored_ids, vectors = store.read_vectors()
    assert len(stored_ids) == 0
    assert vectors.shape == (0, 8)


def test_appending_nothing_creates_no_version(store, rows):
    before = store.version
    assert store.append(rows(0, 0)) == before == store.version


def test_append_returns_the_new_version(store, rows):
    before = store.version
    assert store.append(rows(0, 2)) == before + 1 == store.version


def test_deleted_rows_are_gone_and_the_others_keep_their_order(store, rows):
    store.append(rows(0, 6))
    assert store.delete(["id-4", "id-1", "id-99", "id-1"]) == 2
    assert ids(store) == ["id-0", "id-2", "id-3", "id-5"]


def test_a_deleted_id_can_be_appended_again(store, rows):
    store.append(rows(0, 3))
    store.delete(["id-1"])
    store.append(rows(1, 2))
    assert ids(store) == ["id-0", "id-2", "id-1"]


def test_deleting_unknown_ids_creates_no_version(store, rows):
    before = store.append(rows(0, 3))
    assert store.delete(["nothing", "o'clock"]) == 0
    assert store.delete([]) == 0
    assert store.version == before


def test_an_update_changes_the_named_rows_and_no_others(store, rows):
    store.append(rows(0, 4))
    assert store.update(["id-2", "id-99"], {"caption": "it's", "other_captions": ["x"], "width": None}) == 1
    updated = store.take_ids(make_ids(0, 4), ["caption", "other_captions", "width"]).to_pylist()
    expected = rows(0, 4).select(["caption", "other_captions", "width"]).to_pylist()
    expected[2] = {"caption": "it's", "other_captions": ["x"], "width": None}
    assert updated == expected


@pytest.mark.parametrize("name", ["id", "digest", "vector"])
def test_immutable_columns_cannot_be_updated(store, rows, name):
    store.append(rows(0, 1))
    with pytest.raises(StoreError, match=f"'{name}'.*immutable"):
        store.update(["id-0"], {name: "x"})


def test_a_value_of_the_wrong_type_changes_nothing(store, rows):
    store.append(rows(0, 2))
    with pytest.raises(StoreError, match="updating 1 rows failed"):
        store.update(["id-0"], {"width": "wide"})
    assert store.take_ids(["id-0"], ["width"]).to_pylist() == [{"width": 640}]
    store.append(rows(2, 3))
    assert ids(store) == make_ids(0, 3)


def test_rows_are_taken_by_id_in_the_requested_order(store, rows):
    store.append(rows(0, 3))
    store.append(rows(3, 6))
    taken = store.take_ids(["id-4", "id-0", "id-4"], ["id", "width"])
    assert taken.to_pylist() == [{"id": f"id-{n}", "width": 640 + n} for n in (4, 0, 4)]


def test_an_unknown_id_cannot_be_taken(store, rows):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match=r"1 of 2 ids are not in .*'id-7'"):
        store.take_ids(["id-1", "id-7"])


def test_rows_are_taken_by_position_also_after_a_deletion(store, rows):
    store.append(rows(0, 3))
    store.append(rows(3, 6))
    store.delete(["id-0", "id-4"])
    assert store.take_positions([3, 0, 2], ["id"])["id"].to_pylist() == ["id-5", "id-1", "id-3"]


def test_taking_no_rows_gives_an_empty_table(store, rows):
    store.append(rows(0, 3))
    assert store.take_ids([]).schema.names == store.take_positions([]).schema.names == store.schema.names
    assert len(store.take_ids([])) == len(store.take_positions([])) == 0


@pytest.mark.parametrize("position", [-1, 2])
def test_a_position_out_of_range_is_rejected(store, rows, position):
    store.append(rows(0, 2))
    with pytest.raises(StoreError, match=f"position {position} is out of range: .* has 2 rows"):
        store.take_positions([0, position])


@pytest.mark.parametrize("read", [lambda s: s.scan(["captoin"]), lambda s: s.take_positions([0], ["captoin"])])
def test_an_unknown_column_is_named_with_the_nearest_one(store, rows, read):
    store.append(rows(0, 1))
    with pytest.raises(StoreError, match=r"'captoin'.*Did you mean 'caption'"):
        read(store)


def test_a_scan_yields_batches(store, rows):
    store.append(rows(0, 3))
    store.append(rows(3, 6))
    assert [batch.num_rows for batch in store.scan(["id"])] == [3, 3]


def test_older_and_newer_versions_can_be_restored(store, rows):
    old = store.append(rows(0, 3))
    store.delete(["id-1"])
    latest = store.append(rows(7, 9))
    store.restore(old)
    assert ids(store) == make_ids(0, 3)
    store.restore(latest)
    assert ids(store) == ["id-0", "id-2", "id-7", "id-8"]
    assert [v.num_rows for v in store.list_versions()] == [0, 3, 2, 4, 3, 4]


def test_ids_restored_with_an_old_version_are_not_accepted_again(store, rows):
    old = store.append(rows(0, 3))
    store.delete(make_ids(0, 3))
    store.close()
    reopened = Store.open(store.path)
    reopened.append(rows(5, 6))
    reopened.restore(old)
    with pytest.raises(StoreError, match="already"):
        reopened.append(rows(2, 3))


def test_an_unknown_version_is_rejected_with_a_list_of_versions(store, rows):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match="no version 9; it has 1, 2"):
        store.restore(9)


def test_many_small_commits_are_merged_into_one_file_in_the_same_order(store, rows):
    for n in range(40):
        store.append(rows(n, n + 1))
    store.delete(["id-3"])
    before = all_rows(store)
    store.compact()
    assert all_rows(store) == before == all_rows(Store.open(store.path))
    assert len(list(store.scan(["id"]))) == 1
    store.append(rows(50, 51))
    assert ids(store)[-2:] == ["id-39", "id-50"]


def test_compacting_keeps_young_versions_and_removes_old_ones(store, rows):
    for n in range(40):
        store.append(rows(n, n + 1))
    store.compact()
    assert len(store.list_versions()) > 40
    for n in range(40, 80):
        store.append(rows(n, n + 1))
    store.compact(timedelta(0))
    assert len(store.list_versions()) == 1
    assert len(list((store.path / "images.lance" / "data").iterdir())) == 1
    assert ids(Store.open(store.path)) == make_ids(0, 80)


def test_few_files_are_not_merged(store, rows):
    for n in range(5):
        store.append(rows(n, n + 1))
    before = store.version
    store.compact(timedelta(0))
    assert store.version == before


def test_a_reader_stays_at_its_version_while_another_writes(store, rows):
    store.append(rows(0, 3))
    reader = Store.open(store.path)
    store.append(rows(3, 5))
    store.delete(["id-0"])
    assert ids(reader) == make_ids(0, 3)
    assert ids(Store.open(store.path)) == make_ids(1, 5)


def test_a_reader_that_starts_to_write_first_reads_the_latest_version(store, rows):
    other = Store.open(store.path)
    store.append(rows(0, 3))
    store.close()
    with pytest.raises(StoreError, match="already"):
        other.append(rows(2, 4))
    other.append(rows(3, 4))
    assert ids(other) == make_ids(0, 4)


def test_there_is_one_writer_at_a_time(store, rows):
    store.append(rows(0, 1))
    with pytest.raises(StoreError, match="is locked by the writer process"):
        Store.open(store.path).append(rows(1, 2))
    with store:
        pass
    other = Store.open(store.path)
    other.append(rows(1, 2))
    assert ids(other) == make_ids(0, 2)


def test_a_store_is_created_only_once(store, metadata):
    with pytest.raises(StoreError, match="already holds a store"):
        Store.create(store.path, metadata)


def test_a_store_may_share_its_directory_with_other_files(tmp_path, metadata):
    (tmp_path / "skipped.jsonl").write_text("{}")
    Store.create(tmp_path, metadata)
    assert (tmp_path / "skipped.jsonl").read_text() == "{}"


@pytest.mark.parametrize("directory_exists", [False, True])
def test_the_error_for_a_missing_store_says_how_to_create_one(tmp_path, directory_exists):
    if directory_exists:
        (tmp_path / "s").mkdir()
    with pytest.raises(StoreError, match=r"no store in .*zebra embed"):
        Store.open(tmp_path / "s")


def test_a_store_cannot_be_created_in_a_file(tmp_path, metadata):
    (tmp_path / "s").write_text("")
    with pytest.raises(StoreError, match="creating the store failed: File exists"):
        Store.create(tmp_path / "s", metadata)


def test_a_store_of_a_newer_zebra_is_rejected(tmp_path, metadata):
    from dataclasses import replace

    import zebra.store.metadata as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FORMAT_VERSION", 2)
        Store.create(tmp_path / "s", replace(metadata, format=2))
    with pytest.raises(StoreError, match=r"newer zebra .format 2.*pip install --upgrade"):
        Store.open(tmp_path / "s")


def test_a_foreign_table_is_rejected_and_not_changed(tmp_path):
    import lancedb

    lancedb.connect(tmp_path / "s").create_table("images", pa.table({"x": [1, 2]}))
    with pytest.raises(StoreError, match="is not a zebra store"):
        Store.open(tmp_path / "s")
    assert lancedb.connect(tmp_path / "s").open_table("images").count_rows() == 2


def test_a_table_of_a_newer_lancedb_is_rejected_and_not_changed(store, rows):
    store.append(rows(0, 3))
    store.close()
    manifest = min((store.path / "images.lance" / "_versions").glob("*.manifest"))
    data = manifest.read_bytes()
    start = int.from_bytes(data[-16:-8], "little")  # from the footer: where the length of the message is
    length = int.from_bytes(data[start : start + 4], "little")
    unknown = data[start + 4 : start + 4 + length] + bytes([9 << 3]) + b"\x80\x80\x80\x80\x08"  # reader_feature_flags
    manifest.write_bytes(data[:start] + len(unknown).to_bytes(4, "little") + unknown + data[-16:])
    with pytest.raises(StoreError, match="pip install --upgrade lancedb"):
        Store.open(store.path)
    assert manifest.is_file()


def test_a_data_file_that_disappears_while_reading_is_named(store, rows):
    store.append(rows(0, 3))
    reader = Store.open(store.path)
    data = next((store.path / "images.lance" / "data").iterdir())
    data.unlink()
    with pytest.raises(StoreError, match=rf"^{store.path}: Not found: .*{data.name}.*Open the store again"):
        list(reader.scan(["caption"]))


def test_another_model_is_rejected_with_both_fingerprints(store):
    store.require_fingerprint("f" * 64)
    with pytest.raises(StoreError, match=r"f{64}.*runs/demo/model.*g{64}"):
        store.require_fingerprint("g" * 64)


def test_rows_appended_by_another_lance_tool_are_read(store, rows):
    import lancedb

    store.append(rows(0, 2))
    store.close()
    other = Store.open(store.path)
    more = pa.Table.from_batches(other.scan(other.schema.names)).to_pylist()
    more[0]["id"] = "id-7"
    lancedb.connect(store.path).open_table("images").add(pa.Table.from_pylist(more[:1], other.schema))
    assert ids(Store.open(store.path)) == ["id-0", "id-1", "id-7"]
    store.append(rows(2, 3))
    assert ids(store) == ["id-0", "id-1", "id-7", "id-2"]


def test_a_parquet_file_holds_the_same_rows(store, rows, tmp_path):
    store.append(rows(0, 5))
    export_parquet(store, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == all_rows(store)
    assert [path.name for path in tmp_path.glob("*parquet*")] == ["rows.parquet"]


FOREIGN = """
import sys
sys.modules["zebra"] = None
import lancedb, pandas, polars, pyarrow, pyarrow.parquet
table = lancedb.connect(sys.argv[1]).open_table("images")
arrow = table.to_arrow()
assert isinstance(arrow, pyarrow.Table)
frames = [
    arrow.select(["id", "width"]).to_pylist(),
    table.to_pandas()[["id", "width"]].to_dict("records"),
    table.to_polars().collect().select("id", "width").to_dicts(),
    pyarrow.parquet.read_table(sys.argv[2]).select(["id", "width"]).to_pylist(),
    pandas.read_parquet(sys.argv[2])[["id", "width"]].to_dict("records"),
    polars.read_parquet(sys.argv[2]).select("id", "width").to_dicts(),
]
vectors = arrow["vector"].combine_chunks().flatten().to_numpy().reshape(len(arrow), -1)
print(frames == [frames[0]] * 6, frames[0], vectors.sum(dtype="float64"))
"""


def test_pyarrow_pandas_and_polars_read_a_store_without_zebra(store, rows, tmp_path):
    store.append(rows(0, 3))
    export_parquet(store, tmp_path / "rows.parquet")
    command = [sys.executable, "-c", FOREIGN, str(store.path), str(tmp_path / "rows.parquet")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = [{"id": f"id-{n}", "width": 640 + n} for n in range(3)]
    total = store.read_vectors()[1].sum(dtype="float64")
    assert result.stdout == f"True {expected} {total}\n", result.stderr


def test_a_store_can_be_used_from_another_thread(store, rows):
    thread_ids = []
    store.append(rows(0, 2))
    thread = threading.Thread(target=lambda: thread_ids.extend(ids(store)))
    thread.start()
    thread.join()
    assert thread_ids == make_ids(0, 2)


def test_importing_the_store_does_not_import_lancedb():
    code = "import sys, zebra.store; print('lancedb' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_rows_are_replaced_in_one_version(store, rows):
    store.append(rows(0, 4))
    version = store.replace([2, 0], rows(0, 1))
    assert ids(store) == ids(Store.open(store.path)) == ["id-1", "id-3", "id-0"]
    assert [existing.num_rows for existing in store.list_versions()][-1] == 3
    assert store.version == version
    with pytest.raises(StoreError, match="already"):
        store.append(rows(0, 1))


def test_versions_between_the_first_and_the_last_of_a_writer_are_removed_early(store, rows, monkeypatch):
    """They would double the bytes of a long run; the version before it can be restored for a week."""
    monkeypatch.setattr("zebra.store.store.OWN_VERSION_RETENTION", timedelta(0))
    before = store.append(rows(0, 3))
    store.close()
    with Store.open(store.path) as writer:
        for n in range(3, 40):
            writer.append(rows(n, n + 1))
        writer.compact()
        versions = [(version.version, version.num_rows) for version in writer.list_versions()]
        assert versions[:2] == [(1, 0), (before, 3)] and {num_rows for _, num_rows in versions[2:]} == {40}
        assert len(list((store.path / "images.lance" / "data").iterdir())) == 2  # of `before`, and the merged one
        writer.restore(before)
        assert ids(writer) == make_ids(0, 3)
