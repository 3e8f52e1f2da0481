"""Outcomes in, the evaluation's report.html out: a section for each kind of task, one sentence of reading to each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.evaluators.limitations import find_limitation
from zebra.pretrained.bundle import Bundle
from zebra.report.page import ReportTable, Section, write_page
from zebra.report.style import format_percent
from zebra.values import Score

if TYPE_CHECKING:
    from zebra.evaluators.results import TaskResult


def write_evaluation_report(path: Path, clip: Bundle, model: str, results: "Sequence[TaskResult]") -> None:
    """Compose and write the page."""
    sections = [
        *zero_shot_sections(results),
        *prompt_sections(results),
        *few_shot_sections(results),
        *limitation_sections(results),
        *other_sections(results),
        *note_sections(results),
        model_section(clip, model),
    ]
    lead = f"{model}, on {len({outcome.dataset for outcome in results})} data sets. Intervals are of 95 %."
    write_page(path, "What the model recognises", lead, sections)


def zero_shot_sections(results: "Sequence[TaskResult]") -> list[Section]:
    """List the zero-shot scores of every set."""
    found = [outcome for outcome in results if outcome.task == "zero-shot"]
    if not found:
        return []
    metrics = list(dict.fromkeys(metric for outcome in found for metric in outcome.scores))
    rows = tuple(
        (
            outcome.dataset,
            *(_with_interval(outcome.scores.get(metric)) for metric in metrics),
            "" if outcome.chance_accuracy is None else format_percent(outcome.chance_accuracy),
            f"{next(iter(outcome.scores.values())).n:,}",
        )
        for outcome in found
    )
    reading = "Classes were named in words alone; no picture of these sets was trained on by this evaluation."
    return [Section("Zero-shot", reading, ReportTable(("set", *metrics, "chance", "pictures"), rows))]


def prompt_sections(results: "Sequence[TaskResult]") -> list[Section]:
    """Compare the bare name, one prompt and all prompts."""
    from zebra.report.figures import plot_prompt_ablation

    rungs = ("zero-shot-bare-name", "zero-shot-one-prompt", "zero-shot")
    top1 = {
        (outcome.dataset, outcome.task): outcome.scores["top1"]
        for outcome in results
        if outcome.task in rungs and "top1" in outcome.scores
    }
    sets = [
        name
        for name in dict.fromkeys(name for name, _ in top1)
        if all((name, rung) in top1 for rung in rungs)
    ]
    if not sets:
        return []
    gains = [100 * (top1[name, rungs[2]].value - top1[name, rungs[0]].value) for name in sets]
    reading = (
        f"From the bare class name to one prompt to all of them: {sum(gains) / len(gains):+.1f} points in the mean "
        f"over {len(sets)} sets."
    )
    ladders = {name: (top1[name, rungs[0]], top1[name, rungs[1]], top1[name, rungs[2]]) for name in sets}
    return [Section("What the prompts are worth", reading, plot_prompt_ablation(ladders))]


def few_shot_sections(results: "Sequence[TaskResult]") -> list[Section]:
    """Draw the few-shot curves against the zero-shot line."""
    from zebra.report.study_figures import plot_few_shot

    lines = {o.dataset: o.scores["top1"] for o in results if o.task == "few-shot-zero-shot"}
    curves: dict[str, tuple[dict[int, Score], Score, float]] = {}
    for outcome in results:
        prefix, _, shots = outcome.task.rpartition("-")
        if prefix == "few-shot" and shots.isdecimal():
            points, _, _ = curves.setdefault(
                outcome.dataset, ({}, lines[outcome.dataset], outcome.chance_accuracy or 0.0)
            )
            points[int(shots)] = outcome.scores["top1"]
    if not curves:
        return []
    beaten = [name for name, (points, line, _) in curves.items() if line.value > points[min(points)].value]
    reading = (
        "A linear probe on the features before the projection, with a few examples of each class, on the same test "
        f"pictures. On {len(beaten)} of {len(curves)} sets words alone do better than one example of each class."
    )
    return [Section("Words against examples", reading, plot_few_shot(curves))]


def limitation_sections(results: "Sequence[TaskResult]") -> list[Section]:
    """Draw what CLIP is bad at by the paper's own account, as far as it was measured (§6)."""
    from zebra.report.figures import plot_limitations

    found = {
        f"{find_limitation(outcome.dataset)}: {outcome.dataset}": (
            outcome.scores["top1"],
            outcome.chance_accuracy,
        )
        for outcome in results
        if outcome.task == "zero-shot"
        and find_limitation(outcome.dataset)
        and "top1" in outcome.scores
        and outcome.chance_accuracy
    }
    if not found:
        return []
    reading = (
        "Counting, distance, fine differences and handwriting are what the paper found CLIP bad at. The bar runs from "
        "chance to zero-shot accuracy; few-shot curves of the same sets stand above, where they were asked for."
    )
    rows = dict(sorted(found.items()))
    return [
        Section(
            "What is hard for it", reading, plot_limitations({k: (s, c) for k, (s, c) in rows.items() if c})
        )
    ]


def other_sections(results: "Sequence[TaskResult]") -> list[Section]:
    """List what has no figure of its own."""
    shown = ("zero-shot", "few-shot")
    rows = tuple(
        (outcome.dataset, outcome.task, metric, _with_interval(score))
        for outcome in results
        if not outcome.task.startswith(shown)
        for metric, score in outcome.scores.items()
    )
    if not rows:
        return []
    reading = (
        "Probes, retrieval, caption selection and searches, as far as they were asked for and suit a set."
    )
    return [Section("Other tasks", reading, ReportTable(("set", "task", "metric", "score"), rows))]


def note_sections(results: "Sequence[TaskResult]") -> list[Section]:
    """Say what a reader of the scores should know."""
    noted: dict[str, dict[str, None]] = {}
    for outcome in results:
        for note in outcome.notes:
            noted.setdefault(note, {})[outcome.dataset] = None
    if not noted:
        return []
    rows = tuple((note, ", ".join(sets)) for note, sets in noted.items())
    reading = "What a reader of these scores should know; results.jsonl has each beside its score."
    return [Section("Notes", reading, ReportTable(("note", "sets"), rows))]


def model_section(clip: Bundle, model: str) -> Section:
    """Say which model it was."""
    rows = (
        ("model", model),
        ("fingerprint", clip.fingerprint),
        ("precision", f"{clip.precision} in {clip.backend}"),
        ("input", str(clip.preprocess)),
    )
    return Section(
        "The model", "results.jsonl repeats this beside every score.", ReportTable(("what", "which"), rows)
    )


def _with_interval(score: Score | None) -> str:
    return (
        ""
        if score is None
        else f"{format_percent(score.value)} [{format_percent(score.low)}, {format_percent(score.high)}]"
    )
