"""A path to pictures in; every picture in the order of the data out, with what is known of it without reading it.

Captions are optional here, unlike in training: a picture without words can still be found. One that is there and
cannot be read makes the picture a bad sample, so that it is not lost in silence.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.data.columns import printable
from zebra.data.folders import CAPTION_SUFFIX, FolderSource, caption_text, read_image
from zebra.data.hugging_face import hub_files, is_saved
from zebra.data.remote.blobs import Blob, LocalBlob, Place
from zebra.data.shards import CAPTION_FIELDS, IMAGE_FIELDS, ShardSource
from zebra.data.sources import Source, open_source
from zebra.data.table_files import FORMATS
from zebra.data.tar_index import Sample, TarIndex
from zebra.embed.table_source import TablePictures
from zebra.embed.values import Content, Picture, Pictures, Spot, state_of
from zebra.errors import BadSample, ConfigError


def find_pictures(data: str, config: DataConfig, columns: Sequence[str] = ()) -> Pictures:
    """Open pictures of any layout.

    Args:
        data: As `zebra.data.sources.open_source` takes it; no layout needs captions, except a data set saved by
            `datasets`, which needs captions or labels.
        columns: Further columns to take over, of a table.

    Raises:
        DataError: Nothing is there, nothing usable is in it, or the table or a shard is damaged.
        ConfigError: Columns are asked of a layout that has none.
    """
    tables = _tables(data)
    if tables:
        return TablePictures(tables, data, config, columns)
    if columns:
        raise ConfigError(
            f"{data} has no columns to take over ({', '.join(columns)}): name a {', '.join(FORMATS)}, or leave them out"
        )
    source = open_source(data, config)
    if isinstance(source, FolderSource):
        return FolderPictures(source)
    if isinstance(source, ShardSource):
        return ShardPictures(source)
    return SourcePictures(source)


def _tables(data: str) -> list[Path]:
    """Return the files of a table; none if the data is not one."""
    if "://" in data and not data.startswith("file://"):
        return []
    path = Path(data.removeprefix("file://")).expanduser()
    if path.suffix.lower() in FORMATS and path.is_file():
        return [path]
    if not path.is_dir():
        return hub_files(path)
    files = [*path.glob("*.parquet"), *path.glob("data/*.parquet")]
    others = is_saved(path) or any(path.glob("*.tar"))
    return [] if not files or others or FolderSource(path).has_images() else hub_files(path)


class FolderPictures:
    """Every image below a folder, with the text of the same name if there is one."""

    columns = pa.schema([])

    def __init__(self, source: FolderSource) -> None:
        self.folder = source.folder.resolve()
        self.name = printable(str(self.folder))
        self._files = source._files  # a list of Python paths would take ten times the memory

    def __len__(self) -> int:
        return sum(1 for _ in self._names())

    def __iter__(self) -> Iterator[Picture]:
        for name in self._names():
            path = self.folder / os.fsdecode(name)
            shown = printable(str(path))
            stamp = f"{state_of(path)} {state_of(path.with_suffix(CAPTION_SUFFIX))}"
            yield Picture(Spot(shown, stamp, shown), partial(_from_files, path, shown))

    def _names(self) -> Iterator[bytes]:
        for chunk in self._files.chunks:
            for name in chunk:
                encoded: bytes = name.as_py()
                if not encoded.endswith(CAPTION_SUFFIX.encode()):  # a text beside no image
                    yield encoded


def _from_files(path: Path, where: str) -> Content:
    image = read_image(path, where)
    try:
        text = path.with_suffix(CAPTION_SUFFIX).read_bytes()
    except FileNotFoundError:
        return Content(image)
    except OSError as error:
        raise BadSample("unreadable file", where, f"its {CAPTION_SUFFIX}: {error.strerror}") from error
    return Content(image, (caption_text(text, where),) if text.strip() else ())


class ShardPictures:
    """The samples of tar shards."""

    columns = pa.schema([])

    def __init__(self, source: ShardSource) -> None:
        self.source = source
        self.name = source.name

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Picture]:
        for shard in self.source.shards:
            identity = sha256(repr(shard.blob.identity[1:]).encode()).hexdigest()[:16]
            for number in range(len(shard)):
                yield _in_shard(shard, shard.sample(number), identity)
            shard.close()


def _in_shard(shard: TarIndex, sample: Sample, identity: str) -> Picture:
    blob = shard.blob
    path = printable(str(blob.path.resolve())) if isinstance(blob, LocalBlob) else blob.name
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    offset, size = sample.fields[image] if image else (None, None)
    location = f"{path}/{sample.key}"
    spot = Spot(location, f"{identity} {offset}", path, offset, size)
    return Picture(spot, partial(_from_shard, blob, sample, location))


def _from_shard(blob: Blob, sample: Sample, where: str) -> Content:
    if sample.repeated is not None:
        raise BadSample("duplicate field", where, f".{sample.repeated} comes twice")
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    if image is None:
        raise BadSample("missing image", where, f"only {', '.join(sample.fields) or 'nothing'}")
    words = next((name for name in CAPTION_FIELDS if name in sample.fields), None)
    places = [sample.fields[name] for name in (image, words) if name is not None]
    data = _read_places(blob, places)
    captions = CAPTION_FIELDS[words](data[1], where) if words and data[1].strip() else ()
    return Content(data[0], captions, sample.label)


def _read_places(blob: Blob, places: Sequence[Place]) -> list[bytes]:
    if not isinstance(blob, LocalBlob):
        return blob.begin(places)()
    own = copy.copy(blob)  # with a handle of its own: another thread may close the shard's
    try:
        return own.begin(places)()
    finally:
        own.close()


class SourcePictures:
    """The samples of any other source."""

    columns = pa.schema([])

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = str(Path(source.name).resolve())

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Picture]:
        for index in range(len(self.source)):
            location = f"{self.name}:{index}"
            spot = Spot(location, self.source.digest, self.name)
            yield Picture(spot, partial(_from_source, self.source, index))


def _from_source(source: Source, index: int) -> Content:
    record = source.read(index)
    return Content(record.image, record.captions, record.label)
