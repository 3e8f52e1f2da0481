"""Numbers of suites beside published ones, for the terminal and the report."""

from collections.abc import Sequence

from zebra.evaluators.suite_results import SuiteResult
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_percent, format_score

MAX_PUBLISHED_COLUMNS = 3
"""Known models in the table of a suite's members."""


def describe_mean(result: SuiteResult) -> str:
    """Say what the number of a suite is, and whether it compares with published ones."""
    size, num_scores = len(result.suite.members), len(result.scores)
    count = f"{size}" if result.is_complete else f"{num_scores} of {size}"
    if result.suite.average == "none":
        return f"{count} scores; the suite defines no mean"
    if result.mean is None:
        return f"none of {size} members has a score"
    kind = "mean of groups of" if result.suite.average == "groups" else "mean of"
    warning = "" if result.is_complete else f": not comparable with the mean of {size}"
    return f"{kind} {count}: {format_score(result.mean)}{warning}"


def describe_published(result: SuiteResult) -> list[str]:
    """Return one line per known model with its number on the same members, if it is known."""
    if result.suite.average == "none" or result.mean is None:
        return []
    members = "" if result.is_complete else f" on the same {len(result.scores)}"
    return [
        f"{mean.published.model}{members}: "
        f"{'not published' if mean.value is None else format_percent(mean.value)} ({mean.published.source})"
        for mean in result.published_means()
    ]


def suite_sections(results: Sequence[SuiteResult]) -> list[Section]:
    """List the numbers of all suites, then the members of each."""
    if not results:
        return []
    return [_overview(results), *(_members(result) for result in results)]


def _overview(results: Sequence[SuiteResult]) -> Section:
    rows = [
        (
            result.suite.name,
            "this model" if result.is_complete else f"this model, {len(result.scores)} of {len(result.suite.members)}",
            format_score(result.mean),
            "",
        )
        for result in results
    ]
    summary = (
        "A suite is a list of datasets with one number: the mean of one score per dataset. The interval treats the "
        "datasets as fixed and their images as random. A number over a part of the datasets does not compare with "
        "published numbers over all; the published models beside it are averaged over the same part."
    )
    lines: list[tuple[str, ...]] = []
    for row, result in zip(rows, results, strict=True):
        lines.append(row)
        lines += [
            (
                "",
                mean.published.model,
                "not published" if mean.value is None else format_percent(mean.value),
                mean.published.source,
            )
            for mean in result.published_means()
            if result.suite.average != "none"
        ]
    return Section("Suites", summary, ReportTable(("suite", "model", "number", "source"), tuple(lines)))


def _members(result: SuiteResult) -> Section:
    published = result.suite.published[:MAX_PUBLISHED_COLUMNS]
    columns = [result.suite.published_scores(model) for model in published]
    rows = tuple(
        (
            member.name,
            *([member.group] if any(member.group for member in result.suite.members) else []),
            f"{member.task} {member.metric}",
            format_score(result.scores.get(member.name), missing="missing"),
            *(f"{scores[member.name]:.1f}%" if member.name in scores else "–" for scores in columns),
        )
        for member in result.suite.members
    )
    has_groups = any(member.group for member in result.suite.members)
    header = (
        "member",
        *(["group"] if has_groups else []),
        "score",
        "this model",
        *(model.model for model in published),
    )
    groups = "; ".join(f"{group} {format_score(mean)}" for group, mean in result.group_means().items())
    missing = " ".join(f"Missing: {name} ({reason})." for name, reason in result.missing.items())
    parts = (
        f"{result.suite.title}. {describe_mean(result)}.",
        f"Means of groups: {groups}." if groups else "",
        *(f"{note[:1].upper()}{note[1:]}." for note in result.notes),
        f"Source: {result.suite.source}.",
        missing,
    )
    return Section(f"Suite {result.suite.name}", " ".join(part for part in parts if part), ReportTable(header, rows))
