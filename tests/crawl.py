"""A small web: pages in WARC and WAT files as Common Crawl writes them, and their images on a local server."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

Link = Mapping[str, object]


def wat_document(page: str, links: object, base: str | None = None) -> dict[str, object]:
    """Return the metadata of a page."""
    html = {"Head": {"Title": "a page"} | ({"Base": base} if base else {}), "Links": links}
    return {
        "Container": {"Filename": "crawl.warc.gz", "Compressed": True},
        "Envelope": {
            "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": page},
            "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": html}},
        },
    }


def image_link(url: str, **texts: str) -> Link:
    return {"path": "IMG@/src", "url": url, **texts}


def wat_record(document: object) -> bytes:
    """Return a metadata record; bytes are the block as it is."""
    block = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = (
        f"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Type: application/json\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return headers.encode() + block + b"\r\n\r\n"


def write_wat(path: Path, documents: Sequence[object]) -> Path:
    """Write records, each a gzip member of its own if the name ends in .gz."""
    compress = gzip.compress if path.suffix == ".gz" else bytes
    info = b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 9\r\n\r\nrobots: x\r\n\r\n"
    path.write_bytes(b"".join(compress(record) for record in (info, *map(wat_record, documents))))
    return path


def write_warc(path: Path, pages: Mapping[str, bytes], headers: Sequence[tuple[str, str]] = ()) -> Path:
    """Write pages as requests and responses."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=path.suffix == ".gz")
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "zebra"}))
        for url, html in pages.items():
            fields = [("Content-Type", "text/html; charset=utf-8"), *headers]
            http = StatusAndHeaders("200 OK", fields, protocol="HTTP/1.1")
            request = BytesIO(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
            for record in (
                writer.create_warc_record(url, "request", payload=request),
                writer.create_warc_record(url, "response", payload=BytesIO(html), http_headers=http),
            ):
                writer.write_record(record)
                record.raw_stream.close()  # a temporary file
    return path


@dataclass
class ImageServer:
    """A server on a loopback address."""

    url: str
    files: dict[str, bytes | int]
    """Path → body, or HTTP status; others are 404."""
    requests: Counter[str] = field(default_factory=Counter)
    """Path → number of requests."""


@contextmanager
def serve_images(files: dict[str, bytes | int]) -> Iterator[ImageServer]:
    """Serve files until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests[self.path] += 1
            reply = files.get(self.path, 404)
            status, body = (reply, b"") if isinstance(reply, int) else (200, reply)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = ImageServer(f"http://127.0.0.1:{http.server_port}", files)
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
