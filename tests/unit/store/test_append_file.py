"""`append_file` appends the rows of a file in one commit, and can replace rows."""

import pyarrow as pa
import pytest

from zebra.store import Store, StoreError


def ids(store):
    return [name for batch in store.scan(["id"]) for name in batch["id"].to_pylist()]


def names(first, last):
    return [f"id-{n}" for n in range(first, last)]


@pytest.fixture
def arrow_file(tmp_path):
    """Return a function that writes tables to an Arrow file in small batches."""

    def write(*tables):
        path = tmp_path / "rows.arrow"
        with pa.ipc.new_file(str(path), tables[0].schema) as file:
            for table in tables:
                file.write_table(table, max_chunksize=2)
        return path

    return write


def test_a_file_is_appended_in_order_as_one_version(store, rows, arrow_file):
    store.append(rows(5, 9))
    new_version = store.append_file(arrow_file(rows(0, 3), rows(3, 5)))
    reopened = Store.open(store.path)
    assert (reopened.version, ids(reopened)) == (new_version, [*names(5, 9), *names(0, 5)])
    assert [version.num_rows for version in reopened.list_versions()] == [0, 4, 9]


def test_rows_can_replace_rows_with_the_same_ids(store, rows, arrow_file):
    store.append(rows(0, 6))
    store.append_file(arrow_file(rows(1, 2), rows(8, 9)), replaced_positions=[1, 4])
    assert ids(Store.open(store.path)) == ["id-0", "id-2", "id-3", "id-5", "id-1", "id-8"]


def test_appended_ids_are_not_accepted_again(store, rows, arrow_file):
    store.append(rows(0, 1))
    store.append_file(arrow_file(rows(1, 3)))
    with pytest.raises(StoreError, match="already"):
        store.append(rows(2, 4))


@pytest.mark.parametrize("spans", [[(2, 4)], [(4, 6), (5, 7)]], ids=["in the store", "twice in the file"])
def test_a_duplicate_id_adds_nothing(store, rows, arrow_file, spans):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match=r"already exists in .*, or is duplicated"):
        store.append_file(arrow_file(*(rows(*span) for span in spans)), replaced_positions=[0])
    assert ids(Store.open(store.path)) == names(0, 3)


def test_invalid_rows_leave_the_store_unchanged(store, rows, arrow_file):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match="intact"):
        store.append_file(arrow_file(rows(3, 6, width=9)), replaced_positions=[0])
    assert ids(store) == ids(Store.open(store.path)) == names(0, 3)


def test_an_interrupt_between_delete_and_append_leaves_the_store_unchanged(store, rows, arrow_file, monkeypatch):
    store.append(rows(0, 3))

    def interrupt(_table, _rows):
        raise KeyboardInterrupt

    monkeypatch.setattr("zebra.store.lance_table.LanceTable.append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.append_file(arrow_file(rows(3, 6)), replaced_positions=[0])
    with pytest.warns(UserWarning, match="rolled back an incomplete commit"):
        assert ids(Store.open(store.path)) == names(0, 3)
