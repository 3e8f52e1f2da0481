"""Time and memory of curation by stage from 10⁵ to 10⁷ captions, and runs that are killed.

    python benchmarks/curate.py [--pairs 100000 1000000 10000000] [--workers 2] [--engine threads] [--save]
    python benchmarks/curate.py --kills 20 [--save]

The pool is made up and seeded: captions of Zipf-distributed words from a vocabulary of 500,000, of which 5 % are file
names and 10 % come from 300 frequent strings, in unit files as `zebra curate` writes them before a download. Text
rules, caption frequency, matching with 500,000 entries and balancing to a third of the pool are applied, in a process
of its own per size. The row has CPU-seconds by stage, the peak memory, the number of kept pairs, a digest of their
uids, and the exponent of the time between the smallest and the largest pool. The pool of the smallest size is curated
again in another order, with other units and one worker: the digest must be the same.

With --kills, `zebra curate` on a folder of drawn images is killed with SIGKILL at random moments and started again; the
result must have the bytes of an undisturbed run.
"""

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from match import make_captions, make_entries, make_words
from receipt import save_row
from zebra.config.curate_text import TextRules
from zebra.curate.balance import balance_rules, match_stages
from zebra.curate.match import EntryMatcher
from zebra.curate.pairs import Pairs
from zebra.curate.pipeline import apply_stages
from zebra.curate.text_rules import text_rules
from zebra.engines import open_engine

SEED = 0
NUM_ENTRIES = 500_000
PIECE = 65_536
"""Pairs that are made at a time."""
UNIT_SIZE = 2_048
NUM_IMAGES = 1_500
"""In the pool of the runs that are killed."""
WORDS_PER_CAPTION = 11.6
FREQUENT_CAPTIONS = 300
FILE_NAMES, FREQUENT = 0.05, 0.10


class CaptionMaker:
    """Makes captions of Zipf-distributed words as Arrow arrays."""

    def __init__(self, rng: np.random.Generator) -> None:
        words = make_words(rng)
        self.words = pa.array(words)
        self._cumulative_V = np.cumsum(1 / np.arange(1, len(words) + 1))
        self._frequent = pa.array(make_captions(words[:5_000], FREQUENT_CAPTIONS, rng))

    def __call__(self, number: int, rng: np.random.Generator) -> pa.Array:
        """Return some captions."""
        length_N = np.maximum(1, rng.poisson(WORDS_PER_CAPTION, number))
        uniform_W = rng.random(length_N.sum()) * self._cumulative_V[-1]
        word_W = self.words.take(pa.array(np.searchsorted(self._cumulative_V, uniform_W)))
        mark_W = pa.array(["", ",", "."]).take(pa.array(np.maximum(0, rng.integers(-6, 3, len(word_W)))))
        offsets = pa.array(np.concatenate([[0], np.cumsum(length_N)]).astype(np.int32))
        token_W = pc.binary_join_element_wise(word_W, mark_W, "")
        captions = pc.binary_join(pa.ListArray.from_arrays(offsets, token_W), " ")
        frequent_N = self._frequent.take(pa.array((rng.pareto(1, number) * 3).astype(int) % FREQUENT_CAPTIONS))
        names_N = pc.binary_join_element_wise(
            "IMG_", pc.cast(pa.array(rng.integers(0, 10_000, number)), pa.string()), ".jpg", ""
        )
        kind_N = rng.random(number)
        captions = pc.if_else(pa.array(kind_N < FREQUENT), frequent_N, captions)
        return pc.if_else(pa.array(kind_N > 1 - FILE_NAMES), names_N, captions)


def iter_pool(num_pairs: int) -> Iterator[pa.Table]:
    """Yield the pairs of the pool in pieces."""
    make = CaptionMaker(np.random.default_rng(SEED))
    for start in range(0, num_pairs, PIECE):
        rng = np.random.default_rng((SEED, start))
        number = min(PIECE, num_pairs - start)
        index_N = np.arange(start, start + number)
        uids = pa.py_buffer(rng.bytes(16 * number))
        yield pa.table(
            {
                "uid": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), number, [None, uids]),
                "index": index_N,
                "id": pc.binary_join_element_wise("https://host.example/", pc.cast(pa.array(index_N), pa.string()), ""),
                "text": make(number, rng),
            }
        )


def write_entries(path: Path) -> None:
    """Write the list of entries: frequent words and runs of words of other captions."""
    rng = np.random.default_rng(SEED)
    make = CaptionMaker(rng)
    captions = make(NUM_ENTRIES, np.random.default_rng(1)).to_pylist()
    path.write_text("\n".join(make_entries(make.words.to_pylist(), captions, NUM_ENTRIES, rng)) + "\n")


def write_pool(folder: Path, num_pairs: int, unit_size: int = UNIT_SIZE, order_seed: int | None = None) -> None:
    """Write the unit files of a pool, with a seed in another order."""
    folder.mkdir(parents=True)
    pieces = list(iter_pool(num_pairs)) if order_seed is not None else iter_pool(num_pairs)
    if order_seed is not None:
        table = pa.concat_tables(pieces)
        pieces = [table.take(np.random.default_rng(order_seed).permutation(len(table)))]
    number = 0
    for piece in pieces:
        for start in range(0, len(piece), unit_size):
            pq.write_table(piece.slice(start, unit_size), folder / f"{number:07d}.parquet")
            number += 1


