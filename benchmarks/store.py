"""Speed, size and memory of the store.

    python benchmarks/store.py [--rows 100000] [--commit 2000] [--known 10000000] [--keep]

Rows like those of zebra embed (a 512-dimensional float16 vector, a caption, a thumbnail of 2.5 kB) are appended in
durable commits and read back in a separate process, whose peak memory is measured: first with a fifth of the rows, then
with all. The peaks must be similar. Then the check for existing ids is timed with ten million ids. The row goes to
results/store.jsonl.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from receipt import save_row
from zebra.store import Store, StoreMetadata
from zebra.store.id_hash_set import IdHashSet

WIDTH = 512


def main() -> None:
    """Measure and print or store the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--commit", type=int, default=2_000, help="rows per commit")
    parser.add_argument("--known", type=int, default=10_000_000, help="ids in the check for existing ids")
    parser.add_argument("--keep", action="store_true", help="write the row to results/store.jsonl")
    parser.add_argument("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(Path(args.worker), args.rows, args.commit)))
        return
    few, all_rows = (measure_in_process(count, args.commit) for count in (args.rows // 5, args.rows))
    row = all_rows | {f"{name}_of_a_fifth": few[name] for name in few if "peak" in name} | measure_id_check(args.known)
    if args.keep:
        save_row("store", row)
    else:
        print(json.dumps(row, indent=1))


def measure_in_process(rows: int, commit: int) -> dict[str, Any]:
    """Measure in a separate process."""
    home = Path(tempfile.mkdtemp(prefix="store-"))
    command = [sys.executable, __file__, "--worker", str(home), "--rows", str(rows), "--commit", str(commit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(home)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(home: Path, rows: int, commit: int) -> dict[str, Any]:
    """Append rows and read them back; return the measurements."""
    seconds: list[float] = []
    with Store.create(home / "store", StoreMetadata("f" * 64, "none", WIDTH, "fp32", "float16")) as store:
        for first in range(0, rows, commit):
            batch = draw_rows(first, min(commit, rows - first))
            start = time.perf_counter()
            store.append(batch)
            seconds.append(time.perf_counter() - start)
        appended_mb = peak_mb()
        disk = sum(path.stat().st_size for path in (home / "store").rglob("*") if path.is_file())
        open_seconds, reopened = time_call(lambda: Store.open(home / "store"))
        scanned, _ = time_call(lambda: sum(batch.num_rows for batch in reopened.scan(reopened.schema.names)))
        scanned_mb = peak_mb()
        read, (ids, vectors_NE) = time_call(reopened.read_vectors)
        assert vectors_NE.shape == (rows, WIDTH) and len(ids) == rows
        positions = np.random.default_rng(0).integers(0, rows, 100).tolist()
        at, _ = time_call(lambda: reopened.take_positions(positions))
        take, _ = time_call(lambda: reopened.take_ids([f"{n:064x}" for n in positions]))
        compact, _ = time_call(store.compact)
        reopened, _ = time_call(lambda: Store.open(home / "store"))
    return {
        "rows": rows,
        "rows_per_commit": commit,
        "append_rows_per_second": rows / sum(seconds),
        "first_commits_ms": 1000 * float(np.median(seconds[: max(1, len(seconds) // 5)])),
        "last_commits_ms": 1000 * float(np.median(seconds[-max(1, len(seconds) // 5) :])),
        "bytes_per_row": disk / rows,
        "vector_and_thumbnail_bytes": 2 * WIDTH + 2500,
        "open_ms": 1000 * open_seconds,
        "open_compacted_ms": 1000 * reopened,
        "scan_rows_per_second": rows / scanned,
        "vectors_rows_per_second": rows / read,
        "at_100_ms": 1000 * at,
        "take_100_ms": 1000 * take,
        "compact_seconds": compact,
        "appended_peak_mb": appended_mb,
        "scanned_peak_mb": scanned_mb,
    }


def measure_id_check(count: int) -> dict[str, Any]:
    """Time the check for existing ids with `count` ids."""
    batches = (pa.array([f"{n:064x}" for n in range(first, first + 10_000)]) for first in range(0, count, 10_000))
    build_seconds = 0.0

    def timed() -> Any:
        nonlocal build_seconds
        for batch in batches:
            start = time.perf_counter()
            yield batch
            build_seconds += time.perf_counter() - start

    id_hashes = IdHashSet(timed())
    new = [f"{n:064x}" for n in range(count, count + 2000)]
    check, suspects = time_call(lambda: id_hashes.possible_members(new))
    add, _ = time_call(lambda: id_hashes.add(new))
    return {
        "known_ids": count,
        "known_ids_mb": sum(array.nbytes for array in id_hashes._hashes._arrays) / 1e6,
        "known_ids_seconds": build_seconds,
        "check_2000_ms": 1000 * check,
        "add_2000_ms": 1000 * add,
        "suspects": len(suspects),
    }


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def time_call(fn: Any) -> tuple[float, Any]:
    """Return the seconds and the result of a call."""
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


def draw_rows(first: int, count: int) -> pa.Table:
    """Return rows of realistic size."""
    rng = np.random.default_rng(first)
    vectors_NE = rng.standard_normal((count, WIDTH), dtype=np.float32)
    vectors_NE /= np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": [f"{n:064x}" for n in numbers],
            "digest": [f"{n:064x}" for n in numbers],
            "path": [f"images/{n // 1000}/{n}.jpg" for n in numbers],
            "caption": [f"an image with the number {n} and a few more words" for n in numbers],
            "width": [640] * count,
            "height": [480] * count,
            "thumbnail": [rng.bytes(2500) for _ in numbers],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), WIDTH),
        }
    )


if __name__ == "__main__":
    main()
