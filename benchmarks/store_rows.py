"""Cost of `zebra embed` beside the model, while a store grows to ten million rows.

    python benchmarks/store_rows.py fill STORE [--rows 10000000] [--vectors random|hard] [--seconds 480] [--keep]
    python benchmarks/store_rows.py again STORE [--new 1000] [--keep]

`fill` runs the pipeline of `zebra embed` (batches, digests, the index of existing rows, commits, merges of files) over
a made list of images. No image is decoded and no model runs: an image's bytes are its number, preprocessing returns it,
and the model returns the made vector of this number. There are no thumbnails, which would take another 2.5 kB a row.
Each `--every` rows, it records the commits since the last record, memory, files and bytes, and what a new process needs
to open the store and to index its rows. A store that exists is filled further; `--seconds` stops early. Versions of the
run are removed after 20 seconds instead of ten minutes, because rows come a hundred times as fast as with a model.

`again` runs the pipeline over the same images and `--new` others: everything but these is up to date. Then it runs over
the old images alone and prunes the others, so that the store has the same rows as before.

Commits are timed in wall seconds, with all fsyncs, and in CPU-seconds of the process, with the threads of LanceDB. Rows
go to results/store_rows.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from receipt import save_row
from zebra.data.locations import ImageRef, Location
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.pipeline import EmbedPipeline, Progress
from zebra.embed.stages import EMBED_COLUMNS
from zebra.embed.values import PreprocessedImage
from zebra.images.tensors import Pixels
from zebra.store import Store, StoreMetadata
from zebra.store import store as store_module
from zebra.values import Record

EMBED_DIM = 512
BLOCK_ROWS = 65_536
DATASET_NAME = "/data/images"
BATCH_SIZE = 1024


class MadeImages:
    """A list of images that are their numbers."""

    name = DATASET_NAME

    def __init__(self, count: int) -> None:
        self.count = count

    def num_images(self) -> int:
        """Return the number of images."""
        return self.count

    def scan(self) -> Iterator[ImageRef]:
        """Yield the images with locations and stamps like those of files."""
        for number in range(self.count):
            key = f"images/{number // 1000:05}/{number:08}.jpg"
            location = Location(key, f"{100_000 + number}:1766{number:015}", f"{DATASET_NAME}/{key}")
            yield ImageRef(location, partial(read_image, number))


def read_image(number: int) -> Record:
    """Return the record of an image."""
    return Record(str(number), number.to_bytes(8, "little"))


def preprocess(data: bytes, _location: str) -> PreprocessedImage:
    """Return the bytes of an image as its pixels."""
    return PreprocessedImage(np.frombuffer(data, np.uint8).reshape(1, 1, 8), 640, 480, None)


class MadeVectors:
    """A stub of the model: looks the vectors up by the number in the pixels."""

    def __init__(self, kind: str) -> None:
        self._make_block = make_hard_block() if kind == "hard" else make_random_block
        self._blocks: dict[int, NDArray[np.float16]] = {}

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """Return the vectors, float32 [B, E]."""
        number_B = np.ascontiguousarray(pixels).reshape(len(pixels), 8).view(np.int64)[:, 0]
        vectors_BE = np.empty((len(number_B), EMBED_DIM), np.float32)
        for block in np.unique(number_B // BLOCK_ROWS).tolist():
            if block not in self._blocks:
                self._blocks = {block: self._make_block(block)}
            in_block_B = number_B // BLOCK_ROWS == block
            vectors_BE[in_block_B] = self._blocks[block][number_B[in_block_B] % BLOCK_ROWS]
        return torch.from_numpy(vectors_BE)


def make_random_block(number: int) -> NDArray[np.float16]:
    """Return unit vectors in uniform directions, float16 [BLOCK_ROWS, E]."""
    vectors_NE = np.random.default_rng(number).standard_normal((BLOCK_ROWS, EMBED_DIM), dtype=np.float32)
    unit_NE: NDArray[np.float32] = vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return unit_NE.astype(np.float16)


def make_hard_block() -> Callable[[int], NDArray[np.float16]]:
    """Return the generator of the vectors that benchmarks of search use."""
    from hard_vectors import HardVectors

    return HardVectors().block


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["fill", "again", "probe"])
    parser.add_argument("store", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--every", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--vectors", choices=["random", "hard"], default="random")
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument("--keep", action="store_true", help="write the rows to results/store_rows.jsonl")
    args = parser.parse_args()
    if args.step == "probe":
        print(json.dumps(probe(args.store)))
        return
    if args.step == "fill":
        store_module.OWN_VERSION_RETENTION = timedelta(seconds=20)
        fill(args.store, args.rows, args.every, args.seconds, MadeVectors(args.vectors), partial(report, args.keep))
    else:
        report(args.keep, {"step": "again"} | again(args.store, args.new, MadeVectors(args.vectors)))


def report(keep: bool, row: dict[str, Any]) -> None:
    """Print or store a row."""
    row = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    if keep:
        save_row("store_rows", row)
    else:
        print(json.dumps(row), flush=True)


def open_or_create(path: Path) -> Store:
    """Open a store, or create it with the columns of `zebra embed`."""
    if Store.exists(path):
        return Store.open(path)
    return Store.create(path, StoreMetadata("f" * 64, "none", EMBED_DIM, "fp32", "float16"), EMBED_COLUMNS)


def run_pipeline(
    existing_rows: ExistingRows,
    count: int,
    vectors: MadeVectors,
    callback: Callable[[Progress], None] = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Embed the first `count` images."""
    pipeline = EmbedPipeline(
        MadeImages(count),  # type: ignore[arg-type]
        existing_rows,
        preprocess,  # type: ignore[arg-type]
        vectors,
        batch_size=BATCH_SIZE,
        num_workers=1,
        max_skip_rate=0.0,
        on_skip=print,
        callback=callback,
        should_stop=should_stop,
    )
    pipeline()
    return pipeline.progress


