"""The health of a data set in; what `zebra doctor` prints of it out: a name and a few lines each."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zebra.data.dataset_stats import ImageStats
    from zebra.data.inspection import CaptionStats, DataReport

MAX_BAR_WIDTH = 30
"""Characters of the longest bar."""


def format_data_report(report: "DataReport") -> Iterator[tuple[str, list[str]]]:
    """Yield what there is to say, most important first."""
    yield "samples", _format_samples(report)
    yield "skipped", _format_skipped(report)
    if report.captions is not None and report.survey.images is not None:
        yield "captions", _format_captions(report.captions)
        yield "repeated", [_format_repeated(report.captions)]
        yield "pictures", _format_images(report.survey.images, report.image_size)
        yield "formats", [_format_file_formats(report.survey.images)]
        yield "duplicates", [_format_duplicates(report.survey.images)]
    yield "loading", _format_loading(report)


def _format_samples(report: "DataReport") -> list[str]:
    looked = report.survey.num_examined
    part = "all" if looked == report.num_found else f"{looked:,}, evenly spread,"
    said = [f"{report.num_found:,} found in {report.name}; {part} of them looked at"]
    if report.num_found < report.batch_size:
        said.append(
            f"fewer than one batch of {report.batch_size}: train with --batch-size {report.num_found} or less"
        )
    return said


def _format_skipped(report: "DataReport") -> list[str]:
    skips = report.survey.num_examined - report.survey.num_usable
    if not skips:
        return ["none"]
    return [
        f"{skips:,}, which is {report.skip_rate:.2%}; training accepts {report.max_skip_rate:.2%}",
        *(
            f"{part.count:,} × {part.reason}: {_truncate(part.examples[0], 100)}"
            for part in report.survey.skipped
        ),
    ]


def _format_captions(captions: "CaptionStats") -> list[str]:
    tokens, cut = captions.tokens, "none"
    if captions.num_truncated:
        cut = f"{captions.num_truncated:,} ({captions.num_truncated / captions.num_captions:.2%})"
    return [
        f"{captions.num_captions:,} at {captions.num_samples:,} pictures, of {tokens.min} to {tokens.max} tokens: "
        f"half have at most {tokens.p50}, 90 % {tokens.p90}, 99 % {tokens.p99}",
        *_format_bars(
            {"–".join(map(str, dict.fromkeys((b.first, b.last)))): b.count for b in captions.histogram}
        ),
        f"cut at {captions.context_length} tokens: {cut}; counted with {captions.tokenizer}",
    ]


def _format_repeated(captions: "CaptionStats") -> str:
    if not captions.num_repeated:
        return "no caption stands at two pictures"
    often = ", ".join(f"{count:,} × {_truncate(caption, 40)!r}" for caption, count in captions.most_frequent)
    return f"{captions.num_repeated:,} captions stand at more than one picture: {often}"


def _format_images(images: "ImageStats", image_size: int) -> list[str]:
    small, large = images.smallest, images.largest
    if (small.width, small.height) == (large.width, large.height):
        return [f"all of them {small.width} × {small.height} pixels"]
    width, height, aspect = images.width, images.height, images.aspect
    said = [
        f"{width.p5} × {height.p5} · {width.p50} × {height.p50} · {width.p95} × {height.p95} pixels, "
        f"width ÷ height {aspect.p5:.2f} · {aspect.p50:.2f} · {aspect.p95:.2f}, at 5 · 50 · 95 % of them",
        f"smallest {small.width} × {small.height} ({small.id}), largest {large.width} × {large.height} ({large.id})",
    ]
    if images.num_small:
        said.append(f"{images.num_small:,} with a side shorter than the {image_size} of training")
    return said


def _format_file_formats(images: "ImageStats") -> str:
    if not images.conversions:
        return f"{_format_counts(images.formats)}, all of them RGB"
    return f"{_format_counts(images.formats)}; decoding changes: {_format_counts(images.conversions)}"


def _format_duplicates(images: "ImageStats") -> str:
    if not images.num_duplicated_images:
        return "no two samples have the same file"
    return (
        f"{images.num_duplicate_samples:,} samples share their file with another, {images.num_duplicated_images:,} files in all, "
        f"{images.num_caption_conflicts:,} of them under different captions"
    )


def _format_loading(report: "DataReport") -> list[str]:
    if not report.loading:
        return ["not measured on data that training does not accept"]
    enough = report.sufficient_workers
    milliseconds = 1000 * report.batch_size / enough.pairs_per_second
    return [
        f"pairs/s at {report.image_size} px, with nothing else to do",
        *_format_bars(
            {_format_workers(rate.num_workers): round(rate.pairs_per_second) for rate in report.loading}
        ),
        f"with --workers {enough.num_workers}, a step of {report.batch_size} pairs that takes less than "
        f"{milliseconds:.0f} ms waits for data",
    ]


def _format_workers(num_workers: int) -> str:
    return "1 worker" if num_workers == 1 else f"{num_workers} workers"


def _format_bars(rows: Mapping[str, int]) -> list[str]:
    wide, most = max(map(len, rows)), max(rows.values())
    return [
        f"{name:>{wide}}  {'█' * round(MAX_BAR_WIDTH * count / most) or '▏'} {count:,}"
        for name, count in rows.items()
    ]


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
