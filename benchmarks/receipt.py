"""A measured row with its receipt (command, versions, hardware, date), appended to benchmarks/results/*.jsonl."""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from zebra.train.environment import collect_environment

RESULTS = Path(__file__).parent / "results"


def keep(name: str, row: dict[str, Any]) -> None:
    """Append one row to results/NAME.jsonl and print it."""
    where = collect_environment()
    receipt = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "hardware": f"{where['cores']} cores, {where['processor']}",
        "versions": {key: where["packages"][key] for key in ("torch", "numpy", "pillow")},
        "commit": where["commit"],
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"receipt": receipt}) + "\n")
    print(json.dumps(row, indent=1))
