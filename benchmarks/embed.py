"""Every figure about embedding, in one table beside its goal.

    python benchmarks/embed.py [--read]

Runs embed_text.py, embed_images.py and embed_folder.py one after the other, an hour on two cores, and prints what
their rows say. With --read nothing is run: the table shows the last rows that are kept in results/. Each row holds its
receipt.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from receipt import RESULTS

PARTS = ("embed_text", "embed_images", "embed_folder")


def last(name: str, **wanted: str) -> dict[str, Any]:
    """Return the last kept row of a benchmark that has these values."""
    lines = (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return next(row for row in reversed(rows) if all(row.get(key) == value for key, value in wanted.items()))


def table() -> list[tuple[str, str, str]]:
    """Return work, goal and outcome."""
    prompts, captions = last("embed_text", question="prompts"), last("embed_text", question="captions")
    words, images, folder = (
        last("embed_text", question="tokenising"),
        last("embed_images"),
        last("embed_folder"),
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
        ("tokenising, one thread", "10 ×", f"{words[times]} ×"),
    ]


def main() -> None:
    """Run the parts, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--read", action="store_true", help="show the rows that are kept")
    if not parser.parse_args().read:
        for part in PARTS:
            subprocess.run([sys.executable, str(Path(__file__).with_name(f"{part}.py"))], check=True)
    for work, goal, outcome in table():
        print(f"{work:<40} goal {goal:<20} {outcome}")


if __name__ == "__main__":
    main()
