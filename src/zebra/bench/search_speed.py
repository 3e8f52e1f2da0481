"""Exact search in a million random vectors."""

from functools import partial
from statistics import median

import numpy as np

from zebra.bench.encoders import Unavailable
from zebra.bench.results import SearchSpeed
from zebra.bench.rounds import time_once
from zebra.config.memory import available_memory
from zebra.search.flat_index import FlatIndex

NUM_VECTORS = 1_000_000
NUM_DISTINCT = 20_000
"""Distinct vectors, which are repeated: the time of exact search does not depend on them."""
NUM_QUERIES = 7
NUM_RESULTS = 10
MEMORY_FACTOR = 1.5
"""Free memory that is needed, in sizes of the vectors."""


def measure_search(embed_dim: int, num_vectors: int = NUM_VECTORS) -> SearchSpeed | Unavailable:
    """Measure the median time of a query; unavailable if the vectors do not fit into memory."""
    name, needed = f"search in {num_vectors:,} vectors", MEMORY_FACTOR * num_vectors * embed_dim * 2
    free = available_memory()
    if free is not None and free < needed:
        return Unavailable(name, f"needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB is free")
    rng = np.random.default_rng(0)
    distinct_NE = rng.standard_normal((min(num_vectors, NUM_DISTINCT), embed_dim), dtype=np.float32)
    distinct_NE /= np.linalg.norm(distinct_NE, axis=1, keepdims=True)
    index = FlatIndex.from_vectors(np.resize(distinct_NE.astype(np.float16), (num_vectors, embed_dim)))
    queries = rng.standard_normal((NUM_QUERIES, 1, embed_dim), dtype=np.float32)
    index.search(queries[0], NUM_RESULTS)
    seconds = [time_once(partial(index.search, query, NUM_RESULTS)).seconds for query in queries]
    return SearchSpeed(num_vectors, embed_dim, 1000 * median(seconds), index.num_bytes)
