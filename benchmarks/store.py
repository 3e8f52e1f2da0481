"""How fast is the store, how large, and does its memory stay flat?

    python benchmarks/store.py [--rows 100000] [--commit 2000] [--known 10000000] [--keep]

Rows as zebra embed writes them (512 numbers as float16, a caption, a thumbnail of 2.5 kB) are appended in commits, each
flushed to disk, and read back, by a process of its own whose peak memory is taken; first a fifth of the rows, then all:
the peaks have to be alike. Then the check for known ids is timed with ten million of them. The row goes to
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

from receipt import keep
from zebra.store import Store, StoreMetadata
from zebra.store.id_hash_set import IdHashSet

WIDTH = 512


def main() -> None:
    """Measure, print, and keep the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--commit", type=int, default=2_000, help="rows of one")
    parser.add_argument("--known", type=int, default=10_000_000, help="ids for the check")
    parser.add_argument("--keep", action="store_true", help="write the row to results/store.jsonl")
    parser.add_argument("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.worker:
        print(json.dumps(measure(Path(told.worker), told.rows, told.commit)))
        return
    few, all_rows = (in_a_process(count, told.commit) for count in (told.rows // 5, told.rows))
    row = (
        all_rows | {f"{name}_of_a_fifth": few[name] for name in few if "peak" in name} | known_ids(told.known)
    )
    if told.keep:
        keep("store", row)
    else:
        print(json.dumps(row, indent=1))


def in_a_process(rows: int, commit: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    home = Path(tempfile.mkdtemp(prefix="store-"))
    command = [sys.executable, __file__, "--worker", str(home), "--rows", str(rows), "--commit", str(commit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(home)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(home: Path, rows: int, commit: int) -> dict[str, Any]:
    """Append rows and read them back."""
    seconds: list[float] = []
    with Store.create(home / "store", StoreMetadata("f" * 64, "none", WIDTH, "fp32", "float16")) as store:
        for first in range(0, rows, commit):
            batch = draw(first, min(commit, rows - first))
            began = time.perf_counter()
            store.append(batch)
            seconds.append(time.perf_counter() - began)
        appended_mb = peak_mb()
        disk = sum(path.stat().st_size for path in (home / "store").rglob("*") if path.is_file())
        opened, again = clock(lambda: Store.open(home / "store"))
        scanned, _ = clock(lambda: sum(batch.num_rows for batch in again.scan(again.schema.names)))
        scanned_mb = peak_mb()
        read, (ids, vectors_NE) = clock(again.read_vectors)
        assert vectors_NE.shape == (rows, WIDTH) and len(ids) == rows
        places = np.random.default_rng(0).integers(0, rows, 100).tolist()
        at, _ = clock(lambda: again.take_positions(places))
        take, _ = clock(lambda: again.take_ids([f"{n:064x}" for n in places]))
        compact, _ = clock(store.compact)
        reopened, _ = clock(lambda: Store.open(home / "store"))
    return {
        "rows": rows,
        "rows_per_commit": commit,
        "append_rows_per_second": rows / sum(seconds),
        "first_commits_ms": 1000 * float(np.median(seconds[: max(1, len(seconds) // 5)])),
        "last_commits_ms": 1000 * float(np.median(seconds[-max(1, len(seconds) // 5) :])),
        "bytes_per_row": disk / rows,
        "vector_and_thumbnail_bytes": 2 * WIDTH + 2500,
        "open_ms": 1000 * opened,
        "open_compacted_ms": 1000 * reopened,
        "scan_rows_per_second": rows / scanned,
        "vectors_rows_per_second": rows / read,
        "at_100_ms": 1000 * at,
        "take_100_ms": 1000 * take,
        "compact_seconds": compact,
        "appended_peak_mb": appended_mb,
        "scanned_peak_mb": scanned_mb,
    }


def known_ids(count: int) -> dict[str, Any]:
    """Time the check whether ids are in a store of `count` rows."""
    batches = (
        pa.array([f"{n:064x}" for n in range(first, first + 10_000)]) for first in range(0, count, 10_000)
    )
    made = 0.0

    def timed() -> Any:
        nonlocal made
        for batch in batches:
            began = time.perf_counter()
            yield batch
            made += time.perf_counter() - began

    known = IdHashSet(timed())
    new = [f"{n:064x}" for n in range(count, count + 2000)]
    check, suspects = clock(lambda: known.possible_members(new))
    add, _ = clock(lambda: known.add(new))
    return {
        "known_ids": count,
        "known_ids_mb": known._sorted_hashes.nbytes / 1e6,
        "known_ids_seconds": made,
        "check_2000_ms": 1000 * check,
        "add_2000_ms": 1000 * add,
        "suspects": len(suspects),
    }


def peak_mb() -> float:
    """Read the peak of this process so far."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def clock(work: Any) -> tuple[float, Any]:
    """Return the seconds it takes, and what it gives."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def draw(first: int, count: int) -> pa.Table:
    """Make rows of about the size of real ones."""
    dice = np.random.default_rng(first)
    vectors_NE = dice.standard_normal((count, WIDTH), dtype=np.float32)
    vectors_NE /= np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": [f"{n:064x}" for n in numbers],
            "digest": [f"{n:064x}" for n in numbers],
            "path": [f"pictures/{n // 1000}/{n}.jpg" for n in numbers],
            "caption": [f"a picture with the number {n} and a few more words" for n in numbers],
            "width": [640] * count,
            "height": [480] * count,
            "thumbnail": [dice.bytes(2500) for _ in numbers],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), WIDTH),
        }
    )


if __name__ == "__main__":
    main()
