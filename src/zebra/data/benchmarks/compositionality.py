"""Compositionality benchmarks: questions on images, in the layouts of the catalog."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from zebra.data.benchmarks.clip_benchmark import read_lines
from zebra.data.benchmarks.derived_images import DerivedImages
from zebra.data.benchmarks.entry import CatalogEntry
from zebra.data.benchmarks.question_files import QuestionFiles
from zebra.data.benchmarks.tasks import CompositionalityBenchmark, CompositionalityQuestion
from zebra.data.image_source import ImageSource, hash_values, open_image_files
from zebra.data.sources import Source
from zebra.errors import DataError

EXCLUDED_FILENAME = "excluded_categories.txt"
OPTIONAL_IMAGE_SUFFIXES = ("", ".png", ".jpg")
"""Winoground gives image names without a suffix."""
Box = tuple[int, ...]
"""Left, top, width and height in pixels; () for the whole image."""


def has_questions(entry: CatalogEntry, path: Path) -> bool:
    """Return whether a path is a folder of a benchmark, or one of its files, judged by the first question."""
    return any(_find_files(files, path) for files in entry.questions)


def read_compositionality(entry: CatalogEntry, path: Path) -> CompositionalityBenchmark:
    """Read a folder of a benchmark, or the questions in one of its files.

    `excluded_categories.txt` in the folder has names of categories, one per line, that do not count in means over
    categories.

    Raises:
        DataError: A file is malformed, an image or caption is missing, or there are no questions.
    """
    folder = path if path.is_dir() else path.parent
    raw = [
        (files, question)
        for files in entry.questions
        for file in _find_files(files, path)
        for question in files.read(file)
    ]
    if not raw:
        patterns = ", ".join(files.files for files in entry.questions)
        raise DataError(f"{path} has no questions of {entry.title} ({patterns}). Download the dataset again")
    folders = {id(files): _ImageFolders(folder, files.image_dirs) for files in entry.questions}
    indices: dict[tuple[Path, Box], int] = {}
    questions = []
    for files, question in raw:
        keys = [(folders[id(files)].find(name), question.box) for name in question.images]
        image_indices = tuple(indices.setdefault(key, len(indices)) for key in keys)
        questions.append(
            CompositionalityQuestion(image_indices, question.captions, files.image_of_caption, question.category)
        )
    numbers = {image: number for number, image in enumerate(dict.fromkeys(image for image, _ in indices))}
    file_of_image = tuple(numbers[image] for image, _ in indices)
    source = open_image_files(folder, list(numbers))
    excluded = read_lines(folder / EXCLUDED_FILENAME) if (folder / EXCLUDED_FILENAME).is_file() else ()
    return CompositionalityBenchmark(
        path.resolve().stem,
        _crop_images(replace(source, digest=hash_values(source.digest, questions)), file_of_image, list(indices)),
        tuple(questions),
        file_of_image=file_of_image,
        metric=entry.metric,
        min_category_size=entry.min_category_size,
        excluded_categories=excluded,
    )


def _find_files(files: QuestionFiles, path: Path) -> list[Path]:
    return [file for file in files.find(path if path.is_dir() else path.parent) if path.is_dir() or file == path]


class _ImageFolders:
    """The images below one of several folders, found by name with or without suffix."""

    def __init__(self, folder: Path, image_dirs: Sequence[str]) -> None:
        self._folder, self._image_dirs = folder, image_dirs
        self._paths: dict[str, Path] = {}

    def find(self, name: str) -> Path:
        """Return the path of an image; raise DataError if it is missing."""
        if name not in self._paths:
            self._paths[name] = self._search(name)
        return self._paths[name]

    def _search(self, name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{self._folder} names an image outside of it: {name}. Download the dataset again")
        for image_dir in self._image_dirs:
            for suffix in OPTIONAL_IMAGE_SUFFIXES:
                if (path := self._folder / image_dir / f"{name}{suffix}").is_file():
                    return path
        raise DataError(
            f"the image {name} is missing in {self._folder}. Put the dataset's images into "
            f"{self._folder / self._image_dirs[0]}"
        )


def _crop_images(source: ImageSource, file_of_image: Sequence[int], images: Sequence[tuple[Path, Box]]) -> Source:
    boxes = [box for _, box in images]
    if not any(boxes):
        return source
    return DerivedImages(source, file_of_image, [",".join(map(str, box)) for box in boxes], partial(_crop, boxes))


def _crop(boxes: Sequence[Box], index: int, image: Image.Image) -> Image.Image:
    """Cut out a box; outside of the image it is black, as Pillow does and the authors of ARO have it."""
    left, top, width, height = boxes[index]
    return image.crop((left, top, left + width, top + height))
