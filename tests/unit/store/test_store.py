"""A store gives back what was put in, in its order, and each change is one version."""

import subprocess
import sys
import threading
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.store import Store, StoreError, StoreMetadata


def ids(store):
    return [name for batch in store.scan(["id"]) for name in batch["id"].to_pylist()]


def names(first, last):
    return [f"id-{n}" for n in range(first, last)]


def everything(store):
    return pa.Table.from_batches(store.scan(store.schema.names)).to_pylist()


def test_rows_come_back_in_the_order_they_were_appended_in(store, rows):
    store.append(rows(5, 9))
    store.append(rows(0, 5).to_batches()[0])
    assert ids(store) == [*names(5, 9), *names(0, 5)]
    assert len(store) == 9


def test_every_column_comes_back_as_it_was(store, rows):
    given = rows(0, 7)
    store.append(given)
    for found, expected in zip(everything(store), given.to_pylist(), strict=True):
        vector = np.array(expected.pop("vector")).astype(np.float16)
        assert found.pop("vector") == vector.tolist()
        assert found == expected | {"offset": None, "size": None}


def test_another_process_finds_what_was_appended(store, rows):
    store.append(rows(0, 3))
    code = f"from pathlib import Path; from zebra.store import Store; print(len(Store.open(Path({str(store.path)!r}))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def test_facts_and_further_columns_are_remembered(tmp_path, facts, rows):
    columns = pa.schema([pa.field("label", pa.int64(), nullable=False), ("taken", pa.timestamp("us"))])
    Store.create(tmp_path / "s", facts, columns).append(
        rows(0, 2).append_column("label", pa.array([4, None]))
    )
    again = Store.open(tmp_path / "s")
    assert again.metadata == facts
    assert pa.Table.from_batches(again.scan(["label", "taken"])).to_pylist() == [
        {"label": 4, "taken": None},
        {"label": None, "taken": None},
    ]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_come_back_as_one_matrix_in_the_type_of_the_store(tmp_path, rows, dtype):
    store = Store.create(tmp_path / "s", StoreMetadata("f", "m", 8, "fp32", dtype))
    store.append(rows(0, 3))
    store.append(rows(3, 5))
    found, vectors = store.read_vectors()
    expected = np.array(rows(0, 5)["vector"].to_pylist(), np.float32).astype(dtype)
    assert found.to_pylist() == names(0, 5)
    assert vectors.dtype == dtype
    assert np.array_equal(vectors, expected)


def test_an_empty_store_has_vectors_too(store):
    found, vectors = store.read_vectors()
    assert len(found) == 0
    assert vectors.shape == (0, 8)


def test_appending_nothing_makes_no_version(store, rows):
    before = store.version
    assert store.append(rows(0, 0)) == before == store.version


def test_append_returns_the_version_it_made(store, rows):
    before = store.version
    assert store.append(rows(0, 2)) == before + 1 == store.version


def test_deleted_rows_are_gone_and_the_others_keep_their_order(store, rows):
    store.append(rows(0, 6))
    assert store.delete(["id-4", "id-1", "id-99", "id-1"]) == 2
    assert ids(store) == ["id-0", "id-2", "id-3", "id-5"]


def test_a_deleted_id_may_be_appended_again(store, rows):
    store.append(rows(0, 3))
    store.delete(["id-1"])
    store.append(rows(1, 2))
    assert ids(store) == ["id-0", "id-2", "id-1"]


def test_deleting_what_is_not_there_makes_no_version(store, rows):
    before = store.append(rows(0, 3))
    assert store.delete(["nothing", "o'clock"]) == 0
    assert store.delete([]) == 0
    assert store.version == before


def test_an_update_changes_the_rows_it_names_and_no_others(store, rows):
    store.append(rows(0, 4))
    assert store.update(["id-2", "id-99"], {"caption": "it's", "other_captions": ["x"], "width": None}) == 1
    found = store.take_ids(names(0, 4), ["caption", "other_captions", "width"]).to_pylist()
    expected = rows(0, 4).select(["caption", "other_captions", "width"]).to_pylist()
    expected[2] = {"caption": "it's", "other_captions": ["x"], "width": None}
    assert found == expected


@pytest.mark.parametrize("name", ["id", "digest", "vector"])
def test_what_makes_a_row_what_it_is_cannot_be_updated(store, rows, name):
    store.append(rows(0, 1))
    with pytest.raises(StoreError, match=f"'{name}'.*fixed"):
        store.update(["id-0"], {name: "x"})


