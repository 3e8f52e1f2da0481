"""Open a dataset of any layout as a source of records."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.config.data import DataConfig
from zebra.data.folder_walk import count_other_files
from zebra.data.folders import FolderSource
from zebra.data.hub_parquet import HubDataset, find_hub_parquet_files
from zebra.data.hugging_face import SavedDataset, find_saved_split, is_saved_dataset
from zebra.data.ignored import Ignored, format_ignored
from zebra.data.locations import ImageRef
from zebra.data.remote.remote_blob import open_remote_shards
from zebra.data.shard_patterns import expand_braces
from zebra.data.shards import ShardSource, list_shards
from zebra.data.split_names import find_folder_splits, select_split_files, several_splits_error
from zebra.data.table_files import OTHER_TABLES, TABLE_FORMATS
from zebra.data.tables import TableSource
from zebra.data.video_frames import VIDEO_SUFFIXES
from zebra.errors import BadSample, ConfigError, DataError, MissingSplit
from zebra.images.formats import IMAGE_SUFFIXES
from zebra.values import Record

SUPPORTED_LAYOUTS = (
    "a folder of images with same-name .txt captions, a .csv, .tsv, .jsonl or .parquet table, a folder of .tar shards, "
    "one .tar, a pattern like shards/{00000..00012}.tar, the URL of such shards (s3://…, https://…), or a Hugging Face "
    "dataset on disk"
)

VIDEO_ADVICE = "To embed frames of videos, add --frames 1/s or --frames scenes to zebra embed"

SplitSource = TypeVar("SplitSource", TableSource, HubDataset, SavedDataset)


class Source(Protocol):
    """A dataset that is read by position, bad samples included. The order depends on the data alone."""

    @property
    def name(self) -> str:
        """The path as given."""

    @property
    def digest(self) -> str:
        """A SHA-256 in hex that changes when the data changes."""

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Files that were found and are no samples or parts of samples, by reason."""

    def __len__(self) -> int:
        """Return the number of samples, usable or not."""

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""

    def read(self, index: int) -> Record:
        """Read one sample; raise BadSample if it cannot be used."""


class ImageScan(Protocol):
    """Images that are listed one after the other."""

    @property
    def name(self) -> str:
        """The path as given."""

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Files that were found and are no samples or parts of samples, by reason."""

    @property
    def columns(self) -> pa.Schema:
        """Names and types of the extra columns in the records of `scan`."""

    @property
    def available_columns(self) -> pa.Schema:
        """Names and types of the columns that `select_columns` accepts."""

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`, by name or with their types; ConfigError if one is missing."""

    def num_images(self) -> int:
        """Return the number of images that `scan` yields, usable or not; of frames of videos, an estimate."""

    def scan(self) -> Iterator[ImageRef]:
        """Yield all images in the order of the data, with location and stamp."""


class ScannableSource(Source, ImageScan, Protocol):
    """A source whose images can be listed without reading them; captions are optional then."""


@runtime_checkable
class BatchedSource(Source, Protocol):
    """A source that reads many samples faster together than one by one, such as shards in a bucket."""

    def read_many(self, indices: Sequence[int]) -> list[Record | BadSample]:
        """Read samples in the given order; a sample that cannot be used is returned as BadSample."""


@runtime_checkable
class FrameSource(Source, Protocol):
    """A source whose samples are several images each, such as the frames of a video; their vectors are averaged."""

    def split_frames(self) -> tuple[Source, NDArray[np.int64]]:
        """Return a source of all M images, and the increasing positions [M] of the samples that they belong to."""


def read_many(source: Source, indices: Sequence[int]) -> list[Record | BadSample]:
    """Read samples in the given order, together if the source can; a bad sample is returned as BadSample."""
    if isinstance(source, BatchedSource):
        return source.read_many(indices)
    return [_read_or_bad_sample(source, index) for index in indices]


def _read_or_bad_sample(source: Source, index: int) -> Record | BadSample:
    try:
        return source.read(index)
    except BadSample as bad:
        return bad


