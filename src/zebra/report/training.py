"""A run's journal, counts and scores in, the report of a plain training run out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zebra.evaluators.results_io import EvalMetrics
from zebra.report.figures import plot_accuracy_bars, plot_loss
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.style import format_percent


def write_training_report(
    path: Path,
    log_entries: Sequence[Mapping[str, Any]],
    sample_counts: Mapping[str, Any],
    metrics: EvalMetrics,
    leading_sections: Sequence[Section] = (),
) -> None:
    """Write one page: how the loss fell, what the data was like, and the scores if there are any.

    Args:
        leading_sections: Sections to begin with.
    """
    last = log_entries[-1]
    skipped = sum(sum(epoch["skipped"].values()) for epoch in sample_counts["epochs"])
    headlines = [
        Headline(f"{last['loss']:.2f}", "final loss", f"from {log_entries[0]['loss']:.2f}"),
        Headline(f"{last['samples']:,}", "pairs seen", f"{sample_counts['found']:,} found"),
        Headline(
            f"{skipped:,}", "skips", "listed in skipped.jsonl" if skipped else "every sample was usable"
        ),
    ]
    top1 = {name: tasks["zero-shot"]["top1"] for name, tasks in metrics.items() if "zero-shot" in tasks}
    sections = [training_section(log_entries), data_section(sample_counts)]
    if top1:
        reading = "Top-1 accuracy on each set with its 95 % interval; the classes were named in words."
        sections.insert(0, Section("Zero-shot accuracy", reading, plot_accuracy_bars(top1, chance=0.0)))
    write_page(
        path,
        "A training run",
        "Captioned pictures in, a CLIP out.",
        [*leading_sections, *sections],
        headlines,
    )


def training_section(log_entries: Sequence[Mapping[str, Any]], highlight: str = "") -> Section:
    """Show the loss over the pairs seen, with the checks that ran."""
    rate = sum(line["samples_per_second"] for line in log_entries) / len(log_entries)
    wait = sum(line["data_wait_fraction"] for line in log_entries) / len(log_entries)
    reading = (
        f"The loss is the surprise at which caption belongs to which picture, in nats. Training ran at "
        f"{rate:,.0f} pairs per second and spent {format_percent(wait)} of its time waiting for data."
    )
    return Section("How it learned", reading, plot_loss(log_entries, highlight))


def data_section(sample_counts: Mapping[str, Any]) -> Section:
    """Account for every sample of every epoch."""
    rows = tuple(
        (
            f"{epoch['epoch'] + 1}" + ("" if epoch["complete"] else " (unfinished)"),
            f"{epoch['consumed']:,}",
            ", ".join(f"{n} {reason}" for reason, n in epoch["skipped"].items()) or "0",
            f"{epoch['substitutes']:,}",
        )
        for epoch in sample_counts["epochs"]
    )
    reading = (
        f"{sample_counts['found']:,} samples were found. In each finished pass, consumed and skipped add up to them exactly; "
        f"a skipped sample's place in its batch is filled by a substitute. {sample_counts['truncated_captions']:,} captions "
        "were longer than the text tower and were cut."
    )
    return Section(
        "What it was fed", reading, ReportTable(("pass", "consumed", "skipped", "substitutes"), rows)
    )
