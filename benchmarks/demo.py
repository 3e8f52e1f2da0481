"""Time, memory and accuracy of `zebra demo`.

    python benchmarks/demo.py [--out runs/benchmark-demo] [--seed 0]

Runs the command in its own process. Wall time per phase, the peak memory of the process tree and the scores go to
results/demo.jsonl.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from receipt import save_row


def tree_bytes(root: int) -> int:
    """Return the proportional set size of a process and its descendants (shared pages are counted once)."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    tree, has_grown = {root}, True
    while has_grown:
        children = {child for child, parent in parents.items() if parent in tree} - tree
        tree |= children
        has_grown = bool(children)
    total = 0
    for process in tree:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


def main() -> None:
    """Run the demo, measure its memory, and save the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-demo"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.out.exists():
        raise SystemExit(f"{args.out} exists. Name a new folder, or the time is that of a resumed run.")
    start = time.perf_counter()
    command = [sys.executable, "-m", "zebra", "demo", "--out", str(args.out), "--seed", str(args.seed)]
    process = subprocess.Popen(command)
    peak = 0

    def measure_memory() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid))
            time.sleep(0.5)

    monitor = threading.Thread(target=measure_memory)
    monitor.start()
    code = process.wait()
    monitor.join()
    seconds = time.perf_counter() - start
    metrics = json.loads((args.out / "metrics.json").read_text())
    log = [json.loads(line) for line in (args.out / "log.jsonl").read_text().splitlines()]
    save_row(
        "demo",
        {
            "seed": args.seed,
            "exit_code": code,
            "seconds": round(seconds, 1),
            "phases_seconds": json.loads((args.out / "phases.json").read_text()),
            "peak_gigabytes": round(peak / 1e9, 2),
            "steps": log[-1]["step"],
            "pairs_per_second": round(sum(line["samples_per_second"] for line in log) / len(log)),
            "data_wait_fraction": round(sum(line["data_wait_fraction"] for line in log) / len(log), 4),
            "top1": {name: round(tasks["zero-shot"]["top1"]["value"], 4) for name, tasks in metrics.items()},
        },
    )


if __name__ == "__main__":
    main()
