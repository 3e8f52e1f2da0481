"""Splits of archives: their files, and what a reader returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.data.image_source import ImageSource, hash_files, hash_values
from zebra.data.sources import Source
from zebra.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFiles:
    """The files of one split."""

    split: str
    files: tuple[str, ...]
    """Files, folders or row values, depending on the format."""


@dataclass(frozen=True, slots=True)
class ArchiveSplit:
    """One split of an archive."""

    source: Source
    """Records with labels."""
    labels: NDArray[np.int64]
    classnames: tuple[str, ...] = ()
    """The archive's class names; empty if it has none."""
    notes: tuple[str, ...] = ()
    groups: Mapping[str, str] | None = None
    """Image id → group, if the archive has groups."""
    right_labels: Mapping[str, tuple[int, ...]] | None = None
    """Image id → all its right labels, if images may have several."""


def find_split_files(splits: Sequence[SplitFiles], split: str, root: Path) -> tuple[str, ...]:
    """Return the files of a split; DataError if there is no such split."""
    for files in splits:
        if files.split == split:
            return files.files
    raise DataError(
        f"the archive in {root} has no split {split!r}. It has {', '.join(files.split for files in splits)}"
    )


def find_split_paths(folder: Path, splits: Sequence[SplitFiles], split: str) -> list[Path]:
    """Return the paths of the files of a split; DataError if one is missing."""
    paths = [folder / name for name in find_split_files(splits, split, folder)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)} of the split {split!r}. Unpack the archive again")
    return paths


def build_archive_split(
    folder: Path,
    paths: Sequence[Path],
    load: "partial[bytes]",
    labels: NDArray[np.int64],
    classnames: tuple[str, ...] = (),
) -> ArchiveSplit:
    """Return a split whose images are rows of files; the digest is that of the files and labels."""
    name = paths[0].name.partition(".")[0]
    ids = [f"{name}/{row:06d}" for row in range(len(labels))]
    digest = hash_values(hash_files(paths), labels.tobytes())
    return ArchiveSplit(ImageSource(str(folder), ids, load, digest, labels.tolist()), labels, classnames)
