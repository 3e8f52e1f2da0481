"""A server of images with faults, on loopback addresses only; for tests and benchmarks/fetch.py.

    http://127.0.0.HOST:PORT/KIND/NUMBER.jpg        KIND says what happens, HOST is 1 to NUM_HOSTS

It ends by itself: a response after MAX_SECONDS or MAX_BYTES, the server after its caller.
"""

import asyncio
import contextlib
import io
import json
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
from PIL import Image

MAX_SECONDS = 60.0
MAX_BYTES = 1 << 30

Handler = Callable[["FaultyServer", "Request"], Awaitable[None]]
HANDLERS: dict[str, Handler] = {}


def handles(*kinds: str) -> Callable[[Handler], Handler]:
    """Register a handler for kinds of paths."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def make_jpeg(seed: int, width: int = 320, height: int = 240, quality: int = 85) -> bytes:
    """Return a JPEG of smooth random colors with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def make_png_header(width: int, height: int) -> bytes:
    """Return a PNG without pixels that says it has many."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


class Request:
    """A request and the connection to answer on."""

    def __init__(self, path: str, host: int, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        self.path = path
        self.host = host
        self.headers = headers
        self.writer = writer
        self.kind, _, name = path.strip("/").replace("%20", " ").partition("/")
        self.number = int(name.partition(".")[0]) if name.partition(".")[0].isdigit() else 0

    async def send(
        self, body: bytes = b"", status: str = "200 OK", *, length: int | None = None, **headers: str
    ) -> None:
        """Send a response; `length` overrides the Content-Length, and None of -1 omits it."""
        fields = {"Content-Type": "image/jpeg", "Content-Length": str(len(body) if length is None else length)}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value != "-1")
        self.writer.write(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)
        await self.writer.drain()


class FaultyServer:
    """Serves one JPEG in many ways; counts requests per path."""

    def __init__(
        self,
        *,
        num_hosts: int = 4,
        robots: dict[int, str] | None = None,
        images: list[bytes] | None = None,
        slow_seconds: float = 1.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.num_hosts = num_hosts
        self.robots = robots or {}
        self.images = images or [make_jpeg(seed) for seed in range(16)]
        self.slow_seconds = slow_seconds
        self.ssl_context = ssl_context
        self.port = 0
        self.servers: list[asyncio.Server] = []
        self.num_endless_bytes = 0
        self.requests: Counter[str] = Counter()
        self.connections: Counter[int] = Counter()
        self.max_connections: Counter[int] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        """Path → header fields of the last request."""

    def url(self, kind: str, number: int = 0, host: int = 1) -> str:
        """Return the address of an image."""
        return f"http://127.0.0.{host}:{self.port}/{kind}/{number}.jpg"

    async def start(self, port: int = 0) -> None:
        """Listen on all hosts, at the same port."""
        sockets = []
        for host in range(1, self.num_hosts + 1):
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((f"127.0.0.{host}", self.port or port))
            listener.listen(512)
            self.port = listener.getsockname()[1]
            sockets.append(listener)
        self.servers = [
            await asyncio.start_server(self._serve, sock=listener, ssl=self.ssl_context) for listener in sockets
        ]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = int(writer.get_extra_info("sockname")[0].rpartition(".")[2])
        self.connections[host] += 1
        self.max_connections[host] = max(self.max_connections[host], self.connections[host])
        try:
            async with asyncio.timeout(MAX_SECONDS):
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    headers = {
                        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
                    }
                    request = Request(head[0].split(" ")[1], host, headers, writer)
                    self.requests[request.path] += 1
                    self.headers[request.path] = headers
                    await self._answer(request)
                    if headers.get("connection") == "close":
                        break
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self.connections[host] -= 1
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def _answer(self, request: Request) -> None:
        if request.path == "/robots.txt":
            kind = self.robots.get(request.host, "missing")
            await ROBOTS[kind](self, request)
        elif request.path == "/.well-known/tdmrep.json":
            rules = [{"location": "/reserved/*", "tdm-reservation": 1}, {"location": "/freed/", "tdm-reservation": 1}]
            await request.send(json.dumps(rules).encode())
        else:
            await HANDLERS.get(request.kind, HANDLERS["missing"])(self, request)

    def image(self, request: Request) -> bytes:
        """Return the image of a number."""
        return self.images[request.number % len(self.images)]

    def is_first(self, request: Request) -> bool:
        """Return whether a path is requested for the first time."""
        return self.requests[request.path] == 1


def answer(
    body: Callable[["FaultyServer", Request], bytes] | bytes = b"", status: str = "200 OK", **headers: str
) -> Handler:
    """Return a handler that always sends the same."""

    async def send(server: FaultyServer, request: Request) -> None:
        await request.send(body(server, request) if callable(body) else body, status, **headers)

    return send


HTML = b"<!DOCTYPE html><html><body>Not found, but the status is 200." + b" " * 50_000
image_of = FaultyServer.image
HANDLERS |= {
    "ok": answer(image_of),
    "reserved": answer(image_of),  # by tdmrep.json
    "freed": answer(image_of, tdm_reservation="0"),  # the field overrides tdmrep.json
    "missing": answer(status="404 Not Found"),
    "gone": answer(status="410 Gone"),
    "forbidden": answer(status="403 Forbidden"),
    "error": answer(status="500 Internal Server Error"),
    "html": answer(HTML),
    "placeholder": answer(lambda server, _request: server.images[0]),
    "empty": answer(b""),
    "svg": answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>" + b" " * 100, Content_Type="image/svg+xml"),
    "video": answer(b"\x00\x00\x00\x18ftypisom" + bytes(1000)),
    "pixels": answer(make_png_header(60_000, 60_000)),
    "thin": answer(make_png_header(1, 20_000)),
    "zero": answer(make_png_header(0, 10)),
    "cut": answer(lambda server, request: image_of(server, request)[:600]),  # a complete body, an incomplete JPEG
    "noai": answer(image_of, X_Robots_Tag="NoAI, noimageai"),
    "tdm": answer(image_of, tdm_reservation="1"),
    "usage": answer(image_of, Content_Usage="search=y, train-ai=n"),
    "loop": answer(status="302 Found", Location="/loop/0.jpg"),
    "private": answer(status="302 Found", Location="http://10.0.0.1/secret.jpg"),
    "file": answer(status="302 Found", Location="file:///etc/passwd"),
    "nowhere": answer(status="302 Found"),
    "moved": answer(status="301 Moved Permanently", Location="/ok/1.jpg"),
    "gzip": answer(lambda server, request: zlib.compress(image_of(server, request)), Content_Encoding="deflate"),
    "huge": answer(b"\xff\xd8\xff" + bytes(100), length=None, Content_Length=str(MAX_BYTES)),
    "long header": answer(image_of, X_Filler="x" * 200_000),
    "two lengths": answer(image_of, content_length="5"),
    "brotli": answer(b"x" * 100, Content_Encoding="br"),
    "closed": answer(status="429 Too Many Requests", Retry_After="3600"),
}


@handles("busy", "limited")
async def _send_after_pause(server: FaultyServer, request: Request) -> None:
    """Ask to wait for a second, once."""
    if server.is_first(request):
        status = "503 Service Unavailable" if request.kind == "busy" else "429 Too Many Requests"
        await request.send(b"", status, Retry_After="1")
    else:
        await request.send(server.image(request))


@handles("short", "reset")
async def _break_once(server: FaultyServer, request: Request) -> None:
    """Close or reset the connection in the middle of the body, once."""
    data = server.image(request)
    if not server.is_first(request):
        await request.send(data)
        return
    await request.send(data[: len(data) // 2], length=len(data))
    await asyncio.sleep(0.02)
    if request.kind == "reset":
        linger = struct.pack("ii", 1, 0)  # closing sends RST
        request.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.writer.transport.abort()


@handles("slow")
async def _trickle(server: FaultyServer, request: Request) -> None:
    """Send the body one byte at a time."""
    data = server.image(request)
    await request.send(data[:20], length=len(data))
    for position in range(20, len(data)):
        await asyncio.sleep(server.slow_seconds)
        request.writer.write(data[position : position + 1])
        await request.writer.drain()


@handles("silent")
async def _wait(_server: FaultyServer, _request: Request) -> None:
    """Send nothing."""
    await asyncio.sleep(MAX_SECONDS)


@handles("endless")
async def _send_without_end(server: FaultyServer, request: Request) -> None:
    """Send an image without a length, up to MAX_BYTES."""
    await request.send(b"\xff\xd8\xff" + bytes(1000), Content_Length="-1", Connection="close")
    for _ in range(MAX_BYTES >> 18):
        request.writer.write(bytes(1 << 18))
        server.num_endless_bytes += 1 << 18
        await request.writer.drain()
    request.writer.close()


@handles("garbage", "status")
async def _send_no_http(_server: FaultyServer, request: Request) -> None:
    """Send bytes that are no response."""
    request.writer.write(
        b"\x16\x03\x01 what is this?\r\n\r\n" if request.kind == "garbage" else b"HTTP/1.1 9999 X\r\n\r\n"
    )
    await request.writer.drain()
    request.writer.close()


BOMB = zlib.compress(b"\xff\xd8\xff" + bytes(20 << 20))


@handles("bomb")
async def _send_bomb(_server: FaultyServer, request: Request) -> None:
    """Send 20 KB that are 20 MB when decompressed."""
    await request.send(BOMB, Content_Encoding="gzip")


async def _send_large_robots(_server: FaultyServer, request: Request) -> None:
    line = b"User-agent: x\nDisallow: /y\n"
    await request.send(b"User-agent: *\nDisallow: /noai/\n" + line * (5_000_000 // len(line)))


ROBOTS: dict[str, Handler] = {
    "missing": answer(status="404 Not Found"),
    "error": answer(status="500 Internal Server Error"),
    "busy": answer(status="429 Too Many Requests"),
    "none": answer(b"User-agent: *\nDisallow: /\n"),
    "us": answer(b"User-agent: Zebra-CLIP\nDisallow: /ok/\n\nUser-agent: *\nDisallow: /gone/\n"),
    "others": answer(b"User-agent: otherbot\nDisallow: /\n"),
    "latin": answer("# caf\xe9\nUser-agent: *\nDisallow: /ok/\n".encode("latin-1")),
    "utf16": answer("User-agent: *\nDisallow: /ok/\n".encode("utf-16")),
    "large": _send_large_robots,
    "silent": _wait,
    "usage": answer(b"User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /moved/ train-ai=y\n"),
    "html": answer(b"<html>no such page</html>"),
    "wildcards": answer(b"User-agent: *\nDisallow: /ok/" + b"1*" * 2_000 + b"b\n"),  # slow by regular expressions
}


@contextlib.contextmanager
def serving(server: FaultyServer) -> Iterator[FaultyServer]:
    """Run a server in a thread of this process."""
    started, loop = threading.Event(), asyncio.new_event_loop()

    def run() -> None:
        async def serve() -> None:
            await server.start()
            started.set()

        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(serve())
            loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()

    async def stop() -> None:
        for listener in server.servers:
            listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
