"""The text of a data report, as `zebra doctor DATA` prints it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from zebra.data.ignored import format_ignored

if TYPE_CHECKING:
    from zebra.data.dataset_stats import ImageStats
    from zebra.data.inspection import CaptionStats, DataReport

MAX_BAR_WIDTH = 30
"""Characters of the longest bar."""


def format_data_report(report: "DataReport") -> Iterator[tuple[str, list[str]]]:
    """Yield (name, lines) of every finding, most important first."""
    yield "samples", _format_samples(report)
    yield "skipped", _format_skipped(report)
    if report.ignored:
        yield "ignored", [format_ignored(report.ignored)]
    if report.captions is not None and report.survey.images is not None:
        yield "captions", _format_captions(report.captions)
        yield "repeated", [_format_repeated(report.captions)]
        yield "images", _format_images(report.survey.images, report.image_size)
        yield "formats", [_format_file_formats(report.survey.images)]
        yield "duplicates", [_format_duplicates(report.survey.images)]
    yield "loading", _format_loading(report)


def _format_samples(report: "DataReport") -> list[str]:
    num_examined = report.survey.num_examined
    part = "all" if num_examined == report.num_found else f"{num_examined:,}, evenly spaced,"
    lines = [f"{report.num_found:,} found in {report.name}; {part} inspected"]
    if report.num_found < 2:
        lines.append("too few to train on: a contrastive loss needs at least 2")
    elif report.num_found < report.batch_size:
        lines.append(f"fewer than one batch of {report.batch_size}: train with --batch-size {report.num_found} or less")
    return lines


def _format_skipped(report: "DataReport") -> list[str]:
    num_skipped = report.survey.num_examined - report.survey.num_usable
    if not num_skipped:
        return ["none"]
    return [
        f"{num_skipped:,} ({report.skip_rate:.2%}); training accepts up to {report.max_skip_rate:.2%}",
        *(f"{group.count:,} × {group.reason}: {_truncate(group.examples[0], 100)}" for group in report.survey.skipped),
    ]


def _format_captions(captions: "CaptionStats") -> list[str]:
    tokens, truncated = captions.tokens, "none"
    if captions.num_truncated:
        truncated = f"{captions.num_truncated:,} ({captions.num_truncated / captions.num_captions:.2%})"
    return [
        f"{captions.num_captions:,} captions of {captions.num_samples:,} images, {tokens.min} to {tokens.max} tokens; "
        f"quantiles 50 · 90 · 99 %: {tokens.p50} · {tokens.p90} · {tokens.p99}",
        *_format_bars(
            {"–".join(map(str, dict.fromkeys((bar.first, bar.last)))): bar.count for bar in captions.histogram}
        ),
        f"truncated at {captions.context_length} tokens: {truncated}; tokenizer: {captions.tokenizer}",
    ]


def _format_repeated(captions: "CaptionStats") -> str:
    if not captions.num_repeated:
        return "every caption belongs to one image only"
    examples = ", ".join(f"{count:,} × {_truncate(caption, 40)!r}" for caption, count in captions.most_frequent)
    return f"{captions.num_repeated:,} captions belong to more than one image: {examples}"


def _format_images(images: "ImageStats", image_size: int) -> list[str]:
    small, large = images.smallest, images.largest
    if (small.width, small.height) == (large.width, large.height):
        return [f"all {small.width} × {small.height} pixels"]
    width, height, aspect = images.width, images.height, images.aspect
    lines = [
        f"{width.p5} × {height.p5} · {width.p50} × {height.p50} · {width.p95} × {height.p95} pixels, "
        f"width ÷ height {aspect.p5:.2f} · {aspect.p50:.2f} · {aspect.p95:.2f} (quantiles 5 · 50 · 95 %)",
        f"smallest {small.width} × {small.height} ({small.id}), largest {large.width} × {large.height} ({large.id})",
    ]
    if images.num_small:
        lines.append(f"{images.num_small:,} with a side shorter than the training size, {image_size}")
    return lines


def _format_file_formats(images: "ImageStats") -> str:
    if not images.conversions:
        return f"{_format_counts(images.formats)}, all RGB"
    return f"{_format_counts(images.formats)}; converted by decoding: {_format_counts(images.conversions)}"


def _format_duplicates(images: "ImageStats") -> str:
    if not images.num_duplicated_images:
        return "no two samples have the same file"
    return (
        f"{images.num_duplicate_samples:,} samples share a file with another sample; "
        f"{images.num_duplicated_images:,} different files, {images.num_caption_conflicts:,} of them with different "
        "captions"
    )


def _format_loading(report: "DataReport") -> list[str]:
    if not report.loading:
        return ["not measured, because training does not accept the data"]
    enough = report.sufficient_workers
    milliseconds = 1000 * report.batch_size / enough.pairs_per_second
    return [
        f"pairs/s at {report.image_size} px, without training",
        *_format_bars({_format_workers(rate.num_workers): round(rate.pairs_per_second) for rate in report.loading}),
        f"with --workers {enough.num_workers}, training waits for data if a step of {report.batch_size} pairs takes "
        f"less than {milliseconds:.0f} ms",
    ]


def _format_workers(num_workers: int) -> str:
    return "1 worker" if num_workers == 1 else f"{num_workers} workers"


def _format_bars(rows: Mapping[str, int]) -> list[str]:
    name_width, largest = max(map(len, rows)), max(rows.values())
    return [
        f"{name:>{name_width}}  {'█' * round(MAX_BAR_WIDTH * count / largest) or '▏'} {count:,}"
        for name, count in rows.items()
    ]


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
