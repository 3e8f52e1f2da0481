"""What a search found in; one HTML page with the pictures, which needs no other file, out."""

from pathlib import Path

from PIL import Image, ImageDraw

from zebra.errors import BadSample
from zebra.images.decode import decode
from zebra.report.page import Headline, Section, write_page
from zebra.report.style import FAINT, MUTED
from zebra.values import Hit
from zebra.workflows.search import SearchResult

SIDE = 320
"""Of the square that a picture fits into, in pixels."""
MISSING = "the picture is no longer where it was"


def write_hits(result: SearchResult, path: Path) -> None:
    """Write the hits of every query with their pictures; one that is gone from disk is drawn as an empty frame."""
    found = [answer.found for answer in result.answers]
    sections = [
        _section(result, hit, answer.query if len(found) > 1 else "")
        for answer in result.answers
        for hit in answer.found.hits
    ]
    first = found[0]
    recall = f", finds {first.recall:.1%} of the nearest" if first.recall is not None else ""
    headlines = [
        Headline(f"{first.searched:,}", "pictures searched"),
        Headline(
            f"{1000 * sum(one.seconds for one in found) / len(found):.0f} ms",
            "a search",
            first.method + recall,
        ),
    ]
    title = result.answers[0].query if len(found) == 1 else f"{len(found)} searches"
    lead = f"The {len(sections)} nearest pictures, best first." if sections else "Nothing was found."
    write_page(path, title, lead, sections, headlines)


def _section(result: SearchResult, hit: Hit, query: str) -> Section:
    place = "/".join(Path(str(hit.row.get("location") or hit.row["path"])).parts[-2:])
    said = [str(hit.row["caption"] or ""), f"{len(hit.folded)} near duplicates" if hit.folded else "", place]
    data = result.searcher.thumbnail(hit.id, SIDE)
    try:
        image = decode(data, place) if data else _frame()
    except BadSample:  # a small picture that someone put into the store, and that is none
        image = _frame()
    reading = " · ".join(filter(None, said if data else [*said, MISSING]))
    return Section(
        f"{hit.score:.3f}{f' · {query}' if query else ''}", reading, image, str(hit.row["caption"] or place)
    )


def _frame() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE * 3 // 4), FAINT)
    ImageDraw.Draw(image).text((SIDE // 2, SIDE * 3 // 8), MISSING, fill=MUTED, anchor="mm")
    return image
