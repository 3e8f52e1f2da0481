"""HTML of objects in notebooks, without scripts and with all text escaped."""

from collections.abc import Mapping
from html import escape


def render_html_table(rows: Mapping[str, str], caption: str = "") -> str:
    """Return a table with a name and a value per row."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    cells = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th><td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table>{title}<tbody>{cells}</tbody></table>"
