"""Recall of an index: queries made from its rows, their exact neighbors, and hits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.search.arrow_rows import read_unit_vectors, to_unit_vectors
from zebra.store import Store

NUM_QUERIES = 100
"""Queries of each kind."""
NUM_NEIGHBORS = 10
IMAGE_CORRELATION = 0.8
"""Share of a row's deviation from the mean in a query like an image; its cosine to the row is about 0.9."""
TEXT_CORRELATION = 0.6
"""The same for a query like a text, which leaves out the mean, because texts have another one."""
NUM_NOISE_ROWS = 2000
"""Rows whose random combinations are the noise, so that it has the covariance of the rows."""
SCAN_BLOCK_ROWS = 16_384
SCORE_TOLERANCE = 2e-6
"""Error of a cosine in float32."""


@dataclass(frozen=True, slots=True)
class RecallQueries:
    """Unit queries of one kind with the cosines of their exact neighbors."""

    queries_QE: NDArray[np.float32]
    exact_scores_QK: NDArray[np.float32]

    def recall(self, search: Callable[[NDArray[np.float32]], NDArray[np.float64]]) -> float:
        """Return the share of neighbors that a search finds; a row with the cosine of a neighbor counts as one.

        Args:
            search: Returns the cosines of the NUM_NEIGHBORS best rows of a query.
        """
        num_hits = sum(
            int((search(query_E) >= exact_K[-1] - SCORE_TOLERANCE).sum())
            for query_E, exact_K in zip(self.queries_QE, self.exact_scores_QK, strict=True)
        )
        return num_hits / self.exact_scores_QK.size


def make_recall_queries(store: Store) -> tuple[RecallQueries, RecallQueries]:
    """Return queries like images and queries like texts, made from random rows with a fixed seed.

    Reads all vectors once, block by block, because a store may be larger than memory.
    """
    rng = np.random.default_rng(0)
    positions_N = rng.choice(len(store), min(NUM_QUERIES + NUM_NOISE_ROWS, len(store)), replace=False)
    rows_NE = read_unit_vectors(store.take_positions(positions_N.tolist(), ["vector"]))
    mean_E = rows_NE.mean(axis=0)
    deviations_NE = rows_NE - mean_E
    sources_QE = deviations_NE[:NUM_QUERIES]

    def mix(correlation: float) -> NDArray[np.float32]:
        weights_QN = rng.standard_normal((len(sources_QE), len(rows_NE))) / len(rows_NE) ** 0.5
        mixed_QE: NDArray[np.float32] = correlation * sources_QE
        mixed_QE += (1 - correlation**2) ** 0.5 * (weights_QN @ deviations_NE)
        return mixed_QE

    kinds = [to_unit_vectors(mix(IMAGE_CORRELATION) + mean_E), to_unit_vectors(mix(TEXT_CORRELATION))]
    exact_scores_QK = find_exact_scores(store, np.concatenate(kinds))
    image, text = np.split(exact_scores_QK, [len(kinds[0])])
    return RecallQueries(kinds[0], image), RecallQueries(kinds[1], text)


def find_exact_scores(store: Store, queries_QE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the NUM_NEIGHBORS highest cosines of each query, [Q, K], best first."""
    best_QK = np.empty((len(queries_QE), 0), np.float32)
    for block_BE in _iter_vector_blocks(store):
        norms_B = np.maximum(np.linalg.norm(block_BE, axis=1), 1e-30)
        scores_QB = (queries_QE @ block_BE.T) / norms_B
        if best_QK.shape[1] == NUM_NEIGHBORS:  # most blocks hold few of the best, and sorting takes long
            column_B = (scores_QB > best_QK[:, -1:]).any(axis=0)
            scores_QB = scores_QB[:, column_B]
        best_QK = -np.sort(-np.hstack([best_QK, scores_QB]), axis=1)[:, :NUM_NEIGHBORS]
    return best_QK


def _iter_vector_blocks(store: Store) -> Iterator[NDArray[np.float32]]:
    """Yield all stored vectors in blocks, float32 [B, E]."""
    pending: list[NDArray[Any]] = []
    for batch in store.scan(["vector"]):
        pending.append(batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1))
        if sum(map(len, pending)) >= SCAN_BLOCK_ROWS:
            yield np.concatenate(pending).astype(np.float32)
            pending = []
    if pending:
        yield np.concatenate(pending).astype(np.float32)
