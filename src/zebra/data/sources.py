"""A path in, a source of records out: a folder of images, a table, or tar shards, told apart by what is there."""

import difflib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from zebra.config.data import DataConfig
from zebra.data.folders import IMAGE_SUFFIXES, FolderSource
from zebra.data.hugging_face import (
    HubDataset,
    SavedDataset,
    find_hub_parquet_files,
    find_saved_split,
    is_saved_dataset,
)
from zebra.data.remote.blobs import Blob
from zebra.data.remote.remote_blob import open_remote_shards
from zebra.data.shards import ShardSource
from zebra.data.table_files import TABLE_FORMATS
from zebra.data.tables import TableSource
from zebra.errors import BadSample, DataError
from zebra.values import Record

SUPPORTED_LAYOUTS = (
    "a folder of images with same-name .txt captions, a .csv, .tsv, .jsonl or .parquet table, a folder of .tar shards, "
    "one .tar, a pattern like shards/{00000..00012}.tar, the URL of such shards (s3://…, https://…), or a Hugging Face "
    "data set on disk"
)


class Source(Protocol):
    """Samples of one data set, good and bad, at positions 0 … len - 1; the order never changes by itself."""

    @property
    def name(self) -> str:
        """The path as given."""

    @property
    def digest(self) -> str:
        """A sha256 in hex that changes when the data changes."""

    def __len__(self) -> int:
        """Return how many samples were found, usable or not."""

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""

    def read(self, index: int) -> Record:
        """Read one sample; BadSample if it cannot be used."""


@runtime_checkable
class BatchedSource(Source, Protocol):
    """A source to which many samples together cost less than one by one: those of a bucket cost one wait."""

    def read_many(self, indices: Sequence[int]) -> list[Record | BadSample]:
        """Read samples in the order given; one that cannot be used comes as its reason."""


def read_many(source: Source, indices: Sequence[int]) -> list[Record | BadSample]:
    """Read samples in the order given, together if the source can; one that cannot be used comes as its reason."""
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
            shards, one .tar, or a pattern such as `shards/{00000..00012}.tar`, which may also be the URL of a bucket
            or web server; a folder written by `Dataset.save_to_disk`, or with Parquet files of the hub. Where it holds
            several splits, one is named as PATH/SPLIT.

    Raises:
        DataError: Nothing is there, nothing usable is in it, or the table or a shard is damaged.
    """
    source = _open_layout(str(path), config)
    if not len(source):
        raise DataError(f"{path} holds no samples; give {SUPPORTED_LAYOUTS}")
    return source


def _open_layout(name: str, config: DataConfig) -> Source:
    if "://" in name and not name.startswith("file://"):
        return _open_shard_source(
            open_remote_shards(name, expand_braces(name), config.shard_cache_bytes), name, config
        )
    path = Path(name.removeprefix("file://")).expanduser()
    if not path.exists():
        shards = [Path(shard) for shard in expand_braces(str(path))]
        if len(shards) > 1:
            return _open_shard_source(_require_files(name, shards), name, config)
        if files := find_hub_parquet_files(path):
            return HubDataset(files, name, config)
        raise DataError(f"there is nothing at {path.absolute()}{_suggest_path(path)}")
    if path.is_dir():
        if is_saved_dataset(path):
            return SavedDataset(find_saved_split(path), config)
        shards = sorted(path.glob("*.tar"))
        return _open_shard_source(shards, name, config) if shards else _open_folder(path, config)
    if path.suffix.lower() == ".tar":
        return _open_shard_source([path], name, config)
    if path.suffix.lower() in TABLE_FORMATS:
        return TableSource(path, config)
    raise DataError(
        f"{path} ends in {path.suffix or 'no suffix'}, which is no known layout; give {SUPPORTED_LAYOUTS}"
    )


def _open_shard_source(shards: Sequence[Path | Blob], name: str, config: DataConfig) -> ShardSource:
    return ShardSource(shards, name, config.damaged_shards)


def _open_folder(path: Path, config: DataConfig) -> Source:
    source = FolderSource(path)
    if source.has_images():
        return source
    if files := find_hub_parquet_files(path):
        return HubDataset(files, str(path), config)
    inside = sorted(child.name for child in path.iterdir())
    usable = [n for n in inside if Path(n).suffix.lower() in TABLE_FORMATS or _has_data(path / n)]
    if not inside:
        raise DataError(f"the folder {path.absolute()} is empty; give {SUPPORTED_LAYOUTS}")
    advice = f"did you mean {path / usable[0]}?" if usable else f"give {SUPPORTED_LAYOUTS}"
    raise DataError(
        f"no images ({', '.join(IMAGE_SUFFIXES)}) and no .tar shards in the folder {path.absolute()}; "
        f"it holds {', '.join(inside[:5])}{', …' if len(inside) > 5 else ''}; {advice}"
    )


def _has_data(path: Path) -> bool:
    return is_saved_dataset(path) or any(path.glob("*.tar"))


def expand_braces(pattern: str) -> list[str]:
    """List what a pattern with ranges or choices in braces stands for.

    >>> expand_braces("{train,more}/{008..010}.tar")[:4]
    ['train/008.tar', 'train/009.tar', 'train/010.tar', 'more/008.tar']
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [_expand_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _expand_choices(body: str) -> list[str]:
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", body)
    if not limits:
        return body.split(",")
    return [f"{number:0{len(limits[1])}d}" for number in range(int(limits[1]), int(limits[2]) + 1)]


def _require_files(pattern: str, paths: list[Path]) -> list[Path]:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(paths)} shards of {pattern} are missing, first {missing[0].absolute()}; "
            "download them, or name only those that are there"
        )
    return paths


def _suggest_path(path: Path) -> str:
    """Point to what may have been meant."""
    names = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else f"; give {SUPPORTED_LAYOUTS}"
