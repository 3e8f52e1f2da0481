"""Questions of compositionality benchmarks in their authors' files.

A layout is data: which files, and how the keys of a row become image names, captions and a category. Templates have
`str.format` placeholders: `{caption}` is a key of the row, `{0}` its first value, `{1[POS][0]}` a value inside it,
`{file_stem}` the file's name without suffix.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import Formatter
from typing import Any

from zebra.data.table_files import TABLE_FORMATS, BadRow, open_table
from zebra.errors import DataError

IMAGE_DIRS = ("images", "val2017", ".")
"""Image folders below the dataset's folder, in order of search."""
HEAD_BYTES = 1 << 16
"""Length of the beginning of a JSON file that tells its layout."""
_FORMATTER = Formatter()
_KEY = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionFiles:
    """JSON files or tables with a question in each row; JSON is a list of rows, or an object of them."""

    files: str
    """Glob pattern of the files below the dataset's folder."""
    images: tuple[str, ...]
    """Templates of the names of the images, below one of `image_dirs`, with or without suffix."""
    captions: tuple[str, ...]
    """Templates of the captions."""
    image_of_caption: tuple[int | None, ...]
    """Position of the image that each caption of a question describes; None for a wrong caption."""
    category: str = ""
    """Template of the category; kinds are separated by `/`, the widest first."""
    crop: tuple[str, ...] = ()
    """Keys of left, top, width and height in pixels, if the image of a question is a part of a file."""
    image_dirs: tuple[str, ...] = IMAGE_DIRS
    rows_per_question: int = 1
    """Number of consecutive rows that form one question."""

    def find(self, folder: Path) -> list[Path]:
        """Return the files below a folder that have the keys of this layout."""
        return [path for path in sorted(folder.glob(self.files)) if self._fits(path)]

    def read(self, path: Path) -> "Iterator[RawQuestion]":
        """Yield the questions of a file.

        Raises:
            DataError: The file is malformed, or a row lacks an image name, a caption or a bounding box.
        """
        rows_of_file = _iter_rows(path)
        while rows := list(islice(rows_of_file, self.rows_per_question)):
            if len(rows) < self.rows_per_question:
                raise DataError(f"{path} ends inside a question of {self.rows_per_question} rows. Download it again")
            images = tuple(_fill(t, row, path, place) for place, row in rows for t in self.images)
            captions = tuple(_fill(t, row, path, place) for place, row in rows for t in self.captions)
            place, row = rows[0]
            yield RawQuestion(images, captions, self._read_category(row, path, place), self._read_box(row, path, place))

    def _read_category(self, row: Any, path: Path, place: str) -> str:
        try:
            return _fill(self.category, row, path, place)
        except DataError:  # some copies have no categories, and some questions have none
            return ""

    def _read_box(self, row: Any, path: Path, place: str) -> tuple[int, ...]:
        values = [row.get(key) if isinstance(row, Mapping) else None for key in self.crop]
        box = tuple(int(value) for value in values if isinstance(value, int | float))
        if len(box) < len(values) or min(box[2:], default=1) <= 0:
            raise DataError(f"{path}: {place} has no bounding box {', '.join(self.crop)}. Download the dataset again")
        return box

    def _fits(self, path: Path) -> bool:
        """Return whether a file has the keys of this layout, without reading all of it.

        A JSON file is judged by its beginning, so that a truncated one is an error when it is read, not another file.
        """
        templates = (*self.images, *self.captions)
        if path.suffix not in TABLE_FORMATS:
            with path.open("rb") as file:
                beginning = file.read(HEAD_BYTES)
            fields = [field or "" for template in templates for _, field, _, _ in _FORMATTER.parse(template)]
            keys = {key for field in (*fields, *self.crop) for key in _KEY.findall(field)}
            return all(f'"{key}"'.encode() in beginning for key in keys)
        try:
            place, row = next(_iter_rows(path))
            for template in templates:
                _fill(template, row, path, place)
        except (DataError, StopIteration):
            return False
        return True


@dataclass(frozen=True, slots=True)
class RawQuestion:
    """A question as its file has it."""

    images: tuple[str, ...]
    captions: tuple[str, ...]
    category: str
    box: tuple[int, ...] = ()
    """Left, top, width and height of the image in its file; () for the whole file."""


def _iter_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (place, row) of a JSON file or a table."""
    if path.suffix in TABLE_FORMATS:
        for line, row in open_table(path).read(()):
            if isinstance(row, BadRow):
                raise DataError(f"{path}:{line}: {row.reason} ({row.detail}). Download the file again")
            yield f"line {line}", row
        return
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}). Download it again") from error
    if not isinstance(rows, list | dict):
        raise DataError(f"{path} is no JSON list or object of questions. Download it again")
    yield from ((str(key), row) for key, row in (rows.items() if isinstance(rows, dict) else enumerate(rows)))


def _fill(template: str, row: Any, path: Path, place: str) -> str:
    """Fill in a template with texts and whole numbers of a row.

    Raises:
        DataError: A value is missing, blank or of another type.
    """
    named = row if isinstance(row, Mapping) else {}
    values = list(named.values()) if isinstance(row, Mapping) else row if isinstance(row, list) else []
    file_facts = {"file_stem": path.stem, "file_parent": path.parent.name}
    text = ""
    for literal, field, _, _ in _FORMATTER.parse(template):
        text += literal
        if field is not None:
            try:
                value, _ = _FORMATTER.get_field(field, values, {**named, **file_facts})
            except (LookupError, TypeError, AttributeError):
                value = None
            if not isinstance(value, str | int) or not str(value).strip():
                raise DataError(f"{path}: {place} has no {field}. Download the dataset again")
            text += str(value)
    return text
