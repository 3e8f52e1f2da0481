"""A store in, while others write to it, and query vectors; the pictures nearest to them, page by page, out."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zebra.errors import ConfigError, nearest
from zebra.search.filter_parser import filterable, parse
from zebra.search.ivf_index import find
from zebra.search.originals import WHERE, media_type, read_original, small
from zebra.search.pagination import Nearest, Wish, page
from zebra.search.query import unit
from zebra.search.snapshot import Snapshot
from zebra.store import Store
from zebra.store.index_metadata import IndexFacts
from zebra.values import Hit

Method = Literal["auto", "exact", "approximate"]
EXACT_ROWS = 1_000_000
"""Rows up to which auto searches exactly, index or not: 1 GB of vectors of 512 numbers in memory, and below 0.1 s."""
MANY_OUTSIDE = 0.1
"""Share of rows that are not in the index, all of which a search looks at, above which it should be renewed."""
HEAVY = ("vector", "thumbnail")
"""Columns that a hit does not carry."""


@dataclass(frozen=True, slots=True)
class Found:
    """One page of answers."""

    hits: tuple[Hit, ...]
    """Best first."""
    more: bool
    """Whether there is a next page."""
    method: Literal["exact", "approximate"]
    recall: float | None
    """Of the index at ten neighbours, as it was measured when it was built; None for an exact search."""
    searched: int
    """Rows of the store."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Picture:
    """The original bytes of a picture."""

    data: bytes
    media_type: str
    """image/jpeg, image/png, image/webp, image/gif or image/bmp."""


class Searcher:
    """A store that is searched, by any number of threads; use `zebra.workflows.search.open_searcher`.

    What other processes append is found by the next search.
    """

    def __init__(self, store: Store, method: Method = "auto") -> None:
        self.fingerprint = store.facts.fingerprint
        """Of the model whose vectors these are."""
        self.model = store.facts.model
        """Where that model was loaded from: a path, or hf:org/name."""
        self.embed_dim = store.facts.embed_dim
        self.method = method
        self._snapshot = Snapshot(store)
        self._following = threading.Lock()

    @property
    def hint(self) -> str:
        """What would make searches faster, for people to read; mostly empty."""
        snapshot = self._snapshot
        rows, command = len(snapshot), f"zebra search {snapshot.store.path} --index"
        if self.method == "exact" or (self.method == "auto" and rows <= EXACT_ROWS):
            return ""
        if snapshot.index is None:
            return f"{snapshot.store.path} has {rows:,} pictures and no index; make one with: {command}"
        outside = rows - (snapshot.num_indexed or 0)
        if outside > MANY_OUTSIDE * rows:
            return f"{outside:,} of {rows:,} pictures are not in the index yet; renew it with: {command}"
        return ""

    def __len__(self) -> int:
        return len(self._current())

    def warm(self) -> None:
        """Read now what the first search would read: for an exact search, all vectors."""
        snapshot = self._current()
        if self._index(snapshot) is None:
            _ = snapshot.exact

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Name and kind (text, number, date, yes/no) of the columns that can be filtered."""
        return filterable(self._snapshot.schema)

    def search(
        self,
        query_E: ArrayLike,
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        min_score: float | None = None,
        fold: float | None = None,
        columns: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> Found:
        """Find the rows nearest to a query.

        Args:
            query_E: A tensor or array [E] of any length but zero; what the store's model made of words or a picture,
                or a sum of such (`zebra.search.query.combine`).
            k: Hits on a page.
            offset: Hits on the pages before it.
            where: A filter (`zebra.search.filter_parser`); rows that it does not let through are no answers.
            min_score: Least cosine of a hit.
            fold: Cosine from which on a row counts as a near duplicate of a better one, and is folded into it.
            columns: That hits carry; None for all but the vector and the thumbnail.
            exclude: Ids that are no answers.

        Raises:
            ConfigError: The query, the filter (with the place in it), a column or a number cannot mean anything.
            StoreError: The store has been damaged since it was opened.
        """
        began = time.perf_counter()
        wish = Wish(k=k, offset=offset, min_score=min_score, fold=fold, exclude=tuple(exclude))
        query = unit(query_E, self.embed_dim)
        snapshot = self._current()
        shown = self._shown(snapshot, columns)
        condition = parse(where, snapshot.schema) if where else None
        index = self._index(snapshot)

        def nearest(count: int) -> Nearest:
            if index is not None:
                written = condition.expression() if condition else None
                return find(snapshot.store, index, query, count, shown, written)
            allowed_N = snapshot.mask(where, condition) if where and condition else None
            return snapshot.nearest(query, count, allowed_N)

        hits, more = page(nearest, wish, shown)
        method: Literal["exact", "approximate"] = "exact" if index is None else "approximate"
        recall = None if index is None else index.recall
        return Found(hits, more, method, recall, len(snapshot), time.perf_counter() - began)

    def require(self, fingerprint: str) -> None:
        """Refuse queries of another model than the one whose vectors are here; StoreError names both."""
        self._snapshot.store.require(fingerprint)

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors [N, E] of some rows: "more like this".

        Raises:
            ConfigError: An id is not in the store.
        """
        return self._current().vectors(ids)

    def row(self, id: str) -> dict[str, object] | None:
        """Return the columns of one row without vector and thumbnail; None if it is not there."""
        snapshot = self._current()
        return snapshot.row(id, self._shown(snapshot, None))

    def picture(self, id: str) -> Picture | None:
        """Return the original bytes; None if the row or its file is gone, or the file is another one by now."""
        row = self._place(id)
        data = None if row is None else read_original(row)
        return None if data is None else Picture(data, media_type(data))

    def thumbnail(self, id: str, side: int = 256) -> bytes | None:
        """Return a JPEG or WebP that fits into a square; None if there is neither the picture nor a small one of it.

        The store's own, which may be smaller, is taken if it is large enough or nothing else is left.
        """
        row = self._place(id)
        return None if row is None else small(row, side)

    def _place(self, id: str) -> dict[str, object] | None:
        snapshot = self._current()
        return snapshot.row(id, [name for name in WHERE if name in snapshot.schema.names])

    def _current(self) -> Snapshot:
        """Return the store as it is now; while another thread is at it, as it was."""
        if self._following.acquire(blocking=False):
            try:
                self._snapshot = self._snapshot.newest()
            finally:
                self._following.release()
        return self._snapshot

    def _index(self, snapshot: Snapshot) -> IndexFacts | None:
        """Return the index if it is to be used, else None: then the search is exact.

        Raises:
            ConfigError: It is asked for, and there is none.
        """
        if self.method == "exact" or (self.method == "auto" and len(snapshot) <= EXACT_ROWS):
            return None
        if self.method == "approximate" and snapshot.index is None and len(snapshot):
            path = snapshot.store.path
            raise ConfigError(
                f"{path} has no index for approximate search; make one with: zebra search {path} --index"
            )
        return snapshot.index

    def _shown(self, snapshot: Snapshot, columns: Sequence[str] | None) -> list[str]:
        known = snapshot.schema.names
        if columns is None:
            return [name for name in known if name not in HEAVY]
        for name in columns:
            if name not in known:
                raise ConfigError(f"{snapshot.store.path} has no column {name!r}.{nearest(name, known)}")
        return list(columns)
