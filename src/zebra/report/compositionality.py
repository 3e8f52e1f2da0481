"""Report section on compositionality: scores by category, beside chance."""

from zebra.evaluators.results import TaskResult
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_percent, format_score

MAX_CATEGORIES = 20
"""Number of categories to show; of more, those with the lowest scores."""
EXPLANATIONS = {
    "accuracy": "right captions before all wrong ones",
    "text": "each image prefers its own caption",
    "image": "each caption prefers its own image",
    "group": "text and image",
    "text_only": "the two right captions are nearest to each other",
    "blind_accuracy": "accuracy without the image: the mean of all images in its place",
}


def compositionality_section(result: TaskResult) -> Section:
    """List the scores of all questions and means over categories, then those of categories."""
    overall = [name for name in result.scores if name.removeprefix("macro_") in EXPLANATIONS]
    categories = [name for name in result.scores if name not in overall]
    shown = categories
    if len(categories) > MAX_CATEGORIES:
        shown = sorted(categories, key=lambda name: result.scores[name].value)[:MAX_CATEGORIES]
    rows = tuple(
        (
            name,
            format_score(result.scores[name]),
            format_percent(result.chance[name]) if name in result.chance else "",
            f"{result.scores[name].n:,}",
            _explain(name),
        )
        for name in [*overall, *shown]
    )
    summary = (
        "Questions whose captions or images differ in a detail. Ties count as wrong. Chance is the score of random "
        "similarities."
    )
    if len(shown) < len(categories):
        summary += f" Of {len(categories)} categories, the {len(shown)} with the lowest scores; metrics.json has all."
    columns = ("score", "value", "chance", "questions", "meaning")
    return Section(f"Compositionality on {result.dataset}", summary, ReportTable(columns, rows))


def _explain(name: str) -> str:
    if name in EXPLANATIONS:
        return EXPLANATIONS[name]
    base = name.removeprefix("macro_")
    return f"mean of {base} over categories" if base in EXPLANATIONS else "category"
