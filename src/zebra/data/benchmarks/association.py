"""Benchmarks of associations in WinoGAViL's layout.

A table with the columns `cue`, `candidates` and `associations`, the latter two JSON lists of image names, and a folder
of images beside it: `images/` or `<anything>_images/`, as `winogavil_dataset.csv` and `winogavil_images/` (Bitton et
al. 2022).
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from zebra.data.benchmarks.tasks import AssociationBenchmark, AssociationQuestion
from zebra.data.image_source import hash_values, open_image_files
from zebra.data.table_files import BadRow, open_table
from zebra.errors import DataError
from zebra.images.formats import IMAGE_SUFFIXES

COLUMNS = ("cue", "candidates", "associations")


def is_association_dataset(path: Path) -> bool:
    """Return whether a path is a table of associations, or a folder with one."""
    return _find_table(path) is not None


def read_association(path: Path) -> AssociationBenchmark:
    """Read a table of associations, or the one in a folder.

    Raises:
        DataError: A row is malformed, an association is no candidate, or an image is missing.
    """
    table = _find_table(path)
    if table is None:
        raise DataError(f"{path} has no .csv table with the columns {', '.join(COLUMNS)}")
    rows = list(_read_rows(table))
    if not rows:
        raise DataError(f"{table} has no rows. Download the dataset again")
    names = {name: index for index, name in enumerate(dict.fromkeys(name for row in rows for name in row.candidates))}
    image_dir = _find_image_dir(table)
    source = open_image_files(image_dir, [_find_image(image_dir, name) for name in names])
    source = replace(source, digest=hash_values(source.digest, rows))
    questions = tuple(
        AssociationQuestion(
            row.cue, tuple(names[name] for name in row.candidates), tuple(names[name] for name in row.associations)
        )
        for row in rows
    )
    return AssociationBenchmark((path if path.is_dir() else path.with_suffix("")).resolve().name, source, questions)


@dataclass(frozen=True, slots=True)
class _Row:
    cue: str
    candidates: tuple[str, ...]
    associations: tuple[str, ...]


def _find_table(path: Path) -> Path | None:
    tables = [path] if path.is_file() else sorted(path.glob("*.csv"))
    return next((table for table in tables if _has_columns(table)), None)


def _has_columns(table: Path) -> bool:
    if table.suffix.lower() != ".csv":
        return False
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return set(COLUMNS) <= set(header)


def _read_rows(table: Path) -> Iterator[_Row]:
    for line, row in open_table(table).read(COLUMNS):
        where = f"{table}:{line}"
        if isinstance(row, BadRow):
            raise DataError(f"{where}: {row.reason} ({row.detail}). Download the dataset again")
        cue = row.get("cue")
        if not isinstance(cue, str) or not cue.strip():
            raise DataError(f"{where} has no cue. Download the dataset again")
        candidates, associations = (_parse_names(row, column, where) for column in COLUMNS[1:])
        if unknown := [name for name in associations if name not in candidates]:
            raise DataError(f"{where}: the association {unknown[0]!r} is no candidate. Download the dataset again")
        yield _Row(cue.strip(), candidates, associations)


def _parse_names(row: Mapping[str, object], column: str, where: str) -> tuple[str, ...]:
    """Parse a JSON list of distinct names, at least one."""
    value = row.get(column)
    try:
        names = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {column} is no JSON list ({error}). Download the dataset again") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{where}: {column} must be a list of image names; got {str(value)[:60]!r}")
    if len(set(names)) < len(names):
        raise DataError(f"{where}: {column} names an image twice. Download the dataset again")
    return tuple(names)


def _find_image_dir(table: Path) -> Path:
    folders = [table.parent / "images", *sorted(table.parent.glob("*_images"))]
    if folder := next((folder for folder in folders if folder.is_dir()), None):
        return folder
    raise DataError(f"there is no folder of images beside {table}. Unpack them into {table.parent / 'images'}")


def _find_image(folder: Path, name: str) -> Path:
    for suffix in ("", *IMAGE_SUFFIXES):
        path = folder / f"{name}{suffix}"
        if path.resolve().parent == folder.resolve() and path.is_file():
            return path
    raise DataError(f"the image {name!r} is missing in {folder}. Unpack the dataset's images again")
