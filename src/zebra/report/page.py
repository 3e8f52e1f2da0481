"""A title, key numbers and sections in, one self-contained HTML file out."""

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


@dataclass(frozen=True, slots=True)
class Headline:
    """A key number, shown large at the top of the page."""

    value: str
    """As people read it: "93.4%"."""
    label: str
    """What it is, in a few words."""
    note: str = ""
    """Its interval, the chance level, or another scale to read it by."""


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Columns and rows of text; cells that start with a digit are set to the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One thing to look at, with a sentence that says what it shows."""

    heading: str
    summary: str
    """What this shows, in a sentence or two."""
    body: "Figure | Image | ReportTable"
    alt: str = ""
    """The same for those who cannot see it; the reading stands in when empty."""


def write_page(
    path: str | Path, title: str, lead: str, sections: Sequence[Section], headlines: Sequence[Headline] = ()
) -> None:
    """Write a report that needs no other file, no script and no network; equal input gives equal bytes.

    It follows the reader's light or dark theme and fits a phone. All text is escaped.

    Args:
        path: the file to write.
        title: the heading of the page.
        lead: a sentence or two under it.
        sections: in reading order.
        headlines: up to about four key numbers.
    """
    css = (resources.files("zebra.report") / "page.css").read_text(encoding="utf-8")
    strip = "".join(map(_render_headline, headlines))
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
{f"<dl>{strip}</dl>" if strip else ""}
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
        case Image() as image:
            body = f'<img src="{_encode_data_uri(image)}" width="{image.width}" height="{image.height}" alt="{alt}">'
        case figure:
            kind = "figure wide" if figure.get_figwidth() > NARROW_INCHES else "figure"
            body = (
                f'<div class="{kind}" role="img" aria-label="{alt}" tabindex="0">{_render_svg(figure)}</div>'
            )
    return (
        f"<section>\n<div class='words'><h2>{escape(section.heading)}</h2>\n"
        f"<p>{escape(section.summary)}</p></div>\n{body}\n</section>\n"
    )


def _render_table(table: ReportTable) -> str:
    # A column's heading stands on the side of its cells.
    sides = map(_cell_class, table.rows[0] if table.rows else table.columns)
    head = "".join(f"<th{side}>{escape(name)}</th>" for name, side in zip(table.columns, sides, strict=True))
    rows = ("".join(f"<td{_cell_class(cell)}>{escape(cell)}</td>" for cell in row) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f"<div class='table'><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"


def _cell_class(cell: str) -> str:
    return " class='number'" if re.match(r"[+−–-]?\d", cell) else ""


def _encode_data_uri(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _render_svg(figure: "Figure") -> str:
    """Return the figure as inline SVG: real text in the page's font, colours from the page's theme."""
    import matplotlib

    buffer = io.StringIO()
    # The salt makes the generated ids, and with them the file, the same on every run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "zebra"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' width="([\d.]+pt)" height="[\d.]+pt"', r' style="--natural: \1"', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    # Figures number their parts alike; only ids that are referred to may stay, as a page has one set of ids.
    svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)
    for color, variable in CSS_VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg
