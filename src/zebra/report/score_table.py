"""Tables of scores as CSV, Markdown, LaTeX or the front matter of a model card."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zebra.atomic_io import atomic_write
from zebra.config.score_table import ScoreTableFormat
from zebra.errors import ConfigError
from zebra.evaluators.results_io import ResultRecord
from zebra.evaluators.run_comparison import ComparisonRow
from zebra.report.hub_card import format_front_matter
from zebra.report.style import format_metric
from zebra.values import Score

CSV_COLUMNS = (
    *("dataset", "task", "metric", "run", "value", "low", "high", "n"),
    *("first_minus_run", "difference_low", "difference_high", "p_value"),
)
"""Fractions, not percentages; the last four are empty unless a paired test compares the first run with this one."""
_LATEX_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def to_rows(records: Iterable[ResultRecord]) -> list[ComparisonRow]:
    """Return one row for each score of a single evaluation."""
    return [
        ComparisonRow(
            record.dataset,
            record.task,
            record.metric,
            (record.score,),
            split=str(record.provenance.get("split", "")),
            dataset_digest=record.dataset_digest,
        )
        for record in records
    ]


def format_scores(format_: ScoreTableFormat, runs: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    """Format the scores of one or several runs.

    CSV has one line for each score and run, with full precision. Markdown and LaTeX have one column for each run with
    percentages and 95 % intervals; LaTeX needs the package booktabs. hf-card has one model for each run.

    Args:
        format_: The format.
        runs: Names of the runs.
        rows: One score per run each.
    """
    functions = {"csv": format_csv, "markdown": format_markdown, "latex": format_latex, "hf-card": format_front_matter}
    return functions[format_](runs, rows)


def write_score_table(
    path: str | Path, format_: ScoreTableFormat, runs: Sequence[str], rows: Sequence[ComparisonRow]
) -> None:
    """Write the scores of one or several runs, as `format_scores`; the directory of the file is created.

    Raises:
        ConfigError: The file cannot be written.
    """
    path, text = Path(path), format_scores(format_, runs, rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"cannot write --table {path}: {error.strerror}. Name another file") from error


def format_csv(runs: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    """Format one line for each score and run; see CSV_COLUMNS."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        for run, score in zip(runs, row.scores, strict=True):
            if score is not None:
                test = row.comparisons.get(run)
                paired = () if test is None else (*_bounds(test.difference), test.p_value)
                cells = (row.dataset, row.task, row.metric, run, *_bounds(score), score.n, *paired)
                writer.writerow([*cells, *[""] * (len(CSV_COLUMNS) - len(cells))])
    return text.getvalue()


def format_markdown(runs: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    """Format a table of GitHub's Markdown with one column for each run."""
    lines = [["dataset", "task", "metric", *runs], ["---", "---", "---", *["---:"] * len(runs)], *_cells(rows)]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def format_latex(runs: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    """Format a tabular with the rules of booktabs and one column for each run."""
    header, *body = (
        " & ".join(map(_escape_latex, line)) + r" \\" for line in (["dataset", "task", "metric", *runs], *_cells(rows))
    )
    begin = rf"\begin{{tabular}}{{lll{'r' * len(runs)}}}"
    lines = [begin, r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "".join(line + "\n" for line in lines)


def _cells(rows: Sequence[ComparisonRow]) -> Iterator[list[str]]:
    for row in rows:
        yield [row.dataset, row.task, row.metric, *(format_metric(row.metric, score) for score in row.scores)]


def _bounds(score: Score) -> tuple[float, float, float]:
    return score.value, score.low, score.high


def _escape_latex(text: str) -> str:
    r"""Escape the characters that have a meaning in LaTeX.

    >>> print(_escape_latex("a_b 50%"))
    a\_b 50\%
    """
    return re.sub(r"[&%$#_{}~^\\]", lambda match: _LATEX_ESCAPES.get(match[0], "\\" + match[0]), text)
