"""How long does `zebra demo` take, how much memory, and how well does its model see?

    python benchmarks/demo.py [--out runs/benchmark-demo] [--seed 0]

Runs the command as a user does, in a process of its own, and keeps wall time per phase, the largest resident size
of the whole process tree and the scores in results/demo.jsonl.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from receipt import keep


def tree_bytes(root: int) -> int:
    """Sum the proportional set size of a process and its children (shared pages are counted once)."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    family, grown = {root}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    total = 0
    for process in family:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


def main() -> None:
    """Run, watch, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-demo"))
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    if told.out.exists():
        raise SystemExit(f"{told.out} exists; a timing needs an empty folder")
    began = time.perf_counter()
    command = [sys.executable, "-m", "zebra", "demo", "--out", str(told.out), "--seed", str(told.seed)]
    process = subprocess.Popen(command)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    seconds = time.perf_counter() - began
    metrics = json.loads((told.out / "metrics.json").read_text())
    journal = [json.loads(line) for line in (told.out / "log.jsonl").read_text().splitlines()]
    keep(
        "demo",
        {
            "seed": told.seed,
            "exit_code": code,
            "seconds": round(seconds, 1),
            "phases_seconds": json.loads((told.out / "phases.json").read_text()),
            "peak_gigabytes": round(peak / 1e9, 2),
            "steps": journal[-1]["step"],
            "pairs_per_second": round(sum(j["samples_per_second"] for j in journal) / len(journal)),
            "data_wait_fraction": round(sum(j["data_wait_fraction"] for j in journal) / len(journal), 4),
            "top1": {name: round(tasks["zero-shot"]["top1"]["value"], 4) for name, tasks in metrics.items()},
        },
    )


if __name__ == "__main__":
    main()
