"""Cost of `zebra embed` beside the model, while a store grows to ten million rows.

    python benchmarks/store_rows.py STORE [--levels 1000000 2000000 5000000 10000000] [--commits 96] [--keep]

At each level, the store is first filled with rows like those of `zebra embed` up to `--commits` commits below it, in
large appends that are not timed. Then a new process runs the pipeline of `zebra embed --prune` (list, look-up, batches,
digests, index of existing rows, commits, deletion of stale rows, merges of files) over all images, so that most are
unchanged, the last ones new, and a thousand stale. No file is read and no model runs: an image's bytes are its number,
preprocessing returns it, and the model returns a made vector of this number. There are no thumbnails, which would take
another 2.5 kB a row.

Commits are timed in wall seconds, with all fsyncs. Memory is the growth of the process from before the store is opened,
when torch and LanceDB are imported. Rows go to results/store_rows.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from receipt import save_row
from zebra.data.locations import ImageRef, Location
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.pipeline import COMMIT_ROWS, EmbedPipeline, Progress
from zebra.embed.stages import EMBED_COLUMNS, make_row_id
from zebra.embed.values import PreprocessedImage
from zebra.images.tensors import Pixels
from zebra.store import Store, StoreMetadata
from zebra.values import Record

EMBED_DIM = 512
NUM_VECTORS = 65_536
ROWS_PER_APPEND = 2**20
"""Rows of a file that LanceDB does not merge with others."""
DATASET_NAME = "/data/images"
NUM_STALE = 1000


class MadeImages:
    """A list of images that are their numbers."""

    name = DATASET_NAME

    def __init__(self, start: int, end: int) -> None:
        self.numbers = range(start, end)

    def num_images(self) -> int:
        """Return the number of images."""
        return len(self.numbers)

    def scan(self) -> Iterator[ImageRef]:
        """Yield the images."""
        for number in self.numbers:
            yield ImageRef(make_location(number), partial(read_image, number))


def make_location(number: int) -> Location:
    """Return a location and a stamp like those of a file."""
    key = f"images/{number // 1000:05}/{number:08}.jpg"
    return Location(key, f"{100_000 + number}:1766{number:015}", f"{DATASET_NAME}/{key}")


def read_image(number: int) -> Record:
    """Return the record of an image."""
    return Record(str(number), number.to_bytes(8, "little"))


def preprocess(data: bytes, _location: str) -> PreprocessedImage:
    """Return the bytes of an image as its pixels."""
    return PreprocessedImage(np.frombuffer(data, np.uint8).reshape(1, 1, 8), 640, 480, None)


class MadeVectors:
    """A stub of the model: looks the vectors up by the number in the pixels, modulo NUM_VECTORS."""

    def __init__(self) -> None:
        vectors_NE = np.random.default_rng(0).standard_normal((NUM_VECTORS, EMBED_DIM), dtype=np.float32)
        vectors_NE /= np.linalg.norm(vectors_NE, axis=1, keepdims=True)
        self.vectors_NE = vectors_NE.astype(np.float16)

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """Return the vectors, float32 [B, E]."""
        number_B = np.ascontiguousarray(pixels).reshape(len(pixels), 8).view(np.int64)[:, 0]
        return torch.from_numpy(self.vectors_NE[number_B % NUM_VECTORS].astype(np.float32))


def main() -> None:
    """Measure all levels, each in new processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--levels", type=int, nargs="*", default=[1_000_000, 2_000_000, 5_000_000, 10_000_000])
    parser.add_argument("--commits", type=int, default=96)
    parser.add_argument("--keep", action="store_true", help="write the rows to results/store_rows.jsonl")
    parser.add_argument("--step", nargs=3, metavar=("NAME", "START", "END"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step = {"append": append_rows, "embed": embed_images}[args.step[0]]
        print(json.dumps(step(args.store, int(args.step[1]), int(args.step[2]))))
        return
    end = 0
    for index, level in enumerate(args.levels):
        start, end = end, level - args.commits * COMMIT_ROWS
        seconds = run_step(args.store, "append", start, end)["seconds"]
        row = run_step(args.store, "embed", (index + 1) * NUM_STALE, level)
        end = level
        row |= {"append_rows_per_second": (level - start) / seconds}
        row = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        if args.keep:
            save_row("store_rows", row)
        else:
            print(json.dumps(row), flush=True)


def run_step(path: Path, name: str, start: int, end: int) -> dict[str, Any]:
    """Run a step for the images `start` to `end` in a new process."""
    command = [sys.executable, __file__, str(path), "--step", name, str(start), str(end)]
    result: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return result


def append_rows(path: Path, start: int, end: int) -> dict[str, Any]:
    """Append the rows of images in large appends."""
    vectors_NE, start_time = MadeVectors().vectors_NE, time.perf_counter()
    metadata = StoreMetadata("f" * 64, "none", EMBED_DIM, "fp32", "float16")
    with Store.open(path) if Store.exists(path) else Store.create(path, metadata, EMBED_COLUMNS) as store:
        for first in range(start, end, ROWS_PER_APPEND):
            store.replace([], make_rows(range(first, min(first + ROWS_PER_APPEND, end)), vectors_NE))
    return {"seconds": time.perf_counter() - start_time}


def make_rows(numbers: range, vectors_NE: NDArray[np.float16]) -> pa.Table:
    """Return the rows that `zebra embed` would write for images."""
    locations = [make_location(number) for number in numbers]
    digests = [sha256(read_image(number).image).hexdigest() for number in numbers]
    flat = pa.array(vectors_NE[np.arange(numbers.start, numbers.stop) % NUM_VECTORS].ravel())
    return pa.table(
        {
            "id": [make_row_id(digest, location.key) for digest, location in zip(digests, locations, strict=True)],
            "digest": digests,
            "path": [location.path for location in locations],
            "width": pa.array(np.full(len(numbers), 640, np.int32)),
            "height": pa.array(np.full(len(numbers), 480, np.int32)),
            "source": [DATASET_NAME] * len(numbers),
            "location": [location.key for location in locations],
            "stamp": [location.stamp for location in locations],
            "vector": pa.FixedSizeListArray.from_arrays(flat, EMBED_DIM),
        }
    )


def embed_images(path: Path, start: int, end: int) -> dict[str, Any]:
    """Embed and prune the images as `zebra embed --prune`; return the measurements."""
    import lancedb  # noqa: F401  (its import takes a second)

    vectors = MadeVectors()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    memory = memory_mb("VmRSS")
    open_s, store = time_call(lambda: Store.open(path))
    with store:
        old_rows = len(store)
        index_s, existing_rows = time_call(lambda: ExistingRows(store, DATASET_NAME))
        index_mb, index_peak_mb = memory_mb("VmRSS") - memory, memory_mb("VmHWM") - memory
        images, timed = MadeImages(start, end), TimedCommits(existing_rows)
        list_s, _ = time_call(lambda: sum(1 for _ in images.scan()))
        store.delete([])  # takes the writer lock, as `zebra embed`
        start_time = time.perf_counter()
        first_new: list[float] = []

        def note_first_new(progress: Progress) -> None:
            if not first_new and progress.embedded:
                first_new.append(time.perf_counter() - start_time)

        pipeline = EmbedPipeline(
            images,  # type: ignore[arg-type]
            existing_rows,
            preprocess,  # type: ignore[arg-type]
            vectors,
            batch_size=64,
            num_workers=1,
            max_skip_rate=0.0,
            on_skip=print,
            callback=note_first_new,
            should_stop=lambda: False,
        )
        assert pipeline()
        run_mb = memory_mb("VmRSS") - memory
        prune_s, num_pruned = time_call(existing_rows.delete_stale)
        compact_s, _ = time_call(store.compact)
    progress = pipeline.progress
    assert progress.unchanged + num_pruned == old_rows and progress.embedded + old_rows - num_pruned == len(store)
    return {
        "rows": len(store),
        "unchanged": progress.unchanged,
        "embedded": progress.embedded,
        "pruned": num_pruned,
        "open_s": open_s,
        "index_s": index_s,
        "index_mb": index_mb,
        "index_peak_mb": index_peak_mb,
        "lookup_us_per_image": 1e6 * (first_new[0] - list_s) / progress.unchanged,
        "run_mb": run_mb,
        "peak_mb": memory_mb("VmHWM") - memory,
        "prune_s": prune_s,
        "compact_s": compact_s,
        **timed.summary(),
        **count_files(path),
    }


class TimedCommits:
    """Wall milliseconds and written bytes of each commit."""

    def __init__(self, existing_rows: ExistingRows) -> None:
        self._write = existing_rows.write
        self.commits: list[tuple[float, int]] = []
        existing_rows.write = self.write  # type: ignore[method-assign,assignment]

    def write(self, *args: Any) -> None:
        """Measure a commit."""
        written = written_bytes()
        seconds, _ = time_call(lambda: self._write(*args))
        self.commits.append((1000 * seconds, written_bytes() - written))

    def summary(self) -> dict[str, Any]:
        """Return number, distribution and bytes."""
        milliseconds, num_bytes = (np.array(values) for values in zip(*self.commits, strict=True))
        p50, p95 = np.percentile(milliseconds, [50, 95])
        return {
            "commits": len(self.commits),
            "commit_p50_ms": float(p50),
            "commit_p95_ms": float(p95),
            "commit_max_ms": float(milliseconds.max()),
            "commit_kb": float(num_bytes.mean()) / 1e3,
        }


def count_files(path: Path) -> dict[str, Any]:
    """Return the number of files and the bytes of a store."""
    table = path / "images.lance"
    return {
        "data_files": sum(1 for _ in os.scandir(table / "data")),
        "versions": sum(1 for _ in os.scandir(table / "_versions")),
        "store_mb": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
    }


def written_bytes() -> int:
    """Return the bytes that this process has written to files."""
    return int(Path("/proc/self/io").read_text().split("wchar:")[1].split()[0])


def memory_mb(field: str) -> float:
    """Return a field of /proc/self/status in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


def time_call(fn: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds and the result of a call."""
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
