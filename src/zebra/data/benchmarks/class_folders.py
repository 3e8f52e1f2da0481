"""Folders of pictures, one per class, in; a labelled set out."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES_FILENAME,
    TEMPLATES_FILENAME,
    read_lines,
    read_templates,
)
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.folders import raise_listing_error
from zebra.data.image_source import BENCHMARK_IMAGE_SUFFIXES, empty_class_notes, open_image_files
from zebra.errors import DataError
from zebra.text.templates import DEFAULT_TEMPLATES

SPLIT_NAMES = ("train", "val", "valid", "validation", "dev", "test")
"""Names of folders that are taken for splits, not for classes."""


def read_class_folders(root: Path, split: str = "test") -> ClassificationBenchmark:
    """Read `root/<class>/*.jpg`, `root/<split>/<class>/*.jpg` or `root/<class>/<split>/*.jpg`.

    A label is the position of the folder among all class folders, sorted by name; a class that another split has
    keeps its label here. Folders that are called by numbers are labels themselves: ImageNetV2's folder `10` is class
    10, though it sorts before `2`. `classnames.txt` in the root names the classes: a name per class that equals the
    folder's, or a line per class in the order of the labels. Without it the folders' names are taken, with blanks for
    underscores. `zeroshot_classification_templates.txt` beside it holds prompts.

    Raises:
        DataError: There are no class folders, no such split, names that do not fit, or a picture without a class.
    """
    notes: list[str] = []
    folders = _find_class_folders(root, split, notes)
    classnames, labels = _read_classes(root, sorted(folders))
    paths, numbers = [], []
    others: Counter[str] = Counter()
    for name in sorted(folders, key=labels.__getitem__):
        for path in _iter_files(folders[name]):
            if path.suffix.lower() in BENCHMARK_IMAGE_SUFFIXES:
                paths.append(path)
                numbers.append(labels[name])
            else:
                others[path.suffix or path.name] += 1
    if not paths:
        raise DataError(
            f"{root} holds no pictures ({', '.join(BENCHMARK_IMAGE_SUFFIXES)}) of the split {split}"
        )
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        notes.append(f"{others.total()} files that are no pictures were not read: {kinds}")
    notes.extend(empty_class_notes(numbers, classnames))
    templates = (
        read_templates(root / TEMPLATES_FILENAME)
        if (root / TEMPLATES_FILENAME).is_file()
        else DEFAULT_TEMPLATES
    )
    source = open_image_files(root, paths, numbers)
    return ClassificationBenchmark(root.resolve().name, classnames, templates, source, notes=tuple(notes))


def _find_class_folders(root: Path, split: str, notes: list[str]) -> dict[str, Path]:
    """Return the folder of each class that any split has; what is not in this split is not there, or empty."""
    children = _list_subfolders(root)
    if not children:
        raise DataError(f"{root} holds no folders; a set of class folders is {root.name}/<class>/*.jpg")
    loose = [path.name for path in root.iterdir() if path.suffix.lower() in BENCHMARK_IMAGE_SUFFIXES]
    if loose:
        raise DataError(
            f"{root} holds {len(loose)} pictures beside its class folders, such as {loose[0]}; move them"
        )
    above = [child.name for child in children if child.name in SPLIT_NAMES]
    if above:
        _require_split(split, above, root)
        if beside := [child.name for child in children if child.name not in above]:
            notes.append(f"folders beside the splits were not read: {', '.join(beside[:5])}")
        names = {folder.name for name in above for folder in _list_subfolders(root / name)}
        return {name: root / split / name for name in names}
    below = [
        {folder.name for folder in _list_subfolders(child)}.intersection(SPLIT_NAMES) for child in children
    ]
    if all(below):
        _require_split(split, sorted(set().union(*below)), root)
        return {child.name: child / split for child in children}
    if split != "test":
        raise DataError(
            f"{root} is not divided into splits, so it has no {split!r} that differs from the rest; put its pictures "
            f"into {root.name}/<class>/ below {split}/ and test/"
        )
    return {child.name: child for child in children}


def _require_split(split: str, available: Sequence[str], root: Path) -> None:
    if split not in available:
        raise DataError(f"{root} has no split {split!r}; it has {', '.join(available)}")


def _read_classes(root: Path, folder_names: Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Return the classes' names, and the label of each folder."""
    named = read_lines(root / CLASSNAMES_FILENAME) if (root / CLASSNAMES_FILENAME).is_file() else None
    numbered = all(name.isdecimal() for name in folder_names)
    if named is None:
        order = sorted(folder_names, key=int) if numbered else folder_names
        return tuple(name.replace("_", " ") for name in order), {name: i for i, name in enumerate(order)}
    if numbered:
        highest = max(map(int, folder_names))
        if highest >= len(named):
            raise DataError(
                f"{root} has a folder {highest}, but {CLASSNAMES_FILENAME} names {len(named)} classes (0 to {len(named) - 1})"
            )
        return named, {name: int(name) for name in folder_names}
    if set(folder_names) <= set(named):
        return named, {name: named.index(name) for name in folder_names}
    if len(folder_names) == len(named):
        return named, {name: label for label, name in enumerate(folder_names)}
    unknown = next(name for name in folder_names if name not in named)
    raise DataError(
        f"{root} has {len(folder_names)} class folders and {CLASSNAMES_FILENAME} {len(named)} names, {unknown!r} not among them; "
        "write a line per folder, in the order of the sorted folders"
    )


def _list_subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise_listing_error(error)
        raise


def _iter_files(folder: Path) -> Iterator[Path]:
    """Yield every visible file below a folder, in a fixed order; nothing if there is no such folder."""
    if not folder.exists():
        return
    for parent, folders, names in os.walk(folder, onerror=raise_listing_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
