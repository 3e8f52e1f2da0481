"""The columns of a store, and what is handed to it brought into their form: a table in, the checked table out."""

from collections import Counter

import numpy as np
import pyarrow as pa

from zebra.errors import StoreError, suggest_name
from zebra.store.metadata import StoreMetadata, find_store_metadata, require_same_model

REQUIRED_FIELDS = [
    pa.field(
        "id", pa.string(), nullable=False
    ),  # sha256 of the image's bytes and its place, as zebra embed makes it
    pa.field("digest", pa.string(), nullable=False),  # sha256 of the image's bytes
    pa.field("path", pa.string(), nullable=False),  # of the file, the tar shard or the URL
]
OPTIONAL_FIELDS = [
    pa.field("offset", pa.int64()),  # inside a tar shard
    pa.field("size", pa.int64()),  # in bytes, there
    pa.field("caption", pa.string()),
    pa.field("other_captions", pa.list_(pa.string())),
    pa.field("width", pa.int32()),  # of the original, in pixels
    pa.field("height", pa.int32()),
    pa.field("thumbnail", pa.binary()),  # a small JPEG or WebP
]

LARGE_COLUMNS = ("thumbnail", "vector")
"""Columns that are read only on request, because of their size."""
INTERNAL_COLUMNS = frozenset({"id", "digest", "path", "offset", "size", "location", "source", "stamp"})
"""Columns that say where an image is stored on this machine. They can be filtered by, but are not shown."""


def build_schema(metadata: StoreMetadata, extra_columns: pa.Schema | None = None) -> pa.Schema:
    """Return the schema of a store's rows: zebra's columns, then further ones, which may be null.

    Raises:
        StoreError: A further column has a name that is taken or that LanceDB cannot have.
    """
    dtype = pa.float16() if metadata.dtype == "float16" else pa.float32()
    vector = pa.field("vector", pa.list_(dtype, metadata.embed_dim), nullable=False)
    further = [field.with_nullable(True) for field in extra_columns or ()]
    fields = [*REQUIRED_FIELDS, *OPTIONAL_FIELDS, vector, *further]
    for name, times in Counter(field.name for field in fields).items():
        if times > 1:
            raise StoreError(f"a store has one column {name!r}; give the other another name")
        if not name or name.startswith("_") or set(name) & set(".`"):
            raise StoreError(
                f"a store cannot have a column {name!r}: names begin without an underscore and hold no dot or backquote"
            )
    return pa.schema(fields, metadata.to_schema_metadata())


def validate_rows(
    rows: pa.RecordBatch | pa.Table, schema: pa.Schema, metadata: StoreMetadata, path: str
) -> pa.Table:
    """Bring rows into the form of a store's schema, and check all that can be checked without the store.

    Args:
        rows: Columns in any order; those that may be null may be missing. Vectors are rounded to the store's type.

    Raises:
        StoreError: A column is unknown, missing or of another type; an id is missing or there twice; a vector is of
            another width, not finite, or of another model.
    """
    theirs = find_store_metadata(rows.schema, f"what is to be added to {path}")
    if theirs is not None:
        require_same_model(metadata, theirs.fingerprint, path)
    for name in rows.schema.names:
        if name not in schema.names:
            raise StoreError(f"{path} has no column {name!r}.{suggest_name(name, schema.names)}")
    columns = []
    for field in schema:
        if field.name not in rows.schema.names:
            if not field.nullable:
                raise StoreError(f"what is to be added to {path} lacks the column {field.name!r}")
            columns.append(pa.nulls(len(rows), field.type))
            continue
        column = rows[field.name]
        if column.null_count and not field.nullable:
            raise StoreError(f"{field.name!r} of a row to be added to {path} is missing: every row needs one")
        columns.append(
            _cast_vectors(column, metadata, path)
            if field.name == "vector"
            else _cast_column(column, field, path)
        )
    table = pa.table(columns, schema=schema)
    _validate_ids(table["id"], path)
    return table


def _cast_column(
    column: pa.Array | pa.ChunkedArray, field: pa.Field, path: str
) -> pa.Array | pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise StoreError(
            f"the column {field.name!r} of {path} holds {field.type}; {column.type} does not fit: {error}"
        ) from error


def _cast_vectors(column: pa.Array | pa.ChunkedArray, metadata: StoreMetadata, path: str) -> pa.Array:
    """Check vectors and round them to the store's type."""
    kind = column.type
    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
        raise StoreError(f"vectors for {path} are fixed-size lists of floats, not {kind}")
    if kind.list_size != metadata.embed_dim:
        raise StoreError(
            f"{path} holds vectors of {metadata.embed_dim} numbers; these have {kind.list_size}. Another model made them"
        )
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    with np.errstate(over="ignore"):
        values = array.flatten().to_numpy(zero_copy_only=False).astype(metadata.dtype)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise StoreError(
            f"the vector of row {bad[0] // metadata.embed_dim} of what is to be added to {path} holds NaN or infinity as "
            f"{metadata.dtype}; nothing was added"
        )
    return pa.FixedSizeListArray.from_arrays(pa.array(values), metadata.embed_dim)


def _validate_ids(ids: pa.ChunkedArray, path: str) -> None:
    counts = Counter(ids.to_pylist())
    twice = [name for name, times in counts.items() if times > 1]
    if twice:
        raise StoreError(
            f"the id {twice[0]!r} is there twice in what is to be added to {path}; nothing was added"
        )
    if "" in counts:
        raise StoreError(f"an id of what is to be added to {path} is empty; nothing was added")
