"""Compositionality benchmarks: SugarCrepe and Winoground.

SugarCrepe (Hsieh et al. 2023): one JSON file per category, `{"0": {"filename", "caption", "negative_caption"}, …}`,
over COCO's val2017. Winoground (Thrush et al. 2022): `examples.jsonl`, one line per pair of images and captions.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zebra.data.benchmarks.tasks import CompositionalityBenchmark, CompositionalityQuestion
from zebra.data.image_source import hash_values, open_image_files
from zebra.data.table_files import BadRow, open_table
from zebra.errors import DataError

WINOGROUND_FILENAME = "examples.jsonl"
IMAGE_DIRS = ("images", "val2017", ".")
"""Image folders below the dataset's folder, in order of search."""
OPTIONAL_IMAGE_SUFFIXES = ("", ".png", ".jpg")
"""Winoground gives image names without a suffix."""


def is_compositionality_dataset(path: Path) -> bool:
    """Return whether a path is a folder of Winoground or SugarCrepe, or one file of SugarCrepe."""
    if path.is_file():
        return path.suffix == ".json"
    return (path / WINOGROUND_FILENAME).is_file() or bool(_list_sugarcrepe_files(path))


def read_compositionality(path: Path) -> CompositionalityBenchmark:
    """Read a folder of Winoground or SugarCrepe, or one category of SugarCrepe by its file.

    Raises:
        DataError: A file is malformed, an image or caption is missing, or there are no questions.
    """
    root = path if path.is_dir() else path.parent
    raw_questions = list(_read_winoground(path) if (path / WINOGROUND_FILENAME).is_file() else _read_sugarcrepe(path))
    if not raw_questions:
        raise DataError(f"{path} has no questions. Download the dataset again")
    names = {name: None for image_names, _, _ in raw_questions for name in image_names}
    image_dir = _find_image_dir(root, next(iter(names)))
    paths = [_find_image(image_dir, name) for name in names]
    indices = {name: index for index, name in enumerate(names)}
    questions = tuple(
        CompositionalityQuestion(tuple(indices[name] for name in image_names), captions, category)
        for image_names, captions, category in raw_questions
    )
    source = open_image_files(image_dir, paths)
    source = replace(source, digest=hash_values(source.digest, raw_questions))
    return CompositionalityBenchmark(path.resolve().stem, source, questions)


RawQuestion = tuple[tuple[str, ...], tuple[str, str], str]
"""Image names, captions, category."""


def _list_sugarcrepe_files(folder: Path) -> list[Path]:
    """Return the JSON files in SugarCrepe's layout."""
    return [path for path in sorted(folder.glob("*.json")) if _is_sugarcrepe_file(path)]


def _is_sugarcrepe_file(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"negative_caption"' in file.read(4096)


def _read_sugarcrepe(path: Path) -> Iterator[RawQuestion]:
    for file in [path] if path.is_file() else _list_sugarcrepe_files(path):
        try:
            entries = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read ({error}). Download it again") from error
        if not isinstance(entries, dict):
            raise DataError(f"{file} is no JSON object of questions. Download it again")
        for key, entry in entries.items():
            where = f"{file}: {key}"
            captions = _require_text(entry, "caption", where), _require_text(entry, "negative_caption", where)
            yield (_require_text(entry, "filename", where),), captions, file.stem


def _read_winoground(folder: Path) -> Iterator[RawQuestion]:
    file = folder / WINOGROUND_FILENAME
    for line, row in open_table(file).read(()):
        where = f"{file}:{line}"
        if isinstance(row, BadRow):
            raise DataError(f"{where}: {row.reason} ({row.detail}). Download the file again")
        image_names = _require_text(row, "image_0", where), _require_text(row, "image_1", where)
        captions = _require_text(row, "caption_0", where), _require_text(row, "caption_1", where)
        yield image_names, captions, str(row.get("collapsed_tag") or row.get("tag") or "")


def _require_text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has no {key}. Download the dataset again")
    return value


def _find_image_dir(root: Path, name: str) -> Path:
    for subfolder in IMAGE_DIRS:
        if any((root / subfolder / f"{name}{suffix}").is_file() for suffix in OPTIONAL_IMAGE_SUFFIXES):
            return root / subfolder
    raise DataError(f"the image {name} is missing in {root}. Put the dataset's images into {root / IMAGE_DIRS[0]}")


def _find_image(folder: Path, name: str) -> Path:
    for suffix in OPTIONAL_IMAGE_SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise DataError(f"the image {name} is missing in {folder}. Unpack the dataset's images again")