def fill(
    path: Path, count: int, every: int, seconds: float, vectors: MadeVectors, save: Callable[[dict[str, Any]], None]
) -> None:
    """Embed `count` images, and save a row of measurements each `every` rows."""
    end_time = time.monotonic() + seconds
    commits: list[tuple[float, float, int]] = []
    with open_or_create(path) as store:
        existing_rows = ExistingRows(store, DATASET_NAME)
        write = existing_rows.write

        def timed_write(*args: Any) -> None:
            start, cpu, written = time.perf_counter(), time.process_time(), written_bytes()
            write(*args)
            commits.append((time.perf_counter() - start, time.process_time() - cpu, written_bytes() - written))

        existing_rows.write = timed_write  # type: ignore[method-assign,assignment]
        due = every * (len(store) // every + 1)

        def record(_progress: Progress) -> None:
            nonlocal due
            if len(store) < due:
                return
            due += every
            walls, cpus, num_bytes = (np.array(values) for values in zip(*commits, strict=True))
            commits.clear()
            row = {
                "step": "fill",
                "rows": len(store),
                "commits": len(walls),
                "commit_ms": 1000 * float(np.median(walls)),
                "commit_p99_ms": 1000 * float(np.percentile(walls, 99)),
                "commit_max_s": float(walls.max()),
                "commits_s": float(walls.sum()),
                "commits_cpu_s": float(cpus.sum()),
                "written_mb": float(num_bytes.sum()) / 1e6,
                "rss_mb": memory_mb("VmRSS"),
                "peak_mb": memory_mb("VmHWM"),
            }
            save(row | count_files(path) | probe_in_process(path))

        run_pipeline(existing_rows, count, vectors, record, lambda: time.monotonic() > end_time)
        if len(store) == count:
            compact_s, _ = time_call(store.compact)
            save({"step": "finish", "compact_s": compact_s} | count_files(path) | probe_in_process(path))


def again(path: Path, num_new: int, vectors: MadeVectors) -> dict[str, Any]:
    """Embed images that are in the store and a few new ones, then prune these; return the measurements."""
    num_old = len(Store.open(path))
    appended = embed_again(path, num_old + num_new, vectors)
    pruned = embed_again(path, num_old, vectors)
    row = {
        f"{name}_{key}": value for name, run in (("append", appended), ("prune", pruned)) for key, value in run.items()
    }
    assert (row["append_unchanged"], row["append_embedded"], row["prune_pruned"]) == (num_old, num_new, num_new)
    return {"rows": num_old} | row | {"peak_mb": memory_mb("VmHWM")}


def embed_again(path: Path, count: int, vectors: MadeVectors) -> dict[str, Any]:
    """Embed and prune as `zebra embed --prune`; return the seconds of each part."""
    open_s, store = time_call(lambda: open_or_create(path))
    with store:
        index_s, existing_rows = time_call(lambda: ExistingRows(store, DATASET_NAME))
        list_s, _ = time_call(lambda: sum(1 for _ in MadeImages(count).scan()))
        run_s, progress = time_call(lambda: run_pipeline(existing_rows, count, vectors))
        prune_s, num_pruned = time_call(existing_rows.delete_stale)
    return {
        "unchanged": progress.unchanged,
        "embedded": progress.embedded,
        "pruned": num_pruned,
        "open_s": open_s,
        "index_s": index_s,
        "list_s": list_s,
        "run_s": run_s,
        "prune_s": prune_s,
    }


def probe(path: Path) -> dict[str, Any]:
    """Open a store and index its rows; return seconds and memory."""
    import lancedb  # noqa: F401  (its import takes a second)

    Store.exists(path)
    before = memory_mb("VmRSS")
    opened, store = time_call(lambda: Store.open(path))
    indexed, existing_rows = time_call(lambda: ExistingRows(store, DATASET_NAME))
    images = [image_ref.location for image_ref in MadeImages(1000).scan()]
    looked_up, states = time_call(lambda: existing_rows.mark_seen(images))
    assert all(states)
    return {
        "open_s": opened,
        "index_s": indexed,
        "index_mb": memory_mb("VmRSS") - before,
        "index_peak_mb": memory_mb("VmHWM") - before,
        "lookup_1000_ms": 1000 * looked_up,
    }


def probe_in_process(path: Path) -> dict[str, Any]:
    """Run `probe` in a new process."""
    command = [sys.executable, __file__, "probe", str(path)]
    result: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return result


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
