"""Error against compute for a family of runs (CLIP Fig. 9)."""

from collections.abc import Sequence
from pathlib import Path

from zebra.errors import DataError, suggest_name
from zebra.protocols.line_fit import MIN_POINTS
from zebra.protocols.metrics import average_scores
from zebra.protocols.scaling import MIN_RUNS_WITH_LIMIT, PowerLaw, PowerLawWithLimit, fit_law_with_limit, fit_power_law
from zebra.report import study_figures as figures
from zebra.report.page import Section
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_top1_scores, shorten_run_names
from zebra.values import Score

MAX_P_VALUE = 0.05
"""Level of the F test for an irreducible error."""


def study_scaling(
    run_dirs: Sequence[Path], compute: Sequence[float], unit: str, datasets: Sequence[str] = ()
) -> StudyResult:
    """Fit a power law of error against compute to a family of runs (CLIP Fig. 9).

    Args:
        run_dirs: Directories that `zebra evaluate` wrote.
        compute: The compute of each run, in `unit`.
        unit: For example "GFLOP per image" or "images seen".
        datasets: The datasets whose errors are averaged; by default all that every run has.

    Raises:
        DataError: Fewer than three runs, not one compute value per run, or a dataset that a run lacks.
    """
    names = shorten_run_names(run_dirs)
    scores_by_run = {names[path]: load_top1_scores(path) for path in run_dirs}
    shared = set.intersection(*(set(scores) for scores in scores_by_run.values()))
    dataset_names = list(datasets) or sorted(shared)
    for run_name, scores in scores_by_run.items():
        if missing := [name for name in dataset_names if name not in scores]:
            raise DataError(
                f"{run_name} has no zero-shot top-1 score on {missing[0]!r}.{suggest_name(missing[0], scores)}"
            )
    if not dataset_names:
        raise DataError("the runs have no dataset in common. Evaluate all of them on the same datasets.")
    means = {
        run_name: average_scores([scores[name] for name in dataset_names]) for run_name, scores in scores_by_run.items()
    }
    errors = {run_name: Score(1 - mean.value, 1 - mean.high, 1 - mean.low, mean.n) for run_name, mean in means.items()}
    law = _fit_scaling_law(compute, [error.value for error in errors.values()])
    points = {run_name: (cost, error.value) for (run_name, error), cost in zip(errors.items(), compute, strict=True)}
    figure = figures.plot_scaling(
        points,
        lambda x: law.confidence_band(x).value_N,
        lambda x: (law.confidence_band(x).low_N, law.confidence_band(x).high_N),
        lambda x: (law.prediction_band(x).low_N, law.prediction_band(x).high_N),
        unit,
    )
    multiplied, description, parameters = "error", "", {"exponent": law.exponent}
    if isinstance(law, PowerLawWithLimit):
        limit = parameters["irreducible error"] = law.irreducible_error
        multiplied = "error above the irreducible error"
        description = (
            f" The errors approach an irreducible error of {limit.value:.1%} [{limit.low:.1%}, {limit.high:.1%}]: with "
            f"it the law fits better (F test, p = {law.p_value:.2g})."
        )
    summary = (
        f"Mean zero-shot error over {', '.join(dataset_names)}, for {len(run_dirs)} runs. Twice the compute "
        f"({unit}) multiplies the {multiplied} by {2**law.exponent.value:.2f}. The exponent of the power law is "
        f"{law.exponent.value:.2f} [{law.exponent.low:.2f}, {law.exponent.high:.2f}].{description}"
    )
    measured = {"error": errors, "law": parameters}
    section = Section("Power law", summary, figure)
    return StudyResult("Error against compute", measured, (summary,), (section,))


def _fit_scaling_law(compute: Sequence[float], error: Sequence[float]) -> PowerLaw | PowerLawWithLimit:
    """Fit the paper's power law, or one with an irreducible error if the runs suffice to show that it fits better."""
    law = fit_power_law(compute, error)
    if len(compute) < MIN_RUNS_WITH_LIMIT or len(set(compute)) < MIN_POINTS:
        return law
    law_with_limit = fit_law_with_limit(compute, error)
    return law_with_limit if law_with_limit.p_value < MAX_P_VALUE else law
