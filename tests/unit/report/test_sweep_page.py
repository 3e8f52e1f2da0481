"""The page of a sweep: what became of each variant, and axes that fit the scores."""

import json
from pathlib import Path

import pytest

from zebra.report.comparison_figures import plot_training_curves
from zebra.report.sweep import write_sweep_page
from zebra.train.halving import Rung, VariantResult

RUNGS = [Rung(4, 25), Rung(2, 50), Rung(1, 100)]


@pytest.mark.parametrize(
    ("steps", "states"),
    [
        ([100, 50, 25, 25], ["complete", "dropped after step 50", "dropped after step 25", "dropped after step 25"]),
        ([50, 50, 25, 25], ["unfinished, 50 of 100 steps", *["dropped after step 50"], *["dropped after step 25"] * 2]),
        (
            [50, 25, 25, 25],
            [*["unfinished, 50 of 100 steps"], "unfinished, 25 of 100 steps", *["dropped after step 25"] * 2],
        ),
        ([25, 25, 0, 0], ["unfinished, 25 of 100 steps"] * 2 + ["unfinished, 0 of 100 steps"] * 2),
    ],
)
def test_the_page_tells_dropped_variants_from_those_that_may_go_on(
    tmp_path: Path, steps: list[int], states: list[str]
) -> None:
    results = [
        VariantResult(f"lr={number}", tmp_path / str(number), count, count / 200 or None, is_complete=count == 100)
        for number, count in enumerate(steps)
    ]
    write_sweep_page(tmp_path / "report.html", "pairs.csv", results, RUNGS)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "All variants are trained on pairs.csv" in page
    cells = page.split("<tbody>")[1].split("<tr>")[1:]
    assert [next(state for state in states if state in cell) for cell in cells] == states


def test_axes_fit_low_scores_and_short_runs() -> None:
    log = [{"samples": samples, "loss": 3.0, "eval": {"MRR": 0.07}} for samples in (500, 2400)]
    figure = plot_training_curves({"a": json.loads(json.dumps(log))})
    _, scores = figure.axes
    assert 0.07 < scores.get_ylim()[1] < 0.1
    ticks = [label.get_text() for label in scores.get_xticklabels()]
    assert len(set(ticks)) == len(ticks)
    assert "1.5k" in ticks
