"""What a user calls a data set in; one split of it, ready to be evaluated on, out."""

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from zebra.config.cache import cache_folder
from zebra.data.benchmarks.catalog import (
    HUB_OWNER,
    AnyBenchmark,
    described,
    find_record,
    read_record,
    records,
)
from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.data.benchmarks.clip_benchmark import read_any, splits
from zebra.data.benchmarks.compositionality import is_selection, read_selection
from zebra.data.benchmarks.hub_datasets import fetch_set
from zebra.data.benchmarks.label_tables import read_label_table
from zebra.data.benchmarks.writer import write_benchmark
from zebra.data.table_files import FORMATS
from zebra.errors import DataError, nearest
from zebra.menagerie.datasets import DIGIT_TEMPLATES, DIGITS, DRAWN
from zebra.menagerie.handwriting import handwritten_digits
from zebra.menagerie.write import HANDWRITTEN, VERSION, draw_chunk

MENAGERIE = "menagerie/"
SCANS = "digits"
SEEDS = {"test": 0, "train": 1, "val": 2}
"""Which world each split of a drawn set is of; test is the demo's own."""
SCAN_SPLITS = {"train": (0, 898), "test": (898, 1797)}
"""scikit-learn's digits in two halves, as its own examples take them."""


def open_set(name: str | Path, split: str = "test", data_root: str | Path | None = None) -> AnyBenchmark:
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
        return _from_hub(text, split)
    path = Path(text).expanduser()
    if path.exists():
        return _from_path(path, split)
    if text.startswith(MENAGERIE) or text == SCANS:
        return read_any(_built_in(text, split), split)
    record = find_record(text)
    if data_root is not None:
        return read_record(record, Path(data_root).expanduser(), split)
    ways = ["name the folder that holds its archive or copy with --data-root"]
    if record.hub:
        ways.append(f"name hf:{HUB_OWNER}/{record.hub}")
    raise DataError(
        f"{record.title} is in the catalogue, but its pictures are not built in: {', or '.join(ways)}"
    )


def built_in() -> tuple[str, ...]:
    """List the sets that are there without a download."""
    return (*(f"{MENAGERIE}{name}" for name in (*DRAWN, HANDWRITTEN)), SCANS)


def _from_path(path: Path, split: str) -> AnyBenchmark:
    if splits(path) or ((path / split).is_dir() and any((path / split).glob("*.tar"))):
        return read_any(path, split)
    if is_selection(path):
        return read_selection(path)
    if path.suffix.lower() in FORMATS:
        return read_label_table(path, split)
    if path.is_dir():
        return read_class_folders(path, split)
    raise DataError(f"{path} is no data set: give a folder, or a table ({', '.join(FORMATS)})")


def _from_hub(name: str, split: str) -> AnyBenchmark:
    folder, origin = fetch_set(name, split)
    repository = origin.partition("@")[0].rpartition("/")[2]
    benchmark: AnyBenchmark = replace(read_any(folder, split), name=repository)
    record = next((one for one in records().values() if one.hub == repository), None)
    benchmark = described(benchmark, record, split) if record else benchmark
    return replace(benchmark, notes=(*benchmark.notes, f"from {origin}"))


def _built_in(name: str, split: str) -> Path:
    """Return the folder of a built-in set, whose split is drawn if it is not there yet."""
    if name not in built_in():
        raise DataError(f"{name!r} is no built-in set.{nearest(name, built_in())}")
    known = SCAN_SPLITS if name == SCANS else {"test": 0} if name == f"{MENAGERIE}{HANDWRITTEN}" else SEEDS
    if split not in known:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(known)}")
    folder = cache_folder() / "sets" / f"v{VERSION}" / split / name
    if split not in splits(folder):
        _draw(folder, name, split)
    return folder


def _draw(folder: Path, name: str, split: str) -> None:
    """Write beside the final place, then rename: another process sees nothing or everything."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    kind = name.removeprefix(MENAGERIE)
    if kind in DRAWN:
        one = DRAWN[kind]
        drawn = draw_chunk(SEEDS[split], kind, range(one.size))
        samples = ((picture.image, "png", picture.label) for picture in drawn)
        write_benchmark(partial, samples, one.classnames, one.templates, split)
    else:
        first, last = SCAN_SPLITS[split] if name == SCANS else (0, None)
        write_benchmark(partial, _scans(first, last), DIGITS, DIGIT_TEMPLATES, split)
    try:
        partial.rename(folder)
    except OSError:  # another process was faster, and drew the same
        if split not in splits(folder):
            raise
        shutil.rmtree(partial)


def _scans(first: int, last: int | None) -> Iterator[tuple[bytes, str, int]]:
    for image, digit in islice(handwritten_digits(), first, last):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        yield buffer.getvalue(), "png", digit
