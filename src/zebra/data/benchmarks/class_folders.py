"""Benchmarks with one image folder per class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zebra.data.benchmarks.clip_benchmark import CLASSNAMES_FILENAME, TEMPLATES_FILENAME, read_lines, read_templates
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.folder_walk import raise_listing_error, walk_folder
from zebra.data.ignored import IgnoredCounter, format_ignored
from zebra.data.image_source import BENCHMARK_IMAGE_SUFFIXES, empty_class_notes, open_image_files
from zebra.data.split_names import find_split, is_split_name, match_split
from zebra.errors import DataError, MissingSplit


def read_class_folders(root: Path, split: str = "test") -> ClassificationBenchmark:
    """Read `root/<class>/*.jpg`, `root/<split>/<class>/*.jpg` or `root/<class>/<split>/*.jpg`.

    The label is the index of the folder among the sorted class folders of all splits. Numeric folder names are labels:
    ImageNetV2's folder `10` is class 10, although it sorts before `2`. `classnames.txt` in the root has one class name
    per line, equal to the folder names or in the order of the labels. Without it, the class names are the folder names
    with spaces for underscores. `zeroshot_classification_templates.txt` in the root has the prompt templates.

    Raises:
        DataError: There are no class folders or no such split, the class names do not match, or an image has no class.
    """
    notes: list[str] = []
    folders = _find_class_folders(root, split, notes)
    classnames, labels = _read_classes(root, sorted(folders))
    image_paths, image_labels = [], []
    ignored = IgnoredCounter()
    for name in sorted(folders, key=labels.__getitem__):
        for path in _iter_files(folders[name], root, ignored):
            if path.suffix.lower() in BENCHMARK_IMAGE_SUFFIXES:
                image_paths.append(path)
                image_labels.append(labels[name])
            else:
                ignored.add_by_suffix(str(path.relative_to(root)))
    if not image_paths:
        raise DataError(
            f"{root} has no images ({', '.join(BENCHMARK_IMAGE_SUFFIXES)}) in the split {split}. Unpack the "
            f"dataset again{'; ' * bool(ignored.entries())}{format_ignored(ignored.entries())}"
        )
    _require_disjoint(root, image_paths, image_labels)
    if ignored.entries():
        notes.append(format_ignored(ignored.entries()))
    notes.extend(empty_class_notes(image_labels, classnames))
    templates = read_templates(root / TEMPLATES_FILENAME) if (root / TEMPLATES_FILENAME).is_file() else ()
    source = replace(open_image_files(root, image_paths, image_labels), ignored=ignored.entries())
    return ClassificationBenchmark(root.resolve().name, classnames, templates, source, notes=tuple(notes))


def _find_class_folders(root: Path, split: str, notes: list[str]) -> dict[str, Path]:
    """Return class name → folder in this split, for the classes of all splits. The folder may not exist."""
    children = _list_subfolders(root)
    if not children:
        raise DataError(f"{root} has no folders. Expected {root.name}/<class>/*.jpg")
    loose = [path.name for path in root.iterdir() if path.suffix.lower() in BENCHMARK_IMAGE_SUFFIXES]
    if loose:
        raise DataError(f"{root} has {len(loose)} images beside its class folders, such as {loose[0]}. Move them")
    split_names = _find_split_folders(children)
    if split_names:
        split_folder = _require_split(split, split_names, root)
        if ignored := [child.name for child in children if child.name not in split_names]:
            notes.append(f"folders beside the splits were ignored: {', '.join(ignored[:5])}")
        names = {folder.name for name in split_names for folder in _list_subfolders(root / name)}
        return {name: root / split_folder / name for name in names}
    splits_by_class = [_list_split_folders(child) for child in children]
    if all(splits_by_class):
        split_folder = _require_split(split, sorted(set().union(*splits_by_class)), root)
        return {child.name: child / split_folder for child in children}
    if split != "test":
        raise MissingSplit(
            f"{root} has no splits, so it cannot provide {split!r}. Put the class folders below "
            f"{root.name}/{split}/ and {root.name}/test/"
        )
    return {child.name: child for child in children}


def _require_disjoint(root: Path, image_paths: Sequence[Path], labels: Sequence[int]) -> None:
    """Raise DataError if links make a folder of images part of two classes."""
    first_use: dict[Path, tuple[Path, int]] = {}
    for folder, label in dict.fromkeys(zip((path.parent for path in image_paths), labels, strict=True)):
        first_folder, first_label = first_use.setdefault(folder.resolve(), (folder, label))
        if label != first_label:
            raise DataError(
                f"{root} has the same images in two classes: {first_folder.relative_to(root)} and "
                f"{folder.relative_to(root)} are one folder. Remove the link"
            )


def _find_split_folders(children: Sequence[Path]) -> list[str]:
    """Return the names of the folders that are splits. A folder called train among other classes is a class."""
    named = [child for child in children if is_split_name(child.name)]
    if len(named) == len(children) or len({find_split(child.name) for child in named}) > 1:
        return [child.name for child in named]
    return [child.name for child in named if not _is_class_folder(child)]


def _is_class_folder(folder: Path) -> bool:
    """Return whether a folder directly contains images, or splits and nothing else."""
    subfolders = _list_subfolders(folder)
    has_images = any(path.suffix.lower() in BENCHMARK_IMAGE_SUFFIXES for path in folder.iterdir())
    return has_images or (bool(subfolders) and all(is_split_name(path.name) for path in subfolders))


def _list_split_folders(folder: Path) -> set[str]:
    return {path.name for path in _list_subfolders(folder) if is_split_name(path.name)}


def _require_split(split: str, available: Sequence[str], root: Path) -> str:
    """Return the name of the split's folder."""
    name = match_split(split, available)
    if name is None:
        raise MissingSplit(f"{root} has no split {split!r}. It has {', '.join(available)}")
    return name


