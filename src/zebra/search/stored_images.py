"""The captioned images of a store, as a source."""

from collections.abc import Iterator
from functools import cached_property

import pyarrow as pa

from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.ignored import Ignored
from zebra.errors import BadSample
from zebra.search.originals import read_original
from zebra.store import Store
from zebra.values import Record

ROW_SCHEMA = pa.schema(
    {
        "digest": pa.string(),
        "path": pa.string(),
        "offset": pa.int64(),
        "size": pa.int64(),
        "location": pa.string(),
        "captions": pa.list_(pa.string()),
    }
)


class StoredImages:
    """The rows of a store; images are read where they were when they were embedded."""

    ignored: tuple[Ignored, ...] = ()

    def __init__(self, store: Store) -> None:
        self.name = str(store.path)
        self._store = store

    @cached_property
    def table(self) -> CachedTable:
        """The rows without vectors, in a file in the cache."""
        key = ("store", str(self._store.path.resolve()), self._store.version, repr(self._store.last_commit))
        return CachedTable.open_or_build(key, ROW_SCHEMA, _iter_rows(self._store))

    @property
    def digest(self) -> str:
        """SHA-256 in hex over digests, locations and captions of all images."""
        return self.table.digest

    def __len__(self) -> int:
        return len(self.table)

    def sample_id(self, index: int) -> str:
        """Return the location of an image."""
        location: str = self.table.arrow_table["location"][index].as_py()
        return location

    def read(self, index: int) -> Record:
        """Return an image with its captions; raise BadSample if it is missing or has changed since it was embedded."""
        row = self.table.row(index)
        image = read_original(row)
        if image is None:
            raise BadSample("image of the store is missing or has changed", row["location"], row["path"])
        return Record(row["location"], image, tuple(row["captions"]))


def _iter_rows(store: Store) -> Iterator[RowValues]:
    names = set(store.schema.names)
    columns = ["digest", "path", "offset", "size", "caption", "other_captions", *({"location"} & names)]
    for batch in store.scan(columns):
        for row in batch.to_pylist():
            captions = [caption for caption in (row["caption"], *(row["other_captions"] or ())) if caption]
            position = "" if row["offset"] is None else f":{row['offset']}"
            location = row.get("location") or f"{row['path']}{position}"
            yield row["digest"], row["path"], row["offset"], row["size"], location, captions
