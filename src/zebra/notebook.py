"""HTML of objects in notebooks, without scripts and with all text escaped."""

import base64
from collections.abc import Iterable, Mapping
from html import escape


def render_html_table(rows: Mapping[str, str], caption: str = "") -> str:
    """Return a table with a name and a value per row."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    cells = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th><td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table>{title}<tbody>{cells}</tbody></table>"


def render_html_images(heading: str, images: Iterable[tuple[bytes | None, str, str]]) -> str:
    """Return images side by side, each with a text below.

    Args:
        heading: The line above.
        images: The encoded image, its media type such as image/jpeg, and its text; None for a missing image.
    """
    figures = "".join(
        '<figure style="display: inline-block; width: 160px; margin: 4px; vertical-align: top">'
        f"{_render_image(data, media_type)}<figcaption>{escape(text)}</figcaption></figure>"
        for data, media_type, text in images
    )
    return f"<div><p>{escape(heading)}</p>{figures}</div>"


def _render_image(data: bytes | None, media_type: str) -> str:
    if data is None:
        return "<em>no image</em>"
    uri = f"data:{escape(media_type)};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<img src="{uri}" alt="" style="max-width: 160px; max-height: 160px">'
