"""What a user calls a data set in; one split of it, ready to be evaluated on, out."""

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from zebra.config.cache import cache_dir
from zebra.data.benchmarks.catalog import (
    HUB_ORG,
    apply_catalog_entry,
    find_catalog_entry,
    load_catalog,
    read_catalog_dataset,
)
from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.data.benchmarks.clip_benchmark import list_splits, read_clip_benchmark
from zebra.data.benchmarks.compositionality import is_compositionality_dataset, read_compositionality
from zebra.data.benchmarks.hub_datasets import download_dataset
from zebra.data.benchmarks.label_tables import read_label_table
from zebra.data.benchmarks.tasks import AnyBenchmark
from zebra.data.benchmarks.writer import write_classification
from zebra.data.table_files import TABLE_FORMATS
from zebra.errors import DataError, suggest_name
from zebra.menagerie.datasets import DIGIT_CLASSNAMES, DIGIT_TEMPLATES, DRAWN_DATASETS
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.write import HANDWRITTEN_DIGITS, MENAGERIE_VERSION, draw_chunk

MENAGERIE_PREFIX = "menagerie/"
DIGITS_DATASET = "digits"
SPLIT_SEEDS = {"test": 0, "train": 1, "val": 2}
"""Which world each split of a drawn set is of; test is the demo's own."""
DIGITS_SPLITS = {"train": (0, 898), "test": (898, 1797)}
"""scikit-learn's digits in two halves, as its own examples take them."""


def load_dataset(name: str | Path, split: str = "test", data_root: str | Path | None = None) -> AnyBenchmark:
    """Open one split of a data set.

    Args:
        name: A folder in CLIP_benchmark's layout, of class folders, of Winoground or SugarCrepe; a table with labels;
            "hf:org/name[@revision]"; "menagerie/<set>" or "digits", which are drawn into the cache when first asked
            for; or a name of the catalogue, looked for in `data_root`.
        split: "train", "val", "test", or whatever the set calls them.
        data_root: The folder that holds archives and copies of the catalogue's sets.

    Raises:
        DataError: There is no such set or split, or it is damaged or incomplete: a part is never taken for the whole.
        DownloadError: The hub has no such set, or cannot be reached and the cache has none.
    """
    text = str(name)
    if text.startswith("hf:"):
        return _load_from_hub(text, split)
    path = Path(text).expanduser()
    if path.exists():
        return _load_from_path(path, split)
    if text.startswith(MENAGERIE_PREFIX) or text == DIGITS_DATASET:
        return read_clip_benchmark(_prepare_builtin_dataset(text, split), split)
    record = find_catalog_entry(text)
    if data_root is not None:
        return read_catalog_dataset(record, Path(data_root).expanduser(), split)
    ways = ["name the folder that holds its archive or copy with --data-root"]
    if record.hub_name:
        ways.append(f"name hf:{HUB_ORG}/{record.hub_name}")
    raise DataError(
        f"{record.title} is in the catalogue, but its pictures are not built in: {', or '.join(ways)}"
    )


def list_builtin_datasets() -> tuple[str, ...]:
    """List the sets that are there without a download."""
    return (*(f"{MENAGERIE_PREFIX}{name}" for name in (*DRAWN_DATASETS, HANDWRITTEN_DIGITS)), DIGITS_DATASET)


def _load_from_path(path: Path, split: str) -> AnyBenchmark:
    if list_splits(path) or ((path / split).is_dir() and any((path / split).glob("*.tar"))):
        return read_clip_benchmark(path, split)
    if is_compositionality_dataset(path):
        return read_compositionality(path)
    if path.suffix.lower() in TABLE_FORMATS:
        return read_label_table(path, split)
    if path.is_dir():
        return read_class_folders(path, split)
    raise DataError(f"{path} is no data set: give a folder, or a table ({', '.join(TABLE_FORMATS)})")


def _load_from_hub(name: str, split: str) -> AnyBenchmark:
    folder, origin = download_dataset(name, split)
    repository = origin.partition("@")[0].rpartition("/")[2]
    benchmark: AnyBenchmark = replace(read_clip_benchmark(folder, split), name=repository)
    record = next((one for one in load_catalog().values() if one.hub_name == repository), None)
    benchmark = apply_catalog_entry(benchmark, record, split) if record else benchmark
    return replace(benchmark, notes=(*benchmark.notes, f"from {origin}"))


def _prepare_builtin_dataset(name: str, split: str) -> Path:
    """Return the folder of a built-in set, whose split is drawn if it is not there yet."""
    if name not in list_builtin_datasets():
        raise DataError(f"{name!r} is no built-in set.{suggest_name(name, list_builtin_datasets())}")
    known = (
        DIGITS_SPLITS
        if name == DIGITS_DATASET
        else {"test": 0}
        if name == f"{MENAGERIE_PREFIX}{HANDWRITTEN_DIGITS}"
        else SPLIT_SEEDS
    )
    if split not in known:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(known)}")
    folder = cache_dir() / "sets" / f"v{MENAGERIE_VERSION}" / split / name
    if split not in list_splits(folder):
        _write_builtin_dataset(folder, name, split)
    return folder


def _write_builtin_dataset(path: Path, name: str, split: str) -> None:
    """Write beside the final place, then rename: another process sees nothing or everything."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    kind = name.removeprefix(MENAGERIE_PREFIX)
    if kind in DRAWN_DATASETS:
        one = DRAWN_DATASETS[kind]
        drawn = draw_chunk(SPLIT_SEEDS[split], kind, range(one.num_samples))
        samples = ((picture.image, "png", picture.label) for picture in drawn)
        write_classification(partial, samples, one.classnames, one.templates, split)
    else:
        first, last = DIGITS_SPLITS[split] if name == DIGITS_DATASET else (0, None)
        write_classification(partial, _iter_digits(first, last), DIGIT_CLASSNAMES, DIGIT_TEMPLATES, split)
    try:
        partial.rename(path)
    except OSError:  # another process was faster, and drew the same
        if split not in list_splits(path):
            raise
        shutil.rmtree(partial)


def _iter_digits(start: int, stop: int | None) -> Iterator[tuple[bytes, str, int]]:
    for image, digit in islice(iter_handwritten_digits(), start, stop):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        yield buffer.getvalue(), "png", digit
