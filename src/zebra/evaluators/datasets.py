"""Load evaluation datasets: folders, tables, hub, built-in and catalog datasets."""

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir
from zebra.data.benchmarks.association import is_association_dataset, read_association
from zebra.data.benchmarks.captioned import (
    is_captioned_argument,
    is_captioned_folder,
    is_captioned_table,
    read_captioned,
)
from zebra.data.benchmarks.catalog import (
    apply_catalog_entry,
    find_available_entry,
    find_catalog_entry,
    find_questions,
    load_catalog,
    read_catalog_dataset,
)
from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.data.benchmarks.clip_benchmark import list_splits, read_clip_benchmark, read_dataset_type
from zebra.data.benchmarks.compositionality import read_compositionality
from zebra.data.benchmarks.hub_datasets import download_dataset
from zebra.data.benchmarks.label_tables import read_label_table
from zebra.data.benchmarks.tasks import AnyBenchmark
from zebra.data.benchmarks.writer import write_classification
from zebra.data.table_files import TABLE_FORMATS
from zebra.errors import DataError, MissingSplit, suggest_name
from zebra.menagerie.datasets import DIGIT_CLASSNAMES, DIGIT_TEMPLATES, DRAWN_DATASETS
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.write import HANDWRITTEN_DIGITS, MENAGERIE_VERSION, draw_chunk

MENAGERIE_PREFIX = "menagerie/"
DIGITS_DATASET = "digits"
SPLIT_SEEDS = {"test": 0, "train": 1, "val": 2}
"""Seed of each split of a drawn dataset; the test split equals that of the demo."""
DIGITS_SPLITS = {"train": (0, 898), "test": (898, 1797)}
"""Ranges of scikit-learn's digits for each split: two halves, as in scikit-learn's examples."""


def load_dataset(name: str | Path, split: str = "test", data_root: str | Path | None = None) -> AnyBenchmark:
    """Load one split of a dataset.

    Args:
        name: A folder in CLIP_benchmark's layout, of class folders, of a compositionality benchmark; a table with
            labels; captioned images in any layout that `open_source` reads;
            "hf:org/name[@revision]"; "menagerie/<name>" or "digits", which are drawn into the cache at the first use;
            or a name in the catalog, which is read from `data_root` even if the current directory has such a folder.
        split: "train", "val", "test", or another name that the dataset uses.
        data_root: Folder of archives and copies of the catalog's datasets.

    Raises:
        MissingSplit: The dataset has no such split.
        DataError: There is no such dataset, or it is damaged or incomplete.
        DownloadError: The hub has no such dataset, or it is neither reachable nor cached.
    """
    text = str(name)
    if text.startswith("hf:"):
        return _load_from_hub(text, split)
    root = None if data_root is None else Path(data_root).expanduser()
    if root is not None and (entry := find_available_entry(text, root)):
        return read_catalog_dataset(entry, root, split)
    path = Path(text).expanduser()
    if path.exists():
        return _load_from_path(path, split)
    if is_captioned_argument(text):
        return read_captioned(text, split)
    if text.startswith(MENAGERIE_PREFIX) or text == DIGITS_DATASET:
        return read_clip_benchmark(_prepare_builtin_dataset(text, split), split)
    entry = find_catalog_entry(text)
    if root is not None:
        return read_catalog_dataset(entry, root, split)
    options = ["name the folder of its archive or copy with --data-root"]
    if entry.hub_name:
        options.append(f"use the name hf:{entry.hub_repo}")
    access = f" Its terms must be accepted first: {entry.access}." if entry.access else ""
    raise DataError(f"the images of {entry.title} are not built in. To load them, {', or '.join(options)}.{access}")


def list_builtin_datasets() -> tuple[str, ...]:
    """List the datasets that are available without a download."""
    return (*(f"{MENAGERIE_PREFIX}{name}" for name in (*DRAWN_DATASETS, HANDWRITTEN_DIGITS)), DIGITS_DATASET)


def _load_from_path(path: Path, split: str) -> AnyBenchmark:
    if list_splits(path) or ((path / split).is_dir() and any((path / split).glob("*.tar"))):
        return read_clip_benchmark(path, split)
    if questions := find_questions(path):
        return read_compositionality(questions, path)
    if is_association_dataset(path):
        return read_association(path)
    if path.suffix.lower() in TABLE_FORMATS and not is_captioned_table(path):
        return read_label_table(path, split)
    if path.is_dir() and not is_captioned_folder(path):
        return read_class_folders(path, split)
    return read_captioned(path, split)


def _load_from_hub(name: str, split: str) -> AnyBenchmark:
    path, origin = download_dataset(name, split)
    repository = origin.partition("@")[0].rpartition("/")[2]
    benchmark: AnyBenchmark = replace(read_clip_benchmark(path, split), name=repository)
    dataset_type = read_dataset_type(path)
    entry = next(
        (
            entry
            for entry in load_catalog().values()
            if repository in entry.folder_names() and entry.task == dataset_type
        ),
        None,
    )
    benchmark = apply_catalog_entry(benchmark, entry, split) if entry else benchmark
    return replace(benchmark, notes=(*benchmark.notes, f"from {origin}"))


def _prepare_builtin_dataset(name: str, split: str) -> Path:
    """Return the folder of a built-in dataset; draw the split if it is missing."""
    if name not in list_builtin_datasets():
        raise DataError(f"{name!r} is not a built-in dataset.{suggest_name(name, list_builtin_datasets())}")
    splits = (
        DIGITS_SPLITS
        if name == DIGITS_DATASET
        else {"test": 0}
        if name == f"{MENAGERIE_PREFIX}{HANDWRITTEN_DIGITS}"
        else SPLIT_SEEDS
    )
    if split not in splits:
        raise MissingSplit(f"{name} has no split {split!r}; its splits are {', '.join(splits)}")
    path = cache_dir() / "datasets" / f"v{MENAGERIE_VERSION}" / split / name
    if split not in list_splits(path):
        _write_builtin_dataset(path, name, split)
    return path


def _write_builtin_dataset(path: Path, name: str, split: str) -> None:
    """Draw a split and write it atomically: other processes see nothing or everything."""
    kind = name.removeprefix(MENAGERIE_PREFIX)
    try:
        with atomic_write(path) as partial:
            if kind in DRAWN_DATASETS:
                dataset = DRAWN_DATASETS[kind]
                drawn = draw_chunk(SPLIT_SEEDS[split], kind, range(dataset.num_samples))
                samples = ((sample.image, "png", sample.label) for sample in drawn)
                write_classification(partial, samples, dataset.classnames, dataset.templates, split)
            else:
                first, last = DIGITS_SPLITS[split] if name == DIGITS_DATASET else (0, None)
                digits = _iter_digits(first, last)
                write_classification(partial, digits, DIGIT_CLASSNAMES, DIGIT_TEMPLATES, split)
    except OSError:  # another process was faster, and drew the same
        if split not in list_splits(path):
            raise


def _iter_digits(start: int, stop: int | None) -> Iterator[tuple[bytes, str, int]]:
    for image, digit in islice(iter_handwritten_digits(), start, stop):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        yield buffer.getvalue(), "png", digit
