"""Searcher for a store that may grow while it is searched."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zebra.errors import ConfigError
from zebra.images.formats import media_type
from zebra.search.facets import FacetCounts, count_facets, filter_rows
from zebra.search.filter_parser import list_filterable_columns, parse_filter
from zebra.search.ivf_index import search_ivf_index
from zebra.search.originals import LOCATION_COLUMNS, read_original, read_thumbnail, read_thumbnail_source
from zebra.search.pagination import MAX_HITS, PageRequest, RankedRows, build_page
from zebra.search.query import normalize_query
from zebra.search.short_vectors import Shortening, find_shortening
from zebra.search.snapshot import StoreSnapshot
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata
from zebra.store.schema import LARGE_COLUMNS
from zebra.values import Hit

SearchMethod = Literal["auto", "exact", "approximate"]
MAX_EXACT_ROWS = 1_000_000
"""Rows up to which `auto` is exact, even with an index, if the vectors fit in memory: 1 GB of 512-dimensional vectors
and below 0.1 s a search."""
MAX_UNINDEXED_FRACTION = 0.1
"""Share of rows outside the index above which they should be added to it, because each search scans them."""
MAX_UNINDEXED_ROWS = 20_000
"""The same as a number of rows; scanning them takes about 30 ms."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of hits."""

    hits: tuple[Hit, ...]
    """Best first."""
    has_more: bool
    """Whether there is a next page."""
    method: Literal["exact", "approximate"]
    recall: float | None
    """Recall@10 of the index, measured when it was built; None for an exact search."""
    num_rows: int
    """Number of rows in the store."""
    seconds: float
    num_matches: int | None
    """Number of rows that match the filter; None for an approximate search with a filter, which does not count them."""


@dataclass(frozen=True, slots=True)
class RowPage:
    """One page of rows, in the order of the store or the reverse."""

    rows: tuple[Mapping[str, object], ...]
    """Columns of the store, without vector and thumbnail."""
    num_matches: int
    """Number of rows on all pages."""
    num_rows: int
    """Number of rows in the store."""
    has_more: bool
    """Whether there is a next page."""
    seconds: float


@dataclass(frozen=True, slots=True)
class OriginalImage:
    """The original bytes of an image."""

    data: bytes
    media_type: str
    """image/jpeg, image/png, image/webp, image/gif or image/bmp."""


