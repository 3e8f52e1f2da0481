"""Every id that is held is a suspect, and next to none that is not."""

import numpy as np
import pyarrow as pa

from zebra.store import StoreError
from zebra.store.id_hash_set import IdHashSet


def names(first, last):
    return [f"picture {n}" for n in range(first, last)]


def test_ids_read_and_ids_added_are_suspects_and_others_are_not():
    known = IdHashSet([pa.array(names(0, 500)), pa.array(names(500, 900))])
    known.add(names(2000, 3000))
    known.add(names(1000, 1100))
    asked = [*names(400, 1050), *names(2990, 3010)]
    assert known.possible_members(asked) == [*names(400, 900), *names(1000, 1050), *names(2990, 3000)]


def test_nothing_is_a_suspect_in_an_empty_store():
    assert IdHashSet([]).possible_members(names(0, 5)) == []


def test_an_id_costs_eight_bytes():
    known = IdHashSet([pa.array(names(0, 10_000))])
    assert known._sorted_hashes.nbytes == 80_000


def test_a_suspect_that_is_not_in_the_store_may_be_appended(store, rows, monkeypatch):
    store.append(rows(0, 3))
    monkeypatch.setattr("zebra.store.id_hash_set._hash_ids", lambda ids: np.zeros(len(ids), np.int64))
    store.close()
    from zebra.store import Store

    again = Store.open(store.path)
    again.append(rows(3, 5))
    assert len(again) == 5
    try:
        again.append(rows(4, 6))
    except StoreError as error:
        assert "1 of 2 ids" in str(error) and "'id-4'" in str(error)
    else:
        raise AssertionError("an id is there twice")
