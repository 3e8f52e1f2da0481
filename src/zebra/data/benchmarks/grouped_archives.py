"""Archives with a group of each image: its place, pose or size."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import ArchiveSplit, SplitFiles, find_split_files, find_split_paths
from zebra.data.folder_walk import walk_folder
from zebra.data.ignored import IgnoredCounter
from zebra.data.image_source import BENCHMARK_IMAGE_SUFFIXES, open_image_files
from zebra.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternArchive:
    """Images whose folders name class and group, as in Spawrious: `0/desert/corgi/1.png`.

    The files of a split are patterns of folders below `folder`, with the groups `label` and `group`.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["patterns"] = "patterns"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a pattern matches no folder with images."""
        folder = root / self.folder
        images: list[tuple[Path, str, str]] = []
        patterns = find_split_files(self.splits, split, root)
        unmatched = set(patterns)
        for relative, names in walk_folder(folder, IgnoredCounter()):
            for pattern in patterns:
                match = re.fullmatch(pattern, relative.as_posix())
                paths = [folder / relative / name for name in names if name.lower().endswith(BENCHMARK_IMAGE_SUFFIXES)]
                if match and paths:
                    unmatched.discard(pattern)
                    images += [(path, match["label"], match["group"]) for path in paths]
        if unmatched:
            raise DataError(f"{folder} has no images in {min(unmatched)}. Unpack the archive again")
        classnames = tuple(sorted({label for _, label, _ in images}))
        labels = [classnames.index(label) for _, label, _ in images]
        source = open_image_files(folder, [path for path, _, _ in images], labels)
        groups = dict(zip(source.ids, (group for _, _, group in images), strict=True))
        return ArchiveSplit(source, np.array(labels, np.int64), classnames, groups=groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorArchive:
    """Some images of class folders, each with a factor in which it differs from its class, as in ImageNet-X.

    A split is a file of JSON lines with `file_name`, `class` and one column per factor, 1 or 0.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    image_folder: str
    """Folder of the class folders, seen from `folder`."""
    excluded_files: str = ""
    """CSV file with a column `file_name` of images to leave out."""
    kind: Literal["factors"] = "factors"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file or an image is missing, or a line is malformed."""
        folder = root / self.folder
        (path,) = find_split_paths(folder, self.splits, split)
        excluded = _read_file_names(folder / self.excluded_files) if self.excluded_files else frozenset()
        rows = [(place, row) for place, row in _read_lines(path) if row["file_name"] not in excluded]
        image_folder = folder / self.image_folder
        paths = {
            name: image_folder / relative / name
            for relative, names in walk_folder(image_folder, IgnoredCounter())
            for name in names
        }
        for place, row in rows:
            if row["file_name"] not in paths:
                raise DataError(f"{place}: the image {row['file_name']} is missing in {image_folder}. Unpack it again")
        labels = [row["class"] for _, row in rows]
        source = open_image_files(image_folder, [paths[row["file_name"]] for _, row in rows], labels)
        groups = dict(zip(source.ids, (_name_factors(row) for _, row in rows), strict=True))
        return ArchiveSplit(source, np.array(labels, np.int64), groups=groups)


def _read_file_names(path: Path) -> frozenset[str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return frozenset(row["file_name"] for row in csv.DictReader(file))
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path} is missing or has no column file_name ({error}). Download the dataset again"
        ) from error


def _read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            is_valid = isinstance(row["file_name"], str) and isinstance(row["class"], int)
        except (ValueError, KeyError, TypeError):
            is_valid = False
        if not is_valid:
            raise DataError(f"{path}:{number} has no file_name and class: {line[:80]}. Download the dataset again")
        rows.append((f"{path}:{number}", row))
    return rows


def _name_factors(row: dict[str, Any]) -> str:
    return " and ".join(name for name, value in row.items() if name != "class" and value == 1) or "no factor"
