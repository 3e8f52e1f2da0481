"""Search results as a self-contained HTML page with images."""

from pathlib import Path

from zebra.report.page import Headline, Section, write_page
from zebra.report.thumbnails import MISSING_IMAGE_LINES, open_thumbnail
from zebra.search.results import SearchRun, image_path
from zebra.values import Hit

THUMBNAIL_SIDE = 320
"""Maximum width and height of an image, in pixels."""


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
    caption = " · ".join(filter(None, details if data else [*details, " ".join(MISSING_IMAGE_LINES)]))
    title = f"{hit.score:.3f}{f' · {query}' if query else ''}"
    image = open_thumbnail(data, THUMBNAIL_SIDE)
    return Section(title, caption, image, str(hit.row["caption"] or short_path))
