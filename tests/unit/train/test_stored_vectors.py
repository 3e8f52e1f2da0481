"""Vectors by key: what is written is found again, and what is missing is named."""

import numpy as np
import pytest

from zebra.errors import DataError
from zebra.train.stored_vectors import VECTORS_FILE, VectorInfo, VectorTable

INFO = VectorInfo("f" * 16, "models/large", 50.0)


def write(folder, keys, vectors_NE, dtype="float32", batch_size=2):
    batches = [(keys[i : i + batch_size], vectors_NE[i : i + batch_size]) for i in range(0, len(keys), batch_size)]
    return VectorTable.write(folder, batches, shape=vectors_NE.shape, dtype=dtype, info=INFO)


@pytest.fixture
def vectors_NE():
    return np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


KEYS = ["a/1.jpg", "captions.csv:17", "a cat\nand a dog", "Ёлка", ""]


def test_each_key_finds_its_vector_in_any_order_and_repeatedly(tmp_path, vectors_NE):
    table = write(tmp_path / "t", KEYS, vectors_NE)
    order = [4, 1, 1, 0, 2, 3]
    assert np.array_equal(table.look_up([KEYS[i] for i in order], "sample"), vectors_NE[order])
    assert (len(table), table.dim, list(table.keys())) == (5, 3, KEYS)
    assert "Ёлка" in table
    assert "ёлка" not in table


def test_half_precision_vectors_are_returned_in_single_precision(tmp_path, vectors_NE):
    found = write(tmp_path / "t", KEYS, vectors_NE, "float16").look_up(KEYS, "sample")
    assert np.array_equal(found, vectors_NE.astype(np.float16).astype(np.float32))


def test_missing_keys_are_counted_and_named(tmp_path, vectors_NE):
    table = write(tmp_path / "t", KEYS, vectors_NE)
    with pytest.raises(DataError, match=r"no vector for 2 of 3 captions: 'a zebra', 'an okapi'"):
        table.look_up(["a zebra", "Ёлка", "an okapi"], "caption")


def test_a_table_replaces_an_older_one_and_its_digest_tells_them_apart(tmp_path, vectors_NE):
    first = write(tmp_path / "t", KEYS, vectors_NE)
    same = write(tmp_path / "t", KEYS, vectors_NE)
    other_vectors = write(tmp_path / "t", KEYS, -vectors_NE)
    other_keys = write(tmp_path / "t", KEYS[::-1], vectors_NE)
    assert first.info.digest == same.info.digest
    assert len({table.info.digest for table in (first, other_vectors, other_keys)}) == 3
    assert VectorTable(tmp_path / "t").info == other_keys.info
    assert (other_keys.info.fingerprint, other_keys.info.logit_scale) == (INFO.fingerprint, INFO.logit_scale)


def test_a_table_with_too_few_vectors_is_not_written(tmp_path, vectors_NE):
    with pytest.raises(DataError, match="needs 5 vectors, but got 2"):
        VectorTable.write(
            tmp_path / "t", [(KEYS[:2], vectors_NE[:2])], shape=vectors_NE.shape, dtype="float32", info=INFO
        )
    assert not VectorTable.exists(tmp_path / "t")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "shorter"])
def test_a_damaged_table_is_refused(tmp_path, vectors_NE, damage):
    write(tmp_path / "t", KEYS, vectors_NE)
    path = tmp_path / "t" / VECTORS_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        np.save(path, vectors_NE[:-1])
    with pytest.raises(DataError, match="Compute them again"):
        VectorTable(tmp_path / "t")
