"""Effective and relative robustness of models (CLIP §3.3, Fig. 13)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zebra.errors import DataError, suggest_name
from zebra.protocols.robustness import AVERAGE_SHIFT, ShiftRobustness, evaluate_robustness
from zebra.report import study_figures as figures
from zebra.report.page import Section
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_top1_scores, shorten_run_names
from zebra.values import Score


def study_robustness(
    reference_dirs: Sequence[Path],
    standard: str,
    model_dirs: Sequence[Path],
    shifts: Sequence[str] = (),
    baseline: Path | None = None,
) -> StudyResult:
    """Evaluate models against the line of reference models under every shift (CLIP Fig. 13).

    Args:
        reference_dirs: Runs of the reference models, trained on the standard dataset.
        standard: Name of the standard dataset.
        model_dirs: Runs of the models to evaluate.
        shifts: Names of the shifted datasets; by default all that every run has besides the standard one.
        baseline: The run that relative robustness is measured from; by default the first reference run.

    Raises:
        DataError: Too few reference models, an unknown baseline, or a dataset that a run lacks.
    """
    names = shorten_run_names([*reference_dirs, *model_dirs])
    if baseline is not None and baseline not in names:
        raise DataError(f"the baseline {baseline} is not one of the runs. Name one of them.")
    baseline_name = names[baseline or reference_dirs[0]]
    scores_by_model = {names[path]: load_top1_scores(path) for path in (*reference_dirs, *model_dirs)}
    shared = set.intersection(*(set(scores) for scores in scores_by_model.values()))
    shift_names = list(shifts) or sorted(shared - {standard})
    for model, scores in scores_by_model.items():
        for name in (standard, *shift_names):
            if name not in scores:
                raise DataError(f"{model} has no zero-shot top-1 score on {name!r}.{suggest_name(name, scores)}")
    accuracies = {
        model: {name: scores[name] for name in (standard, *shift_names)} for model, scores in scores_by_model.items()
    }
    references = [names[path] for path in reference_dirs]
    results = evaluate_robustness(accuracies, standard, references, baseline_name)
    measured: dict[str, Mapping[str, Score]] = {}
    for shift in results:
        measured[f"effective, {shift.name}"] = shift.effective_robustness
        measured[f"relative, {shift.name}"] = shift.relative_robustness
    return StudyResult(
        f"Robustness to {len(shift_names)} shifts of {standard}",
        measured,
        (),
        tuple(_shift_section(shift, standard, references, baseline_name) for shift in results),
    )


def _shift_section(shift: ShiftRobustness, standard: str, references: Sequence[str], baseline: str) -> Section:
    """Plot accuracy under a shift against standard accuracy, with the line of the reference models."""
    name = "the average of all shifts" if shift.name == AVERAGE_SHIFT else shift.name
    differences = " ".join(
        f"{model}: effective robustness {100 * score.value:+.1f} points [{100 * score.low:+.1f}, "
        f"{100 * score.high:+.1f}], relative robustness {100 * shift.relative_robustness[model].value:+.1f} points."
        for model, score in shift.effective_robustness.items()
    )
    summary = (
        f"Each point is a model. The line is fitted to the reference models; it predicts accuracy on {name} from "
        f"accuracy on {standard}. Effective robustness is the distance above the line, relative robustness the "
        f"difference from the baseline {baseline}. {differences}"
    )
    pairs = {model: (score, shift.shifted_scores[model]) for model, score in shift.standard_scores.items()}
    figure = figures.plot_robustness(
        {model: pairs[model] for model in references},
        {model: pairs[model] for model in shift.effective_robustness},
        shift.line.predict,
        shift.line.confidence_band,
        standard,
        name,
    )
    return Section(f"Robustness: {name}", summary.rstrip(), figure)