def test_a_value_that_does_not_fit_changes_nothing(store, rows):
    store.append(rows(0, 2))
    with pytest.raises(StoreError, match="updating 1 rows failed"):
        store.update(["id-0"], {"width": "wide"})
    assert store.take_ids(["id-0"], ["width"]).to_pylist() == [{"width": 640}]
    store.append(rows(2, 3))
    assert ids(store) == names(0, 3)


def test_rows_are_taken_by_id_in_the_order_asked_for(store, rows):
    store.append(rows(0, 3))
    store.append(rows(3, 6))
    taken = store.take_ids(["id-4", "id-0", "id-4"], ["id", "width"])
    assert taken.to_pylist() == [{"id": f"id-{n}", "width": 640 + n} for n in (4, 0, 4)]


def test_an_id_that_is_not_there_cannot_be_taken(store, rows):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match=r"1 of 2 ids are not in .*'id-7'"):
        store.take_ids(["id-1", "id-7"])


def test_rows_are_found_by_their_position_also_after_a_deletion(store, rows):
    store.append(rows(0, 3))
    store.append(rows(3, 6))
    store.delete(["id-0", "id-4"])
    assert store.take_positions([3, 0, 2], ["id"])["id"].to_pylist() == ["id-5", "id-1", "id-3"]


def test_nothing_asked_for_is_an_empty_table(store, rows):
    store.append(rows(0, 3))
    assert store.take_ids([]).schema.names == store.take_positions([]).schema.names == store.schema.names
    assert len(store.take_ids([])) == len(store.take_positions([])) == 0


@pytest.mark.parametrize("position", [-1, 2])
def test_a_position_beyond_the_end_is_refused(store, rows, position):
    store.append(rows(0, 2))
    with pytest.raises(StoreError, match=f"2 rows; there is none at {position}"):
        store.take_positions([0, position])


@pytest.mark.parametrize(
    "read", [lambda s: s.scan(["captoin"]), lambda s: s.take_positions([0], ["captoin"])]
)
def test_an_unknown_column_is_named_with_the_nearest_one(store, rows, read):
    store.append(rows(0, 1))
    with pytest.raises(StoreError, match=r"'captoin'.*Did you mean 'caption'"):
        read(store)


def test_a_scan_comes_in_parts(store, rows):
    store.append(rows(0, 3))
    store.append(rows(3, 6))
    assert [batch.num_rows for batch in store.scan(["id"])] == [3, 3]


def test_a_version_can_be_gone_back_to_and_forth(store, rows):
    old = store.append(rows(0, 3))
    store.delete(["id-1"])
    newest = store.append(rows(7, 9))
    store.restore(old)
    assert ids(store) == names(0, 3)
    store.restore(newest)
    assert ids(store) == ["id-0", "id-2", "id-7", "id-8"]
    assert [v.num_rows for v in store.list_versions()] == [0, 3, 2, 4, 3, 4]


def test_ids_that_came_back_with_an_old_version_are_known(store, rows):
    old = store.append(rows(0, 3))
    store.delete(names(0, 3))
    store.close()
    again = Store.open(store.path)
    again.append(rows(5, 6))
    again.restore(old)
    with pytest.raises(StoreError, match="already"):
        again.append(rows(2, 3))


def test_a_version_that_is_not_there_is_refused_with_those_that_are(store, rows):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match="no version 9; it has 1, 2"):
        store.restore(9)


def test_many_small_commits_become_one_file_with_the_same_rows_in_the_same_order(store, rows):
    for n in range(40):
        store.append(rows(n, n + 1))
    store.delete(["id-3"])
    before = everything(store)
    store.compact()
    assert everything(store) == before == everything(Store.open(store.path))
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
    assert ids(Store.open(store.path)) == names(0, 80)


def test_few_files_are_left_alone(store, rows):
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
    assert ids(reader) == names(0, 3)
    assert ids(Store.open(store.path)) == names(1, 5)


def test_a_reader_that_begins_to_write_first_sees_what_others_wrote(store, rows):
    other = Store.open(store.path)
    store.append(rows(0, 3))
    store.close()
    with pytest.raises(StoreError, match="already"):
        other.append(rows(2, 4))
    other.append(rows(3, 4))
    assert ids(other) == names(0, 4)