def open_source(path: str | Path, config: DataConfig) -> Source:
    """Open captioned images of any layout.

    Args:
        path: A folder of images with same-name .txt captions; a .csv, .tsv, .jsonl or .parquet table; a folder of .tar
            shards, one .tar, or a pattern such as `shards/{00000..00012}.tar`, which may also be a URL; a folder
            written by `Dataset.save_to_disk`, or one with Parquet files of the hub. If a folder or the column `split`
            of a table has several splits, give PATH/SPLIT.
        config: Columns, cache size and limits.

    Raises:
        DataError: The path does not exist, has no samples, or a table or shard is damaged.
    """
    source = _open_layout(str(path), config)
    if not len(source):
        raise DataError(f"{path} has no samples. {_explain_ignored(source)}Give {SUPPORTED_LAYOUTS}")
    if config.negatives_column is not None and not isinstance(source, TableSource):
        raise ConfigError(
            f"data_options.negatives_column is {config.negatives_column!r}, but {path} is no table. Write image paths, "
            "captions and wrong captions into a CSV, TSV, JSONL or Parquet table."
        )
    return source


def open_images(path: str | Path, config: DataConfig, columns: Sequence[str] = ()) -> ScannableSource:
    """Open images of any layout to scan them.

    No layout needs captions, except a dataset saved by `datasets`, which needs captions or labels. A caption that
    cannot be decoded makes a bad sample.

    Args:
        path: As for `open_source`.
        config: Columns, cache size and limits.
        columns: Extra columns to include in the records.

    Raises:
        DataError: The path does not exist, has no images, or a table or shard is damaged.
        ConfigError: A column is missing.
    """
    source = _open_layout(str(path), config)
    if not source.num_images():
        raise DataError(f"{path} has no images. {_explain_ignored(source)}Give {SUPPORTED_LAYOUTS}")
    source.select_columns(columns)
    return source


def _explain_ignored(source: Source) -> str:
    return f"{format_ignored(source.ignored)}. " if source.ignored else ""


