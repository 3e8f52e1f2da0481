"""The evaluation card of a model in Markdown: suites, intervals and known models."""

import re
from collections.abc import Sequence
from pathlib import Path

from zebra.atomic_io import atomic_write
from zebra.evaluators.results_io import collect_provenance
from zebra.evaluators.suite_results import SuiteResult
from zebra.pretrained.bundle import Bundle
from zebra.report.evaluation_summary import format_model_name
from zebra.report.style import format_score
from zebra.report.suites import (
    count_members,
    describe_number,
    format_published,
    member_table,
    select_neighbors,
    suite_notes,
)

CARD_FILENAME = "card.md"


def write_card(
    out_dir: Path, clip: Bundle, model: str, results: Sequence[SuiteResult], *, front_matter: str = "", seed: int = 0
) -> None:
    """Write `card.md`.

    Args:
        out_dir: Output directory of the evaluation.
        clip: The evaluated model.
        model: Its path or name, as the user gave it.
        results: The results of all suites.
        front_matter: Metadata for the hub, with its delimiters.
        seed: Seed of the evaluation.
    """
    sections = [
        f"# Evaluation of {_escape(format_model_name(model))}",
        _render_overview(results),
        *(_render_suite(result) for result in results),
        _render_method(clip, seed),
    ]
    text = front_matter + "\n\n".join(sections) + "\n"
    with atomic_write(out_dir / CARD_FILENAME) as partial:
        partial.write_text(text, encoding="utf-8")


def _render_overview(results: Sequence[SuiteResult]) -> str:
    rows = []
    for result in results:
        count = count_members(result) if result.is_complete else f"**{count_members(result)}**"
        neighbors = [
            f"{mean.published.model} {format_published(mean.value)}"
            for mean in select_neighbors(result)
            if mean.value is not None
        ]
        number = format_score(result.mean, missing="no mean defined" if result.suite.average == "none" else "–")
        rows.append((f"[{result.suite.name}](#{_anchor(result)})", count, number, "; ".join(neighbors) or "–"))
    explanation = (
        "Each number is the mean of one score per dataset, with its 95 % interval in brackets: datasets are fixed, "
        "images random. A number over a part of a suite does not compare with published numbers over all of it; the "
        "known models are averaged over the same datasets."
    )
    return f"{_render_table(('suite', 'datasets', 'this model', 'known models'), rows)}\n\n{explanation}"


def _render_suite(result: SuiteResult) -> str:
    header, rows = member_table(result)
    sources = [
        f"- {_escape(mean.published.model)}: {format_published(mean.value)}. {_escape(mean.source)}"
        for mean in select_neighbors(result)
        if mean.value is not None
    ]
    parts = [
        f"## Suite {result.suite.name}",
        f"{_escape(result.suite.title)}: {describe_number(result)}.",
        _render_table(header, rows) if result.scores else "",
        _escape(" ".join(suite_notes(result))),
        "Known models over the same datasets:\n\n" + "\n".join(sources) if sources else "",
        f"Missing: {_escape(', '.join(result.missing))}." if result.missing else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _render_method(clip: Bundle, seed: int) -> str:
    versions = collect_provenance(seed)["versions"]
    return (
        "## How the numbers were computed\n\n"
        f"By `zebra evaluate`, with {', '.join(f'{name} {version}' for name, version in versions.items())}; precision "
        f"{clip.precision}, seed {seed}. The model's fingerprint is `{clip.fingerprint}`. results.jsonl has each score "
        "with the digest of its data and the hash of its prompts."
    )


def _render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Escape what would break a table or start HTML; links in cells are kept."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|").replace("<", "&lt;")


def _anchor(result: SuiteResult) -> str:
    """Return the anchor that GitHub and the hub give to the heading of a suite."""
    return re.sub(r"[^\w -]", "", f"suite {result.suite.name}".lower()).replace(" ", "-")
