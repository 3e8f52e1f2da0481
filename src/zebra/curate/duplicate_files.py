"""Removal of image files with their captions; a record precedes every change."""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zebra.atomic_io import atomic_write
from zebra.data.locations import file_stamp
from zebra.errors import DataError
from zebra.images.formats import IMAGE_SUFFIXES

SIDECAR_SUFFIXES = (".txt", ".json", ".xml", ".xmp", ".yaml")
"""Captions and metadata; a raw image or a film of the same name is no part of an image."""
RECORD_FIELDS = ("action", "file", "target", "copy_of")


@dataclass(frozen=True, slots=True)
class DuplicateFile:
    """An image file to remove, and the one that stays."""

    path: Path
    original: Path
    stamp: str
    """Of the image when it was compared; an image that has changed since is left."""


class Folder:
    """The names of the files in a folder, for finding what belongs to an image."""

    def __init__(self, path: Path) -> None:
        self._names: dict[str, set[str]] = {}
        for entry in os.scandir(path):
            if entry.is_file():
                self._names.setdefault(_first_part(entry.name), set()).add(entry.name)

    def find_sidecars(self, image: str) -> list[str]:
        """Return the names of the files that belong to an image, such as `a.txt` and `a.jpg.xmp` to `a.jpg`.

        A file such as `a.txt` belongs to no single image while there is another one with the same stem, such as
        `a.png`; `a.b.txt` belongs to `a.b.jpg` if that exists.
        """
        names = self._names.get(_first_part(image), set()) - {image}
        images = {name for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
        stem, other_stems = Path(image).stem, {Path(name).stem for name in images}
        longer = tuple(f"{other}." for other in other_stems if other.startswith(f"{stem}."))
        prefixes = (f"{image}.",) if stem in other_stems else (f"{image}.", f"{stem}.")
        sidecars = {name for name in names - images if name.lower().endswith(SIDECAR_SUFFIXES)}
        return sorted(name for name in sidecars if name.startswith(prefixes) and not name.startswith(longer))

    def discard(self, name: str) -> None:
        """Forget a file that was removed."""
        self._names.get(_first_part(name), set()).discard(name)


def remove_files(files: Iterable[DuplicateFile], root: Path, record: Path, move_to: Path | None) -> Counter[str]:
    """Move the files below another directory, or delete them; return the number of images by outcome.

    Captions go first, so that an interrupted run finds an image again whose captions are gone already.

    Args:
        root: The folder with the images; paths below `move_to` are the same as below it.
        record: CSV file that gets a line before each change, and keeps those of earlier runs.
        move_to: None deletes.

    Raises:
        DataError: Another file has the name of one to be moved, or a file cannot be moved or deleted.
    """
    outcomes: Counter[str] = Counter()
    recorded = _read_record(record)
    folders: dict[Path, Folder] = {}
    with record.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if not stream.tell():
            writer.writerow(RECORD_FIELDS)
        for file in files:
            if (problem := _find_problem(file)) is not None:
                outcomes[problem] += 1
                continue
            parent = file.path.parent
            folder = folders.get(parent) or folders.setdefault(parent, Folder(parent))
            for name in (*folder.find_sidecars(file.path.name), file.path.name):
                path = parent / name
                target = move_to / path.relative_to(root) if move_to else None
                line = ("delete" if target is None else "move", str(path), str(target or ""), str(file.original))
                if line not in recorded:
                    writer.writerow(line)
                    stream.flush()
                    os.fsync(stream.fileno())
                try:
                    _remove(path, target)
                except OSError as error:
                    raise DataError(
                        f"cannot {line[0]} {path}: {error.strerror or error}. Make both folders writable, free disk "
                        "space, and run the same command again; it continues."
                    ) from error
                folder.discard(name)
            outcomes["moved" if move_to else "deleted"] += 1
    return outcomes


def _first_part(name: str) -> str:
    return name.partition(".")[0]


def _read_record(record: Path) -> set[tuple[str, ...]]:
    if not record.is_file():
        return set()
    with record.open(encoding="utf-8", newline="") as stream:
        return set(map(tuple, csv.reader(stream)))


def _find_problem(file: DuplicateFile) -> str | None:
    if not file.original.is_file():
        return "left: its original is gone"
    if not file.path.is_file():
        return "left: its name is not UTF-8, or it is gone"
    if file_stamp(file.path) != file.stamp.split(" ")[0]:
        return "left: it has changed"
    return None


def _remove(path: Path, target: Path | None) -> None:
    if target is None:
        path.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if target.read_bytes() != path.read_bytes():
            raise DataError(f"cannot move {path}: {target} exists. Use another --move-to, or move that file away")
    elif path.is_symlink():
        target.symlink_to(path.resolve())
    else:
        with atomic_write(target) as partial:  # the two may be on different file systems
            shutil.copy2(path, partial)
    path.unlink()
