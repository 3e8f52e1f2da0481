"""Crash test of the store: kill the writer during a commit and compare the rows with a log.

    python benchmarks/store_crash.py [--trials 50] [--seed 0] [--keep]

One process after another writes to one store. Each appends, deletes, updates and merges rows, and writes a line to a
durable log before and after every change. During one change, whose kind alternates between trials, it is killed with
SIGKILL after a random part of the usual time of such a change. Then the store is opened here. It must hold exactly the
rows of the log, including every vector, with or without the last change. The exit code is 1 if they ever differ. The
result goes to results/store_crash.jsonl.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from receipt import save_row
from zebra.store import Store, StoreMetadata
from zebra.store.store import NO_VERSION_CLEANUP
from zebra.store.store_dir import StoreDir

KINDS = ("append", "delete", "update", "compact")
WIDTH = 64
ROWS = 300

VICTIM = """
import json, os, random, signal, sys, threading, time
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_crash import KINDS, apply_change, draw_change, replay_log
from zebra.store import Store

home, kind, seed = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
rng = random.Random(seed)
log = open(home / "log.jsonl", "a")
known = replay_log(home / "log.jsonl", with_last=False)
seconds = {}

def write_log(line):
    log.write(json.dumps(line) + "\\n")
    log.flush()
    os.fsync(log.fileno())

with Store.open(home / "store") as store:
    for number in range(9):
        change = draw_change(rng, known, KINDS[number % 4] if number < 8 else kind)
        write_log(change)
        if number == 8:
            after = rng.random() * seconds[kind]
            threading.Thread(target=lambda: (time.sleep(after), os.kill(os.getpid(), signal.SIGKILL))).start()
        began = time.perf_counter()
        apply_change(store, change)
        seconds[change["kind"]] = time.perf_counter() - began
        write_log({"kind": "done"})
        known = replay_log(home / "log.jsonl", with_last=False)
    time.sleep(60)
"""


def main() -> int:
    """Run the trials, print each result, and store the row."""
    args = parse_arguments()
    warnings.simplefilter("ignore")  # rollbacks are expected
    home = Path(tempfile.mkdtemp(prefix="store-crash-"))
    Store.create(home / "store", StoreMetadata("f" * 64, "none", WIDTH, "fp32", "float16"))
    log = home / "log.jsonl"
    log.touch()
    rng = random.Random(args.seed)
    died: Counter[str] = Counter()
    right = 0
    for number in range(args.trials):
        kind = KINDS[number % len(KINDS)]
        command = [sys.executable, "-c", VICTIM, str(Path(__file__).parent), str(home), kind, str(rng.random())[2:8]]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != -signal.SIGKILL:
            raise SystemExit(f"the writer was not killed; it exited with {result.returncode}:\n{result.stderr}")
        moment = find_kill_point(home / "store")
        stored = read_store(home / "store")
        without, with_it = replay_log(log, with_last=False), replay_log(log, with_last=True)
        outcome = "without" if stored == without else "with" if stored == with_it else "WRONG"
        finish_log(log, outcome == "with")
        died[f"{kind}, {moment}"] += 1
        right += outcome != "WRONG"
        print(
            f"trial {number + 1}: killed while {kind}, {moment}: {len(stored)} rows, {outcome} the change", flush=True
        )
    row = {"trials": args.trials, "right": right, "killed": dict(died), "rows": len(stored), "seed": args.seed}
    print(f"{right} of {args.trials} right")
    if args.keep:
        save_row("store_crash", row)
    if right < args.trials:
        print(f"the store is in {home}")
        return 1
    shutil.rmtree(home)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write the row to results/store_crash.jsonl")
    return parser.parse_args()


def draw_change(rng: random.Random, known: dict[int, str], kind: str) -> dict[str, Any]:
    """Draw a random change."""
    if kind == "append":
        first = max(known, default=-1) + 1 + rng.randrange(5)
        return {"kind": kind, "first": first, "last": first + rng.randrange(1, ROWS)}
    numbers = rng.sample(sorted(known), min(len(known), rng.randrange(1, 20)))
    return {"kind": kind, "rows": numbers, "caption": str(rng.random())}


def apply_change(store: Store, change: dict[str, Any]) -> None:
    """Apply a change to the store."""
    if change["kind"] == "append":
        store.append(rows(change["first"], change["last"]))
    elif change["kind"] == "delete":
        store.delete([f"id-{n}" for n in change["rows"]])
    elif change["kind"] == "update":
        store.update([f"id-{n}" for n in change["rows"]], {"caption": change["caption"]})
    else:
        with store._commit("merging files"):  # like compact, without MIN_SMALL_FILES
            store._table.compact(NO_VERSION_CLEANUP)


def replay_log(log: Path, with_last: bool) -> dict[int, str]:
    """Apply all changes of the log in memory; return row number → caption."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    known: dict[int, str] = {}
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        if line["kind"] == "done" or (last and not with_last):
            continue
        if line["kind"] == "append":
            known |= dict.fromkeys(range(line["first"], line["last"]), "")
        elif line["kind"] == "delete":
            known = {n: caption for n, caption in known.items() if n not in line["rows"]}
        elif line["kind"] == "update":
            known |= dict.fromkeys(line["rows"], line["caption"])
    return known


def finish_log(log: Path, is_applied: bool) -> None:
    """Complete or remove the last change in the log."""
    lines = log.read_text().splitlines()
    if json.loads(lines[-1])["kind"] != "done":
        lines = [*lines, '{"kind": "done"}'] if is_applied else lines[:-1]
        log.write_text("\n".join(lines) + "\n")


def find_kill_point(path: Path) -> str:
    """Return at which point of a commit the writer was killed."""
    store_dir = StoreDir(path)
    commit = store_dir.read_commit()
    assert commit
    if not commit.pending_operation:
        return "before or after it"
    return "made, not recorded" if store_dir.latest_version() > commit.version else "announced"


def read_store(path: Path) -> dict[int, str]:
    """Read a store and check every vector; return row number → caption."""
    captions = {}
    for batch in Store.open(path).scan(["id", "caption", "vector"]):
        for row in batch.to_pylist():
            number = int(row["id"].removeprefix("id-"))
            assert row["vector"] == vector(number).tolist(), f"the vector of row {number} is wrong"
            assert number not in captions, f"row {number} is duplicated"
            captions[number] = row["caption"]
    return captions


def rows(first: int, last: int) -> pa.Table:
    """Return rows that are determined by their numbers."""
    numbers = range(first, last)
    flat = np.concatenate([vector(n) for n in numbers])
    return pa.table(
        {
            "id": [f"id-{n}" for n in numbers],
            "digest": [str(n) for n in numbers],
            "path": [f"{n}.jpg" for n in numbers],
            "caption": [""] * len(numbers),
            "thumbnail": [random.Random(n).randbytes(2000) for n in numbers],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH),
        }
    )


def vector(number: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Return the vector of a row."""
    return np.random.default_rng(number).standard_normal(WIDTH).astype(np.float16)


if __name__ == "__main__":
    raise SystemExit(main())