def _read_classes(root: Path, folder_names: Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Return the class names, and folder name → label."""
    classnames = read_lines(root / CLASSNAMES_FILENAME) if (root / CLASSNAMES_FILENAME).is_file() else None
    is_numeric = all(name.isdecimal() for name in folder_names)
    if classnames is None:
        sorted_names = sorted(folder_names, key=int) if is_numeric else folder_names
        return tuple(name.replace("_", " ") for name in sorted_names), {
            name: index for index, name in enumerate(sorted_names)
        }
    if is_numeric:
        max_label = max(map(int, folder_names))
        if max_label >= len(classnames):
            raise DataError(
                f"{root} has a folder {max_label}, but {CLASSNAMES_FILENAME} has {len(classnames)} class names "
                f"(0 to {len(classnames) - 1}). Add names, or move the folder"
            )
        return classnames, {name: int(name) for name in folder_names}
    if set(folder_names) <= set(classnames):
        return classnames, {name: classnames.index(name) for name in folder_names}
    if len(folder_names) == len(classnames):
        return classnames, {name: label for label, name in enumerate(folder_names)}
    unmatched = next(name for name in folder_names if name not in classnames)
    raise DataError(
        f"{root} has {len(folder_names)} class folders, but {CLASSNAMES_FILENAME} has {len(classnames)} names and not "
        f"{unmatched!r}. Write one line per folder, in the order of the sorted folders"
    )


def _list_subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise_listing_error(error)


def _iter_files(folder: Path, root: Path, ignored: IgnoredCounter) -> Iterator[Path]:
    """Yield every visible file below a folder, sorted; nothing if the folder does not exist."""
    if not folder.exists():
        return
    skipped = IgnoredCounter()
    for relative, names in walk_folder(folder, skipped):
        yield from (folder / relative / name for name in names)
    ignored.extend(skipped.entries(), str(folder.relative_to(root)))
