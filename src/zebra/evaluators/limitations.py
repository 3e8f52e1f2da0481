"""What CLIP is bad at, by the paper's own account (§6): data sets that show it, built in or where a user has them."""

from pathlib import Path

from zebra.data.benchmarks.catalog import find_catalog_entry, is_available
from zebra.errors import DataError

LIMITATIONS = "limits"
"""What `zebra evaluate` calls all of them together."""
LIMITATION_DATASETS = {
    "fine-grained": ("menagerie/fine-grained", "cars", "aircraft", "flowers"),
    "counting": ("menagerie/counting", "clevr_counts"),
    "distance": ("menagerie/distance", "kitti"),
    "typed text": ("menagerie/typed-digits", "rendered_sst2"),
    "handwriting": ("menagerie/handwritten-digits", "mnist"),
}
"""Ability → its sets: the built-in ones, and the paper's."""


def list_limitation_datasets(data_root: str | None) -> tuple[str, ...]:
    """Return the sets that are there: all built-in ones, and those of the paper's that lie in `data_root`.

    Raises:
        DataError: There is no such folder.
    """
    root = Path(data_root).expanduser() if data_root else None
    if root is not None and not root.is_dir():
        raise DataError(
            f"--data-root {root} is no folder; name the one that holds the paper's sets, or leave it out"
        )
    return tuple(
        name
        for names in LIMITATION_DATASETS.values()
        for name in names
        if "/" in name or (root is not None and is_available(find_catalog_entry(name), root))
    )


def find_limitation(dataset: str) -> str | None:
    """Return which limit a set shows, by its name in results; None for others.

    >>> ability("typed-digits"), ability("kitti"), ability("pets")
    ('typed text', 'distance', None)
    """
    return next(
        (
            limit
            for limit, names in LIMITATION_DATASETS.items()
            if dataset in {one.rpartition("/")[2] for one in names}
        ),
        None,
    )
