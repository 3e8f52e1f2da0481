"""Report sections on languages: a table by score, and a map of their homes."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from zebra.data.benchmarks.languages import detect_script, find_language, name_language
from zebra.evaluators.languages import LANGUAGE_TASKS, language_of
from zebra.evaluators.results import TaskResult
from zebra.report.page import ReportTable, Section
from zebra.report.style import (
    ACCENT,
    FAINT,
    FOREGROUND,
    MUTED,
    SMALL_FONT_SIZE,
    WIDE_INCHES,
    create_figure,
    format_percent,
    format_score,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("text_to_image_recall@1", "image_to_text_recall@1", "top1", "mean_per_class")
"""Metrics of the table; the first one that all languages have sorts it and colors the map."""
METRIC_NAMES = {"text_to_image_recall@1": "recall at 1 from text to image"}
TEXT_COLUMNS = ("caption", "label_name")
"""Columns of predictions with texts in the language."""
METRIC_LABELS = {"text_to_image_recall@1": "text → image", "image_to_text_recall@1": "image → text"}
"""Column headings, where the metric's name is long; the summary says that it is recall at 1."""
WEST, SOUTH, NORTH = -30, -57, 80
"""Edges of the map in degrees. It starts at Europe and Africa, so that a phone shows most languages first."""
MIN_OPACITY = 0.08


def language_sections(results: Sequence[TaskResult]) -> list[Section]:
    """Build the sections on each dataset and task with results by language."""
    groups: dict[tuple[str, str], list[TaskResult]] = {}
    for result in results:
        if language := language_of(result.task):
            groups.setdefault((result.dataset, result.task.removesuffix(f"-{language}")), []).append(result)
    return [
        section
        for (dataset, task), by_language in groups.items()
        for section in _dataset_sections(dataset, task, by_language)
    ]


def _dataset_sections(dataset: str, task: str, results: Sequence[TaskResult]) -> Iterator[Section]:
    metrics = [metric for metric in METRICS if all(metric in result.scores for result in results)]
    if not metrics:
        return
    results = sorted(results, key=lambda result: -result.scores[metrics[0]].value)
    best, worst = results[0], results[-1]
    heading = f"{'Retrieval' if task == LANGUAGE_TASKS[0] else 'Zero-shot classification'} by language on {dataset}"
    summary = f"{len(results)} languages by {METRIC_NAMES.get(metrics[0], metrics[0])}"
    if len(results) > 1:
        summary += f": {_describe(best, metrics[0])} is best, {_describe(worst, metrics[0])} is worst"
    yield Section(heading, f"{summary}. Square brackets contain 95% confidence intervals.", _table(results, metrics))
    if figure := plot_language_map(results, metrics[0]):
        text = (
            f"Each dot is a language at its home, about where most of its speakers live; the stronger the color, the "
            f"higher {METRIC_NAMES.get(metrics[0], metrics[0])}. Coastlines: Natural Earth, simplified."
        )
        yield Section(f"Languages of {dataset} on the map", text, figure)


def _describe(result: TaskResult, metric: str) -> str:
    return f"{name_language(language_of(result.task))} ({format_percent(result.scores[metric].value)})"


def _table(results: Sequence[TaskResult], metrics: Sequence[str]) -> ReportTable:
    samples = "captions" if metrics[0] == "text_to_image_recall@1" else "images"
    rows = tuple(
        (
            f"{name_language(language_of(result.task))}, {language_of(result.task)}",
            _script(result),
            f"{result.scores[metrics[0]].n:,}",
            *(format_score(result.scores[metric]) for metric in metrics),
            _describe_tokens(result),
        )
        for result in results
    )
    columns = ("language", "script", samples, *(METRIC_LABELS.get(metric, metric) for metric in metrics), "tokens")
    width = len(columns) if any(row[-1] for row in rows) else len(columns) - 1
    return ReportTable(columns[:width], tuple(row[:width] for row in rows))


