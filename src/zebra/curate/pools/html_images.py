"""Images of an HTML page with their texts."""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from zebra.curate.pools.records import PoolRecord, Unused, make_links, resolve_base
from zebra.data.text_lines import UNICODE_BOMS
from zebra.errors import MissingExtra

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_PAGE_BYTES = 16 << 20
"""Longer pages are cut, as crawlers do."""
TEXT_ATTRIBUTES = ("alt", "title", "data-image-title")
"""Attributes of an image with a text (MetaCLIP, arXiv 2309.16671)."""
LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src", "data-lazy")
"""Attributes with the address of an image that a script loads later; `src` then is a placeholder."""
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-z0-9_:.-]+)", re.IGNORECASE)
_SAVED_FROM = re.compile(r"<!--\s*saved from url=\(\d+\)(\S+?)\s*-->")
_CANDIDATE = re.compile(r"\s*([^\s,]\S*[^\s,]|[^\s,])(?:\s+([\d.]+)[wx])?\s*(?:,|$)")
"""An address of a srcset with its width or density."""


def find_images(html: str, page: str, place: str) -> Iterator[PoolRecord]:
    """Yield the images of a page.

    The texts of an image are its attributes `alt`, `title` and `data-image-title`, and the caption of its figure.

    Args:
        html: The page.
        page: Its address; empty for a file, which may name one itself.
        place: Where the page is in the pool.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError as error:
        raise MissingExtra("selectolax", "reading HTML pages", "curate") from error
    tree = LexborHTMLParser(html)
    page = page or _find_page_address(html, tree)
    base = resolve_base(_attribute(tree.css_first("base[href]"), "href"), page)
    seen: set[PoolRecord] = set()
    for image in tree.css("img"):
        texts = [image.attributes.get(name) or "" for name in TEXT_ATTRIBUTES]
        for record in make_links(find_address(image), [*texts, _find_figure_caption(image)], base, page, place):
            if record in seen:  # a script's image repeated in <noscript>, for instance
                continue
            if not isinstance(record, Unused):
                seen.add(record)
            yield record


def find_address(image: "LexborNode") -> str:
    """Return the address of an image: of a lazy attribute, `src`, or the largest of `srcset`; "" without one."""
    attributes = image.attributes
    addresses = [attributes.get(name) for name in (*LAZY_ATTRIBUTES, "src")]
    addresses += [_largest(attributes.get(name) or "") for name in ("data-srcset", "srcset")]
    usable = [address for address in addresses if address and address.strip()]
    # A placeholder in the page itself counts only if there is nothing else.
    return next((address for address in usable if not address.lstrip().lower().startswith("data:")), (*usable, "")[0])


def decode_page(data: bytes, charset: str | None) -> str:
    """Return a page as text, by its byte order mark, the charset of its HTTP headers or its own, else UTF-8.

    Latin-1 is read as windows-1252, as browsers do. What cannot be decoded becomes U+FFFD.
    """
    for bom, encoding in UNICODE_BOMS:
        if data.startswith(bom):
            return data.decode(encoding, "replace")
    declared = _CHARSET.search(data, 0, 4096)
    for name in (charset, declared and declared[1].decode()):
        with suppress(LookupError):
            encoding = codecs.lookup(name).name if name else ""
            if encoding:
                latin = encoding in ("iso8859-1", "ascii")
                return data.decode("cp1252" if latin else encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        is_cut = error.end >= len(data) - 3  # within the last character
        return data.decode("utf-8" if is_cut else "cp1252", "replace")


def _find_page_address(html: str, tree: "LexborHTMLParser") -> str:
    """Return the address that a saved page says it had; empty if it does not."""
    if match := _SAVED_FROM.search(html, 0, 4096):
        return match[1]
    for selector, name in (("link[rel=canonical]", "href"), ('meta[property="og:url"]', "content")):
        address = _attribute(tree.css_first(selector), name) or ""
        if address.lower().startswith(("http://", "https://")):
            return address
    return ""


def _attribute(node: "LexborNode | None", name: str) -> str | None:
    return None if node is None else node.attributes.get(name)


def _largest(srcset: str) -> str | None:
    """Return the address with the largest width or density."""
    candidates = [(float(match[2] or 1), match[1]) for match in _CANDIDATE.finditer(srcset) if _is_number(match[2])]
    return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def _is_number(text: str | None) -> bool:
    return text is None or text.replace(".", "", 1).isdigit()


def _find_figure_caption(image: "LexborNode") -> str:
    """Return the caption of the figure that has this image alone; empty without one."""
    node = image.parent
    while node is not None and node.tag != "figure":
        node = node.parent
    if node is None or len(node.css("img")) > 1:
        return ""
    caption = node.css_first("figcaption")
    return "" if caption is None else caption.text(separator=" ")
