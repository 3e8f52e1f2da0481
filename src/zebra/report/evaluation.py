"""The report of `zebra evaluate`, with one section per type of task."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zebra.data.benchmarks.suites import LIMITATIONS, load_suites
from zebra.data.sources import Source
from zebra.evaluators.class_results import has_classes
from zebra.evaluators.languages import language_of
from zebra.evaluators.results import TaskResult
from zebra.evaluators.suite_results import SuiteResult
from zebra.pretrained.bundle import Bundle
from zebra.report.calibration import calibration_sections
from zebra.report.classification import class_sections
from zebra.report.compositionality import compositionality_section
from zebra.report.evaluation_summary import MAX_HEADLINES, format_model_name, select_headlines, summarize_results
from zebra.report.figures import plot_limitations, plot_prompt_ablation
from zebra.report.languages import language_sections
from zebra.report.page import ReportTable, Section, write_page
from zebra.report.retrieval import retrieval_sections
from zebra.report.study_figures import plot_few_shot
from zebra.report.style import format_metric, format_percent, format_score
from zebra.report.suites import suite_headlines, suite_sections, summarize_suites
from zebra.values import Score

ABLATION_TASKS = ("zero-shot-bare-name", "zero-shot-one-prompt", "zero-shot")


def write_evaluation_report(
    path: Path,
    clip: Bundle,
    model: str,
    results: Sequence[TaskResult],
    sources: Mapping[str, Source],
    suite_results: Sequence[SuiteResult] = (),
) -> None:
    """Write the page.

    Args:
        path: The HTML file to write.
        clip: The evaluated model.
        model: Its path or name, as the user gave it.
        results: The results of all tasks on all datasets.
        sources: The images of each dataset.
        suite_results: The results of suites.
    """
    multilingual = {result.dataset for result in results if language_of(result.task)}
    sections = [
        *suite_sections(suite_results),
        *zero_shot_sections(results),
        *(
            section
            for result in results
            if result.task == "zero-shot" and has_classes(result)
            for section in class_sections(result, sources[result.dataset])
        ),
        *(
            section
            for result in results
            if result.task == "retrieval" and result.dataset not in multilingual
            for section in retrieval_sections(result, sources[result.dataset])
        ),
        *language_sections(results),
        *(compositionality_section(result) for result in results if result.task == "compositionality"),
        *prompt_sections(results),
        *few_shot_sections(results),
        *calibration_sections(results),
        *limitation_sections(results),
        *other_sections(results),
        *note_sections(results),
        model_section(clip, model),
    ]
    title = f"Evaluation of {format_model_name(model)}"
    headlines = suite_headlines(suite_results)[:MAX_HEADLINES] or select_headlines(results)
    lead = summarize_suites(suite_results) if suite_results else summarize_results(results)
    write_page(path, title, lead, sections, headlines)


def zero_shot_sections(results: Sequence[TaskResult]) -> list[Section]:
    """List the zero-shot scores on each dataset."""
    zero_shot = [result for result in results if result.task == "zero-shot"]
    if not zero_shot:
        return []
    metrics = list(dict.fromkeys(metric for result in zero_shot for metric in result.scores))
    rows = tuple(
        (
            result.dataset,
            *(format_score(result.scores.get(metric), missing="") for metric in metrics),
            "" if result.chance_accuracy is None else format_percent(result.chance_accuracy),
            f"{next(iter(result.scores.values())).n:,}",
        )
        for result in zero_shot
    )
    summary = (
        "The prediction is the class whose text prompts are most similar to the image. This evaluation did not train "
        "on images of these datasets. Chance is the accuracy of random guessing."
    )
    table = ReportTable(("dataset", *metrics, "chance", "images"), rows)
    return [Section("Zero-shot classification", summary, table)]


def prompt_sections(results: Sequence[TaskResult]) -> list[Section]:
    """Compare the class name alone, one prompt and all prompts (CLIP §3.1.4)."""
    top1 = {
        (result.dataset, result.task): result.scores["top1"]
        for result in results
        if result.task in ABLATION_TASKS and "top1" in result.scores
    }
    datasets = [
        name for name in dict.fromkeys(name for name, _ in top1) if all((name, task) in top1 for task in ABLATION_TASKS)
    ]
    if not datasets:
        return []
    bare_name, one_prompt, all_prompts = ABLATION_TASKS
    gains = [100 * (top1[name, all_prompts].value - top1[name, bare_name].value) for name in datasets]
    summary = (
        "Zero-shot accuracy with the class name alone, with one prompt, and with all prompts of the dataset. From "
        f"the class name alone to all prompts, accuracy changes by {sum(gains) / len(gains):+.1f} points, averaged "
        "over datasets."
    )
    scores = {name: (top1[name, bare_name], top1[name, one_prompt], top1[name, all_prompts]) for name in datasets}
    return [Section("Effect of prompts", summary, plot_prompt_ablation(scores))]


def few_shot_sections(results: Sequence[TaskResult]) -> list[Section]:
    """Plot the accuracy of few-shot probes against zero-shot accuracy (CLIP Fig. 6)."""
    zero_shot = {result.dataset: result.scores["top1"] for result in results if result.task == "few-shot-zero-shot"}
    curves: dict[str, tuple[dict[int, Score], Score, float]] = {}
    for result in results:
        prefix, _, shots = result.task.rpartition("-")
        if prefix == "few-shot" and shots.isdecimal():
            points, _, _ = curves.setdefault(
                result.dataset, ({}, zero_shot[result.dataset], result.chance_accuracy or 0.0)
            )
            points[int(shots)] = result.scores["top1"]
    if not curves:
        return []
    num_better = sum(score.value > points[min(points)].value for points, score, _ in curves.values())
    summary = (
        "A linear probe is a linear classifier that is trained on image features, here on those before the "
        "projection and with a few labeled examples per class. Both methods use the same test images. Zero-shot "
        f"classification is better than the probe with the fewest examples on {num_better} of {len(curves)} datasets."
    )
    return [Section("Zero-shot against labeled examples", summary, plot_few_shot(curves))]


def limitation_sections(results: Sequence[TaskResult]) -> list[Section]:
    """Plot accuracy on tasks that the paper lists as limitations (CLIP §6)."""
    limitations = {member.name: member.group for member in load_suites()[LIMITATIONS].members}
    rows = {
        f"{limitations[result.dataset]}: {result.dataset}": (result.scores["top1"], result.chance_accuracy)
        for result in results
        if result.task == "zero-shot"
        and result.dataset in limitations
        and "top1" in result.scores
        and result.chance_accuracy
    }
    if not rows:
        return []
    summary = (
        "The CLIP paper reports low accuracy on counting, distance, fine-grained classes and handwriting. Each line "
        "runs from chance to zero-shot accuracy."
    )
    rows = dict(sorted(rows.items()))
    figure = plot_limitations({name: (score, chance) for name, (score, chance) in rows.items() if chance})
    return [Section("Difficult tasks", summary, figure)]


def other_sections(results: Sequence[TaskResult]) -> list[Section]:
    """List the scores that no figure shows."""
    rows = tuple(
        (result.dataset, result.task, metric, format_metric(metric, score))
        for result in results
        if not result.task.startswith(("zero-shot", "few-shot", "retrieval", "compositionality"))
        for metric, score in result.scores.items()
    )
    if not rows:
        return []
    summary = "The scores of all other tasks that were requested and are possible on the dataset."
    return [Section("Other tasks", summary, ReportTable(("dataset", "task", "metric", "score"), rows))]


def note_sections(results: Sequence[TaskResult]) -> list[Section]:
    """List the notes on the results, each with its datasets."""
    datasets_by_note: dict[str, dict[str, None]] = {}
    for result in results:
        for note in result.notes:
            datasets_by_note.setdefault(note, {})[result.dataset] = None
    if not datasets_by_note:
        return []
    rows = tuple((note, ", ".join(datasets)) for note, datasets in datasets_by_note.items())
    summary = "Details that affect how to read the scores. The file results.jsonl contains them with each score."
    return [Section("Notes", summary, ReportTable(("note", "datasets"), rows))]


def model_section(clip: Bundle, model: str) -> Section:
    """Identify the model."""
    rows = (
        ("model", model),
        ("fingerprint", clip.fingerprint),
        ("precision", f"{clip.precision} in {clip.backend}"),
        ("input", str(clip.preprocess)),
    )
    summary = "The file results.jsonl contains these properties with each score."
    return Section("Model", summary, ReportTable(("property", "value"), rows))
