"""Human answers beside a model's predictions (CLIP Table 2, Fig. 16)."""

from pathlib import Path

from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.errors import DataError
from zebra.evaluators.human import HumanModelComparison, compare_humans_with_model
from zebra.protocols.human import read_answers
from zebra.report import study_figures as figures
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_score
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_predictions
from zebra.values import Score


def study_humans(run_dir: Path, dataset: Path, answers_path: Path) -> StudyResult:
    """Compare human answers with a run's predictions on the same images (CLIP Table 2, Fig. 16).

    Args:
        run_dir: A directory that `zebra evaluate` wrote for this dataset.
        dataset: The CLIP_benchmark folder of the quiz.
        answers_path: The CSV file of `zebra human`, or of the quiz page.

    Raises:
        DataError: A file is damaged, there are no answers, or the run lacks an image of the quiz.
    """
    benchmark = read_classification(dataset)
    predictions = load_predictions(run_dir, benchmark.name)
    ids = predictions["id"].to_pylist()
    labels = dict(zip(ids, predictions["label"].to_pylist(), strict=True))
    is_correct = dict(zip(ids, predictions["correct"].to_pylist(), strict=True))
    answers = read_answers(answers_path, benchmark.classnames, labels)
    if not answers:
        raise DataError(
            f"{answers_path} contains no answers. Record some with zebra human or with the quiz page of zebra serve."
        )
    scores_by_shots: dict[int, dict[str, Score | None]] = {}
    sections, notes = [], []
    for comparison in compare_humans_with_model(answers, labels, is_correct, benchmark.classnames):
        human = comparison.human
        scores_by_shots[comparison.shots] = {
            "accuracy": human.accuracy,
            "majority vote": human.majority_accuracy,
            "on guesses": human.accuracy_on_guesses,
            "majority on guesses": human.majority_accuracy_on_guesses,
            "the model": comparison.model_accuracy,
        }
        notes.append(
            f"{comparison.shots} shots: {human.num_answers} answers by {human.num_people} "
            f"{'person' if human.num_people == 1 else 'people'}; {human.num_ties} ties left out of the majority vote, "
            f"{human.num_ties_on_guesses} left out of the majority on guesses"
        )
        sections.append(_difficulty_section(comparison, notes[-1]))
    table = ReportTable(
        ("", *(_count_examples(shots) for shots in scores_by_shots)),
        tuple(
            (name, *(format_score(scores[name]) for scores in scores_by_shots.values()))
            for name in next(iter(scores_by_shots.values()))
        ),
    )
    summary = (
        "Accuracy averaged over classes, on the images of the quiz. Columns: examples of each class that people saw "
        "first. “I don't know” counts as wrong, except in the rows on guesses, which leave it out."
    )
    accuracy_section = Section(f"Humans and the model on {benchmark.name}", summary, table)
    measured = {
        f"{shots} shots": {name: score for name, score in scores.items() if score}
        for shots, scores in scores_by_shots.items()
    }
    title = f"Humans and the model: {benchmark.name}"
    return StudyResult(title, measured, tuple(notes), (accuracy_section, *sections))


def _count_examples(shots: int) -> str:
    return "1 example" if shots == 1 else f"{shots} examples"


def _difficulty_section(comparison: HumanModelComparison, note: str) -> Section:
    """Plot the accuracy of humans and of the model by class (CLIP Fig. 16)."""
    difficulty = comparison.difficulty
    r = difficulty.correlation
    correlation = (
        f" The correlation over classes (Pearson's r) is {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]." if r else ""
    )
    return Section(
        f"Difficulty after {_count_examples(comparison.shots)}",
        f"Accuracy of humans and of the model on each class.{correlation} {note}.",
        figures.plot_class_difficulty(difficulty.classnames, difficulty.human_scores, difficulty.model_scores),
    )
