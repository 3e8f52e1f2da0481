"""Archives of videos with a table of clips."""

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import ArchiveSplit, SplitFiles, find_split_paths
from zebra.data.table_files import BadRow, open_table
from zebra.data.video_clips import VideoClip, open_clips
from zebra.data.video_frames import VIDEO_SUFFIXES
from zebra.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTableArchive:
    """Videos that a table lists by columns, as in Kinetics. A split has one table.

    Videos that are not on disk are left out and counted in a note: the authors publish links, of which fewer work every
    year, and a copy without these videos is the only one there is.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    video_patterns: tuple[str, ...]
    """Paths below the folder without suffix, tried in this order; `{column:06d}` is a column as an integer."""
    label_column: str
    kind: Literal["clips"] = "clips"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if the table is malformed or no video is on disk."""
        folder = root / self.folder
        (table,) = find_split_paths(folder, self.splits, split)
        tables = {folder / name for files in self.splits for name in files.files}
        names = sorted({row[self.label_column] for path in tables if path.is_file() for _, row in self._rows(path)})
        clips, labels, num_missing = [], [], 0
        for line, row in self._rows(table):
            path = find_video(folder, self.video_patterns, row, f"{table}:{line}")
            if path is None:
                num_missing += 1
                continue
            clips.append(VideoClip(path))
            labels.append(names.index(row[self.label_column]))
        if not clips:
            raise DataError(
                f"{folder} has none of the {num_missing:,} videos of {table.name}. Expected "
                f"{self.video_patterns[0]}.mp4 below it"
            )
        notes = missing_video_notes(num_missing, num_missing + len(clips))
        source = open_clips(folder, clips, labels)
        return ArchiveSplit(source, np.array(labels, np.int64), tuple(names), notes)

    def _rows(self, path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
        return read_text_rows(path, (self.label_column,))


def read_text_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line, row) of a table; raise DataError if a column is missing or a line is malformed."""
    table = open_table(path)
    if missing := [column for column in required if column not in table.columns]:
        raise DataError(f"{path} has no column {missing[0]!r}. Its columns are: {', '.join(table.columns)}")
    for line, row in table.read(()):
        if isinstance(row, BadRow):
            raise DataError(f"{path}:{line}: {row.reason} ({row.detail}). Correct the line")
        yield line, row


def find_video(folder: Path, patterns: Sequence[str], row: Mapping[str, str], location: str) -> Path | None:
    """Return the video of a row; None if there is none.

    Raises:
        DataError: The row lacks a column of a pattern, or has another value than a number there.
    """
    for pattern in patterns:
        try:
            stem = _FORMATTER.vformat(pattern, (), row)
        except (KeyError, ValueError) as error:
            raise DataError(f"{location} does not give the path {pattern} ({error}). Correct the line") from error
        for suffix in VIDEO_SUFFIXES:
            if (path := folder / f"{stem}{suffix}").is_file():
                return path
    return None


def missing_video_notes(num_missing: int, total: int) -> tuple[str, ...]:
    """Return a note on videos that are not on disk, or ()."""
    if not num_missing:
        return ()
    return (
        f"{num_missing:,} of {total:,} clips are not on disk and are left out: scores compare only on the same clips",
    )


class _RowFormatter(string.Formatter):
    """Formats texts of a table; a specification that ends with d converts them to integers."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        return super().format_field(int(float(value)) if format_spec.endswith("d") else value, format_spec)


_FORMATTER = _RowFormatter()
