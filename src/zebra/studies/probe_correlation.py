"""Zero-shot against linear probe over datasets (CLIP Fig. 8)."""

from collections.abc import Sequence
from pathlib import Path

from zebra.protocols.few_shot import correlate_with_probe
from zebra.report import transfer_figures as figures
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_score
from zebra.studies.result import StudyResult
from zebra.studies.runs import ZERO_SHOT_TASK, load_primary_scores, select_datasets

NEEDED = (
    "zero-shot and linear-probe scores in this run. Run: zebra evaluate MODEL DATASET --tasks zero-shot,linear-probe "
    "--out RUN."
)
NEAR_OPTIMUM = 0.03
"""The paper counts the datasets on which zero-shot is within 3 points of the probe."""


def study_probe_correlation(run_dir: Path, datasets: Sequence[str] = ()) -> StudyResult:
    """Correlate a run's zero-shot scores with those of its linear probes over datasets.

    Args:
        run_dir: A directory that `zebra evaluate --tasks zero-shot,linear-probe` wrote.
        datasets: Names of datasets; by default all that have both scores.

    Raises:
        DataError: A dataset lacks a score, or there are fewer than three.
    """
    zero_shot, probe = (load_primary_scores(run_dir, task) for task in (ZERO_SHOT_TASK, "linear-probe"))
    names = select_datasets(zero_shot.keys() & probe.keys(), datasets, NEEDED)
    zero_shot, probe = ({name: scores[name] for name in names} for scores in (zero_shot, probe))
    correlation = correlate_with_probe(zero_shot, probe)
    near = [name for name in names if zero_shot[name].value > probe[name].value - NEAR_OPTIMUM]
    r, slope = correlation.r, correlation.slope
    summary = (
        f"Each point is a dataset, with its usual metric. Pearson's r is {r.value:.2f} [{r.low:.2f}, {r.high:.2f}] "
        f"(p = {correlation.p_value:.2g}), the slope {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}]. On "
        f"{len(near)} of {len(names)} datasets zero-shot is within 3 points of the probe or above it"
        f"{': ' if near else '.'}{', '.join(near)}{'.' if near else ''}"
    )
    rows = tuple((name, format_score(zero_shot[name]), format_score(probe[name])) for name in names)
    figure = figures.plot_scatter(
        {name: (probe[name], zero_shot[name]) for name in names},
        "linear probe",
        "Zero-shot",
        slope=slope.value,
        has_diagonal=True,
    )
    return StudyResult(
        "Zero-shot against linear probe",
        {"zero-shot": zero_shot, "linear probe": probe, "over datasets": {"r": r, "slope": slope}},
        (f"p = {correlation.p_value:.2g} for no correlation",),
        (
            Section("Zero-shot against linear probe", summary, figure),
            Section(
                "Scores by dataset", "With 95% intervals.", ReportTable(("dataset", "zero-shot", "linear probe"), rows)
            ),
        ),
    )
