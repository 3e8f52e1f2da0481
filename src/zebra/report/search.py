"""What a search found in; one HTML page with the pictures, which needs no other file, out."""

from pathlib import Path

from PIL import Image, ImageDraw

from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.report.page import Headline, Section, write_page
from zebra.report.style import FAINT, MUTED
from zebra.search.results import SearchRun
from zebra.values import Hit

THUMBNAIL_SIDE = 320
"""Of the square that a picture fits into, in pixels."""
MISSING_IMAGE_TEXT = "the picture is no longer where it was"


def write_search_page(search_run: SearchRun, path: Path) -> None:
    """Write the hits of every query with their pictures; one that is gone from disk is drawn as an empty frame."""
    found = [answer.result for answer in search_run.results]
    sections = [
        _build_hit_section(search_run, hit, answer.query if len(found) > 1 else "")
        for answer in search_run.results
        for hit in answer.result.hits
    ]
    first = found[0]
    recall = f", finds {first.recall:.1%} of the nearest" if first.recall is not None else ""
    headlines = [
        Headline(f"{first.num_rows:,}", "pictures searched"),
        Headline(
            f"{1000 * sum(one.seconds for one in found) / len(found):.0f} ms",
            "a search",
            first.method + recall,
        ),
    ]
    title = search_run.results[0].query if len(found) == 1 else f"{len(found)} searches"
    lead = f"The {len(sections)} nearest pictures, best first." if sections else "Nothing was found."
    write_page(path, title, lead, sections, headlines)


def _build_hit_section(search_run: SearchRun, hit: Hit, query: str) -> Section:
    place = "/".join(Path(str(hit.row.get("location") or hit.row["path"])).parts[-2:])
    said = [
        str(hit.row["caption"] or ""),
        f"{len(hit.duplicates)} near duplicates" if hit.duplicates else "",
        place,
    ]
    data = search_run.searcher.read_thumbnail(hit.id, THUMBNAIL_SIDE)
    try:
        image = decode_image(data, place) if data else _draw_placeholder()
    except BadSample:  # a small picture that someone put into the store, and that is none
        image = _draw_placeholder()
    reading = " · ".join(filter(None, said if data else [*said, MISSING_IMAGE_TEXT]))
    return Section(
        f"{hit.score:.3f}{f' · {query}' if query else ''}", reading, image, str(hit.row["caption"] or place)
    )


def _draw_placeholder() -> Image.Image:
    image = Image.new("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4), FAINT)
    ImageDraw.Draw(image).text(
        (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE * 3 // 8), MISSING_IMAGE_TEXT, fill=MUTED, anchor="mm"
    )
    return image
