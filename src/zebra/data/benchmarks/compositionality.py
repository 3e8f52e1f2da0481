"""Sets that ask which caption is of which picture in; their questions out.

SugarCrepe (Hsieh et al. 2023): one JSON file per category, `{"0": {"filename", "caption", "negative_caption"}, …}`,
over COCO's val2017. Winoground (Thrush et al. 2022): `examples.jsonl`, a line for each two pictures and two captions.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zebra.data.image_source import files
from zebra.data.sources import Source
from zebra.data.table_files import Broken, open_table
from zebra.errors import DataError

WINOGROUND = "examples.jsonl"
PICTURE_FOLDERS = ("images", "val2017", ".")
"""Where pictures lie, below the set's folder."""
SUFFIXES = ("", ".png", ".jpg")
"""Winoground names its pictures without one."""


@dataclass(frozen=True, slots=True)
class Question:
    """One picture and two captions, the first of them true; or two pictures, the second caption true of the second."""

    pictures: tuple[int, ...]
    """Positions in the set's source."""
    captions: tuple[str, str]
    category: str
    """What is asked for: SugarCrepe's `add_att`, …, or Winoground's tag."""


@dataclass(frozen=True, slots=True)
class SelectionBenchmark:
    """Questions over pictures, each of which is there once however often it is asked about."""

    name: str
    source: Source
    """Records without captions and labels."""
    questions: tuple[Question, ...]
    metric: str = "selection"
    notes: tuple[str, ...] = ()


def is_selection(path: Path) -> bool:
    """Tell whether a path is Winoground's folder, SugarCrepe's, or one of SugarCrepe's files."""
    if path.is_file():
        return path.suffix == ".json"
    return (path / WINOGROUND).is_file() or bool(_sugar_files(path))


def read_selection(path: Path) -> SelectionBenchmark:
    """Read Winoground's folder, SugarCrepe's, or one category of it by its file; pictures lie in `images/` beside.

    Raises:
        DataError: A file is not what it should be, a picture or a caption is missing, or nothing is asked.
    """
    root = path if path.is_dir() else path.parent
    asked = list(_winoground(path) if (path / WINOGROUND).is_file() else _sugar_crepe(path))
    if not asked:
        raise DataError(f"{path} asks nothing; download the set again")
    names = {name: None for pictures, _, _ in asked for name in pictures}
    folder = _picture_folder(root, next(iter(names)))
    found = [_picture(folder, name) for name in names]
    positions = {name: position for position, name in enumerate(names)}
    questions = tuple(
        Question(tuple(positions[name] for name in pictures), captions, category)
        for pictures, captions, category in asked
    )
    return SelectionBenchmark(path.resolve().stem, files(folder, found), questions)


Asked = tuple[tuple[str, ...], tuple[str, str], str]
"""Names of pictures, captions, category."""


def _sugar_files(folder: Path) -> list[Path]:
    """Return the files of SugarCrepe's layout; other JSON files begin otherwise."""
    return [path for path in sorted(folder.glob("*.json")) if _looks_asked(path)]


def _looks_asked(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"negative_caption"' in file.read(4096)


def _sugar_crepe(path: Path) -> Iterator[Asked]:
    for file in [path] if path.is_file() else _sugar_files(path):
        try:
            entries = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read ({error}); download it again") from error
        if not isinstance(entries, dict):
            raise DataError(f"{file} holds no object of questions; SugarCrepe's files do")
        for key, entry in entries.items():
            where = f"{file}: {key}"
            captions = _text(entry, "caption", where), _text(entry, "negative_caption", where)
            yield (_text(entry, "filename", where),), captions, file.stem


def _winoground(folder: Path) -> Iterator[Asked]:
    file = folder / WINOGROUND
    for line, row in open_table(file).read(()):
        where = f"{file}:{line}"
        if isinstance(row, Broken):
            raise DataError(f"{where}: {row.reason} ({row.detail}); download it again")
        pictures = _text(row, "image_0", where), _text(row, "image_1", where)
        captions = _text(row, "caption_0", where), _text(row, "caption_1", where)
        yield pictures, captions, str(row.get("collapsed_tag") or row.get("tag") or "")


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has no {key}; download the set again")
    return value


def _picture_folder(root: Path, name: str) -> Path:
    for place in PICTURE_FOLDERS:
        if any((root / place / f"{name}{suffix}").is_file() for suffix in SUFFIXES):
            return root / place
    raise DataError(
        f"{root} lacks the picture {name}; put the set's pictures into {root / PICTURE_FOLDERS[0]}"
    )


def _picture(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise DataError(f"{folder} lacks the picture {name}; unpack the set's pictures again")
