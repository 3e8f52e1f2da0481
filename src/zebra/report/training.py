"""The training report: loss, data and scores of one training run."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from zebra.evaluators.held_out import HeldOutResult
from zebra.evaluators.results_io import EvalMetrics
from zebra.report.figures import plot_accuracy_bars, plot_loss
from zebra.report.held_out import held_out_headline, held_out_sections
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.style import format_percent


def write_training_report(
    path: Path,
    log_entries: Sequence[Mapping[str, Any]],
    sample_counts: Mapping[str, Any],
    metrics: EvalMetrics,
    held_out: HeldOutResult | None = None,
    leading_sections: Sequence[Section] = (),
) -> None:
    """Write the page.

    Args:
        path: The HTML file to write.
        log_entries: The lines of log.jsonl, at least one.
        sample_counts: The content of data.json.
        metrics: Scores after training; may be empty.
        held_out: Retrieval on held-out pairs.
        leading_sections: Sections to show before all others.
    """
    last = log_entries[-1]
    num_skipped = sum(sum(epoch["skipped"].values()) for epoch in sample_counts["epochs"])
    headlines = [
        Headline(f"{last['loss']:.2f}", "final loss", f"{log_entries[0]['loss']:.2f} at the start"),
        Headline(
            f"{last['samples']:,}", "image–caption pairs processed", f"{sample_counts['found']:,} in the training data"
        ),
        Headline(
            f"{num_skipped:,}",
            "skipped samples",
            "listed in skipped.jsonl" if num_skipped else "every sample was usable",
        ),
    ]
    held_out_part = held_out_sections(held_out) if held_out else []
    if held_out:
        headlines.insert(0, held_out_headline(held_out))
    top1 = {name: tasks["zero-shot"]["top1"] for name, tasks in metrics.items() if "zero-shot" in tasks}
    sections = [training_section(log_entries), data_section(sample_counts)]
    if top1:
        summary = (
            "Top-1 accuracy on each dataset with its 95% interval. The model predicts the class whose text prompts "
            "are most similar to the image."
        )
        sections.insert(0, Section("Zero-shot classification", summary, plot_accuracy_bars(top1, chance=0.0)))
    write_page(
        path,
        "Training report",
        "A CLIP model trained on images with captions.",
        [*leading_sections, *held_out_part, *sections],
        headlines,
    )


def training_section(log_entries: Sequence[Mapping[str, Any]], highlight: str = "") -> Section:
    """Plot the loss and the evaluations during training.

    Args:
        log_entries: The lines of log.jsonl, at least one.
        highlight: The evaluation dataset to draw in the accent color.
    """
    samples_per_second = sum(line["samples_per_second"] for line in log_entries) / len(log_entries)
    wait_fraction = sum(line["data_wait_fraction"] for line in log_entries) / len(log_entries)
    summary = (
        "The loss measures how well the model matches images with their captions inside a batch; lower is better. On "
        f"average, training processed {samples_per_second:,.0f} pairs per second and waited for data "
        f"{format_percent(wait_fraction)} of the time."
    )
    return Section("Training", summary, plot_loss(log_entries, highlight))


def data_section(sample_counts: Mapping[str, Any]) -> Section:
    """List the consumed and skipped samples of every epoch; equal finished epochs share a row."""

    def counts(epoch: Mapping[str, Any]) -> tuple[str, str, str]:
        skipped = ", ".join(f"{count} {reason}" for reason, count in epoch["skipped"].items()) or "0"
        return f"{epoch['consumed']:,}", skipped, f"{epoch['substitutes']:,}"

    rows = []
    for (is_complete, cells), epochs in groupby(
        sample_counts["epochs"], lambda epoch: (epoch["complete"], counts(epoch))
    ):
        first, *others = (epoch["epoch"] + 1 for epoch in epochs)
        number = f"{first}–{others[-1]}" if others else f"{first}"
        rows.append((number if is_complete else f"{number} (unfinished)", *cells))
    summary = (
        f"The training data contains {sample_counts['found']:,} samples, and {sample_counts['held_out']['found']:,} "
        "more were held out. In each finished epoch, consumed and skipped samples add up to the number of training "
        "samples. A substitute takes the place of each skipped sample in its batch. "
        f"{sample_counts['truncated_captions']:,} captions were longer than the context length and were truncated."
    )
    return Section("Training data", summary, ReportTable(("epoch", "consumed", "skipped", "substitutes"), tuple(rows)))