def measure(folder: Path, entries: Path, engine_name: str, workers: int) -> dict[str, Any]:
    """Curate a pool in this process; return CPU-seconds by stage, memory and result."""
    pa.set_cpu_count(1)
    start, stages = time.time(), {}
    matcher = EntryMatcher(entries.read_text().splitlines())
    pairs = Pairs(sorted(folder.glob("*.parquet")))
    config = TextRules(min_words=3, max_words=256, max_repetition=0.2, max_frequency=10, boilerplate=("image for",))
    rules = [*text_rules(config), *match_stages(matcher), *balance_rules(matcher, None, len(pairs) // 3, SEED)]
    previous, last = "open", time.process_time()

    def note(_done: int, _total: int, stage: str) -> None:
        nonlocal previous, last
        stages[previous] = stages.get(previous, 0) + time.process_time() - last
        previous, last = stage, time.process_time()

    with tempfile.TemporaryDirectory() as scan, open_engine(engine_name, workers) as engine:
        apply_stages(pairs, rules, Path(scan), note, engine)
        note(0, 0, "end")
        uids = sorted(uid for table in pairs.read_kept(("uid",)) for uid in table["uid"].to_pylist())
    # Not ru_maxrss, which counts the memory of the process that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "pairs": len(pairs),
        "kept": len(uids),
        "kept_digest": sha256(b"".join(uids)).hexdigest()[:16],
        "cpu_seconds": round(sum(stages.values()), 1),
        "cpu_seconds_by_stage": {stage: round(seconds, 1) for stage, seconds in stages.items()},
        "seconds": round(time.time() - start, 1),
        "peak_mib": int(peak.split()[1]) // 1024,
    }


def run_sizes(home: Path, sizes: list[int], engine: str, workers: int) -> dict[str, Any]:
    """Measure pools of several sizes, and the smallest one in another order."""
    entries = home / "entries.txt"
    write_entries(entries)

    def run(folder: Path, engine: str, workers: int) -> dict[str, Any]:
        command = [sys.executable, __file__, "--measure", str(folder), str(entries), engine, str(workers)]
        result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        shutil.rmtree(folder)
        print(result, flush=True)
        return result

    rows = []
    for number in sizes:
        write_pool(home / "pool", number)
        rows.append(run(home / "pool", engine, workers))
    write_pool(home / "pool", sizes[0], unit_size=3_000, order_seed=1)
    other_order = run(home / "pool", "threads", 1)
    first, last = rows[0], rows[-1]
    return {
        "engine": engine,
        "workers": workers,
        "sizes": rows,
        "exponent": round(
            math.log(last["cpu_seconds"] / first["cpu_seconds"]) / math.log(last["pairs"] / first["pairs"]), 3
        )
        if len(rows) > 1
        else None,
        "same_in_another_order": other_order["kept_digest"] == first["kept_digest"],
    }


def run_kills(home: Path, num_kills: int) -> dict[str, Any]:
    """Kill `zebra curate` at random moments and start it again; compare the bytes with those of an undisturbed run."""
    pool, rng = home / "pool", random.Random(SEED)
    pool.mkdir()
    for number in range(NUM_IMAGES):
        pixels = np.random.default_rng(number % 2_500).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pool / f"{number}.jpg")
        (pool / f"{number}.txt").write_text(f"a {('red', 'green', 'blue')[number % 3]} field number {number % 1_000}\n")
    (home / "entries.txt").write_text("red\ngreen\nblue\n" + "".join(f"{number}\n" for number in range(1_000)))

    def start(out: Path) -> "subprocess.Popen[bytes]":
        settings = [
            "--text.max-frequency",
            "20",
            "--balance.entries",
            str(home / "entries.txt"),
            "--balance.keep",
            "900",
        ]
        command = [sys.executable, "-m", "zebra", "curate", str(pool), "--out", str(out), *settings]
        return subprocess.Popen(
            [*command, "--samples-per-shard", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    begin = time.time()
    if start(home / "whole").wait():
        raise SystemExit("the undisturbed run failed")
    seconds, kills, finished, identical = time.time() - begin, 0, 0, 0
    expected = read_outputs(home / "whole")
    while kills < num_kills:
        process = start(home / "set")
        try:
            process.wait(timeout=rng.uniform(0.2, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        if process.returncode == 0:
            finished += 1
            identical += read_outputs(home / "set") == expected
            shutil.rmtree(home / "set")
    if (home / "set").exists():
        start(home / "set").wait()
        finished += 1
        identical += read_outputs(home / "set") == expected
    return {"images": NUM_IMAGES, "kills": kills, "finished": finished, "identical": identical}


def read_outputs(folder: Path) -> dict[str, bytes]:
    """Return the files of a set; the name of the folder in its account is replaced."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    return {name: data.replace(str(folder).encode(), b"SET") for name, data in files.items()}


def main() -> int:
    """Measure, print, and save the row if asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--engine", choices=("threads", "ray"), default="threads")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        folder, entries, engine, workers = args.measure
        print(json.dumps(measure(Path(folder), Path(entries), engine, int(workers))))
        return 0
    with tempfile.TemporaryDirectory() as home:
        if args.kills:
            row = run_kills(Path(home), args.kills)
            is_same = row["identical"] == row["finished"]
        else:
            row = run_sizes(Path(home), args.pairs, args.engine, args.workers)
            is_same = row["same_in_another_order"]
    if args.save:
        save_row("curate", row)
    else:
        print(row)
    return 0 if is_same else 1


if __name__ == "__main__":
    raise SystemExit(main())
