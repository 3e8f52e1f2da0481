"""A local web server with objects in memory, range requests and injected faults."""

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("500", "503", "stall", "reset", "cut", "short", "shifted", "full")
"""Statuses, silence, a closed connection, half a body, and wrong ranges."""


class ObjectStore:
    """Objects by path. `fault` maps path, range and the number of equal requests before to a fault or None."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Callable[[str, str, int], str | None] = lambda path, byte_range, num_before: None
        self.requests: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self.sent_bytes = 0
        self.stall_seconds = 1.0
        self.url = ""

    def etag(self, path: str) -> str:
        return f'"{hashlib.md5(self.objects[path], usedforsecurity=False).hexdigest()}"'

    @contextmanager
    def serve(self) -> Iterator["ObjectStore"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.handle_error = lambda request, address: None  # clients may close connections
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.socket.close()  # not server_close, which waits for stalled responses


def some_of(fraction: float, kinds: tuple[str, ...] = FAULTS) -> Callable[[str, str, int], str | None]:
    """Return a fault function under which that fraction of the requests fails, deterministically."""

    def fault(path: str, byte_range: str, num_before: int) -> str | None:
        draw = int.from_bytes(hashlib.sha256(f"{path} {byte_range} {num_before}".encode()).digest()[:8], "big")
        return kinds[draw % len(kinds)] if draw // len(kinds) % 10_000 < fraction * 10_000 else None

    return fault


def _handler(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, byte_range = self.path.lstrip("/"), self.headers.get("Range", "")
            fault = store.fault(path, byte_range, store.requests[path, byte_range])
            store.requests[path, byte_range] += 1
            if path not in store.objects and fault in ("cut", "short", "shifted", "full"):
                fault = None  # no content to damage
            if fault == "short" and byte_range == "bytes=0-0":
                fault = "cut"  # one byte cannot be shortened
            if fault:
                store.faults[fault] += 1
            if fault and fault.isdigit():
                return self.respond(int(fault), b"try later")
            if fault in ("stall", "reset"):
                time.sleep(store.stall_seconds if fault == "stall" else 0)
                self.close_connection = True
                return None
            if path not in store.objects:
                return self.respond(404, b"no such object")
            data = store.objects[path]
            limits = re.fullmatch(r"bytes=(\d+)-(\d+)", byte_range)
            if not limits or fault == "full":
                return self.respond(200, data, cut=fault == "cut")
            start, end = int(limits[1]), min(int(limits[2]), len(data) - 1)
            if fault == "short":
                end = (start + end) // 2
            if fault == "shifted":
                start, end = (start - 1, end - 1) if start else (start + 1, end + 1)
            headers = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
            return self.respond(206, data[start : end + 1], headers, cut=fault == "cut")

        def respond(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
            self.send_response(status)
            path = self.path.lstrip("/")
            tag = {"ETag": store.etag(path)} if path in store.objects else {}
            for name, value in {**tag, **(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if cut:
                body, self.close_connection = body[: len(body) // 2], True
            store.sent_bytes += len(body)
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Suppress log lines."""

    return Handler