def _script(result: TaskResult) -> str:
    names = [] if result.predictions is None else result.predictions.column_names
    column = next((column for column in TEXT_COLUMNS if column in names), None)
    return "" if column is None or result.predictions is None else detect_script(result.predictions[column].to_pylist())


def _describe_tokens(result: TaskResult) -> str:
    """Shorten the notes of `TokenCounts` on the language."""
    prefix = f"{language_of(result.task)}: "
    notes = " ".join(note for note in result.notes if note.startswith(prefix))
    uncovered = [
        f"{share} {kind}" for share, kind in re.findall(r"(\d+%) of the tokens are ([a-z ]+?)(?=,| and)", notes)
    ]
    truncated = re.search(r"([\d,]+) of [\d,]+ texts are longer", notes)
    return ", ".join([*uncovered, *([f"{truncated[1]} texts cut"] if truncated else [])])


def plot_language_map(results: Sequence[TaskResult], metric: str) -> "Figure | None":
    """Draw the languages at their homes; None if no home is known.

    Args:
        results: Results by language, best first.
        metric: The score that decides the color.
    """
    places = [
        (language.home, result.scores[metric].value, language.name)
        for result in results
        if (language := find_language(language_of(result.task))) and language.home
    ]
    if not places:
        return None
    height = WIDE_INCHES * (NORTH - SOUTH) / 360 + 0.35
    figure = create_figure(WIDE_INCHES, height)
    axes = figure.add_axes((0, 0.35 / height, 1, 1 - 0.35 / height))
    axes.patch.set_alpha(0)
    axes.set_axis_off()
    axes.set_xlim(WEST, WEST + 360)
    axes.set_ylim(SOUTH, NORTH)
    for ring in load_coastlines():
        for shift in (0, 360):
            axes.fill([x + shift for x, _ in ring], [y for _, y in ring], color=FAINT, linewidth=0)
    highest = max(value for _, value, _ in places) or 1.0
    for (latitude, longitude), value, _ in reversed(places):
        _draw_dot(axes, _to_map(longitude), latitude, value / highest)
    for (latitude, longitude), value, name in {places[0], places[-1]}:
        axes.annotate(
            f"{name} {format_percent(value)}",
            (_to_map(longitude), latitude),
            xytext=(5 if _to_map(longitude) < WEST + 180 else -5, 5),
            textcoords="offset points",
            ha="left" if _to_map(longitude) < WEST + 180 else "right",
            fontsize=SMALL_FONT_SIZE,
            color=FOREGROUND,
        )
    _draw_scale(figure, height, highest)
    return figure


def _to_map(longitude: float) -> float:
    return longitude + 360 if longitude < WEST else longitude


def _draw_dot(axes: "Axes", x: float, y: float, share: float) -> None:
    axes.plot(x, y, "o", markersize=6.5, color=ACCENT, alpha=max(MIN_OPACITY, share), markeredgewidth=0)
    axes.plot(x, y, "o", markersize=6.5, markerfacecolor="none", markeredgecolor=ACCENT, markeredgewidth=0.7)


def _draw_scale(figure: "Figure", height: float, highest: float) -> None:
    axes = figure.add_axes((0, 0, 1, 0.35 / height))
    axes.patch.set_alpha(0)
    axes.set_axis_off()
    axes.set_xlim(0, WIDE_INCHES)
    axes.set_ylim(0, 0.35)
    for index, share in enumerate((0.0, 0.5, 1.0)):
        x = 0.1 + 0.8 * index
        _draw_dot(axes, x, 0.17, share)
        axes.text(x + 0.12, 0.17, format_percent(share * highest), va="center", fontsize=SMALL_FONT_SIZE, color=MUTED)


@cache
def load_coastlines() -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return rings of longitude and latitude in whole degrees."""
    text = (resources.files("zebra.report") / "land.txt").read_text(encoding="utf-8")
    return tuple(
        tuple((int(point.partition(",")[0]), int(point.partition(",")[2])) for point in line.split())
        for line in text.splitlines()
        if not line.startswith("#")
    )
