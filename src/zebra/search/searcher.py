"""A store in, while others write to it, and query vectors; the pictures nearest to them, page by page, out."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zebra.errors import ConfigError, suggest_name
from zebra.images.formats import media_type
from zebra.search.filter_parser import list_filterable_columns, parse_filter
from zebra.search.ivf_index import search_ivf_index
from zebra.search.originals import LOCATION_COLUMNS, read_original, read_thumbnail
from zebra.search.pagination import PageRequest, RankedRows, build_page
from zebra.search.query import normalize_query
from zebra.search.snapshot import StoreSnapshot
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata
from zebra.store.schema import LARGE_COLUMNS
from zebra.values import Hit

SearchMethod = Literal["auto", "exact", "approximate"]
MAX_EXACT_ROWS = 1_000_000
"""Rows up to which auto searches exactly, index or not: 1 GB of vectors of 512 numbers in memory, and below 0.1 s."""
MAX_UNINDEXED_FRACTION = 0.1
"""Share of rows that are not in the index, all of which a search looks at, above which it should be renewed."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of answers."""

    hits: tuple[Hit, ...]
    """Best first."""
    has_more: bool
    """Whether there is a next page."""
    method: Literal["exact", "approximate"]
    recall: float | None
    """Of the index at ten neighbours, as it was measured when it was built; None for an exact search."""
    num_rows: int
    """Rows of the store."""
    seconds: float


@dataclass(frozen=True, slots=True)
class OriginalImage:
    """The original bytes of a picture."""

    data: bytes
    media_type: str
    """image/jpeg, image/png, image/webp, image/gif or image/bmp."""