class Searcher:
    """A thread-safe searcher of a store; create it with `open_searcher`.

    Each search includes the rows that other processes have appended.
    """

    def __init__(self, store: Store, method: SearchMethod = "auto", shortening: Shortening | None = None) -> None:
        self.fingerprint = store.metadata.fingerprint
        """Fingerprint of the model of the store."""
        self.model = store.metadata.model
        """Path of that model, or hf:org/name."""
        self.embed_dim = store.metadata.embed_dim
        self.dimensions = store.metadata.dimensions
        """Size of the stored vectors if they are the first components of the model's; None if they are all."""
        self.shortening = shortening
        self.method = method
        self._snapshot = StoreSnapshot(store, shortening)
        self._refresh_lock = threading.Lock()

    def shorten(self, dimensions: int, trained: Sequence[int]) -> "Searcher":
        """Return a searcher that compares shorter vectors, exactly; queries keep their size.

        Args:
            dimensions: Size of the short vectors.
            trained: Sizes that the model was trained for. For others, the principal axes of the store are used.

        Raises:
            ConfigError: Neither suits, or the searcher uses an index.
        """
        store = self._snapshot.store
        shortening = find_shortening(store, dimensions, trained)
        if shortening is not None and self.method == "approximate":
            raise ConfigError("the index holds full vectors; leave --dimensions out, or search with --method exact")
        return Searcher(store, self.method, shortening)

    @property
    def hint(self) -> str:
        """Message that says how to make searches faster; usually empty."""
        snapshot = self._snapshot
        num_rows, command = len(snapshot), f"zebra search {snapshot.store.path} --index"
        if self.method == "exact" or (self.method == "auto" and num_rows <= MAX_EXACT_ROWS and snapshot.fits_in_memory):
            return ""
        if snapshot.index_metadata is None:
            return f"{_missing_index_message(snapshot)} for its {num_rows:,} images. Build one with: {command}"
        num_unindexed = num_rows - (snapshot.num_indexed or 0)
        if num_unindexed > min(MAX_UNINDEXED_FRACTION * num_rows, MAX_UNINDEXED_ROWS):
            return f"{num_unindexed:,} of {num_rows:,} images are not in the index. Add them with: {command}"
        return ""

    def __len__(self) -> int:
        return len(self._refresh_snapshot())

    def warm_up(self) -> None:
        """Load the data of the first search now; for exact search, all vectors."""
        snapshot = self._refresh_snapshot()
        if self._choose_index(snapshot) is None:
            _ = snapshot.flat_index

    @property
    def filterable_columns(self) -> list[tuple[str, str]]:
        """Name and kind (text, number, date, yes/no) of the filterable columns."""
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
        exclude: Sequence[str] = (),
    ) -> SearchResult:
        """Find the rows nearest to a query; they have all columns but the vector and the thumbnail.

        Args:
            query_E: A nonzero tensor or array [E]: the vector of a text or image by the store's model, or a weighted
                sum (`zebra.search.query.combine_vectors`).
            k: Number of hits.
            offset: Number of hits to skip: those of the pages before.
            where: A filter (`zebra.search.filter_parser`) that hits must match.
            min_score: Minimum cosine of a hit.
            dedup: Cosine from which a row is a near duplicate of a better one, and is listed under it.
            exclude: Ids that are never hits.

        Raises:
            ConfigError: The query, the filter or a number is invalid.
            StoreError: The store was damaged after it was opened.
        """
        start_time = time.perf_counter()
        request = PageRequest(k=k, offset=offset, min_score=min_score, dedup=dedup, exclude=tuple(exclude))
        query = normalize_query(self.cut_query(query_E), self.embed_dim)
        if self.shortening is not None:
            query = normalize_query(self.shortening(query[None])[0])
        snapshot = self._refresh_snapshot()
        columns = _list_row_columns(snapshot)
        condition = parse_filter(where, snapshot.schema) if where else None
        index = self._choose_index(snapshot)
        mask_N = snapshot.filter_mask(where, condition) if where and condition and index is None else None

        def find_nearest(count: int) -> RankedRows:
            if index is not None:
                return search_ivf_index(snapshot.store, index, query, count, columns, condition)
            return snapshot.search_exact(query, count, mask_N)

        hits, has_more = build_page(find_nearest, request, columns)
        method: Literal["exact", "approximate"] = "exact" if index is None else "approximate"
        recall = None if index is None else index.recall
        num_matches = len(snapshot) if condition is None else None if mask_N is None else int(mask_N.sum())
        seconds = time.perf_counter() - start_time
        return SearchResult(hits, has_more, method, recall, len(snapshot), seconds, num_matches)

    def cut_query(self, query_E: ArrayLike) -> ArrayLike:
        """Return a query without the components that the store does not hold."""
        if self.dimensions is None:
            return query_E
        values = np.asarray(query_E)
        return values[: self.dimensions] if values.ndim == 1 else values

    def list_rows(
        self,
        where: str | None = None,
        *,
        ids: Sequence[str] | None = None,
        k: int = 10,
        offset: int = 0,
        newest_first: bool = False,
    ) -> RowPage:
        """Return rows without a query; they have all columns but the vector and the thumbnail.

        Args:
            where: A filter (`zebra.search.filter_parser`); None allows all rows.
            ids: Return these rows in this order, instead of all; ids that are not in the store are left out.
            k: Number of rows.
            offset: Number of rows to skip: those of the pages before.
            newest_first: Start with the row that was added last. Has no effect on `ids`.

        Raises:
            ConfigError: The filter or a number is invalid.
        """
        start_time = time.perf_counter()
        if not 1 <= k <= MAX_HITS or offset < 0:
            raise ConfigError(f"k must be from 1 to {MAX_HITS:,} and offset at least 0; got k={k}, offset={offset}")
        snapshot = self._refresh_snapshot()
        mask_N = filter_rows(snapshot, where) if where else np.ones(len(snapshot), bool)
        positions_M = np.flatnonzero(mask_N)[:: -1 if newest_first else 1]
        if ids is not None:
            known = [position for position in snapshot.find_positions(ids) if position is not None]
            positions_M = np.array([position for position in known if mask_N[position]], np.int64)
        page = positions_M[offset : offset + k].tolist()
        rows = snapshot.read_rows(page, _list_row_columns(snapshot))
        has_more = offset + k < len(positions_M)
        return RowPage(tuple(rows), len(positions_M), len(snapshot), has_more, time.perf_counter() - start_time)

    def count_facets(self, where: str | None = None, selections: Mapping[str, str] | None = None) -> FacetCounts:
        """Count the values of each column; see `zebra.search.facets.count_facets`.

        Raises:
            ConfigError: A filter is invalid.
        """
        return count_facets(self._refresh_snapshot(), where, selections or {})

    def require_fingerprint(self, fingerprint: str) -> None:
        """Check that queries come from the model of the store; StoreError if they do not."""
        _require_model(self._snapshot.store, fingerprint)

    def read_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of rows, float32 [N, E], for searches like them.

        Raises:
            ConfigError: An id is not in the store.
        """
        return self._refresh_snapshot().read_vectors(ids)

    def read_row(self, id: str) -> dict[str, object] | None:
        """Return the columns of one row without vector and thumbnail; None if there is no such row."""
        snapshot = self._refresh_snapshot()
        return snapshot.read_row(id, _list_row_columns(snapshot))

    def read_image(self, id: str) -> OriginalImage | None:
        """Return the original image; None if the row or its file is missing, or the file has changed."""
        row = self._read_location(id)
        data = None if row is None else read_original(row)
        return None if data is None else OriginalImage(data, media_type(data))

    def read_thumbnail(self, id: str, max_side: int = 256) -> bytes | None:
        """Return a JPEG or WebP thumbnail; None if there is neither a stored one nor the original.

        The stored thumbnail is used if it is large enough or the original is missing. It may be smaller.
        """
        row = self._read_location(id)
        return None if row is None else read_thumbnail(row, max_side)

    def read_thumbnail_source(self, id: str, max_side: int) -> tuple[bytes | None, bytes | None]:
        """Return the stored thumbnail, and the original if the stored one is missing or smaller than `max_side`."""
        row = self._read_location(id)
        return (None, None) if row is None else read_thumbnail_source(row, max_side)

    def _read_location(self, id: str) -> dict[str, object] | None:
        snapshot = self._refresh_snapshot()
        return snapshot.read_row(id, [name for name in LOCATION_COLUMNS if name in snapshot.schema.names])

    def _refresh_snapshot(self) -> StoreSnapshot:
        """Return the latest snapshot, or the current one while another thread refreshes it."""
        if self._refresh_lock.acquire(blocking=False):
            try:
                self._snapshot = self._snapshot.latest()
            finally:
                self._refresh_lock.release()
        return self._snapshot

    def _choose_index(self, snapshot: StoreSnapshot) -> IndexMetadata | None:
        """Return the index to use, or None for exact search.

        Raises:
            ConfigError: `method` is "approximate", and there is no index.
        """
        if self.method == "exact" or self.shortening is not None:
            return None
        if self.method == "auto" and len(snapshot) <= MAX_EXACT_ROWS and snapshot.fits_in_memory:
            return None
        if self.method == "approximate" and snapshot.index_metadata is None and len(snapshot):
            path = snapshot.store.path
            raise ConfigError(f"{_missing_index_message(snapshot)}. Build one with: zebra search {path} --index")
        return snapshot.index_metadata


def _missing_index_message(snapshot: StoreSnapshot) -> str:
    if snapshot.num_indexed is None:
        return f"{snapshot.store.path} has no index"
    return f"{snapshot.store.path} has no index that this version of zebra can use"


def _list_row_columns(snapshot: StoreSnapshot) -> list[str]:
    return [name for name in snapshot.schema.names if name not in LARGE_COLUMNS]


def open_searcher(store_path: str | Path, *, method: SearchMethod = "auto", fingerprint: str | None = None) -> Searcher:
    """Open a store for searching.

    Args:
        method: `auto` is exact up to a million rows; above, it uses the index if the store has one.
        fingerprint: Fingerprint of the model that embeds the queries; None skips the check.

    Raises:
        StoreError: The store is missing or damaged, or holds vectors of another model.
    """
    store = Store.open(Path(store_path))
    if fingerprint is not None:
        _require_model(store, fingerprint)
    return Searcher(store, method)


def _require_model(store: Store, fingerprint: str) -> None:
    """Raise StoreError if a store holds vectors of another model, whatever their sizes."""
    if fingerprint.partition("-")[0] != store.metadata.fingerprint.partition("-")[0]:
        store.require_fingerprint(fingerprint)