def test_one_writer_at_a_time(store, rows):
    store.append(rows(0, 1))
    with pytest.raises(StoreError, match="written to by process"):
        Store.open(store.path).append(rows(1, 2))
    with store:
        pass
    other = Store.open(store.path)
    other.append(rows(1, 2))
    assert ids(other) == names(0, 2)


def test_a_store_is_made_once(store, facts):
    with pytest.raises(StoreError, match="holds a store already"):
        Store.create(store.path, facts)


def test_a_store_may_share_its_folder_with_other_files(tmp_path, facts):
    (tmp_path / "skipped.jsonl").write_text("{}")
    Store.create(tmp_path, facts)
    assert (tmp_path / "skipped.jsonl").read_text() == "{}"


@pytest.mark.parametrize("made", [False, True])
def test_where_there_is_no_store_it_is_said_how_to_make_one(tmp_path, made):
    if made:
        (tmp_path / "s").mkdir()
    with pytest.raises(StoreError, match=r"no store in .*zebra embed"):
        Store.open(tmp_path / "s")


def test_a_store_cannot_be_made_in_a_file(tmp_path, facts):
    (tmp_path / "s").write_text("")
    with pytest.raises(StoreError, match="making the store failed: File exists"):
        Store.create(tmp_path / "s", facts)


def test_a_store_of_a_newer_zebra_says_so(tmp_path, facts):
    from dataclasses import replace

    import zebra.store.metadata as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FORMAT_VERSION", 2)
        Store.create(tmp_path / "s", replace(facts, format=2))
    with pytest.raises(StoreError, match=r"newer zebra .format 2.*pip install --upgrade"):
        Store.open(tmp_path / "s")


def test_a_table_that_is_not_of_zebra_is_refused_and_left_as_it_is(tmp_path):
    import lancedb

    lancedb.connect(tmp_path / "s").create_table("images", pa.table({"x": [1, 2]}))
    with pytest.raises(StoreError, match="not one of zebra"):
        Store.open(tmp_path / "s")
    assert lancedb.connect(tmp_path / "s").open_table("images").count_rows() == 2


def test_a_table_of_a_newer_lancedb_says_so_and_is_left_as_it_is(store, rows):
    store.append(rows(0, 3))
    store.close()
    manifest = min((store.path / "images.lance" / "_versions").glob("*.manifest"))
    data = manifest.read_bytes()
    at = int.from_bytes(data[-16:-8], "little")  # the footer: where the message is, behind its length
    length = int.from_bytes(data[at : at + 4], "little")
    unknown = (
        data[at + 4 : at + 4 + length] + bytes([9 << 3]) + b"\x80\x80\x80\x80\x08"
    )  # reader_feature_flags
    manifest.write_bytes(data[:at] + len(unknown).to_bytes(4, "little") + unknown + data[-16:])
    with pytest.raises(StoreError, match="pip install --upgrade lancedb"):
        Store.open(store.path)
    assert manifest.is_file()


def test_a_file_that_vanishes_while_a_store_is_read_is_named(store, rows):
    store.append(rows(0, 3))
    reader = Store.open(store.path)
    data = next((store.path / "images.lance" / "data").iterdir())
    data.unlink()
    with pytest.raises(StoreError, match=rf"^{store.path}: Not found: .*{data.name}.*Open it again"):
        list(reader.scan(["caption"]))


def test_another_model_is_refused_with_both_fingerprints(store):
    store.require_fingerprint("f" * 64)
    with pytest.raises(StoreError, match=r"f{64}.*runs/demo/model.*g{64}"):
        store.require_fingerprint("g" * 64)


def test_rows_that_another_tool_of_lance_adds_are_there(store, rows):
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
    store.export_parquet(tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == everything(store)
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
    store.export_parquet(tmp_path / "rows.parquet")
    command = [sys.executable, "-c", FOREIGN, str(store.path), str(tmp_path / "rows.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = [{"id": f"id-{n}", "width": 640 + n} for n in range(3)]
    total = store.read_vectors()[1].sum(dtype="float64")
    assert done.stdout == f"True {expected} {total}\n", done.stderr


def test_stores_are_used_from_other_threads(store, rows):
    found = []
    store.append(rows(0, 2))
    thread = threading.Thread(target=lambda: found.extend(ids(store)))
    thread.start()
    thread.join()
    assert found == names(0, 2)


def test_the_room_is_imported_without_lancedb():
    code = "import sys, zebra.store; print('lancedb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
