"""Report section on the effect of fine-tuning."""

from zebra.evaluators.comparison import BeforeAfter
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_score


def before_after_section(result: BeforeAfter) -> Section:
    """Build the table of all metrics before and after fine-tuning."""
    selected = (
        f"Of all checkpoints and their averages with the initial weights (WiSE-FT), {result.selection}, scored highest "
        "on the validation split."
        if result.selected_step
        else "No checkpoint scored higher than the initial model on the validation split, so the initial weights were "
        "selected."
    )
    summary = (
        f"{selected} All scores here are on other data, which neither training nor checkpoint selection used. "
        "Differences are paired, in percentage points, with 95 % intervals."
    )
    rows = tuple(
        (
            delta.dataset,
            delta.metric,
            format_score(delta.before),
            format_score(delta.after),
            delta.formatted_delta,
            f"{delta.before.n:,}",
        )
        for delta in result.deltas
    )
    columns = ("dataset", "metric", "before", "after", "difference", "n")
    return Section("Before and after", summary, ReportTable(columns, rows))
