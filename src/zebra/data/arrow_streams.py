"""Memory-mapped Arrow streams, with checks that Arrow leaves out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from zebra.errors import DataError

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""The end of an Arrow stream. Arrow itself does not notice a file that is truncated between two batches."""


def concat_streams(paths: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """Memory-map streams, validate them and concatenate them.

    Arrow does not check the offsets in a file, so they are validated here. Text is validated as bytes, because a
    caption that is not UTF-8 is a bad sample, not a damaged file.
    """
    tables = []
    for path in paths:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(END_OF_STREAM)))
            if file.read() != END_OF_STREAM:
                raise DataError(f"{path} is truncated: its end marker is missing. Copy the dataset again")
        with damage_as_data_error(path):
            table = open_stream(path).read_all().select(columns)
            fields = [field.with_type(_text_as_binary(field.type)) for field in table.schema]
            table.cast(pa.schema(fields)).validate(full=True)
        tables.append(table)
    with damage_as_data_error(paths[0].parent):
        return pa.concat_tables(tables)


def open_stream(path: Path) -> pa.ipc.RecordBatchStreamReader:
    """Memory-map a stream."""
    return pa.ipc.open_stream(pa.memory_map(str(path)))


@contextmanager
def damage_as_data_error(path: Path) -> Iterator[None]:
    """Raise DataError for what Arrow raises on a damaged file."""
    try:
        yield
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged ({error}). Copy the dataset again") from error


def _text_as_binary(data_type: pa.DataType) -> pa.DataType:
    """Return the type with text replaced by bytes."""
    if pa.types.is_string(data_type):
        return pa.binary()
    if pa.types.is_large_string(data_type):
        return pa.large_binary()
    if pa.types.is_list(data_type):
        return pa.list_(_text_as_binary(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([field.with_type(_text_as_binary(field.type)) for field in data_type])
    return data_type
