"""Sets that ask which caption is of which picture in; their questions out.

SugarCrepe (Hsieh et al. 2023): one JSON file per category, `{"0": {"filename", "caption", "negative_caption"}, …}`,
over COCO's val2017. Winoground (Thrush et al. 2022): `examples.jsonl`, a line for each two pictures and two captions.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zebra.data.benchmarks.tasks import CompositionalityBenchmark, CompositionalityQuestion
from zebra.data.image_source import open_image_files
from zebra.data.table_files import BadRow, open_table
from zebra.errors import DataError

WINOGROUND_FILENAME = "examples.jsonl"
IMAGE_DIRS = ("images", "val2017", ".")
"""Where pictures lie, below the set's folder."""
OPTIONAL_IMAGE_SUFFIXES = ("", ".png", ".jpg")
"""Winoground names its pictures without one."""


def is_compositionality_dataset(path: Path) -> bool:
    """Tell whether a path is Winoground's folder, SugarCrepe's, or one of SugarCrepe's files."""
    if path.is_file():
        return path.suffix == ".json"
    return (path / WINOGROUND_FILENAME).is_file() or bool(_list_sugarcrepe_files(path))


def read_compositionality(path: Path) -> CompositionalityBenchmark:
    """Read Winoground's folder, SugarCrepe's, or one category of it by its file; pictures lie in `images/` beside.

    Raises:
        DataError: A file is not what it should be, a picture or a caption is missing, or nothing is asked.
    """
    root = path if path.is_dir() else path.parent
    asked = list(_read_winoground(path) if (path / WINOGROUND_FILENAME).is_file() else _read_sugarcrepe(path))
    if not asked:
        raise DataError(f"{path} asks nothing; download the set again")
    names = {name: None for pictures, _, _ in asked for name in pictures}
    folder = _find_image_dir(root, next(iter(names)))
    found = [_find_image(folder, name) for name in names]
    positions = {name: position for position, name in enumerate(names)}
    questions = tuple(
        CompositionalityQuestion(tuple(positions[name] for name in pictures), captions, category)
        for pictures, captions, category in asked
    )
    return CompositionalityBenchmark(path.resolve().stem, open_image_files(folder, found), questions)


RawQuestion = tuple[tuple[str, ...], tuple[str, str], str]
"""Names of pictures, captions, category."""


def _list_sugarcrepe_files(folder: Path) -> list[Path]:
    """Return the files of SugarCrepe's layout; other JSON files begin otherwise."""
    return [path for path in sorted(folder.glob("*.json")) if _is_sugarcrepe_file(path)]


def _is_sugarcrepe_file(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"negative_caption"' in file.read(4096)


def _read_sugarcrepe(path: Path) -> Iterator[RawQuestion]:
    for file in [path] if path.is_file() else _list_sugarcrepe_files(path):
        try:
            entries = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read ({error}); download it again") from error
        if not isinstance(entries, dict):
            raise DataError(f"{file} holds no object of questions; SugarCrepe's files do")
        for key, entry in entries.items():
            where = f"{file}: {key}"
            captions = _require_text(entry, "caption", where), _require_text(entry, "negative_caption", where)
            yield (_require_text(entry, "filename", where),), captions, file.stem


def _read_winoground(folder: Path) -> Iterator[RawQuestion]:
    file = folder / WINOGROUND_FILENAME
    for line, row in open_table(file).read(()):
        where = f"{file}:{line}"
        if isinstance(row, BadRow):
            raise DataError(f"{where}: {row.reason} ({row.detail}); download it again")
        pictures = _require_text(row, "image_0", where), _require_text(row, "image_1", where)
        captions = _require_text(row, "caption_0", where), _require_text(row, "caption_1", where)
        yield pictures, captions, str(row.get("collapsed_tag") or row.get("tag") or "")


def _require_text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has no {key}; download the set again")
    return value


def _find_image_dir(root: Path, name: str) -> Path:
    for place in IMAGE_DIRS:
        if any((root / place / f"{name}{suffix}").is_file() for suffix in OPTIONAL_IMAGE_SUFFIXES):
            return root / place
    raise DataError(f"{root} lacks the picture {name}; put the set's pictures into {root / IMAGE_DIRS[0]}")


def _find_image(folder: Path, name: str) -> Path:
    for suffix in OPTIONAL_IMAGE_SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise DataError(f"{folder} lacks the picture {name}; unpack the set's pictures again")
