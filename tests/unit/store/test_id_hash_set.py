"""The set returns all of its members, and almost no other id."""

import numpy as np
import pyarrow as pa
import pytest

from zebra.store import Store, StoreError
from zebra.store.id_hash_set import IdHashSet


def names(first, last):
    return [f"image {n}" for n in range(first, last)]


def test_initial_and_added_ids_are_members_and_others_are_not():
    hashes = IdHashSet([pa.array(names(0, 500)), pa.array(names(500, 900))])
    hashes.add(names(2000, 3000))
    hashes.add(names(1000, 1100))
    ids = [*names(400, 1050), *names(2990, 3010)]
    assert hashes.possible_members(ids) == [*names(400, 900), *names(1000, 1050), *names(2990, 3000)]


def test_an_empty_set_has_no_members():
    assert IdHashSet([]).possible_members(names(0, 5)) == []


def test_an_id_takes_eight_bytes():
    hashes = IdHashSet([pa.array(names(0, 10_000))])
    assert sum(array.nbytes for array in hashes._hashes._arrays) == 80_000


def test_an_id_with_the_hash_of_another_can_be_appended(store, rows, monkeypatch):
    store.append(rows(0, 3))
    monkeypatch.setattr("zebra.store.id_hash_set._hash_ids", lambda ids: np.zeros(len(list(ids)), np.uint64))
    store.close()
    reopened = Store.open(store.path)
    reopened.append(rows(3, 5))
    assert len(reopened) == 5
    with pytest.raises(StoreError, match=r"1 of 2 ids .*'id-4'"):
        reopened.append(rows(4, 6))
