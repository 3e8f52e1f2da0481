"""Approximate search by LanceDB's inverted lists.

Rows are grouped into partitions around centers and kept as compact codes. A search reads the codes of some partitions
and scores the best candidates again with the full-precision vectors, which stay on disk. How many of both are needed is
measured when the index is built.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.config.memory import available_memory
from zebra.errors import ConfigError
from zebra.search.arrow_rows import read_unit_vectors, rows_to_python
from zebra.search.conditions import Condition
from zebra.search.index_recall import NUM_NEIGHBORS, RecallQueries, make_recall_queries
from zebra.search.pagination import EXPANSION_FACTOR, RankedRows
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata, IndexType, read_index_metadata, write_index_metadata
from zebra.store.lance_table import INDEX_CACHE_BYTES

MIN_INDEX_ROWS = 1000
"""Rows below which an index makes no search faster."""
MAX_SQ_BYTES = 1 << 30
"""Bytes of the codes up to which one byte per component is kept (IVF_SQ), so that they fit in memory. Above, two bits
are kept (IVF_RQ, RaBitQ), and more candidates are scored again."""
ROWS_PER_PARTITION: dict[IndexType, int] = {"IVF_SQ": 8192, "IVF_RQ": 312_500}
"""A build compares each row with each center, which takes LanceDB 0.8 µs on one core for 512 components in float16.
Codes of two bits are scanned so quickly that large partitions cost little."""
MAX_PARTITIONS = 4096
ROW_BYTES = 32
"""Bytes of a row in the index besides its code: its id and factors of the distance."""
BUILD_MEMORY_BYTES = 1 << 30
"""Memory of a build besides the index, which the searches that measure the recall load, with some margin."""
MAX_GROWTH = 1.5
"""Growth of the store up to which new rows are added to the index instead of building it again."""
MAX_CANDIDATES = 100_000
"""Rows to read at most for a filter on texts that SQL cannot compare exactly."""
MIN_REFINE_FACTOR = 4
"""Multiple of k candidates that are scored again at least."""
NUM_CANDIDATES: dict[IndexType, tuple[int, ...]] = {"IVF_SQ": (40,), "IVF_RQ": (50, 100, 200, 400)}
"""Numbers of candidates to try for ten neighbors."""
NPROBES_CANDIDATES = (2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512)
"""Values of nprobes to try; the first that reaches TARGET_RECALL is used."""
TARGET_RECALL = 0.95
"""Recall for both kinds of queries at which the search for the effort ends. A lower one is stored, too."""


def build_ivf_index(store: Store, notify: Callable[[str], None] = lambda _message: None) -> IndexMetadata:
    """Build the index of a store, choose the effort of searches, and write index.json.

    If there is an index that lacks some rows, they are added to it, unless the store has outgrown its centers.

    Args:
        notify: Called with a message before each long step.

    Returns:
        The metadata, with recall@10 over queries like images and like texts.

    Raises:
        ConfigError: The store has too few rows for an index, or memory or disk is too small.
        StoreError: Another process is writing, or the disk is full; the store and its old index are unchanged.
    """
    num_rows = len(store)
    if num_rows < MIN_INDEX_ROWS:
        raise ConfigError(
            f"{store.path} has {num_rows:,} rows; below {MIN_INDEX_ROWS:,} an index makes no search faster. Search "
            "without an index"
        )
    index_type: IndexType = "IVF_SQ" if num_rows * store.metadata.embed_dim <= MAX_SQ_BYTES else "IVF_RQ"
    num_partitions = min(max(1, num_rows // ROWS_PER_PARTITION[index_type]), MAX_PARTITIONS)
    resources = _require_resources(store, index_type)
    start_time = time.perf_counter()
    num_new = num_rows - (store.num_indexed() or 0)
    old = read_index_metadata(store.path)
    is_same_type = old is not None and old.index_type == store.index_type() == index_type
    if old and is_same_type and num_partitions <= MAX_GROWTH * old.num_partitions and num_new > 0:
        notify(f"adding {num_new:,} images to the index")
        num_partitions = old.num_partitions
        store.update_index()
    else:
        notify(f"building an index of {num_rows:,} images, with up to {resources}")
        store.build_index(index_type, num_partitions)
    seconds = time.perf_counter() - start_time
    notify("measuring the recall, which reads all vectors once")
    image_queries, text_queries = make_recall_queries(store)
    metadata = IndexMetadata(
        index_type,
        num_rows,
        num_partitions,
        nprobes=0,
        num_candidates=0,
        recall=0.0,
        image_recall=0.0,
        text_recall=0.0,
        num_queries=len(image_queries.queries_QE),
        build_seconds=round(seconds, 2),
    )
    metadata = _choose_effort(store, metadata, image_queries, text_queries)
    write_index_metadata(store.path, metadata)
    return metadata


def search_ivf_index(
    store: Store,
    metadata: IndexMetadata,
    query_E: NDArray[np.float32],
    k: int,
    columns: Sequence[str],
    condition: Condition | None = None,
) -> RankedRows:
    """Search by the index; the scores of the returned rows are exact.

    Args:
        columns: Columns that `read_rows` will be called with.
        condition: Condition that the rows must match.

    Raises:
        StoreError: The index is damaged.
    """
    names = list(dict.fromkeys(["id", *columns, *(condition.columns if condition else ()), "vector"]))
    where, count = condition.to_sql() if condition else None, k
    while True:
        refine_factor = max(MIN_REFINE_FACTOR, -(-metadata.num_candidates // count))
        table = store.search_index(query_E, count, names, where, metadata.nprobes, refine_factor)
        is_exhausted = len(table) < count
        if condition and len(table):
            table = table.filter(condition.mask(table))  # SQL may return more
        if len(table) >= k or is_exhausted or count >= MAX_CANDIDATES:
            break
        count *= EXPANSION_FACTOR
    table = table.slice(0, k)
    if not len(table):
        return RankedRows(np.empty(0), lambda: np.empty((0, len(query_E)), np.float32), lambda *_: [])
    vectors_ME = read_unit_vectors(table)
    scores_M = (vectors_ME.astype(np.float64) @ query_E.astype(np.float64)).clip(-1, 1)
    order_M = np.argsort(-scores_M, kind="stable")  # LanceDB rounds the query to float16
    vectors_ME, table = vectors_ME[order_M], table.take(pa.array(order_M))

    def read_rows(ranks: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        return rows_to_python(table.select(list(columns)).take(pa.array(ranks, pa.int64())))

    return RankedRows(scores_M[order_M], lambda: vectors_ME, read_rows)


def _choose_effort(
    store: Store, metadata: IndexMetadata, image_queries: RecallQueries, text_queries: RecallQueries
) -> IndexMetadata:
    """Return the metadata with the fewest partitions, then the fewest candidates, that reach TARGET_RECALL."""
    candidates = NUM_CANDIDATES[metadata.index_type]

    def measure(nprobes: int, num_candidates: int) -> IndexMetadata:
        tried = replace(metadata, nprobes=min(nprobes, metadata.num_partitions), num_candidates=num_candidates)

        def search(query_E: NDArray[np.float32]) -> NDArray[np.float64]:
            return search_ivf_index(store, tried, query_E, NUM_NEIGHBORS, []).scores_M

        image, text = image_queries.recall(search), text_queries.recall(search)
        return replace(tried, recall=min(image, text), image_recall=image, text_recall=text)

    for nprobes in NPROBES_CANDIDATES:
        best = measure(nprobes, candidates[-1])
        if best.recall >= TARGET_RECALL or nprobes >= metadata.num_partitions:
            break
    for num_candidates in candidates[:-1]:
        fewer = measure(best.nprobes, num_candidates)
        if fewer.recall >= min(TARGET_RECALL, best.recall):
            return fewer
    return best


def _require_resources(store: Store, index_type: IndexType) -> str:
    """Return the memory and disk space that a build needs, as text.

    Raises:
        ConfigError: There is less.
    """
    num_components = len(store) * store.metadata.embed_dim
    code_bytes = num_components if index_type == "IVF_SQ" else num_components // 4
    index_bytes = code_bytes + len(store) * ROW_BYTES
    memory_bytes = BUILD_MEMORY_BYTES + min(index_bytes, INDEX_CACHE_BYTES)
    temporary_folder = Path(tempfile.gettempdir())
    for name, needed, available in (
        ("memory", memory_bytes, available_memory()),
        (f"disk space in {store.path}", 2 * index_bytes, shutil.disk_usage(store.path).free),
        (f"disk space in {temporary_folder}", 2 * index_bytes, shutil.disk_usage(temporary_folder).free),
    ):
        if available is not None and available < needed:
            raise ConfigError(
                f"building the index of {store.path} needs {needed / 1e9:.1f} GB of {name} for {len(store):,} vectors; "
                f"{available / 1e9:.1f} GB are available. Free some and run again"
            )
    return f"{memory_bytes / 1e9:.1f} GB of memory and {2 * index_bytes / 1e9:.1f} GB of disk space"
