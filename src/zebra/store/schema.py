"""Schema of a store, and validation of the rows that are appended."""

from collections import Counter

import numpy as np
import pyarrow as pa

from zebra.errors import StoreError, suggest_name
from zebra.store.metadata import StoreMetadata, find_store_metadata, require_same_model

REQUIRED_FIELDS = [
    pa.field("id", pa.string(), nullable=False),  # sha256 of the image digest and the location
    pa.field("digest", pa.string(), nullable=False),  # sha256 of the image bytes
    pa.field("path", pa.string(), nullable=False),  # file, tar shard or URL
]
OPTIONAL_FIELDS = [
    pa.field("offset", pa.int64()),  # in a tar shard, in bytes
    pa.field("size", pa.int64()),  # in a tar shard, in bytes
    pa.field("caption", pa.string()),
    pa.field("other_captions", pa.list_(pa.string())),
    pa.field("width", pa.int32()),  # of the original, in pixels
    pa.field("height", pa.int32()),
    pa.field("thumbnail", pa.binary()),  # JPEG or WebP
]

BASE_COLUMNS = frozenset(field.name for field in (*REQUIRED_FIELDS, *OPTIONAL_FIELDS)) | {"vector"}
"""Columns of every store."""
LARGE_COLUMNS = ("thumbnail", "vector")
"""Columns that are read only on request, because of their size."""
INTERNAL_COLUMNS = frozenset({"id", "digest", "path", "offset", "size", "location", "source", "stamp"})
"""Columns that say where an image is stored on this machine. They can be filtered by, but are not shown."""


def build_schema(metadata: StoreMetadata, extra_columns: pa.Schema | None = None) -> pa.Schema:
    """Return the schema of a store: zebra's columns, then the extra columns, which become nullable.

    Raises:
        StoreError: An extra column has a duplicate name, or one that LanceDB does not support.
    """
    dtype = pa.float16() if metadata.dtype == "float16" else pa.float32()
    vector = pa.field("vector", pa.list_(dtype, metadata.embed_dim), nullable=False)
    extra = [field.with_nullable(True) for field in extra_columns or ()]
    fields = [*REQUIRED_FIELDS, *OPTIONAL_FIELDS, vector, *extra]
    for name, count in Counter(field.name for field in fields).items():
        if count > 1:
            raise StoreError(f"a store can have only one column {name!r}. Rename the extra column")
        if not is_column_name(name):
            raise StoreError(
                f"a store cannot have a column {name!r}. A name must not be empty, start with an underscore, or "
                "contain a dot or backquote"
            )
    return pa.schema(fields, metadata.to_schema_metadata())


def is_column_name(name: str) -> bool:
    """Return whether a store can have a column of this name."""
    return bool(name) and not name.startswith("_") and not set(name) & set(".`")


def validate_rows(rows: pa.RecordBatch | pa.Table, schema: pa.Schema, metadata: StoreMetadata, path: str) -> pa.Table:
    """Convert rows to a store's schema, and check everything that needs no access to the store.

    Args:
        rows: Columns in any order; nullable ones may be missing. Vectors are rounded to the store's data type.

    Raises:
        StoreError: A column is unknown, missing or of another type; an id is missing or duplicated; a vector has
            another size, is not finite, or comes from another model.
    """
    rows_metadata = find_store_metadata(rows.schema, f"the schema of the rows for {path}")
    if rows_metadata is not None:
        require_same_model(metadata, rows_metadata.fingerprint, path)
    for name in rows.schema.names:
        if name not in schema.names:
            raise StoreError(f"{path} has no column {name!r}.{suggest_name(name, schema.names)}")
    columns = []
    for field in schema:
        if field.name not in rows.schema.names:
            if not field.nullable:
                raise StoreError(f"cannot append to {path}: the column {field.name!r} is missing")
            columns.append(pa.nulls(len(rows), field.type))
            continue
        column = rows[field.name]
        if column.null_count and not field.nullable:
            raise StoreError(f"cannot append to {path}: a row has no {field.name!r}, which is required")
        columns.append(
            _cast_vectors(column, metadata, path) if field.name == "vector" else _cast_column(column, field, path)
        )
    table = pa.table(columns, schema=schema)
    validate_ids(table["id"], path)
    return table


def _cast_column(column: pa.Array | pa.ChunkedArray, field: pa.Field, path: str) -> pa.Array | pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise StoreError(
            f"cannot convert the column {field.name!r} from {column.type} to {field.type}, its type in {path}: {error}"
        ) from error


def _cast_vectors(column: pa.Array | pa.ChunkedArray, metadata: StoreMetadata, path: str) -> pa.Array:
    """Validate vectors and round them to the store's data type."""
    column_type = column.type
    if not (pa.types.is_fixed_size_list(column_type) and pa.types.is_floating(column_type.value_type)):
        raise StoreError(f"vectors for {path} must be fixed-size lists of floats, not {column_type}")
    if column_type.list_size != metadata.embed_dim:
        raise StoreError(
            f"{path} holds vectors of size {metadata.embed_dim}; these have size {column_type.list_size}. "
            "Embed with the model of the store"
        )
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    with np.errstate(over="ignore"):
        values = array.flatten().to_numpy(zero_copy_only=False).astype(metadata.dtype)
    invalid = np.flatnonzero(~np.isfinite(values))
    if len(invalid):
        raise StoreError(
            f"cannot append to {path}: the vector of row {invalid[0] // metadata.embed_dim} holds NaN or infinity as "
            f"{metadata.dtype}. Nothing was added"
        )
    return pa.FixedSizeListArray.from_arrays(pa.array(values), metadata.embed_dim)


def validate_ids(ids: pa.ChunkedArray, path: str) -> None:
    """Raise StoreError if an id is empty or duplicated."""
    counts = Counter(ids.to_pylist())
    duplicates = [id for id, count in counts.items() if count > 1]
    if duplicates:
        raise StoreError(f"cannot append to {path}: the id {duplicates[0]!r} is duplicated. Nothing was added")
    if "" in counts:
        raise StoreError(f"cannot append to {path}: an id is empty. Nothing was added")
