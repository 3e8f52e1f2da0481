"""Search for pairs with equal keys, such as equal captions, in partitions on disk.

A key is a digest of 16 bytes. Each block of pairs becomes a file with its keys in partitions by their first bits. Then
each partition is compared by itself, so that memory does not grow with the pool.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from math import ceil, log2
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.curate.rules import PoolReader

DIGEST_TYPE = pa.binary(16)
PAIRS_PER_PARTITION = 2**20
"""Most pairs in memory at a time, about."""


def find_among_equal(
    reader: PoolReader, make_keys: Callable[[pa.Table], pa.Table], find: Callable[[pa.Table], NDArray[np.bool_]]
) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs of each table to drop, by a comparison of all pairs with the same key.

    Args:
        make_keys: Returns the columns `digest`, by DIGEST_TYPE, and those that `find` needs, for each row of a table.
        find: Returns which rows of a table to drop. It has these columns, `row` (position of the pair) and `group`
            (number of the key), and all pairs of each key in it.
    """
    num_bits = max(0, ceil(log2(max(1, reader.num_pairs) / PAIRS_PER_PARTITION)))
    with reader.make_folder() as folder:
        files = list(reader.map(partial(_write_partitions, make_keys=make_keys, num_bits=num_bits, folder=folder)))
        end_F = np.cumsum([num_rows for _, num_rows in files])
        first_row_F = end_F - [num_rows for _, num_rows in files]
        is_dropped_N = np.zeros(int(end_F[-1]) if files else 0, np.bool_)
        paths = [path for path, _ in files]
        search = partial(_search_partition, paths=paths, first_row_F=first_row_F, find=find)
        for row_D in reader.run(search, range(1 << num_bits)):
            is_dropped_N[row_D] = True
    for _, num_rows in files:
        yield is_dropped_N[:num_rows]
        is_dropped_N = is_dropped_N[num_rows:]


def find_more_frequent(table: pa.Table, limit: int) -> NDArray[np.bool_]:
    """Return which rows have a key that occurs in more than `limit` of them."""
    group_N = table["group"].to_numpy()
    is_frequent_N: NDArray[np.bool_] = np.bincount(group_N)[group_N] > limit
    return is_frequent_N


def find_all_but_first(table: pa.Table, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows have the key of another row that comes before it when sorted by some columns and position."""
    group_N = table["group"].to_numpy()
    is_dropped_N = np.zeros(len(table), np.bool_)
    (repeated_K,) = np.nonzero(np.bincount(group_N)[group_N] > 1)
    repeated = table.take(repeated_K)
    order_K = pc.sort_indices(repeated, [(name, "ascending") for name in ("group", *columns, "row")]).to_numpy()
    sorted_group_K = group_N[repeated_K[order_K]]
    is_dropped_N[repeated_K[order_K[1:]]] = sorted_group_K[1:] == sorted_group_K[:-1]
    return is_dropped_N


def compute_digests(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the first 16 bytes of the SHA-256 of texts or bytes."""
    digests = b"".join(sha256(value).digest()[:16] for value in values.cast(pa.binary()).to_pylist())
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST_TYPE, len(values), [None, pa.py_buffer(digests)])


def as_integers(values: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return binary values of 8 × C bytes without nulls as integers, [N, C]."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    num_columns = values.type.byte_width // 8
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint64).reshape(-1, num_columns)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate([np.zeros((0, num_columns), np.uint64), *parts])


def _write_partitions(
    table: pa.Table, make_keys: Callable[[pa.Table], pa.Table], num_bits: int, folder: Path
) -> tuple[Path, int]:
    """Write a batch of keys per partition; return the file and the number of rows."""
    keys = make_keys(table).append_column("row", pa.array(np.arange(len(table))))
    partition_N = as_integers(keys["digest"])[:, 0] & np.uint64((1 << num_bits) - 1)
    order_N = np.argsort(partition_N, kind="stable")
    start_P = np.searchsorted(partition_N[order_N], np.arange((1 << num_bits) + 1))
    keys = keys.take(order_N).combine_chunks()
    path = folder / f"{uuid4().hex}.arrow"
    with pa.ipc.new_file(str(path), keys.schema) as writer:
        for start, stop in zip(start_P[:-1].tolist(), start_P[1:].tolist(), strict=True):
            [batch] = keys.slice(start, stop - start).to_batches() or [pa.RecordBatch.from_pylist([], keys.schema)]
            writer.write_batch(batch)
    return path, len(table)


def _search_partition(
    partition: int, paths: Sequence[Path], first_row_F: NDArray[np.int64], find: Callable[[pa.Table], NDArray[np.bool_]]
) -> NDArray[np.int64]:
    """Return the positions of the pairs of a partition to drop."""
    batches = []
    for path, first_row in zip(paths, first_row_F.tolist(), strict=True):
        with pa.OSFile(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(partition)
        rows = pc.add(batch["row"], first_row)
        batches.append(batch.set_column(batch.schema.get_field_index("row"), "row", rows))
    if not batches:
        return np.zeros(0, np.int64)
    table = pa.Table.from_batches(batches).combine_chunks()
    table = table.append_column("group", pa.array(_number_groups(as_integers(table["digest"]))))
    rows_N: NDArray[np.int64] = table["row"].to_numpy()
    return rows_N[find(table)]


def _number_groups(digest_N2: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of each row's digest among the distinct ones, in their order."""
    order_N = np.lexsort((digest_N2[:, 1], digest_N2[:, 0]))
    sorted_N2 = digest_N2[order_N]
    is_new_N = np.ones(len(order_N), np.bool_)
    is_new_N[1:] = (sorted_N2[1:] != sorted_N2[:-1]).any(axis=1)
    group_N = np.empty(len(order_N), np.int64)
    group_N[order_N] = np.cumsum(is_new_N) - 1
    return group_N