def _open_layout(name: str, config: DataConfig) -> ScannableSource:
    if "://" in name and not name.startswith("file://"):
        return _open_remote(name, config)
    path = Path(name.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _open_folder(path, config)
    if path.exists():
        return _open_file(path, config)
    if (shards := expand_braces(str(path))) != [str(path)]:
        return ShardSource(_require_files(name, [Path(shard) for shard in shards]), name, config)
    if source := _open_split(path.parent, path.name, config):
        return source
    raise DataError(f"there is nothing at {path.absolute()}. {_suggest_path(path)}")


def _open_remote(name: str, config: DataConfig) -> ShardSource:
    urls = expand_braces(name)
    blobs = open_remote_shards(name, urls, config.shard_cache_bytes)
    if len(urls) == 1:  # a folder, unless it is one shard
        folder = name.partition("?")[0].rstrip("/")
        names = [blob.name.partition("?")[0].rpartition("/")[2] for blob in blobs]
        select_split_files(names, folder, None, suggest_pattern=True)
    return ShardSource(blobs, name, config)


def _open_file(path: Path, config: DataConfig) -> ScannableSource:
    if path.suffix.lower() == ".tar":
        return ShardSource([path], str(path), config)
    if path.suffix.lower() in TABLE_FORMATS:
        return _require_one_split(TableSource(path, config))
    advice = OTHER_TABLES.get(path.suffix.lower(), f"Give {SUPPORTED_LAYOUTS}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        advice = VIDEO_ADVICE
    raise DataError(f"{path} has the suffix {path.suffix!r}, which is no known layout. {advice}")


def _open_folder(path: Path, config: DataConfig) -> ScannableSource:
    if is_saved_dataset(path):
        return _require_one_split(SavedDataset(find_saved_split(path), config))
    if shards := list_shards(path):
        selected = select_split_files(shards, str(path), None, suggest_pattern=True)
        return _open_shard_folder(path, shards, selected, str(path), config)
    source = FolderSource(path, config)
    if source.has_images():
        _require_one_folder_split(source)
        return source
    if files := find_hub_parquet_files(path):
        return _require_one_split(HubDataset(files, str(path), config, ignored=count_other_files(path, files)))
    children = sorted(child.name for child in path.iterdir())
    usable = [name for name in children if Path(name).suffix.lower() in TABLE_FORMATS or _has_data(path / name)]
    if not children:
        raise DataError(f"the folder {path.absolute()} is empty. Give {SUPPORTED_LAYOUTS}")
    advice = f"Did you mean {path / usable[0]}?" if usable else f"Give {SUPPORTED_LAYOUTS}"
    if any(entry.reason in VIDEO_SUFFIXES for entry in source.ignored):
        advice = VIDEO_ADVICE
    raise DataError(
        f"no images ({', '.join(IMAGE_SUFFIXES)}) and no .tar shards in the folder {path.absolute()}; "
        f"it contains {', '.join(children[:5])}{', …' if len(children) > 5 else ''}. {_explain_ignored(source)}{advice}"
    )


def _open_split(parent: Path, split: str, config: DataConfig) -> ScannableSource | None:
    """Open PARENT/SPLIT, in which only file names or a column tell the splits apart; None if there is no such data."""
    name = str(parent / split)
    if parent.is_file() and parent.suffix.lower() in TABLE_FORMATS:
        source = TableSource(parent, config, split)
        if split not in source.list_splits():
            raise MissingSplit(f"{parent} has no split {split!r}. Its splits are {', '.join(source.list_splits())}")
        return source
    if not parent.is_dir():
        return None
    if is_saved_dataset(parent):
        return SavedDataset(find_saved_split(parent), config, split)
    shards = list_shards(parent)
    if selected := select_split_files(shards, str(parent), split, suggest_pattern=True):
        return _open_shard_folder(parent, shards, selected, name, config)
    if files := find_hub_parquet_files(parent, split):
        return _require_one_split(HubDataset(files, name, config))
    files = find_hub_parquet_files(parent)  # their rows may have splits
    try:
        splits = HubDataset(files, name, config).list_splits() if files else []
    except DataError:  # tables without images, which have nothing to do with the missing path
        return None
    return HubDataset(files, name, config, split=split) if split in splits else None


def _open_shard_folder(
    folder: Path, shards: Sequence[str], selected: Sequence[str], name: str, config: DataConfig
) -> ShardSource:
    """Open some shards of a folder; the other files are counted as ignored, but not the other shards."""
    companions = [f"{Path(shard).stem}_stats.json" for shard in shards] + [f"{shard}.sha256" for shard in shards]
    ignored = count_other_files(folder, [folder / file for file in (*shards, *companions)])
    return ShardSource([folder / shard for shard in selected], name, config, ignored)


def _require_one_split(source: SplitSource) -> SplitSource:
    """Raise DataError if the column `split` has several values."""
    splits = source.list_splits()
    if len(splits) > 1:
        raise several_splits_error(source.name, splits)
    return source


def _require_one_folder_split(source: FolderSource) -> None:
    """Raise DataError if sibling folders of images are splits."""
    children: dict[Path, set[str]] = {}
    for folder in source.list_image_folders():
        for path in (folder, *folder.parents):
            children.setdefault(path.parent, set()).add(path.name)
    for parent, names in sorted(children.items()):
        if splits := find_folder_splits(names - {""}):
            raise several_splits_error(str(source.root / parent), list(splits), list(splits.values()))


def _has_data(path: Path) -> bool:
    return is_saved_dataset(path) or bool(path.is_dir() and list_shards(path))


def _require_files(pattern: str, paths: list[Path]) -> list[Path]:
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(paths)} shards of {pattern} are missing, first {missing[0].absolute()}. "
            "Download them, or name only the shards that exist"
        )
    return paths


def _suggest_path(path: Path) -> str:
    """Suggest a similar name in the same folder, or list the layouts."""
    names = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / close[0]}?" if close else f"Give {SUPPORTED_LAYOUTS}"
