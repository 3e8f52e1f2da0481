"""One version of a store as far as searches have read it; what was added since is read on top of it."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.search.arrow_rows import plain, vectors_of
from zebra.search.conditions import Condition
from zebra.search.flat_index import Exact
from zebra.search.id_index import Places
from zebra.search.pagination import Nearest
from zebra.store import Store
from zebra.store.index_metadata import IndexFacts, read_index_facts

MASKS = 16
"""Filters whose answers are remembered, in a byte for each row."""


class Snapshot:
    """Rows that stay as they are while others write.

    What is read stays in memory: the vectors when `exact` is first asked for, the ids when a row is first looked up,
    and a column when it is first filtered by. Several threads may ask at once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.version = store.version
        self.schema = store.schema
        self._length = len(store)
        self._exact: Exact | None = None
        self._places: Places | None = None
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self._reading = threading.RLock()
        self.num_indexed: int | None = None
        """Rows that the index holds; None before `index` was asked for, and without one."""
        self._index: IndexFacts | None = None
        self._asked = False

    def __len__(self) -> int:
        return self._length

    @property
    def exact(self) -> Exact:
        """All vectors."""
        with self._reading:
            if self._exact is None:
                self._exact = Exact.of(self.store.vectors()[1])
            return self._exact

    def newest(self) -> "Snapshot":
        """Return a snapshot of the store as it is now: this one, if nothing was committed since.

        What this one has read is not read again if rows were only added; else everything is, when it is asked for.
        """
        last = self.store.committed
        if last is None or last.version == self.version:
            return self
        store = Store.open(self.store.path)
        last = store.committed
        if (
            last is None or last.version != store.version
        ):  # a commit is being made: the next search asks again
            return self
        new = Snapshot(store)
        if self.version < last.rewritten or len(new) < len(self):
            if self._exact is not None:
                new._exact = new.exact
            return new
        first = len(self)
        if self._exact is not None:
            new._exact = self._exact if len(new) == first else self._exact.extended(store.vectors(first)[1])
        if self._places is not None:
            new._places = self._places.extended(batch["id"] for batch in store.scan(["id"], first))
        for name, cells in list(self._columns.items()):
            new._columns[name] = pa.chunked_array(
                [*cells.chunks, *_column(store, name, first).chunks], cells.type
            )
        return new

    @property
    def index(self) -> IndexFacts | None:
        """The index of the store, as it was measured; None without one."""
        with self._reading:
            if not self._asked:
                self.num_indexed = self.store.num_indexed()
                self._index = read_index_facts(self.store.path) if self.num_indexed else None
                self._asked = True
            return self._index

    def nearest(
        self, query_E: NDArray[np.float32], count: int, allowed_N: NDArray[np.bool_] | None
    ) -> Nearest:
        """Find the best rows of a query among those that are allowed, without missing one."""
        (places_M,), (scores_M,) = self.exact.search(query_E[None], count, allowed_N)

        def rows(numbers: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
            return self.rows(places_M[list(numbers)].tolist(), columns)

        return Nearest(scores_M, lambda: self.exact.vectors(places_M), rows)

    def rows(self, places: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read some columns of the rows at some positions."""
        return plain(self.store.at(places, columns)) if places else []

    def mask(self, text: str, condition: Condition) -> NDArray[np.bool_]:
        """Return which rows a filter lets through; `text` is what it is remembered by."""
        with self._reading:
            if text not in self._masks:
                for name in condition.columns - self._columns.keys():
                    self._columns[name] = _column(self.store, name)
                table = pa.table({name: self._columns[name] for name in condition.columns})
                if len(self._masks) == MASKS:
                    self._masks.pop(next(iter(self._masks)))
                self._masks[text] = condition.mask(table).to_numpy(zero_copy_only=False)
            return self._masks[text]

    def row(self, id: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """Read some columns of the row with an id; None if there is none."""
        found = self._locate(id)
        return None if found is None else self.rows([found], columns)[0]

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of some rows, float32 [N, E], of unit length.

        Raises:
            ConfigError: An id is not there.
        """
        places = []
        for id in ids:
            found = self._locate(id)
            if found is None:
                raise ConfigError(f"there is no row {id!r} in {self.store.path}; it may have been deleted")
            places.append(found)
        if not places:
            return np.empty((0, self.store.facts.embed_dim), np.float32)
        return vectors_of(self.store.at(places, ["vector"]))

    def _locate(self, id: str) -> int | None:
        with self._reading:
            if self._places is None:
                self._places = Places.of(batch["id"] for batch in self.store.scan(["id"]))
            candidates = self._places.of_id(id)
        for place in candidates:
            if self.rows([place], ["id"])[0]["id"] == id:
                return place
        return None


def _column(store: Store, name: str, first: int = 0) -> pa.ChunkedArray:
    batches = [batch[name] for batch in store.scan([name], first)]
    return pa.chunked_array(batches, store.schema.field(name).type)
