"""List the files below a folder, through linked folders, each folder once."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from zebra.data.ignored import HIDDEN, Ignored, IgnoredCounter
from zebra.errors import DataError

REPEATED_LINK = "link to a folder that is read elsewhere"
"""Reason of a link to a parent folder, to a folder below the root, or to one that another link names."""


def walk_folder(root: Path, ignored: IgnoredCounter) -> Iterator[tuple[Path, list[str]]]:
    """Yield (path relative to `root`, sorted file names) of each folder, a folder before its sorted subfolders.

    Links to folders are followed. A folder is read once, so that loops end: at its own place if it is below `root`,
    otherwise under the link nearest to the root.

    Args:
        root: A folder.
        ignored: Counts hidden files and folders, and links that are not followed.

    Raises:
        DataError: A folder cannot be listed.
    """
    real_root = os.path.realpath(root)
    visited = {real_root}
    for parent, folders, names in os.walk(root, onerror=raise_listing_error, followlinks=True):
        relative = Path(parent).relative_to(root)
        is_linked = not _is_below(os.path.realpath(parent), real_root)
        for name in (*folders, *names):
            if name.startswith("."):
                ignored.add(HIDDEN, str(relative / name))
        followed = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            path = Path(parent, name)
            if is_linked or path.is_symlink():
                real_path = os.path.realpath(path)
                if real_path in visited or _is_below(real_path, real_root) or _is_below(real_root, real_path):
                    ignored.add(REPEATED_LINK, str(relative / name))
                    continue
                visited.add(real_path)
            followed.append(name)
        folders[:] = followed
        yield relative, sorted(name for name in names if not name.startswith("."))


def count_other_files(folder: Path, data_files: Iterable[Path]) -> tuple[Ignored, ...]:
    """Count the files below a folder that are none of `data_files`."""
    ignored = IgnoredCounter()
    data_paths = {str(path.relative_to(folder)) for path in data_files}
    for relative, names in walk_folder(folder, ignored):
        for name in names:
            if str(relative / name) not in data_paths:
                ignored.add_by_suffix(str(relative / name))
    return ignored.entries()


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def raise_listing_error(error: OSError) -> NoReturn:
    """Raise DataError for a folder that cannot be listed; for use as `os.walk(onerror=…)`."""
    raise DataError(f"cannot list the folder {error.filename}: {error.strerror}. Check its permissions") from error
