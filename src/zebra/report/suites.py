"""Numbers of suites beside published ones, for the terminal and the report."""

from collections.abc import Sequence

from zebra.evaluators.suite_results import PublishedMean, SuiteResult
from zebra.report.page import Headline, ReportTable, Section
from zebra.report.style import format_percent, format_score

MAX_NEIGHBORS = 4
"""Known models beside the number of a suite: those with the nearest numbers."""

MAX_MEMBER_COLUMNS = 2
"""Known models in the table of a suite's members."""


def select_neighbors(result: SuiteResult, max_neighbors: int = MAX_NEIGHBORS) -> list[PublishedMean]:
    """Return the known models whose numbers over the same members are nearest, best first.

    Without a number of this model or of others, the first known models are returned.
    """
    means, mean = result.published_means(), result.mean
    known = [published for published in means if published.value is not None]
    if mean is None or not known:
        return means[:max_neighbors]
    nearest = sorted(known, key=lambda published: abs((published.value or 0.0) - mean.value))[:max_neighbors]
    return [published for published in known if published in nearest]


def describe_number(result: SuiteResult) -> str:
    """Say what the number of a suite is, and whether it compares with published ones."""
    size, count = len(result.suite.members), count_members(result)
    if result.suite.average == "none":
        return f"{count} scores; the suite defines no mean"
    if result.mean is None:
        return f"none of {size} members has a score"
    kind = "mean of groups of" if result.suite.average == "groups" else "mean of"
    warning = "" if result.is_complete else f"; not comparable with the mean of {size}"
    return f"{kind} {count}: {format_score(result.mean)}{warning}"


def describe_published(result: SuiteResult) -> list[str]:
    """Return one line per neighboring model with its number on the same members."""
    if result.suite.average == "none" or result.mean is None:
        return []
    members = "" if result.is_complete else f" on the same {len(result.scores)}"
    return [
        f"{mean.published.model}{members}: {format_published(mean.value)} ({mean.source})"
        for mean in select_neighbors(result)
    ]


def format_published(value: float | None) -> str:
    """Format the number of a known model; sources give a decimal or two.

    >>> format_published(0.523), format_published(None)
    ('52.3%', 'not published')
    """
    return "not published" if value is None else format_percent(value)


def suite_sections(results: Sequence[SuiteResult]) -> list[Section]:
    """List the numbers of all suites, then the members of each."""
    if not results:
        return []
    members = (_members(result) for result in results if result.scores)
    return [_overview(results), *members, *_missing(results)]


def summarize_suites(results: Sequence[SuiteResult]) -> str:
    """Say in a few sentences how many suites and datasets were evaluated."""
    num_scores = len(
        {
            (member.dataset, member.task, member.metric)
            for result in results
            for member in result.suite.members
            if member.name in result.scores
        }
    )
    missing = {name for result in results for name in result.missing}
    complete = [result.suite.name for result in results if result.is_complete]
    return (
        f"{num_scores} scores of {len(results)} suite{'' if len(results) == 1 else 's'}. "
        f"{'Complete: ' + ', '.join(complete) if complete else 'No suite is complete'}"
        f"{f'; {len(missing)} datasets are missing' if missing else ''}. "
        "Square brackets contain 95% confidence intervals."
    )


def suite_headlines(results: Sequence[SuiteResult]) -> list[Headline]:
    """Return the number of each suite with its interval, or with the share of the datasets that it is of."""
    headlines = []
    for result in results:
        if (mean := result.mean) is not None:
            interval = f"{format_percent(mean.low)} to {format_percent(mean.high)}"
            note = interval if result.is_complete else f"{count_members(result)} datasets: not comparable"
            headlines.append(Headline(format_percent(mean.value), f"suite {result.suite.name}", note))
    return headlines


def count_members(result: SuiteResult) -> str:
    """Return the number of members, as "27" or "10 of 27"."""
    size = len(result.suite.members)
    return f"{size}" if result.is_complete else f"{len(result.scores)} of {size}"


def _overview(results: Sequence[SuiteResult]) -> Section:
    lines: list[tuple[str, ...]] = []
    for result in results:
        count = count_members(result)
        number = format_score(result.mean, missing="no mean defined" if result.suite.average == "none" else "–")
        lines.append((result.suite.name, "this model", count, number))
        if result.suite.average != "none":
            neighbors = [mean for mean in select_neighbors(result) if mean.value is not None]
            lines += [("", mean.published.model, count, format_published(mean.value)) for mean in neighbors]
    summary = (
        "A suite is a list of datasets with one number: the mean of one score per dataset. The interval treats the "
        "datasets as fixed and their images as random. A number over a part of the datasets does not compare with "
        "published numbers over all; the known models beside it are averaged over the same part. Shown are those with "
        "the nearest numbers."
    )
    return Section("Suites", summary, ReportTable(("suite", "model", "datasets", "number"), tuple(lines)))


def _members(result: SuiteResult) -> Section:
    header, rows = member_table(result)
    known = "; ".join(f"{mean.published.model}: {mean.source}" for mean in select_neighbors(result, MAX_MEMBER_COLUMNS))
    known = f"Known models: {known}." if known else ""
    summary = " ".join((f"{result.suite.title}: {describe_number(result)}.", *suite_notes(result), known)).strip()
    return Section(f"Suite {result.suite.name}", summary, ReportTable(header, rows))


def _missing(results: Sequence[SuiteResult]) -> list[Section]:
    """List why datasets are missing, each once."""
    suites: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for name, reason in result.missing.items():
            suites.setdefault((name, reason), []).append(result.suite.name)
    if not suites:
        return []
    rows = tuple((name, ", ".join(names), reason) for (name, reason), names in suites.items())
    summary = "Datasets of suites without a score. The vectors of the others are cached for the next evaluation."
    return [Section("Missing datasets", summary, ReportTable(("dataset", "suites", "reason"), rows))]


def member_table(result: SuiteResult) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the header and one row per member: group, metric with a task other than zero-shot, and scores."""
    neighbors = [
        mean.published
        for mean in select_neighbors(result, MAX_MEMBER_COLUMNS)
        if result.suite.published_scores(mean.published)
    ]
    columns = [result.suite.published_scores(published) for published in neighbors]
    has_groups = any(member.group for member in result.suite.members)
    rows = tuple(
        (
            member.name,
            *((member.group,) if has_groups else ()),
            member.metric if member.task == "zero-shot" else f"{member.task} {member.metric}",
            format_score(result.scores.get(member.name), missing="missing"),
            *(f"{scores[member.name]:.1f}%" if member.name in scores else "–" for scores in columns),
        )
        for member in result.suite.members
    )
    header = ("dataset", *(("group",) if has_groups else ()), "score", "this model")
    return (*header, *(published.model for published in neighbors)), rows


def suite_notes(result: SuiteResult) -> list[str]:
    """Return sentences on the means of groups, on what affects the scores, and on the source."""
    groups = "; ".join(f"{group} {format_score(mean)}" for group, mean in result.group_means().items())
    return [
        *([f"Means of groups: {groups}."] if groups else []),
        *(f"{note[:1].upper()}{note[1:]}." for note in result.notes),
        *([result.suite.notes.strip()] if result.suite.notes else []),
        f"Source: {result.suite.source}.",
    ]
