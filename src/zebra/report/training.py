"""A run's journal, counts and scores in, the report of a plain training run out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zebra.evaluators.results_io import Metrics
from zebra.report.figures import accuracy_bars, loss_curve
from zebra.report.page import Headline, Section, Table, write_page
from zebra.report.style import percent


def write_run_report(
    path: Path,
    journal: Sequence[Mapping[str, Any]],
    counts: Mapping[str, Any],
    metrics: Metrics,
    first: Sequence[Section] = (),
) -> None:
    """Write one page: how the loss fell, what the data was like, and the scores if there are any.

    Args:
        first: Sections to begin with.
    """
    last = journal[-1]
    skipped = sum(sum(epoch["skipped"].values()) for epoch in counts["epochs"])
    headlines = [
        Headline(f"{last['loss']:.2f}", "final loss", f"from {journal[0]['loss']:.2f}"),
        Headline(f"{last['samples']:,}", "pairs seen", f"{counts['found']:,} found"),
        Headline(
            f"{skipped:,}", "skips", "listed in skipped.jsonl" if skipped else "every sample was usable"
        ),
    ]
    top1 = {name: tasks["zero-shot"]["top1"] for name, tasks in metrics.items() if "zero-shot" in tasks}
    sections = [training_section(journal), data_section(counts)]
    if top1:
        reading = "Top-1 accuracy on each set with its 95 % interval; the classes were named in words."
        sections.insert(0, Section("Zero-shot accuracy", reading, accuracy_bars(top1, chance=0.0)))
    write_page(path, "A training run", "Captioned pictures in, a CLIP out.", [*first, *sections], headlines)


def training_section(journal: Sequence[Mapping[str, Any]], highlight: str = "") -> Section:
    """Show the loss over the pairs seen, with the checks that ran."""
    rate = sum(line["samples_per_second"] for line in journal) / len(journal)
    wait = sum(line["data_wait_fraction"] for line in journal) / len(journal)
    reading = (
        f"The loss is the surprise at which caption belongs to which picture, in nats. Training ran at "
        f"{rate:,.0f} pairs per second and spent {percent(wait)} of its time waiting for data."
    )
    return Section("How it learned", reading, loss_curve(journal, highlight))


def data_section(counts: Mapping[str, Any]) -> Section:
    """Account for every sample of every epoch."""
    rows = tuple(
        (
            f"{epoch['epoch'] + 1}" + ("" if epoch["complete"] else " (unfinished)"),
            f"{epoch['consumed']:,}",
            ", ".join(f"{n} {reason}" for reason, n in epoch["skipped"].items()) or "0",
            f"{epoch['substitutes']:,}",
        )
        for epoch in counts["epochs"]
    )
    reading = (
        f"{counts['found']:,} samples were found. In each finished pass, consumed and skipped add up to them exactly; "
        f"a skipped sample's place in its batch is filled by a substitute. {counts['truncated_captions']:,} captions "
        "were longer than the text tower and were cut."
    )
    return Section("What it was fed", reading, Table(("pass", "consumed", "skipped", "substitutes"), rows))
