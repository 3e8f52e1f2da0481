"""Outcomes in, the evaluation's report.html out: a section for each kind of task, one sentence of reading to each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.evaluators.limitations import ability
from zebra.pretrained.bundle import Bundle
from zebra.report.page import Section, Table, write_page
from zebra.report.style import percent
from zebra.values import Score

if TYPE_CHECKING:
    from zebra.evaluators.results import Outcome


def write_evaluation_page(path: Path, clip: Bundle, model: str, outcomes: "Sequence[Outcome]") -> None:
    """Compose and write the page."""
    sections = [
        *zero_shot_sections(outcomes),
        *prompt_sections(outcomes),
        *few_shot_sections(outcomes),
        *limit_sections(outcomes),
        *other_sections(outcomes),
        *note_sections(outcomes),
        about_section(clip, model),
    ]
    lead = f"{model}, on {len({outcome.set for outcome in outcomes})} data sets. Intervals are of 95 %."
    write_page(path, "What the model recognises", lead, sections)


def zero_shot_sections(outcomes: "Sequence[Outcome]") -> list[Section]:
    """List the zero-shot scores of every set."""
    found = [outcome for outcome in outcomes if outcome.task == "zero-shot"]
    if not found:
        return []
    metrics = list(dict.fromkeys(metric for outcome in found for metric in outcome.scores))
    rows = tuple(
        (
            outcome.set,
            *(_with_interval(outcome.scores.get(metric)) for metric in metrics),
            "" if outcome.chance is None else percent(outcome.chance),
            f"{next(iter(outcome.scores.values())).n:,}",
        )
        for outcome in found
    )
    reading = "Classes were named in words alone; no picture of these sets was trained on by this evaluation."
    return [Section("Zero-shot", reading, Table(("set", *metrics, "chance", "pictures"), rows))]


def prompt_sections(outcomes: "Sequence[Outcome]") -> list[Section]:
    """Compare the bare name, one prompt and all prompts."""
    from zebra.report.figures import prompt_ladder

    rungs = ("zero-shot-bare-name", "zero-shot-one-prompt", "zero-shot")
    top1 = {
        (outcome.set, outcome.task): outcome.scores["top1"]
        for outcome in outcomes
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
    return [Section("What the prompts are worth", reading, prompt_ladder(ladders))]


def few_shot_sections(outcomes: "Sequence[Outcome]") -> list[Section]:
    """Draw the few-shot curves against the zero-shot line."""
    from zebra.report.study_figures import few_shot

    lines = {o.set: o.scores["top1"] for o in outcomes if o.task == "few-shot-zero-shot"}
    curves: dict[str, tuple[dict[int, Score], Score, float]] = {}
    for outcome in outcomes:
        prefix, _, shots = outcome.task.rpartition("-")
        if prefix == "few-shot" and shots.isdecimal():
            points, _, _ = curves.setdefault(outcome.set, ({}, lines[outcome.set], outcome.chance or 0.0))
            points[int(shots)] = outcome.scores["top1"]
    if not curves:
        return []
    beaten = [name for name, (points, line, _) in curves.items() if line.value > points[min(points)].value]
    reading = (
        "A linear probe on the features before the projection, with a few examples of each class, on the same test "
        f"pictures. On {len(beaten)} of {len(curves)} sets words alone do better than one example of each class."
    )
    return [Section("Words against examples", reading, few_shot(curves))]


def limit_sections(outcomes: "Sequence[Outcome]") -> list[Section]:
    """Draw what CLIP is bad at by the paper's own account, as far as it was measured (§6)."""
    from zebra.report.figures import limits

    found = {
        f"{ability(outcome.set)}: {outcome.set}": (outcome.scores["top1"], outcome.chance)
        for outcome in outcomes
        if outcome.task == "zero-shot"
        and ability(outcome.set)
        and "top1" in outcome.scores
        and outcome.chance
    }
    if not found:
        return []
    reading = (
        "Counting, distance, fine differences and handwriting are what the paper found CLIP bad at. The bar runs from "
        "chance to zero-shot accuracy; few-shot curves of the same sets stand above, where they were asked for."
    )
    rows = dict(sorted(found.items()))
    return [Section("What is hard for it", reading, limits({k: (s, c) for k, (s, c) in rows.items() if c}))]


def other_sections(outcomes: "Sequence[Outcome]") -> list[Section]:
    """List what has no figure of its own."""
    shown = ("zero-shot", "few-shot")
    rows = tuple(
        (outcome.set, outcome.task, metric, _with_interval(score))
        for outcome in outcomes
        if not outcome.task.startswith(shown)
        for metric, score in outcome.scores.items()
    )
    if not rows:
        return []
    reading = (
        "Probes, retrieval, caption selection and searches, as far as they were asked for and suit a set."
    )
    return [Section("Other tasks", reading, Table(("set", "task", "metric", "score"), rows))]


def note_sections(outcomes: "Sequence[Outcome]") -> list[Section]:
    """Say what a reader of the scores should know."""
    noted: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            noted.setdefault(note, {})[outcome.set] = None
    if not noted:
        return []
    rows = tuple((note, ", ".join(sets)) for note, sets in noted.items())
    reading = "What a reader of these scores should know; results.jsonl has each beside its score."
    return [Section("Notes", reading, Table(("note", "sets"), rows))]


def about_section(clip: Bundle, model: str) -> Section:
    """Say which model it was."""
    rows = (
        ("model", model),
        ("fingerprint", clip.fingerprint),
        ("precision", f"{clip.precision} in {clip.backend}"),
        ("input", str(clip.preprocess)),
    )
    return Section(
        "The model", "results.jsonl repeats this beside every score.", Table(("what", "which"), rows)
    )


def _with_interval(score: Score | None) -> str:
    return "" if score is None else f"{percent(score.value)} [{percent(score.low)}, {percent(score.high)}]"
