"""Datasets to embed: all images in order, with location and stamp.

Unlike in training, captions are optional, because images without captions can be searched too. An unreadable caption
makes its image a BadSample, so that it is reported.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.data.columns import escape_unencodable
from zebra.data.folders import CAPTION_SUFFIX, FolderSource, decode_caption, read_image_bytes
from zebra.data.hugging_face import find_hub_parquet_files, is_saved_dataset
from zebra.data.remote.blobs import Blob, ByteRange, LocalBlob
from zebra.data.shards import CAPTION_PARSERS, IMAGE_FIELDS, ShardSource
from zebra.data.sources import Source, open_source
from zebra.data.table_files import TABLE_FORMATS
from zebra.data.tar_index import TarIndex, TarSample
from zebra.embed.table_source import TableEmbedSource
from zebra.embed.values import EmbedSource, ImageContent, ImageRef, Location, file_stamp
from zebra.errors import BadSample, ConfigError


def open_embed_source(data: str, config: DataConfig, extra_columns: Sequence[str] = ()) -> EmbedSource:
    """Open images in any layout for embedding.

    Args:
        data: As in `zebra.data.sources.open_source`. Captions are optional, but a dataset saved by `datasets` needs captions
            or labels.
        extra_columns: Additional columns of a table to copy into the store.

    Raises:
        DataError: If the path does not exist or has no images, or a table or shard is damaged.
        ConfigError: If columns are requested but the data is not a table.
    """
    tables = _find_table_files(data)
    if tables:
        return TableEmbedSource(tables, data, config, extra_columns)
    if extra_columns:
        raise ConfigError(
            f"{data} is not a table, so it has no columns {', '.join(extra_columns)}. Give a "
            f"{', '.join(TABLE_FORMATS)} file, or omit --columns."
        )
    source = open_source(data, config)
    if isinstance(source, FolderSource):
        return FolderEmbedSource(source)
    if isinstance(source, ShardSource):
        return ShardEmbedSource(source)
    return RecordEmbedSource(source)


def _find_table_files(data: str) -> list[Path]:
    """Return the files of a table; an empty list if the data is no table."""
    if "://" in data and not data.startswith("file://"):
        return []
    path = Path(data.removeprefix("file://")).expanduser()
    if path.suffix.lower() in TABLE_FORMATS and path.is_file():
        return [path]
    if not path.is_dir():
        return find_hub_parquet_files(path)
    files = [*path.glob("*.parquet"), *path.glob("data/*.parquet")]
    others = is_saved_dataset(path) or any(path.glob("*.tar"))
    return [] if not files or others or FolderSource(path).has_images() else find_hub_parquet_files(path)


class FolderEmbedSource:
    """All images below a folder, with the text file of the same name if there is one."""

    extra_columns = pa.schema([])

    def __init__(self, source: FolderSource) -> None:
        self.root = source.root.resolve()
        self.name = escape_unencodable(str(self.root))
        self._files = source._relative_paths  # a list of Python paths needs ten times the memory

    def __len__(self) -> int:
        return sum(1 for _ in self._iter_names())

    def __iter__(self) -> Iterator[ImageRef]:
        for name in self._iter_names():
            path = self.root / os.fsdecode(name)
            location = escape_unencodable(str(path))
            stamp = f"{file_stamp(path)} {file_stamp(path.with_suffix(CAPTION_SUFFIX))}"
            yield ImageRef(Location(location, stamp, location), partial(_read_from_files, path, location))

    def _iter_names(self) -> Iterator[bytes]:
        for chunk in self._files.chunks:
            for name in chunk:
                encoded: bytes = name.as_py()
                if not encoded.endswith(CAPTION_SUFFIX.encode()):  # a text without an image
                    yield encoded


def _read_from_files(path: Path, location: str) -> ImageContent:
    image = read_image_bytes(path, location)
    try:
        text = path.with_suffix(CAPTION_SUFFIX).read_bytes()
    except FileNotFoundError:
        return ImageContent(image)
    except OSError as error:
        raise BadSample("unreadable file", location, f"its {CAPTION_SUFFIX}: {error.strerror}") from error
    return ImageContent(image, (decode_caption(text, location),) if text.strip() else ())


class ShardEmbedSource:
    """The samples of tar shards."""

    extra_columns = pa.schema([])

    def __init__(self, source: ShardSource) -> None:
        self.source = source
        self.name = source.name

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[ImageRef]:
        for shard in self.source.shards:
            identity = sha256(repr(shard.blob.identity[1:]).encode()).hexdigest()[:16]
            for number in range(len(shard)):
                yield _make_shard_ref(shard, shard.sample(number), identity)
            shard.close()


def _make_shard_ref(shard: TarIndex, sample: TarSample, shard_stamp: str) -> ImageRef:
    blob = shard.blob
    path = escape_unencodable(str(blob.path.resolve())) if isinstance(blob, LocalBlob) else blob.name
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    offset, size = sample.fields[image] if image else (None, None)
    location = f"{path}/{sample.key}"
    image_location = Location(location, f"{shard_stamp} {offset}", path, offset, size)
    return ImageRef(image_location, partial(_read_from_shard, blob, sample, location))


def _read_from_shard(blob: Blob, sample: TarSample, location: str) -> ImageContent:
    if sample.duplicate_field is not None:
        raise BadSample("duplicate field", location, f".{sample.duplicate_field} comes twice")
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    if image is None:
        raise BadSample("missing image", location, f"only {', '.join(sample.fields) or 'nothing'}")
    caption_field = next((name for name in CAPTION_PARSERS if name in sample.fields), None)
    ranges = [sample.fields[name] for name in (image, caption_field) if name is not None]
    data = _read_ranges(blob, ranges)
    captions = CAPTION_PARSERS[caption_field](data[1], location) if caption_field and data[1].strip() else ()
    return ImageContent(data[0], captions, sample.label)


def _read_ranges(blob: Blob, ranges: Sequence[ByteRange]) -> list[bytes]:
    if not isinstance(blob, LocalBlob):
        return blob.start_read(ranges)()
    private_blob = copy.copy(blob)  # its own file handle, because another thread may close the shard's
    try:
        return private_blob.start_read(ranges)()
    finally:
        private_blob.close()


class RecordEmbedSource:
    """The samples of any other source."""

    extra_columns = pa.schema([])

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = str(Path(source.name).resolve())

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[ImageRef]:
        for index in range(len(self.source)):
            location = f"{self.name}:{index}"
            image_location = Location(location, self.source.digest, self.name)
            yield ImageRef(image_location, partial(_read_from_source, self.source, index))


def _read_from_source(source: Source, index: int) -> ImageContent:
    record = source.read(index)
    return ImageContent(record.image, record.captions, record.label)
