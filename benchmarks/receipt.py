"""Rows of measurements with command, versions, hardware and date, in benchmarks/results/*.jsonl."""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from zebra.train.environment import collect_environment

RESULTS = Path(__file__).parent / "results"


def save_row(name: str, row: dict[str, Any]) -> None:
    """Append one row to results/NAME.jsonl and print it."""
    environment = collect_environment()
    receipt = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "hardware": f"{environment['cores']} cores, {environment['processor']}",
        "versions": {key: environment["packages"][key] for key in ("torch", "numpy", "pillow")},
        "commit": environment["commit"],
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"receipt": receipt}) + "\n")
    print(json.dumps(row, indent=1))
