"""What the readers of a pool of links find."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

MAX_DETAIL_CHARS = 200
_REWRITTEN = str.maketrans("\\", "/", "\t\n\r")
"""What browsers do to addresses: backslashes become slashes, tabs and line breaks go."""
_ABSOLUTE = re.compile(r"https?://[^/?#\[\]\s]+")


@dataclass(frozen=True, slots=True)
class ImageLink:
    """An image on a page, with the texts that describe it."""

    url: str
    texts: tuple[str, ...]
    page: str | None = None
    uid: bytes | None = None
    """Identity of the pair with the first text, if the pool says it."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be used; it is counted by its reason."""

    place: str
    """Where it is in the pool, such as "a.wat.gz:17" for its 17th record."""
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unused:
    """An image that is no pair, such as one without a text."""

    reason: str
    example: str


PoolRecord = ImageLink | BadRecord | Unused


def make_links(address: str, texts: list[str], base: str, page: str, place: str) -> Iterator[PoolRecord]:
    """Yield an image of a page as a link, or what makes it unusable.

    Args:
        address: As on the page: absolute or relative.
        texts: Any number; white space is normalized, and empty and repeated texts are left out.
        base: What a relative address is relative to.
        page: Address of the page.
        place: Where the page is in the pool.
    """
    distinct = tuple(dict.fromkeys(text for text in (" ".join(text.split()) for text in texts) if text))
    if not distinct:
        yield Unused("image without a text", place)
    elif address.lstrip().lower().startswith("data:"):
        yield Unused("image in the page itself (data:)", place)
    elif not address.strip():
        yield BadRecord(place, "missing address", distinct[0][:MAX_DETAIL_CHARS])
    elif url := resolve_address(address, base):
        yield ImageLink(url, distinct, page or None)
    else:
        yield BadRecord(place, "broken address", address[:MAX_DETAIL_CHARS])


def resolve_address(address: str, base: str) -> str | None:
    """Return an absolute address without its fragment, as browsers do; None if that is impossible.

    >>> resolve_address("//example.org/a b.png#top ", "https://example.com/page")
    'https://example.org/a b.png'
    """
    cleaned = address.strip().translate(_REWRITTEN).partition("#")[0]
    if _ABSOLUTE.match(cleaned):
        return cleaned
    if cleaned[:1] == "/" != cleaned[1:2] and "/." not in cleaned and (origin := _find_origin(base)):
        return origin + cleaned  # most addresses; the general way takes ten times as long
    try:
        url = urljoin(base, cleaned)
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme and (parts.hostname or parts.scheme not in ("http", "https")) else None


@lru_cache(maxsize=64)
def _find_origin(base: str) -> str | None:
    """Return scheme and host of an address; None if it is not absolute."""
    match = _ABSOLUTE.match(base)
    return match[0] if match else None


def resolve_base(href: str | None, page: str) -> str:
    """Return what relative addresses of a page are relative to: its `<base href>`, or the page if that is broken."""
    base = resolve_address(href, page) if href else None
    return base if base and base.lower().startswith(("http://", "https://")) else page
