"""A web server on the loopback that keeps objects in memory, answers ranges, and answers badly when told to."""

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("500", "503", "stall", "reset", "cut", "short", "shifted", "whole")
"""Each in place of a right answer: statuses, silence, a closed connection, half a body, and answers that lie."""


class ObjectStore:
    """Objects by path. `fault` is asked with (path, range, how often this was asked before) for what goes wrong."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Callable[[str, str, int], str | None] = lambda path, place, before: None
        self.asked: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self.sent = 0
        """Bytes of bodies."""
        self.stall_seconds = 1.0
        self.url = ""

    def etag(self, path: str) -> str:
        return f'"{hashlib.md5(self.objects[path], usedforsecurity=False).hexdigest()}"'

    @contextmanager
    def serve(self) -> Iterator["ObjectStore"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.handle_error = lambda request, address: None  # readers that hang up are no news
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.socket.close()  # not server_close, which would wait for answers that stall


def some_of(share: float, kinds: tuple[str, ...] = FAULTS) -> Callable[[str, str, int], str | None]:
    """Return a rule under which that share of the requests fails, the same ones every time."""

    def fault(path: str, place: str, before: int) -> str | None:
        draw = int.from_bytes(hashlib.sha256(f"{path} {place} {before}".encode()).digest()[:8], "big")
        return kinds[draw % len(kinds)] if draw // len(kinds) % 10_000 < share * 10_000 else None

    return fault


def _handler(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, place = self.path.lstrip("/"), self.headers.get("Range", "")
            fault = store.fault(path, place, store.asked[path, place])
            store.asked[path, place] += 1
            if path not in store.objects and fault in ("cut", "short", "shifted", "whole"):
                fault = None  # there is nothing to spoil
            if fault == "short" and place == "bytes=0-0":
                fault = "cut"  # nothing is shorter than one byte
            if fault:
                store.faults[fault] += 1
            if fault and fault.isdigit():
                return self.answer(int(fault), b"try later")
            if fault in ("stall", "reset"):
                time.sleep(store.stall_seconds if fault == "stall" else 0)
                self.close_connection = True
                return None
            if path not in store.objects:
                return self.answer(404, b"no such object")
            data = store.objects[path]
            limits = re.fullmatch(r"bytes=(\d+)-(\d+)", place)
            if not limits or fault == "whole":
                return self.answer(200, data, cut=fault == "cut")
            start, end = int(limits[1]), min(int(limits[2]), len(data) - 1)
            if fault == "short":
                end = (start + end) // 2
            if fault == "shifted":
                start, end = (start - 1, end - 1) if start else (start + 1, end + 1)
            told = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
            return self.answer(206, data[start : end + 1], told, cut=fault == "cut")

        def answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
        ) -> None:
            self.send_response(status)
            path = self.path.lstrip("/")
            tag = {"ETag": store.etag(path)} if path in store.objects else {}
            for name, value in {**tag, **(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if cut:
                body, self.close_connection = body[: len(body) // 2], True
            store.sent += len(body)
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    return Handler
