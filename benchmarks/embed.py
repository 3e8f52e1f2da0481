"""Table of all embedding benchmarks, with their goals.

    python benchmarks/embed.py [--read]

Runs embed_text.py, embed_images.py and embed_folder.py in turn, which takes an hour on two cores, and prints their
results. With --read, nothing runs, and the table shows the latest rows in results/. Each row has its receipt.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from receipt import RESULTS

PARTS = ("embed_text", "embed_images", "embed_folder")


def latest_row(name: str, **values: str) -> dict[str, Any]:
    """Return the latest stored row of a benchmark with these values."""
    lines = (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return next(row for row in reversed(rows) if all(row.get(key) == value for key, value in values.items()))


def table() -> list[tuple[str, str, str]]:
    """Return rows of task, goal and result."""
    prompts, captions = (latest_row("embed_text", question="prompts"), latest_row("embed_text", question="captions"))
    tokenizing, images, folder = (
        latest_row("embed_text", question="tokenising"),
        latest_row("embed_images"),
        latest_row("embed_folder"),
    )
    times = "times as fast as open_clip"
    ideal, peak = prompts["ideal"], folder["peak_mib"]
    return [
        ("2,000 prompts, fp32", f"0.85 × ideal ({0.85 * ideal:.1f})", f"{prompts['fp32'][times]} ×"),
        ("2,000 prompts, bf16", f"1.6 × ideal ({1.6 * ideal:.1f})", f"{prompts['bf16'][times]} ×"),
        ("2,000 captions, fp32", "4 ×", f"{captions['fp32'][times]} ×"),
        ("images, onnxruntime, fp32", "1.1 ×", f"{images['onnxruntime'][times]} ×"),
        (f"images, auto ({images['auto']['precision']})", "2.5 ×", f"{images['auto'][times]} ×"),
        ("folder to store, auto", "2.2 ×", f"{folder['times_open_clip']['zebra']} ×"),
        ("folder to store, auto, --fast-decode", "3 ×", f"{folder['times_open_clip']['zebra fast']} ×"),
        ("peak memory, MiB", "flat", " → ".join(f"{value} ({key})" for key, value in peak.items())),
        ("tokenizing, one thread", "10 ×", f"{tokenizing[times]} ×"),
    ]


def main() -> None:
    """Run the benchmarks, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", action="store_true", help="show the stored rows")
    if not parser.parse_args().read:
        for part in PARTS:
            subprocess.run([sys.executable, str(Path(__file__).with_name(f"{part}.py"))], check=True)
    for task, goal, result in table():
        print(f"{task:<40} goal {goal:<20} {result}")


if __name__ == "__main__":
    main()
