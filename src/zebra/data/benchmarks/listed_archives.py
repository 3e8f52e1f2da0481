"""Archives of image files with lists, class folders or tables."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.archive_splits import (
    ArchiveSplit,
    SplitFiles,
    build_archive_split,
    find_split_files,
    find_split_paths,
)
from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.data.benchmarks.clip_benchmark import CLASSNAMES_FILENAME
from zebra.data.benchmarks.label_tables import LabeledTableSource, read_label_table
from zebra.data.image_source import ImageSource, encode_png, open_image_files
from zebra.data.sources import Source
from zebra.data.table_files import BadRow, open_table
from zebra.data.video_clips import VideoClip, open_clips
from zebra.errors import DataError

_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_CLASS_CODE = re.compile(r"n?\d+|[A-Z]{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFileArchive:
    """Files of images or videos, and text files per split with one line per file."""

    folder: str
    splits: tuple[SplitFiles, ...]
    image_dir: str
    """The folder of the images."""
    line_pattern: str
    """Regular expression with the groups `file` and `name` (the class name), or `file` and `number` (the label)."""
    ignored_pattern: str = ""
    """Regular expression of lines of other splits."""
    image_suffix: str = ""
    """Suffix that is appended to the file names in the lines."""
    num_header_lines: int = 0
    media: Literal["images", "videos"] = "images"
    has_camel_case: bool = False
    """Whether the class names are words without spaces: ApplyEyeMakeup."""
    kind: Literal["lists"] = "lists"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a line does not match or an image is missing."""
        lists = find_split_paths(root / self.folder, self.splits, split)
        matches = [match for path in lists for match in self._match_lines(path)]
        image_dir = root / self.folder / self.image_dir
        paths = [image_dir / f"{match['file']}{self.image_suffix}" for match in matches]
        names: tuple[str, ...] = ()
        if "number" in re.compile(self.line_pattern).groupindex:
            labels = [int(match["number"]) for match in matches]
        else:  # use the classes of all splits, so that labels agree between splits
            all_lists = {root / self.folder / name for files in self.splits for name in files.files}
            class_names = sorted(
                {match["name"] for path in all_lists if path.is_file() for match in self._match_lines(path)}
            )
            indices = {name: index for index, name in enumerate(class_names)}
            labels = [indices[match["name"]] for match in matches]
            names = tuple(self._format_name(name) for name in class_names)
        source: Source
        if self.media == "videos":
            source = open_clips(root / self.folder, [VideoClip(path) for path in paths], labels)
        else:
            source = open_image_files(root / self.folder, paths, labels)
        return ArchiveSplit(source, np.array(labels, np.int64), names)

    def _format_name(self, name: str) -> str:
        return _CAMEL_CASE.sub(" ", name) if self.has_camel_case else name.replace("_", " ")

    def _match_lines(self, path: Path) -> list[re.Match[str]]:
        pattern = re.compile(self.line_pattern)
        matches = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if number <= self.num_header_lines or not line.strip():
                continue
            if self.ignored_pattern and re.fullmatch(self.ignored_pattern, line.strip()):
                continue
            if not (match := pattern.fullmatch(line.strip())):
                raise DataError(
                    f"{path}:{number}: {line!r} does not match {self.line_pattern}. Unpack the archive again"
                )
            matches.append(match)
        return matches


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFolderArchive:
    """One folder per class. A split has one folder, or none if the dataset has only one split.

    Folder names that are numbers, WordNet IDs or country codes are no class names; these come from elsewhere.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["folders"] = "folders"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError as `read_class_folders`."""
        folders = find_split_files(self.splits, split, root)
        benchmark = read_class_folders(root / self.folder, folders[0] if folders else "test")
        assert isinstance(benchmark.source, ImageSource)
        labels = np.array(benchmark.source.labels, np.int64)
        has_classnames = (root / self.folder / CLASSNAMES_FILENAME).is_file()
        has_codes = not has_classnames and all(map(_CLASS_CODE.fullmatch, benchmark.classnames))
        return ArchiveSplit(benchmark.source, labels, () if has_codes else benchmark.classnames)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTableArchive:
    """A table of images and labels. A split has one table file."""

    folder: str
    splits: tuple[SplitFiles, ...]
    label_columns: tuple[str, ...] = ()
    """Columns whose values together are the label; () for a column with a usual name."""
    image_column: str | None = None
    """The column of image paths; None for one with a usual name."""
    extra_classnames: tuple[str, ...] = ()
    """Classes without an image, which can be predicted but are never right."""
    kind: Literal["table"] = "table"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError as `read_label_table`."""
        (path,) = find_split_paths(root / self.folder, self.splits, split)
        benchmark = read_label_table(
            path, label_columns=self.label_columns, image_column=self.image_column, allow_numeric_labels=True
        )
        source = benchmark.source
        assert isinstance(source, LabeledTableSource)
        names = (*benchmark.classnames, *self.extra_classnames) if self.label_columns else ()
        return ArchiveSplit(source, np.array(source.labels, np.int64), names)


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelTableArchive:
    """FER2013's table: a label and the gray values of a square image as text. A split is a value of `Usage`."""

    folder: str
    splits: tuple[SplitFiles, ...]
    table_file: str
    kind: Literal["pixels"] = "pixels"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a line is malformed."""
        path = root / self.folder / self.table_file
        usages = find_split_files(self.splits, split, root)
        labels, images = [], []
        for line, row in open_table(path).read(()):
            if isinstance(row, BadRow):
                raise DataError(f"{path}:{line}: {row.reason} ({row.detail}). Unpack the archive again")
            try:
                if row["Usage"] not in usages:
                    continue
                gray = np.array(row["pixels"].split(), np.uint8)
                images.append(gray.reshape(round(len(gray) ** 0.5), -1))
                labels.append(int(row["emotion"]))
            except (KeyError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}:{line} has no label with the gray values of a square image ({error}). Unpack the "
                    "archive again"
                ) from error
        if not images:
            raise DataError(f"{path} has no row with the Usage {' or '.join(usages)}. Unpack the archive again")
        load = partial(_load_row, np.stack(images))
        return build_archive_split(root / self.folder, [path], load, np.array(labels, np.int64))


def _load_row(pixels: NDArray[np.uint8], index: int) -> bytes:
    return encode_png(pixels[index])