class Searcher:
    """A store that is searched, by any number of threads; use `open_searcher`.

    What other processes append is found by the next search.
    """

    def __init__(self, store: Store, method: SearchMethod = "auto") -> None:
        self.fingerprint = store.metadata.fingerprint
        """Of the model whose vectors these are."""
        self.model = store.metadata.model
        """Where that model was loaded from: a path, or hf:org/name."""
        self.embed_dim = store.metadata.embed_dim
        self.method = method
        self._snapshot = StoreSnapshot(store)
        self._refresh_lock = threading.Lock()

    @property
    def hint(self) -> str:
        """What would make searches faster, for people to read; mostly empty."""
        snapshot = self._snapshot
        rows, command = len(snapshot), f"zebra search {snapshot.store.path} --index"
        if self.method == "exact" or (self.method == "auto" and rows <= MAX_EXACT_ROWS):
            return ""
        if snapshot.index_metadata is None:
            return f"{snapshot.store.path} has {rows:,} pictures and no index; make one with: {command}"
        outside = rows - (snapshot.num_indexed or 0)
        if outside > MAX_UNINDEXED_FRACTION * rows:
            return f"{outside:,} of {rows:,} pictures are not in the index yet; renew it with: {command}"
        return ""

    def __len__(self) -> int:
        return len(self._refresh_snapshot())

    def warm_up(self) -> None:
        """Read now what the first search would read: for an exact search, all vectors."""
        snapshot = self._refresh_snapshot()
        if self._choose_index(snapshot) is None:
            _ = snapshot.flat_index

    @property
    def filterable_columns(self) -> list[tuple[str, str]]:
        """Name and kind (text, number, date, yes/no) of the columns that can be filtered."""
        return list_filterable_columns(self._snapshot.schema)

    def search(
        self,
        query_E: ArrayLike,
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        min_score: float | None = None,
        dedup: float | None = None,
        columns: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> SearchResult:
        """Find the rows nearest to a query.

        Args:
            query_E: A tensor or array [E] of any length but zero; what the store's model made of words or a picture,
                or a sum of such (`zebra.search.query.combine`).
            k: Hits on a page.
            offset: Hits on the pages before it.
            where: A filter (`zebra.search.filter_parser`); rows that it does not let through are no answers.
            min_score: Least cosine of a hit.
            dedup: Cosine from which on a row counts as a near duplicate of a better one, and is folded into it.
            columns: That hits carry; None for all but the vector and the thumbnail.
            exclude: Ids that are no answers.

        Raises:
            ConfigError: The query, the filter (with the place in it), a column or a number cannot mean anything.
            StoreError: The store has been damaged since it was opened.
        """
        began = time.perf_counter()
        wish = PageRequest(k=k, offset=offset, min_score=min_score, dedup=dedup, exclude=tuple(exclude))
        query = normalize_query(query_E, self.embed_dim)
        snapshot = self._refresh_snapshot()
        shown = self._resolve_columns(snapshot, columns)
        condition = parse_filter(where, snapshot.schema) if where else None
        index = self._choose_index(snapshot)

        def nearest(count: int) -> RankedRows:
            if index is not None:
                written = condition.to_sql() if condition else None
                return search_ivf_index(snapshot.store, index, query, count, shown, written)
            allowed_N = snapshot.filter_mask(where, condition) if where and condition else None
            return snapshot.search_exact(query, count, allowed_N)

        hits, more = build_page(nearest, wish, shown)
        method: Literal["exact", "approximate"] = "exact" if index is None else "approximate"
        recall = None if index is None else index.recall
        return SearchResult(hits, more, method, recall, len(snapshot), time.perf_counter() - began)

    def require_fingerprint(self, fingerprint: str) -> None:
        """Refuse queries of another model than the one whose vectors are here; StoreError names both."""
        self._snapshot.store.require_fingerprint(fingerprint)

    def read_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors [N, E] of some rows: "more like this".

        Raises:
            ConfigError: An id is not in the store.
        """
        return self._refresh_snapshot().read_vectors(ids)

    def read_row(self, id: str) -> dict[str, object] | None:
        """Return the columns of one row without vector and thumbnail; None if it is not there."""
        snapshot = self._refresh_snapshot()
        return snapshot.read_row(id, self._resolve_columns(snapshot, None))

    def read_image(self, id: str) -> OriginalImage | None:
        """Return the original bytes; None if the row or its file is gone, or the file is another one by now."""
        row = self._read_location(id)
        data = None if row is None else read_original(row)
        return None if data is None else OriginalImage(data, media_type(data))

    def read_thumbnail(self, id: str, max_side: int = 256) -> bytes | None:
        """Return a JPEG or WebP that fits into a square; None if there is neither the picture nor a small one of it.

        The store's own, which may be smaller, is taken if it is large enough or nothing else is left.
        """
        row = self._read_location(id)
        return None if row is None else read_thumbnail(row, max_side)

    def _read_location(self, id: str) -> dict[str, object] | None:
        snapshot = self._refresh_snapshot()
        return snapshot.read_row(id, [name for name in LOCATION_COLUMNS if name in snapshot.schema.names])

    def _refresh_snapshot(self) -> StoreSnapshot:
        """Return the store as it is now; while another thread is at it, as it was."""
        if self._refresh_lock.acquire(blocking=False):
            try:
                self._snapshot = self._snapshot.latest()
            finally:
                self._refresh_lock.release()
        return self._snapshot

    def _choose_index(self, snapshot: StoreSnapshot) -> IndexMetadata | None:
        """Return the index if it is to be used, else None: then the search is exact.

        Raises:
            ConfigError: It is asked for, and there is none.
        """
        if self.method == "exact" or (self.method == "auto" and len(snapshot) <= MAX_EXACT_ROWS):
            return None
        if self.method == "approximate" and snapshot.index_metadata is None and len(snapshot):
            path = snapshot.store.path
            raise ConfigError(
                f"{path} has no index for approximate search; make one with: zebra search {path} --index"
            )
        return snapshot.index_metadata

    def _resolve_columns(self, snapshot: StoreSnapshot, columns: Sequence[str] | None) -> list[str]:
        known = snapshot.schema.names
        if columns is None:
            return [name for name in known if name not in LARGE_COLUMNS]
        for name in columns:
            if name not in known:
                raise ConfigError(f"{snapshot.store.path} has no column {name!r}.{suggest_name(name, known)}")
        return list(columns)


def open_searcher(
    store_path: str | Path, *, method: SearchMethod = "auto", fingerprint: str | None = None
) -> Searcher:
    """Open a store for searching.

    Args:
        method: `auto` is exact up to a million rows; above, it uses the index if the store has one.
        fingerprint: Fingerprint of the model that embeds the queries; None skips the check.

    Raises:
        StoreError: The store is missing or damaged, or holds vectors of another model.
    """
    store = Store.open(Path(store_path))
    if fingerprint is not None:
        store.require_fingerprint(fingerprint)
    return Searcher(store, method)
