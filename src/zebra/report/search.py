"""Search results as a self-contained HTML page with images."""

from pathlib import Path

from PIL import Image, ImageDraw

from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.report.page import Headline, Section, write_page
from zebra.report.style import FAINT, MUTED
from zebra.search.results import SearchRun, image_path
from zebra.values import Hit

THUMBNAIL_SIDE = 320
"""Maximum width and height of an image, in pixels."""
MISSING_IMAGE_TEXT = "the image has moved or changed"


def write_search_page(search_run: SearchRun, path: Path) -> None:
    """Write the hits of every query with their images; a missing image is drawn as a placeholder."""
    results = [query_result.result for query_result in search_run.results]
    sections = [
        _build_hit_section(search_run, hit, query_result.query if len(results) > 1 else "")
        for query_result in search_run.results
        for hit in query_result.result.hits
    ]
    first = results[0]
    recall = f", recall {first.recall:.1%}" if first.recall is not None else ""
    headlines = [
        Headline(f"{first.num_rows:,}", "images searched"),
        Headline(
            f"{1000 * sum(result.seconds for result in results) / len(results):.0f} ms",
            "per search",
            first.method + recall,
        ),
    ]
    title = search_run.results[0].query if len(results) == 1 else f"{len(results)} searches"
    lead = f"The {len(sections)} nearest images, best first." if sections else "No images found."
    write_page(path, title, lead, sections, headlines)


def _build_hit_section(search_run: SearchRun, hit: Hit, query: str) -> Section:
    short_path = "/".join(Path(image_path(hit.row)).parts[-2:])
    details = [
        str(hit.row["caption"] or ""),
        f"{len(hit.duplicates)} near duplicates" if hit.duplicates else "",
        short_path,
    ]
    data = search_run.searcher.read_thumbnail(hit.id, THUMBNAIL_SIDE)
    try:
        image = decode_image(data, short_path) if data else _draw_placeholder()
    except BadSample:  # a stored thumbnail may be any bytes
        image = _draw_placeholder()
    caption = " · ".join(filter(None, details if data else [*details, MISSING_IMAGE_TEXT]))
    title = f"{hit.score:.3f}{f' · {query}' if query else ''}"
    return Section(title, caption, image, str(hit.row["caption"] or short_path))


def _draw_placeholder() -> Image.Image:
    image = Image.new("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4), FAINT)
    ImageDraw.Draw(image).text(
        (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE * 3 // 8), MISSING_IMAGE_TEXT, fill=MUTED, anchor="mm"
    )
    return image
