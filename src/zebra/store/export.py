"""Write the rows of a store to files for tools that do not read Lance."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.errors import StoreError
from zebra.store.store import Store

VECTORS_FILE, ROWS_FILE = "vectors.npy", "rows.parquet"


def export_parquet(store: Store, path: Path) -> None:
    """Write all rows and columns to one Parquet file."""
    with _atomic_export(path) as partial:
        _write_parquet(store, store.schema.names, partial)


def export_csv(store: Store, path: Path) -> None:
    """Write all rows to one CSV file without the thumbnails; lists and vectors are JSON."""
    names = [name for name in store.schema.names if name != "thumbnail"]
    with _atomic_export(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for batch in store.scan(names):
            for row in batch.to_pylist():
                writer.writerow([_format_cell(row[name]) for name in names])


def export_npy(store: Store, folder: Path) -> None:
    """Write vectors.npy [N, E], in the data type of the store, and rows.parquet with the other columns.

    Both have the same rows in the same order. The thumbnails are left out.
    """
    names = [name for name in store.schema.names if name not in ("thumbnail", "vector")]
    with _atomic_export(folder) as partial:
        partial.mkdir()
        shape = (len(store), store.metadata.embed_dim)
        vectors_NE = np.lib.format.open_memmap(partial / VECTORS_FILE, "w+", store.metadata.dtype, shape)
        start = 0
        for batch in store.scan(["vector"]):
            flat = batch["vector"].flatten().to_numpy()
            vectors_NE[start : start + batch.num_rows] = flat.reshape(batch.num_rows, -1)
            start += batch.num_rows
        vectors_NE.flush()
        _write_parquet(store, names, partial / ROWS_FILE)


def _write_parquet(store: Store, names: list[str], path: Path) -> None:
    schema = pa.schema([store.schema.field(name) for name in names], store.schema.metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for batch in store.scan(names):
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))


@contextmanager
def _atomic_export(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path`; an OSError becomes a StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            yield partial
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. Free disk space or use another path"
        ) from error


def _format_cell(value: object) -> object:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value
