"""Rows of a file join a store in one commit, in place of others or of none."""

import pyarrow as pa
import pytest

from zebra.store import Store, StoreError


def ids(store):
    return [name for batch in store.scan(["id"]) for name in batch["id"].to_pylist()]


def names(first, last):
    return [f"id-{n}" for n in range(first, last)]


@pytest.fixture
def arrow_file(tmp_path):
    """A function that writes tables as an Arrow file, a few rows in each batch."""

    def write(*tables):
        path = tmp_path / "rows.arrow"
        with pa.ipc.new_file(str(path), tables[0].schema) as file:
            for table in tables:
                file.write_table(table, max_chunksize=2)
        return path

    return write


def test_a_file_joins_in_its_order_as_one_version(store, rows, arrow_file):
    store.append(rows(5, 9))
    version = store.append_file(arrow_file(rows(0, 3), rows(3, 5)))
    again = Store.open(store.path)
    assert (again.version, ids(again)) == (version, [*names(5, 9), *names(0, 5)])
    assert [known.num_rows for known in again.list_versions()] == [0, 4, 9]


def test_rows_can_take_the_place_of_others_with_the_same_ids(store, rows, arrow_file):
    store.append(rows(0, 6))
    store.append_file(arrow_file(rows(1, 2), rows(8, 9)), replace_ids=["id-1", "id-4", "id-7"])
    assert ids(Store.open(store.path)) == ["id-0", "id-2", "id-3", "id-5", "id-1", "id-8"]


def test_what_was_added_is_known_afterwards(store, rows, arrow_file):
    store.append(rows(0, 1))
    store.append_file(arrow_file(rows(1, 3)))
    with pytest.raises(StoreError, match="already"):
        store.append(rows(2, 4))


@pytest.mark.parametrize("given", [[(2, 4)], [(4, 6), (5, 7)]], ids=["in the store", "twice in the file"])
def test_an_id_that_is_there_already_adds_nothing(store, rows, arrow_file, given):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match="already, or there twice"):
        store.append_file(arrow_file(*(rows(*span) for span in given)), replace_ids=["id-0"])
    assert ids(Store.open(store.path)) == names(0, 3)


def test_rows_that_do_not_fit_leave_the_store_as_it_was(store, rows, arrow_file):
    store.append(rows(0, 3))
    with pytest.raises(StoreError, match="untouched"):
        store.append_file(arrow_file(rows(3, 6, width=9)), replace_ids=["id-0"])
    assert ids(store) == ids(Store.open(store.path)) == names(0, 3)


def test_killed_between_removing_and_adding_it_leaves_the_store_as_it_was(
    store, rows, arrow_file, monkeypatch
):
    store.append(rows(0, 3))

    def killed(_table, _rows):
        raise KeyboardInterrupt

    monkeypatch.setattr("zebra.store.lance_table.LanceTable.append", killed)
    with pytest.raises(KeyboardInterrupt):
        store.append_file(arrow_file(rows(3, 6)), replace_ids=["id-0"])
    with pytest.warns(UserWarning, match="cut short, and is undone"):
        assert ids(Store.open(store.path)) == names(0, 3)
