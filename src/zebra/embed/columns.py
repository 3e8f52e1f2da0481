"""Extra columns of a store: which ones, where their values come from, and EXIF."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from zebra.data.columns import choose_columns, is_scalar
from zebra.data.locations import ImageRef, columns_stamp
from zebra.data.sources import ImageScan
from zebra.embed.stages import EMBED_COLUMNS
from zebra.errors import BadSample, ConfigError
from zebra.images.decode import read_header
from zebra.images.exif import ImageExif, read_exif
from zebra.store import Store
from zebra.store.schema import BASE_COLUMNS, is_column_name
from zebra.values import Record

ALL_COLUMNS = "all"
"""In place of a name: every column of the data."""
DEFAULT_COLUMNS = ("class", "taken", "camera")
"""Columns of a new store, where the data has them."""
EXIF_COLUMNS = pa.schema(
    {"taken": pa.timestamp("s"), "camera": pa.string(), "latitude": pa.float64(), "longitude": pa.float64()}
)
"""Columns that every image file may provide."""
JOINED_KEY = b"zebra.joined"
"""Key in the metadata of a column that was joined by id or path; embedding does not fill it."""


def user_columns(store: Store) -> pa.Schema:
    """Return the columns of a store beyond those that zebra itself needs."""
    return pa.schema([field for field in store.extra_columns if field.name not in EMBED_COLUMNS.names])


def is_joined(field: pa.Field) -> bool:
    """Return whether a column was joined by id or path."""
    return JOINED_KEY in (field.metadata or {})


def select_columns(source: ImageScan, store: Store | None, requested: Sequence[str]) -> pa.Schema:
    """Return the columns to fill: the requested ones, and those that the store has already, in its types.

    Args:
        source: Its own columns take precedence over EXIF.
        store: None if it will be created; without a request it then has DEFAULT_COLUMNS.
        requested: Names, or ALL_COLUMNS.

    Raises:
        ConfigError: A requested column is missing, or was joined.
    """
    own = source.available_columns
    available = pa.schema([*own, *(field for field in EXIF_COLUMNS if field.name not in own.names)])
    stored = {field.name: field for field in user_columns(store)} if store else {}
    names = _expand_names(requested, source)
    if not names and store is None:
        names = [name for name in DEFAULT_COLUMNS if name in available.names]
    chosen = {field.name: field for field in choose_columns(names, available, source.name)}
    for name, field in stored.items():
        if is_joined(field):
            if name in chosen:
                raise ConfigError(
                    f"the column {name!r} was joined from a table. Omit it, or remove it first: zebra columns "
                    f"{store.path if store else ''} --drop {name}"
                )
        elif name in chosen or (name in available.names and _can_convert(available.field(name).type, field.type)):
            chosen[name] = field
        elif name in own.names:
            warnings.warn(
                f"the column {name!r} of {source.name} holds {available.field(name).type}, and that of the store "
                f"{field.type}. It was not copied; --columns {name} copies the values that can be converted",
                stacklevel=2,
            )
    return pa.schema([field.remove_metadata() for field in chosen.values()])


def _expand_names(requested: Sequence[str], source: ImageScan) -> list[str]:
    """Replace ALL_COLUMNS by the columns of the data that a store can have, and the date and camera of EXIF."""
    if ALL_COLUMNS not in requested:
        return list(dict.fromkeys(requested))
    reserved = BASE_COLUMNS | set(EMBED_COLUMNS.names)
    names = [
        field.name
        for field in source.available_columns
        if is_scalar(field.type) and is_column_name(field.name) and field.name not in reserved
    ]
    return list(dict.fromkeys([*names, "taken", "camera", *(name for name in requested if name != ALL_COLUMNS)]))


def _can_convert(source_type: pa.DataType, stored_type: pa.DataType) -> bool:
    """Return whether all values of a type can be converted to that of the store."""
    if pa.types.is_integer(source_type) and (pa.types.is_integer(stored_type) or pa.types.is_floating(stored_type)):
        return True
    return bool(source_type == stored_type or pa.types.is_string(stored_type))


class ExifSource:
    """A source whose records also have columns from EXIF."""

    def __init__(self, source: ImageScan, columns: pa.Schema) -> None:
        """Choose the columns of the records.

        Args:
            source: Provides those of `columns` that it has; its columns are chosen here.
            columns: As `select_columns` returns them.
        """
        self.name = source.name
        self._source = source
        own = [field for field in columns if field.name in source.available_columns.names]
        source.select_columns(pa.schema(own))
        self._exif_columns = pa.schema([field for field in columns if field.name not in source.columns.names])

    def num_images(self) -> int:
        """Return the number of images that `scan` yields, usable or not."""
        return self._source.num_images()

    def scan(self) -> Iterator[ImageRef]:
        """Yield all images; the stamp also has the names of the columns."""
        names = self._exif_columns.names
        if not names:
            yield from self._source.scan()
            return
        end = columns_stamp(self._exif_columns)
        for image_ref in self._source.scan():
            location = replace(image_ref.location, stamp=image_ref.location.stamp + end)
            yield ImageRef(location, partial(_load_with_exif, image_ref.load, names, location.key))


def _load_with_exif(load: Callable[[], Record], names: Sequence[str], key: str) -> Record:
    record = load()
    try:
        exif = read_exif(read_header(record.image, key))
    except BadSample:  # reported when the image is decoded
        exif = ImageExif()
    return replace(record, columns={**record.columns, **{name: getattr(exif, name) for name in names}})
