"""A store's index: made, measured against exact search, and asked for the rows nearest to a query.

It is LanceDB's IVF_SQ: rows lie in partitions around centres, with a byte for each number of a vector; a search looks
into some partitions and compares the best rows of them by their own vectors. On 200,000 × 512 float16 it took 5 to 11
ms where IVF_FLAT took 19 to 115 for the same rows, and 6 s to make; IVF_PQ was not made within two minutes.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.search.arrow_rows import plain, vectors_of
from zebra.search.flat_index import Exact
from zebra.search.pagination import Nearest
from zebra.store import Store
from zebra.store.index_metadata import IndexFacts, write_index_facts

KIND = "IVF_SQ"
FEWEST = 1000
"""Rows below which there is nothing to gain."""
ROWS_PER_PARTITION = 8192
"""A quarter of it takes four times as long to make, for searches that are hardly faster."""
MOST_PARTITIONS = 4096
REFINE = 4
PROBES = (8, 16, 32, 64, 128, 256)
"""Partitions to look into: the first of these that finds enough is taken."""
ENOUGH = 0.98
"""Recall above which no further partition is looked into; what is reached is written down, enough or not."""
QUERIES = 100
NEIGHBOURS = 10
NOISE = 0.3
"""Length of what is added to a row's unit vector to make a query of it: a cosine of 0.96 between them."""
BLOCK = 65_536


def build(store: Store) -> IndexFacts:
    """Make or renew the index of a store, measure it, and keep what was measured beside it.

    Returns:
        The facts, with the share of the ten nearest rows that the index found for a hundred rows moved a little.

    Raises:
        ConfigError: The store has too few rows for an index.
        StoreError: Another process is writing, or the disk is full; the store, and an index it had, are as before.
    """
    rows = len(store)
    if rows < FEWEST:
        raise ConfigError(
            f"{store.path} has {rows:,} rows, and below {FEWEST:,} an index makes nothing faster: search without one"
        )
    partitions = min(max(1, rows // ROWS_PER_PARTITION), MOST_PARTITIONS)
    began = time.perf_counter()
    store.build_index(partitions)
    seconds = time.perf_counter() - began
    queries_QE = _queries(store)
    truth_QK = _true_scores(store, queries_QE)
    for probes in PROBES:
        facts = IndexFacts(
            KIND, rows, partitions, min(probes, partitions), REFINE, 0.0, len(queries_QE), seconds
        )
        recall = _recall(store, facts, queries_QE, truth_QK)
        if recall >= ENOUGH or probes >= partitions:
            break
    facts = IndexFacts(
        KIND,
        rows,
        partitions,
        min(probes, partitions),
        REFINE,
        round(recall, 4),
        len(queries_QE),
        round(seconds, 2),
    )
    write_index_facts(store.path, facts)
    return facts


def find(
    store: Store,
    facts: IndexFacts,
    query_E: NDArray[np.float32],
    count: int,
    columns: Sequence[str],
    where: str | None = None,
) -> Nearest:
    """Find rows near a query by the index; their scores are those of exact search.

    Args:
        columns: Those that the rows are going to be asked for.
        where: A condition, as `zebra.search.conditions` writes it.
    """
    names = list(dict.fromkeys(["id", *columns, "vector"]))
    table = store.nearest(query_E, count, names, where, facts.probes, facts.refine)
    if not len(table):
        return Nearest(np.empty(0), lambda: np.empty((0, len(query_E)), np.float32), lambda *_: [])
    vectors_ME = vectors_of(table)
    scores_M = (vectors_ME.astype(np.float64) @ query_E.astype(np.float64)).clip(-1, 1)
    order_M = np.argsort(-scores_M, kind="stable")  # LanceDB's own distances are those of a query in float16
    vectors_ME, table = vectors_ME[order_M], table.take(pa.array(order_M))

    def rows(numbers: Sequence[int], wanted: Sequence[str]) -> list[dict[str, Any]]:
        return plain(table.select(list(wanted)).take(pa.array(numbers, pa.int64())))

    return Nearest(scores_M[order_M], lambda: vectors_ME, rows)


def _queries(store: Store) -> NDArray[np.float32]:
    """Take rows at random, always the same ones, and move each of them a little."""
    dice = np.random.default_rng(0)
    places = dice.choice(len(store), min(QUERIES, len(store)), replace=False)
    rows_QE = vectors_of(store.at(places.tolist(), ["vector"]))
    noise_QE = dice.standard_normal(rows_QE.shape)
    noise_QE *= NOISE / np.linalg.norm(noise_QE, axis=1, keepdims=True)
    moved_QE = rows_QE + noise_QE
    moved_QE /= np.linalg.norm(moved_QE, axis=1, keepdims=True)
    queries_QE: NDArray[np.float32] = moved_QE.astype(np.float32)
    return queries_QE


def _true_scores(store: Store, queries_QE: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the best cosines of each query [Q, K], by exact search in pieces: a store may be larger than memory."""
    best_QK = np.empty((len(queries_QE), 0))
    for block_NE in _blocks(store):
        scores_QK = np.concatenate([best_QK, Exact.of(block_NE).search(queries_QE, NEIGHBOURS)[1]], axis=1)
        best_QK = -np.sort(-scores_QK, axis=1)[:, :NEIGHBOURS]
    return best_QK


def _recall(
    store: Store, facts: IndexFacts, queries_QE: NDArray[np.float32], truth_QK: NDArray[np.float64]
) -> float:
    """Return the share of neighbours found; one of two equally near rows is as good as the other."""
    found = 0
    for query_E, truth_K in zip(queries_QE, truth_QK, strict=True):
        scores_K = find(store, facts, query_E, NEIGHBOURS, []).scores_M
        found += int((scores_K >= truth_K[-1] - 1e-6).sum())
    return found / truth_QK.size


def _blocks(store: Store) -> Iterator[NDArray[np.float16] | NDArray[np.float32]]:
    """Yield all vectors, some of them at a time, as the store keeps them."""
    waiting: list[NDArray[Any]] = []
    for batch in store.scan(["vector"]):
        waiting.append(batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1))
        if sum(map(len, waiting)) >= BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
