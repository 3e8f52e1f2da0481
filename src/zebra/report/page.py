"""Self-contained HTML reports: a title, key numbers and sections in one file."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from zebra.report.style import CSS_VARIABLES, NARROW_INCHES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MAX_NUMBER_CHARS = 32
"""Longer cells are texts, even if they start with a number."""


@dataclass(frozen=True, slots=True)
class Headline:
    """A key number in large type at the top of the page."""

    value: str
    """The formatted number, for example "93.4%"."""
    label: str
    """What the number measures, in a few words."""
    note: str = ""
    """Context such as its interval or the chance level."""


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Columns and rows of text.

    Short cells that start with a digit and contain no word, and "–", are right-aligned. An interval at their end, as in
    "0.5 [0.4, 0.6]", is a second line.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """An image with its text in a gallery."""

    image: Image
    caption: str
    note: str = ""
    """A second line in muted color."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Small images side by side, each with its text."""

    items: tuple[GalleryItem, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A figure, image, gallery or table with a heading and a summary."""

    heading: str
    summary: str
    """What the body shows, in a few sentences."""
    body: "Figure | Image | Gallery | ReportTable"
    alt: str = ""
    """Text for screen readers; empty: the summary."""


def write_page(
    path: str | Path, title: str, lead: str, sections: Sequence[Section], headlines: Sequence[Headline] = ()
) -> None:
    """Write a report without scripts, network access or other files; equal input gives equal bytes.

    The page follows the light or dark theme of the browser and fits a phone. All text is escaped.

    Args:
        path: The file to write.
        title: The heading of the page.
        lead: A few sentences below the heading.
        sections: The sections, in reading order.
        headlines: Up to about four key numbers.
    """
    css = (resources.files("zebra.report") / "page.css").read_text(encoding="utf-8")
    headlines_html = "".join(map(_render_headline, headlines))
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{f"<dl>{headlines_html}</dl>" if headlines_html else ""}
</header>
<main>
{"".join(map(_render_section, sections))}</main>
</body>
</html>
"""
    Path(path).write_text(html, encoding="utf-8", newline="\n")


def _render_headline(headline: Headline) -> str:
    note = f"<dd class='note'>{escape(headline.note)}</dd>" if headline.note else ""
    return f"<div><dt>{escape(headline.label)}</dt><dd>{escape(headline.value)}</dd>{note}</div>\n"


def _render_section(section: Section) -> str:
    alt = escape(section.alt or section.summary, quote=True)
    match section.body:
        case ReportTable() as table:
            body = _render_table(table)
        case Gallery() as gallery:
            body = f"<ul class='gallery'>{''.join(map(_render_gallery_item, gallery.items))}</ul>"
        case Image() as image:
            body = f'<img src="{_encode_data_uri(image)}" width="{image.width}" height="{image.height}" alt="{alt}">'
        case figure:
            css_class = "figure wide" if figure.get_figwidth() > NARROW_INCHES else "figure"
            body = f'<div class="{css_class}" role="img" aria-label="{alt}" tabindex="0">{_render_svg(figure)}</div>'
    return (
        f"<section>\n<div class='text'><h2>{escape(section.heading)}</h2>\n"
        f"<p>{escape(section.summary)}</p></div>\n{body}\n</section>\n"
    )


def _render_gallery_item(item: GalleryItem) -> str:
    note = f"<small>{escape(item.note)}</small>" if item.note else ""
    return (
        f'<li><img src="{_encode_data_uri(item.image)}" alt="" width="{item.image.width}" height="{item.image.height}">'
        f"<p>{escape(item.caption)}{note}</p></li>\n"
    )


def _render_table(table: ReportTable) -> str:
    # A column heading has the alignment of its cells.
    classes = map(_cell_class, table.rows[0] if table.rows else table.columns)
    head = "".join(f"<th{css}>{escape(name)}</th>" for name, css in zip(table.columns, classes, strict=True))
    rows = ("".join(map(_render_cell, row)) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f"<div class='table'><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"


def _render_cell(cell: str) -> str:
    css = _cell_class(cell)
    content = re.sub(r" (\[.*\])$", r"<small> \1</small>", escape(cell)) if css else escape(cell)
    return f"<td{css}>{content}</td>"


def _cell_class(cell: str) -> str:
    outside_parentheses = re.sub(r"\(.*?\)", "", cell)
    is_text = len(cell) > MAX_NUMBER_CHARS or re.search(r"[^\W\d_]{3,}", outside_parentheses)
    is_number = re.match(r"[+−–-]?\d|–$", cell) and not is_text
    return " class='number'" if is_number else ""


def _encode_data_uri(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _render_svg(figure: "Figure") -> str:
    """Render the figure as inline SVG with text in the font of the page and colors of its theme."""
    import matplotlib

    buffer = io.StringIO()
    # A fixed salt makes the generated ids, and so the file, reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "zebra"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' width="([\d.]+pt)" height="[\d.]+pt"', r' style="--natural: \1"', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    referenced = set(re.findall(r"#([\w-]+)", svg))
    # Ids must be unique on the page, but figures reuse them: keep only those that are referenced.
    svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in referenced else "", svg)
    for color, variable in CSS_VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg
