"""The page of `zebra sweep`: variants of a training run, side by side."""

from collections.abc import Sequence
from pathlib import Path

from zebra.report.comparison_figures import plot_training_curves
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.style import format_percent
from zebra.train.halving import Rung, VariantResult, count_steps
from zebra.train.training_run import read_training_run

MAX_CURVES = 9
"""Number of line styles; further variants are in the table only."""


def write_sweep_page(path: Path, data: str, results: Sequence[VariantResult], rungs: Sequence[Rung]) -> None:
    """Write the page.

    Args:
        path: The HTML file to write.
        data: The training data of all variants.
        results: The variants, best first.
        rungs: The comparisons of the sweep.
    """
    best = results[0]
    headlines = [
        Headline("–" if best.score is None else format_percent(best.score), "best validation score", best.name),
        Headline(f"{len(results)}", "variants", f"{sum(result.is_complete for result in results)} trained to the end"),
        Headline(f"{count_steps(list(rungs)):,}", "steps in all", f"{rungs[-1].steps:,} in a complete run"),
    ]
    sections = [_table_section(data, results, rungs)]
    logs = {result.name: read_training_run(result.run_dir) for result in results[:MAX_CURVES]}
    entries = {name: log.log_entries for name, log in logs.items() if log is not None}
    if entries:
        summary = (
            "Loss and validation scores against the number of image–caption pairs that each variant has processed."
        )
        if len(results) > MAX_CURVES:
            summary += f" Shown are the {MAX_CURVES} variants that came furthest."
        sections.append(Section("Training curves", summary, plot_training_curves(entries)))
    lead = f"{best.name} is the best of {len(results)} variants so far."
    if best.is_complete:
        lead = f"{best.name} is the best of {len(results)} variants. Its model is in {best.run_dir.name}/model."
    write_page(path, "Sweep", lead, sections, headlines)


def _table_section(data: str, results: Sequence[VariantResult], rungs: Sequence[Rung]) -> Section:
    rows = tuple(
        (
            result.name,
            f"{result.steps:,}",
            "–" if result.score is None else format_percent(result.score),
            _describe_state(result, results, rungs),
        )
        for result in results
    )
    stages = ", ".join(f"{rung.num_variants} to step {rung.steps:,}" for rung in rungs)
    summary = (
        f"All variants are trained on {data}, by successive halving: {stages}. After each stage, the "
        "variants with the highest mean validation score go on. "
        "Scores at different numbers of steps do not compare."
    )
    return Section("Variants", summary, ReportTable(("variant", "steps", "score", "state"), rows))


def _describe_state(result: VariantResult, results: Sequence[VariantResult], rungs: Sequence[Rung]) -> str:
    """Return whether a variant is complete, dropped, or may go on when the sweep continues."""
    if result.note:
        return "diverged"
    if result.is_complete:
        return "complete"
    num_scored = sum(other.steps >= result.steps for other in results)
    num_needed = next((rung.num_variants for rung in rungs if rung.steps == result.steps), len(results))
    num_places = next((rung.num_variants for rung in rungs if rung.steps > result.steps), 0)
    is_outranked = num_scored >= num_needed and results.index(result) >= num_places
    if is_outranked or any(other.is_complete for other in results):
        return f"dropped after step {result.steps:,}"
    return f"unfinished, {result.steps:,} of {rungs[-1].steps:,} steps"
