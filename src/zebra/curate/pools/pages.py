"""Links in WAT, WARC and HTML files."""

import json
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from zebra.curate.pools.damaged_files import Damage, read_chunks
from zebra.curate.pools.html_images import MAX_PAGE_BYTES, TEXT_ATTRIBUTES, decode_page, find_images
from zebra.curate.pools.records import BadRecord, PoolRecord, Unused, make_links, resolve_base
from zebra.curate.pools.warc_records import WarcRecord, read_warc_records
from zebra.errors import MissingExtra

HTML_TYPES = ("text/html", "application/xhtml+xml")


def read_wat(path: Path, name: str) -> Iterator[PoolRecord]:
    """Yield the images in a file of Common Crawl's metadata: a JSON document per page, with its links."""
    for record in read_warc_records(path, name):
        if isinstance(record, BadRecord):
            yield record
        elif record.headers.get("warc-type") == "metadata" and _may_have_images(record.block):
            yield from _find_wat_images(record)


def read_warc(path: Path, name: str) -> Iterator[PoolRecord]:
    """Yield the images on the HTML pages of a web archive."""
    for record in read_warc_records(path, name):
        if isinstance(record, BadRecord):
            yield record
        elif record.headers.get("warc-type") in ("response", "resource"):
            yield from _find_page_images(record)


def read_html(path: Path, name: str) -> Iterator[PoolRecord]:
    """Yield the images of one page."""
    parts = list(islice(read_chunks(path), MAX_PAGE_BYTES >> 16))
    data = b"".join(part for part in parts if isinstance(part, bytes))[:MAX_PAGE_BYTES]
    yield from find_images(decode_page(data, None), "", name)
    yield from (BadRecord(name, "damaged file", part.detail) for part in parts if isinstance(part, Damage))


def _find_wat_images(record: WarcRecord) -> Iterator[PoolRecord]:
    try:
        document = json.loads(record.block)
    except (ValueError, RecursionError) as error:
        yield BadRecord(record.place, "broken JSON", str(error))
        return
    envelope = _get(document, "Envelope")
    html = _get(envelope, "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata")
    links = html.get("Links") or []
    page = str(
        _get(envelope, "WARC-Header-Metadata").get("WARC-Target-URI") or record.headers.get("warc-target-uri", "")
    )
    if not isinstance(links, list):
        yield BadRecord(record.place, "broken links", f"a {type(links).__name__} instead of a list")
        return
    base = _get(html, "Head").get("Base")
    base = resolve_base(base if isinstance(base, str) else None, page)
    for link in links:
        if isinstance(link, dict) and link.get("path") == "IMG@/src":
            texts = [text for name in TEXT_ATTRIBUTES if isinstance(text := link.get(name), str)]
            yield from make_links(str(link.get("url") or ""), texts, base, page, record.place)


def _may_have_images(block: bytes) -> bool:
    """Return whether a document has images or is cut; others need not be parsed."""
    return b"IMG@" in block or not block.rstrip().endswith(b"}")


def _get(document: Any, *names: str) -> Mapping[str, Any]:
    """Return a nested object; empty if it is missing, or is none."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _find_page_images(record: WarcRecord) -> Iterator[PoolRecord]:
    try:
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed
    except ImportError as error:
        raise MissingExtra("warcio", "reading WARC files", "curate") from error
    try:
        response = next(ArchiveIterator(BytesIO(record.data)))
        headers = response.http_headers or response.rec_headers  # a resource has no HTTP headers
        media_type, _, parameters = (headers.get_header("Content-Type") or "").partition(";")
        is_page = media_type.strip().lower() in HTML_TYPES
        if not is_page or (response.http_headers and headers.get_statuscode() != "200"):
            yield Unused("response that is no HTML page", record.place)
            return
        data = response.content_stream().read(MAX_PAGE_BYTES)
    except (ArchiveLoadFailed, ValueError, OSError, EOFError, StopIteration) as error:
        yield BadRecord(record.place, "broken HTTP response", str(error))
        return
    charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip("\"' ") or None
    page = record.headers.get("warc-target-uri", "").strip("<>")
    yield from find_images(decode_page(data, charset), page, record.place)


PAGE_READERS: Mapping[str, Callable[[Path, str], Iterator[PoolRecord]]] = {
    ".wat": read_wat,
    ".warc": read_warc,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
}
"""Suffix → function that reads such a file, given its path and its name in the pool."""
