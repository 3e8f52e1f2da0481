"""Datasets for the limitations that the CLIP paper reports (§6)."""

from pathlib import Path

from zebra.data.benchmarks.catalog import find_catalog_entry, is_available
from zebra.errors import DataError

LIMITATIONS = "limitations"
"""Name of all these datasets together in `zebra evaluate`."""
LIMITATION_DATASETS = {
    "fine-grained": ("menagerie/fine-grained", "cars", "aircraft", "flowers"),
    "counting": ("menagerie/counting", "clevr_counts"),
    "distance": ("menagerie/distance", "kitti"),
    "typed text": ("menagerie/typed-digits", "rendered_sst2"),
    "handwriting": ("menagerie/handwritten-digits", "mnist"),
}
"""Limitation → its datasets: the built-in ones and the paper's."""


def list_limitation_datasets(data_root: str | None) -> tuple[str, ...]:
    """Return the available datasets: all built-in ones, and those of the paper's that are in `data_root`.

    Raises:
        DataError: `data_root` is not a directory.
    """
    root = Path(data_root).expanduser() if data_root else None
    if root is not None and not root.is_dir():
        raise DataError(
            f"--data-root {root} is not a directory. Name the directory of the paper's datasets, or leave the flag out."
        )
    return tuple(
        name
        for names in LIMITATION_DATASETS.values()
        for name in names
        if "/" in name or (root is not None and is_available(find_catalog_entry(name), root))
    )


def find_limitation(dataset: str) -> str | None:
    """Return the limitation that a dataset shows, by the dataset's name in results; None for other datasets.

    >>> find_limitation("typed-digits"), find_limitation("kitti"), find_limitation("pets")
    ('typed text', 'distance', None)
    """
    return next(
        (
            limitation
            for limitation, names in LIMITATION_DATASETS.items()
            if dataset in {name.rpartition("/")[2] for name in names}
        ),
        None,
    )
