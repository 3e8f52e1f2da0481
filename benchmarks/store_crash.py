"""Does a store hold exactly what was committed, when its writer is killed in the middle of a commit?

    python benchmarks/store_crash.py [--trials 50] [--seed 0] [--keep]

One store is written to by one process after another. Each adds, deletes, updates and merges rows, and writes a line to
a flushed log before and after every change. In one of its changes (trials take turns in which kind) it is killed with
SIGKILL, after a random part of the time such a change takes. Then the store is opened here: it must hold, to the last
number of every vector, what the log says was done when the process died, with or without the change it died in, and
nothing in between. Leaves with 1 if it ever differs. The outcome goes to results/store_crash.jsonl.
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

from receipt import keep
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
from store_crash import KINDS, apply_change, draw_change, made_of
from zebra.store import Store

home, kind, seed = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
dice = random.Random(seed)
log = open(home / "log.jsonl", "a")
known = made_of(home / "log.jsonl", with_last=False)
seconds = {}

def say(line):
    log.write(json.dumps(line) + "\\n")
    log.flush()
    os.fsync(log.fileno())

with Store.open(home / "store") as store:
    for number in range(9):
        change = draw_change(dice, known, KINDS[number % 4] if number < 8 else kind)
        say(change)
        if number == 8:
            after = dice.random() * seconds[kind]
            threading.Thread(target=lambda: (time.sleep(after), os.kill(os.getpid(), signal.SIGKILL))).start()
        began = time.perf_counter()
        apply_change(store, change)
        seconds[change["kind"]] = time.perf_counter() - began
        say({"kind": "done"})
        known = made_of(home / "log.jsonl", with_last=False)
    time.sleep(60)
"""


def main() -> int:
    """Run the trials, say what differed, and keep the row."""
    told = arguments()
    warnings.simplefilter("ignore")  # what is undone is said; here it is counted
    home = Path(tempfile.mkdtemp(prefix="store-crash-"))
    Store.create(home / "store", StoreMetadata("f" * 64, "none", WIDTH, "fp32", "float16"))
    log = home / "log.jsonl"
    log.touch()
    dice = random.Random(told.seed)
    died: Counter[str] = Counter()
    right = 0
    for number in range(told.trials):
        kind = KINDS[number % len(KINDS)]
        command = [
            sys.executable,
            "-c",
            VICTIM,
            str(Path(__file__).parent),
            str(home),
            kind,
            str(dice.random())[2:8],
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != -signal.SIGKILL:
            raise SystemExit(f"the writer ended by itself with {done.returncode}:\n{done.stderr}")
        moment = where_it_died(home / "store")
        found = content(home / "store")
        without, with_it = made_of(log, with_last=False), made_of(log, with_last=True)
        outcome = "without" if found == without else "with" if found == with_it else "WRONG"
        settle(log, outcome == "with")
        died[f"{kind}, {moment}"] += 1
        right += outcome != "WRONG"
        print(
            f"trial {number + 1}: killed while {kind}, {moment}: {len(found)} rows, {outcome} the change",
            flush=True,
        )
    row = {"trials": told.trials, "right": right, "killed": dict(died), "rows": len(found), "seed": told.seed}
    print(f"{right} of {told.trials} right")
    if told.keep:
        keep("store_crash", row)
    if right < told.trials:
        print(f"left for inspection: {home}")
        return 1
    shutil.rmtree(home)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write the row to results/store_crash.jsonl")
    return parser.parse_args()


def draw_change(dice: random.Random, known: dict[int, str], kind: str) -> dict[str, Any]:
    """Think of a change."""
    if kind == "append":
        first = max(known, default=-1) + 1 + dice.randrange(5)
        return {"kind": kind, "first": first, "last": first + dice.randrange(1, ROWS)}
    some = dice.sample(sorted(known), min(len(known), dice.randrange(1, 20)))
    return {"kind": kind, "rows": some, "caption": str(dice.random())}


def apply_change(store: Store, change: dict[str, Any]) -> None:
    """Do it to the store."""
    if change["kind"] == "append":
        store.append(rows(change["first"], change["last"]))
    elif change["kind"] == "delete":
        store.delete([f"id-{n}" for n in change["rows"]])
    elif change["kind"] == "update":
        store.update([f"id-{n}" for n in change["rows"]], {"caption": change["caption"]})
    else:
        with store._commit("merging files"):  # compact, without waiting for many of them
            store._table.compact(NO_VERSION_CLEANUP)


def made_of(log: Path, with_last: bool) -> dict[int, str]:
    """Do all changes of the log in memory: number of a row → its caption."""
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


def settle(log: Path, happened: bool) -> None:
    """Make the log say what became of its last change."""
    lines = log.read_text().splitlines()
    if json.loads(lines[-1])["kind"] != "done":
        lines = [*lines, '{"kind": "done"}'] if happened else lines[:-1]
        log.write_text("\n".join(lines) + "\n")


def where_it_died(path: Path) -> str:
    """Say how far the change had come."""
    folder = StoreDir(path)
    state = folder.read_commit()
    assert state
    if not state.pending_operation:
        return "before or after it"
    return "made, not recorded" if folder.latest_version() > state.version else "announced"


def content(path: Path) -> dict[int, str]:
    """Read a store whose every vector is that of its row: number → caption."""
    found = {}
    for batch in Store.open(path).scan(["id", "caption", "vector"]):
        for row in batch.to_pylist():
            number = int(row["id"].removeprefix("id-"))
            assert row["vector"] == vector(number).tolist(), f"the vector of {number} is another"
            assert number not in found, f"{number} is there twice"
            found[number] = row["caption"]
    return found


def rows(first: int, last: int) -> pa.Table:
    """Make some rows; each is made of its number."""
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
    """Make the vector of a row."""
    return np.random.default_rng(number).standard_normal(WIDTH).astype(np.float16)


if __name__ == "__main__":
    raise SystemExit(main())
