"""Report sections on the held-out pairs of a training run."""

from zebra.evaluators.held_out import HeldOutResult, RetrievalExample
from zebra.evaluators.template_selection import TemplateSelection
from zebra.report.page import Gallery, GalleryItem, Headline, ReportTable, Section
from zebra.report.retrieval import DIRECTIONS, recall_table
from zebra.report.style import format_percent, format_score

MAX_TEMPLATES_SHOWN = 12


def held_out_headline(result: HeldOutResult) -> Headline:
    """Return the share of held-out images whose caption ranks first."""
    score = result.scores["image_to_text_recall@1"]
    return Headline(
        format_percent(score.value),
        "held-out images whose caption ranks first",
        f"among {result.num_captions:,} captions; chance is {format_percent(1 / result.num_captions)}",
    )


def held_out_sections(result: HeldOutResult) -> list[Section]:
    """Build the recall table, examples of hits and misses, and the table of templates."""
    sections = [_recall_section(result)]
    if result.scores_by_size:
        sections.append(_size_section(result))
    if result.hits:
        summary = "Images that were not trained on and whose own caption ranks first among all held-out captions."
        sections.append(_example_section("Hits", summary, result.hits))
    if result.misses:
        summary = "The images whose own caption ranks lowest, with the caption that the model ranks first."
        sections.append(_example_section("Misses", summary, result.misses))
    if result.templates:
        sections.append(_template_section(result.templates))
    return sections


def _recall_section(result: HeldOutResult) -> Section:
    ambiguous = (
        f" {result.num_ambiguous_captions:,} captions belong to several images; they count as misses."
        if result.num_ambiguous_captions
        else ""
    )
    summary = (
        f"{result.num_images:,} images with {result.num_captions:,} captions were not trained on. Recall at K is the "
        f"share of queries whose match is among the first K results, with its 95% interval.{ambiguous}"
    )
    return Section("Held-out pairs", summary, recall_table(result.scores))


def _size_section(result: HeldOutResult) -> Section:
    summary = (
        "Recall at 1 on the held-out pairs with the first components of the vectors only, for each size that the model "
        "was trained for (Matryoshka), with its 95% interval. Shorter vectors take less memory and time in search."
    )
    by_size = {f"first {size:,}": scores for size, scores in result.scores_by_size.items()} | {"all": result.scores}
    rows = tuple(
        (size, *(format_score(scores[f"{direction}_recall@1"]) for direction in DIRECTIONS))
        for size, scores in by_size.items()
    )
    return Section("Shorter vectors", summary, ReportTable(("components", *DIRECTIONS.values()), rows))


def _example_section(heading: str, summary: str, examples: tuple[RetrievalExample, ...]) -> Section:
    items = tuple(
        GalleryItem(
            example.image,
            example.caption,
            "" if example.rank == 1 else f"rank {example.rank:,}, after: {example.retrieved}",
        )
        for example in examples
    )
    return Section(heading, summary, Gallery(items))


def _template_section(selection: TemplateSelection) -> Section:
    summary = (
        f"The model folder stores {' and '.join(repr(template) for template in selection.templates)}, and zebra uses "
        f"it wherever no other template is given. Templates were compared on {selection.num_images:,} held-out images "
        f"by the mean reciprocal rank of what their captions say, among {selection.num_labels:,} labels. The chosen "
        f"ones together have {selection.mean_reciprocal_rank:.3f}."
    )
    rows = tuple(
        (template, f"{score:.3f}", "chosen" if template in selection.templates else "")
        for template, score in list(selection.candidates.items())[:MAX_TEMPLATES_SHOWN]
    )
    return Section("Prompt templates", summary, ReportTable(("template", "mean reciprocal rank", ""), rows))
