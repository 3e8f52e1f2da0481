"""Coverage of every 95 % interval and size of every test that zebra prints, by simulation.

A case draws a dataset whose true value is known and computes the score as zebra does. An interval is right if it
contains the true value in 95 % of the datasets, a test if it rejects a true hypothesis in 5 % of them. With 2,000
simulations, 94 to 96 % and 4 to 6 % are within the error of the simulation. The cases are in `coverage_*.py`.

    python benchmarks/coverage.py [NAME ...] [--simulations 2000] [--list]

NAME selects the statistics that contain it. Rows go to results/coverage.jsonl; a later row of a case replaces an
earlier one in the table that `--report` prints.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import coverage_accuracy
import coverage_categories
import coverage_groups
import coverage_images
import coverage_languages
import coverage_means
import coverage_paper
import coverage_ranking
import coverage_studies
from coverage_cases import Case, IntervalCase, TestCase

RESULTS = Path(__file__).parent / "results" / "coverage.jsonl"
MODULES = (
    coverage_accuracy,
    coverage_categories,
    coverage_groups,
    coverage_languages,
    coverage_images,
    coverage_means,
    coverage_paper,
    coverage_ranking,
    coverage_studies,
)


def main() -> None:
    """Simulate the selected cases, list them, or print the table of the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of statistics; default: all")
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--report", action="store_true", help="print the table of the stored rows and stop")
    args = parser.parse_args()
    if args.report:
        print("\n".join(report()))
        return
    for case in select_cases(args.names):
        if args.list:
            print(f"{case.statistic}: {case.settings}")
            continue
        row = simulate(case, args.simulations)
        print(json.dumps(row), flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def select_cases(names: list[str]) -> Iterator[Case]:
    """Yield the cases of the statistics whose names contain one of `names`; all without names."""
    for module in MODULES:
        for case in module.cases():
            if not names or any(name in case.statistic for name in names):
                yield case


def simulate(case: Case, simulations: int) -> dict[str, object]:
    """Return a row of results."""
    start = time.process_time()
    row: dict[str, object] = {"statistic": case.statistic, "settings": case.settings, "simulations": simulations}
    if isinstance(case, IntervalCase):
        truth = case.truth() if callable(case.truth) else case.truth
        num_below = num_above = 0
        width = 0.0
        for seed in range(simulations):
            score = case.draw(seed)
            num_below += truth < score.low
            num_above += truth > score.high
            width += score.high - score.low
        row |= {
            "coverage": 1 - (num_below + num_above) / simulations,
            "truth_below": num_below / simulations,
            "truth_above": num_above / simulations,
            "mean_width": width / simulations,
        }
    else:
        assert isinstance(case, TestCase)
        row["rejected"] = sum(case.draw(seed) < 0.05 for seed in range(simulations)) / simulations
    return row | {"cpu_seconds": round(time.process_time() - start, 1)}


def report() -> Iterator[str]:
    """Yield a Markdown table of the last row of each case."""
    rows = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["statistic"], row["settings"]] = row
    yield "| statistic | data | covered | rejected |"
    yield "|---|---|---|---|"
    for (statistic, settings), row in sorted(rows.items()):
        covered, rejected = (f"{row[key]:.1%}" if key in row else "" for key in ("coverage", "rejected"))
        yield f"| {statistic} | {settings} | {covered} | {rejected} |"


if __name__ == "__main__":
    main()
