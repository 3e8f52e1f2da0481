"""The health of a data set in; what `zebra doctor` prints of it out: a name and a few lines each."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zebra.data.dataset_stats import Pictures
    from zebra.data.inspection import Captions, Health

BAR = 30
"""Characters of the longest bar."""


def lines(found: "Health") -> Iterator[tuple[str, list[str]]]:
    """Yield what there is to say, most important first."""
    yield "samples", _samples(found)
    yield "skipped", _skipped(found)
    if found.captions is not None and found.survey.pictures is not None:
        yield "captions", _captions(found.captions)
        yield "repeated", [_repeated(found.captions)]
        yield "pictures", _pictures(found.survey.pictures, found.image_size)
        yield "formats", [_formats(found.survey.pictures)]
        yield "duplicates", [_duplicates(found.survey.pictures)]
    yield "loading", _loading(found)


def _samples(found: "Health") -> list[str]:
    looked = found.survey.looked
    part = "all" if looked == found.found else f"{looked:,}, evenly spread,"
    said = [f"{found.found:,} found in {found.name}; {part} of them looked at"]
    if found.found < found.batch_size:
        said.append(
            f"fewer than one batch of {found.batch_size}: train with --batch-size {found.found} or less"
        )
    return said


def _skipped(found: "Health") -> list[str]:
    skips = found.survey.looked - found.survey.usable
    if not skips:
        return ["none"]
    return [
        f"{skips:,}, which is {found.skip_rate:.2%}; training accepts {found.max_skip_rate:.2%}",
        *(
            f"{part.count:,} × {part.reason}: {_short(part.examples[0], 100)}"
            for part in found.survey.skipped
        ),
    ]


def _captions(captions: "Captions") -> list[str]:
    tokens, cut = captions.tokens, "none"
    if captions.cut:
        cut = f"{captions.cut:,} ({captions.cut / captions.count:.2%})"
    return [
        f"{captions.count:,} at {captions.samples:,} pictures, of {tokens.shortest} to {tokens.longest} tokens: "
        f"half have at most {tokens.p50}, 90 % {tokens.p90}, 99 % {tokens.p99}",
        *_bars({"–".join(map(str, dict.fromkeys((b.first, b.last)))): b.count for b in captions.histogram}),
        f"cut at {captions.context_length} tokens: {cut}; counted with {captions.tokenizer}",
    ]


def _repeated(captions: "Captions") -> str:
    if not captions.repeated:
        return "no caption stands at two pictures"
    often = ", ".join(f"{count:,} × {_short(caption, 40)!r}" for caption, count in captions.frequent)
    return f"{captions.repeated:,} captions stand at more than one picture: {often}"


def _pictures(pictures: "Pictures", image_size: int) -> list[str]:
    small, large = pictures.smallest, pictures.largest
    if (small.width, small.height) == (large.width, large.height):
        return [f"all of them {small.width} × {small.height} pixels"]
    width, height, aspect = pictures.width, pictures.height, pictures.aspect
    said = [
        f"{width.p5} × {height.p5} · {width.p50} × {height.p50} · {width.p95} × {height.p95} pixels, "
        f"width ÷ height {aspect.p5:.2f} · {aspect.p50:.2f} · {aspect.p95:.2f}, at 5 · 50 · 95 % of them",
        f"smallest {small.width} × {small.height} ({small.id}), largest {large.width} × {large.height} ({large.id})",
    ]
    if pictures.small:
        said.append(f"{pictures.small:,} with a side shorter than the {image_size} of training")
    return said


def _formats(pictures: "Pictures") -> str:
    if not pictures.changes:
        return f"{_counted(pictures.formats)}, all of them RGB"
    return f"{_counted(pictures.formats)}; decoding changes: {_counted(pictures.changes)}"


def _duplicates(pictures: "Pictures") -> str:
    if not pictures.shared:
        return "no two samples have the same file"
    return (
        f"{pictures.sharing:,} samples share their file with another, {pictures.shared:,} files in all, "
        f"{pictures.disputed:,} of them under different captions"
    )


def _loading(found: "Health") -> list[str]:
    if not found.loading:
        return ["not measured on data that training does not accept"]
    enough = found.enough
    milliseconds = 1000 * found.batch_size / enough.pairs_per_second
    return [
        f"pairs/s at {found.image_size} px, with nothing else to do",
        *_bars({_workers(rate.workers): round(rate.pairs_per_second) for rate in found.loading}),
        f"with --workers {enough.workers}, a step of {found.batch_size} pairs that takes less than "
        f"{milliseconds:.0f} ms waits for data",
    ]


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"


def _bars(rows: Mapping[str, int]) -> list[str]:
    wide, most = max(map(len, rows)), max(rows.values())
    return [
        f"{name:>{wide}}  {'█' * round(BAR * count / most) or '▏'} {count:,}" for name, count in rows.items()
    ]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
