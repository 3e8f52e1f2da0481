"""Report sections on retrieval: recall, with examples of hits and misses."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zebra.data.sources import Source
from zebra.evaluators.embeddings import evenly_spaced
from zebra.evaluators.results import TaskResult
from zebra.report.page import Gallery, GalleryItem, ReportTable, Section
from zebra.report.style import format_percent, format_score
from zebra.report.thumbnails import load_thumbnail
from zebra.values import Score

DIRECTIONS = {"image_to_text": "caption of an image", "text_to_image": "image of a caption"}
MAX_EXAMPLES = 10
"""Number of hits, and of misses, to show."""


def retrieval_sections(result: TaskResult, source: Source) -> list[Section]:
    """Build the sections of a retrieval result; row n of its predictions belongs to sample n of the source."""
    if not any("@" in metric for metric in result.scores):
        return [_matching_section(result)]
    sections = [_recall_section(result)]
    if result.predictions is not None and "caption" in result.predictions.column_names:
        rank_N = np.asarray(result.predictions["text_rank"])
        hits = np.flatnonzero(rank_N == 1)
        hits = hits[evenly_spaced(MAX_EXAMPLES, len(hits))]
        misses = np.flatnonzero(rank_N > 1)
        misses = misses[np.argsort(-rank_N[misses], kind="stable")][:MAX_EXAMPLES]
        sections += _example_sections(result, source, hits, misses)
    return sections


def _matching_section(result: TaskResult) -> Section:
    """List scores that are no recall: the choice among the captions of a batch."""
    rows = tuple((metric, format_score(score), f"{score.n:,}") for metric, score in result.scores.items())
    summary = "For each image, the model chooses among its caption and those of the images beside it. A tie is wrong."
    return Section(f"Matching on {result.dataset}", summary, ReportTable(("metric", "score", "images"), rows))


def _recall_section(result: TaskResult) -> Section:
    summary = (
        "Recall at K is the share of queries whose match is among the first K results, with its 95% interval. A tie "
        "counts against the model."
    )
    if (recall := result.scores.get("image_to_text_recall@1")) is not None:
        summary = (
            f"For {format_percent(recall.value)} of {recall.n:,} images, a caption of the image ranks first. {summary}"
        )
    return Section(f"Retrieval on {result.dataset}", summary, recall_table(result.scores))


def recall_table(scores: Mapping[str, Score]) -> ReportTable:
    """Build a table of recall in both directions, with one column for each K."""
    ks = sorted({int(name.rpartition("@")[2]) for name in scores})
    rows = tuple(
        (label, *(format_score(scores.get(f"{direction}_recall@{k}")) for k in ks))
        for direction, label in DIRECTIONS.items()
    )
    return ReportTable(("search for the", *(f"recall@{k}" for k in ks)), rows)


def _example_sections(
    result: TaskResult, source: Source, hits: NDArray[np.int64], misses: NDArray[np.int64]
) -> list[Section]:
    assert result.predictions is not None
    summaries = {
        "Hits": "Images for which the model ranks one of their own captions first.",
        "Misses": "The images whose own captions rank lowest, with the caption that the model ranks first.",
    }
    sections = []
    for (heading, summary), indices in zip(summaries.items(), (hits, misses), strict=True):
        items = []
        for index in indices.tolist():
            row = result.predictions.slice(index, 1).to_pylist()[0]
            rank = row["text_rank"]
            note = "" if rank == 1 else f"rank {rank:,}, after: {row['retrieved_caption']}"
            items.append(GalleryItem(load_thumbnail(source, index), row["caption"], note))
        if items:
            sections.append(Section(f"{heading} on {result.dataset}", summary, Gallery(tuple(items))))
    return sections
