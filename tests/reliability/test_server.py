"""Reliability of the server under load, attack and signals: rows V1, V2, V4 and S5 to S8.

The server runs as a separate process, as `zebra serve` starts it.
"""

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.serve import limits

from .. import forkserver


class Server:
    """`zebra serve` as a separate process."""

    def __init__(self, model, *args, wait_until_ready=True):
        command = [sys.executable, "-m", "zebra", "serve", "--model", str(model), "--port", "0", *args]
        self.process = forkserver.Popen(command, stderr=subprocess.PIPE)
        line = self.process.stderr.readline()
        self.port = int(re.search(r":(\d+)", line)[1])
        self.errors = []
        self._reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self._reader.start()
        while wait_until_ready and self.request("GET", "/readyz")[0] != 200:
            time.sleep(0.05)

    def connect(self, timeout=30):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=30):
        """Send a request; return status, body and seconds."""
        started_at = time.monotonic()
        connection = self.connect(timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
            response = connection.getresponse()
            return response.status, response.read(), time.monotonic() - started_at
        finally:
            connection.close()

    def send_raw(self, *chunks, timeout=30):
        """Send raw bytes; return everything that is received."""
        response = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as raw:
            try:
                for data in chunks:
                    raw.sendall(data)
                while received := raw.recv(65_536):
                    response += received
            except ConnectionError:
                pass
            return response

    def pids(self):
        """Return the process ids of the server and of the worker."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def resident_bytes(self, peak=False):
        """Return the resident memory of both processes, or the sum of their peaks since `reset_peak`."""
        name = "VmHWM" if peak else "VmRSS"
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids()]
        return sum(int(re.search(rf"{name}:\s+(\d+)", status)[1]) * 1024 for status in statuses)

    def cpu_seconds(self):
        """Return the processor time of both processes, which other work on the machine does not change."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids()]
        return sum(int(user) + int(system) for *_, user, system in (row[:13] for row in fields)) / os.sysconf(
            "SC_CLK_TCK"
        )

    def reset_peak(self):
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(5)
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def server(model):
    server = Server(model)
    yield server
    assert server.stop() == 0


def noise_image(seed=0, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), "JPEG")


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def classify_body(data):
    return {"images": [{"data": base64.b64encode(data).decode()}], "labels": ["horse", "cow"]}


def embed_body(number):
    return {"texts": [f"a photo of horse {number}"]}


def error_message(body):
    return json.loads(body)["error"]["message"]


def test_v1_a_steady_load_is_answered_without_errors(server):
    """Open loop at 40 requests per second: requests start on schedule, whether earlier ones are answered or not.

    `benchmarks/serve.py load` measures the capacity and sends 80 % of it.
    """

    def send(number):
        time.sleep(max(0.0, started_at + number / 40 - time.monotonic()))
        body = classify_body(noise_image(number)) if number % 4 == 0 else embed_body(number)
        return server.request("POST", "/v1/classify" if number % 4 == 0 else "/v1/embed", body)[0]

    started_at = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(120))) == {200}


def test_v2_an_overloaded_server_rejects_requests_and_recovers_at_once(model):
    server = Server(model, "--batching.max-batch-size", "4", "--batching.max-queue-size", "8")
    texts = [f"a photo of horse {number}" for number in range(6)]
    try:
        with ThreadPoolExecutor(48) as pool:
            responses = list(
                pool.map(
                    lambda number: server.request(
                        "POST", "/v1/embed", {"texts": [f"{text} {number}" for text in texts]}
                    ),
                    range(480),
                )
            )
        assert {status for status, _, _ in responses} == {200, 429}
        assert all(
            error_message(body).startswith("the server is busy") for status, body, _ in responses if status == 429
        )
        assert server.request("POST", "/v1/embed", embed_body(1))[0] == 200
        connection = server.connect()
        connection.close()
    finally:
        assert server.stop() == 0


def test_v4_sigterm_under_load_answers_every_accepted_request_and_exits_0(model):
    server = Server(model)
    labels = [f"animal {number} of the plains" for number in range(1000)]

    def send(number):
        body = classify_body(noise_image(number)) | {
            "labels": labels,
            "templates": [f"{number} {{}}.", "a {}.", "the {}."],
        }
        return server.request("POST", "/v1/classify", body)[0]

    try:
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(send, number) for number in range(12)]
            while b'zebra_queue_items{queue="labels"} 11.0' not in server.request("GET", "/metrics")[1]:
                assert not all(call.done() for call in calls)
            stopped_at = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - stopped_at < 30
            assert [call.result() for call in calls] == [200] * 12
        with pytest.raises(ConnectionError):
            server.request("GET", "/healthz")
    finally:
        server.process.kill()


def test_v4_a_worker_that_is_killed_under_load_is_replaced(model):
    """After kill -9 of the worker, only requests in flight may get 503."""
    server = Server(model, "--batching.timeout-seconds", "120")
    stop, statuses = threading.Event(), []

    def send_until_stopped(number):
        while not stop.is_set():
            statuses.append(server.request("POST", "/v1/embed", embed_body(number), timeout=120)[0])

    try:
        _server_pid, worker_pid = server.pids()
        with ThreadPoolExecutor(4) as pool, ExitStack() as stack:
            stack.callback(stop.set)  # the threads also end if an assertion fails
            for number in range(4):
                pool.submit(send_until_stopped, number)
            time.sleep(0.5)
            os.kill(worker_pid, signal.SIGKILL)
            killed_at = time.monotonic()
            while server.request("GET", "/readyz")[0] == 200:
                assert time.monotonic() - killed_at < 5
            while server.request("GET", "/readyz")[0] != 200:
                assert time.monotonic() - killed_at < 90
            before = len(statuses)
            while len(statuses) < before + 100:
                assert time.monotonic() - killed_at < 120
                time.sleep(0.01)
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= 4
        assert set(statuses[-50:]) == {200}
        assert worker_pid not in server.pids()
    finally:
        assert server.stop() == 0
    assert "model worker was killed by SIGKILL; restarting" in "".join(server.errors)


def test_v4_a_model_that_cannot_be_loaded_ends_the_server_with_a_message(model, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    server = Server(tmp_path / "broken", wait_until_ready=False)
    assert server.process.wait(60) == 1
    server.stop()
    assert "zebra serve:" in "".join(server.errors)


def test_s5_no_url_makes_the_server_connect_to_a_private_address(model):
    """Listeners on this machine must see no connection, although every name of theirs is an allowed host."""
    listeners = [socket.create_server((host, 0)) for host in ("127.0.0.1", "0.0.0.0")]
    if socket.has_ipv6:
        listeners.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
    ports = [listener.getsockname()[1] for listener in listeners]
    names = [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0", "0"),
        *("169.254.169.254", "10.0.0.1"),
    ]
    allowed = names + [f"{name}:{port}" for name in names for port in ports]
    urls = [f"https://{name}:{port}/a.jpg" for name in names for port in ports]
    for port in ports:
        urls += [
            f"http://127.0.0.1:{port}/",
            f"https://[::1]:{port}/",
            f"https://[::ffff:127.0.0.1]:{port}/",
            f"https://images.test\\@127.0.0.1:{port}/",
            f"https://images.test@127.0.0.1:{port}/",
            f"https://127.0.0.1:{port}#@images.test/",
            f"https://127.0.0.1:{port}\\.images.test/",
            f"https://localhost.:{port}/",
            f"https://LOCALHOST:{port}/",
            f"https://１２７.0.0.1:{port}/",
            f"gopher://127.0.0.1:{port}/",
        ]
    urls += ["file:///etc/passwd", "FILE:///etc/passwd", "https://", "data:,x", "ftp://127.0.0.1/"]
    server = Server(model, *(f"--allow-url-hosts={name}" for name in allowed))
    try:
        with ThreadPoolExecutor(8) as pool:
            body = {"labels": ["horse"]}
            responses = list(
                pool.map(lambda url: server.request("POST", "/v1/classify", body | {"images": [{"url": url}]}), urls)
            )
        assert {status for status, _, _ in responses} == {400}
        assert len({body for _, body, _ in responses}) == 1  # the message reveals nothing about the network
        for listener in listeners:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    finally:
        for listener in listeners:
            listener.close()
        assert server.stop() == 0


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *extra, rows=b""):
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(rows or bytes(100), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs():
    """Return name → bytes of small files that decode large or slowly, or are no images."""
    compressed = zlib.compress(bytes(50_000_000), 9)
    scan = noise_image()[noise_image().index(b"\xff\xda") :]
    frames = [Image.new("P", (100, 100), number % 256) for number in range(1000)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    side = 13_304
    return {
        "177 megapixels": png(side, side, rows=bytes((side // 8 + 1) * side)),
        "65,535 on a side": png(65_535, 65_535),
        "one very long row": png(2**31 - 1, 1),
        "compressed text": png(100, 100, *[chunk(b"zTXt", b"a%d\0\0" % n + compressed) for n in range(20)]),
        "compressed profile": png(100, 100, chunk(b"iCCP", b"icc\0\0" + compressed)),
        "compressed international text": png(
            100, 100, *[chunk(b"iTXt", b"b%d\0\1\0\0\0" % n + compressed) for n in range(20)]
        ),
        "a thousand scans": noise_image()[:-2] + scan * 1000,
        "a large GIF screen": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        "a large WebP": encode(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
        "TIFF": encode(Image.new("RGB", (40, 40)), "TIFF"),
        "TIFF after the signature of a JPEG": b"\xff\xd8\xff" + encode(Image.new("RGB", (40, 40)), "TIFF"),
        "TIFF after the signature of a WebP": b"RIFF\0\0\0\0WEBP" + encode(Image.new("RGB", (40, 40)), "TIFF"),
        "BMP": encode(Image.new("RGB", (40, 40)), "BMP"),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "nothing": b"\0",
    }


def test_s6_bombs_are_rejected_quickly_with_little_memory(server):
    bodies = {name: json.dumps(classify_body(data)).encode() for name, data in bombs().items()}
    server.request("POST", "/v1/classify", classify_body(noise_image()))
    server.reset_peak()
    before = server.resident_bytes()
    for name, body in bodies.items():
        cpu_seconds = []
        for _ in range(3):
            started_at = server.cpu_seconds()
            status, response, _ = server.request("POST", "/v1/classify", body)
            assert status == 400, (name, response)
            cpu_seconds.append(server.cpu_seconds() - started_at)
        assert min(cpu_seconds) < 0.2, name
    grown = server.resident_bytes(peak=True) - before
    assert grown < 50 * 2**20, f"{grown / 2**20:.0f} MiB"
    assert server.request("POST", "/v1/classify", classify_body(noise_image()))[0] == 200


def test_s6_only_the_first_of_a_thousand_frames_is_decoded(server):
    frames = [Image.new("P", (100, 100), number % 256) for number in range(1000)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    still = encode(frames[0], "GIF")
    responses = [server.request("POST", "/v1/classify", classify_body(data))[:2] for data in (gif, still)]
    assert responses[0] == responses[1]
    assert responses[0][0] == 200


def test_s7_a_body_beyond_the_limit_is_rejected_whatever_content_length_says(server):
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    data = b"x" * 2**20
    before = server.resident_bytes()
    honest = server.send_raw(head + b"Content-Length: %d\r\n\r\n" % (limits.MAX_BODY_BYTES + 1))
    assert honest.startswith(b"HTTP/1.1 413")
    chunked = [b"%x\r\n" % len(data) + data + b"\r\n"] * 40
    assert b"413" in server.send_raw(head + b"Transfer-Encoding: chunked\r\n\r\n", *chunked)[:20]
    # Bytes beyond Content-Length are an invalid second request: the connection ends.
    lying = server.send_raw(head + b"Content-Length: 10\r\n\r\n", *[data] * 3)
    assert lying.startswith(b"HTTP/1.1 422")
    assert lying.count(b"HTTP/1.1 200") == 0
    assert server.send_raw(head + b"Content-Length: -5\r\n\r\n").startswith(b"HTTP/1.1 400")
    both = server.send_raw(
        head + b"Connection: close\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert both[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 422")
    assert server.resident_bytes() - before < 100 * 2**20
    assert server.request("POST", "/v1/embed", embed_body(1))[0] == 200


def test_s7_an_endless_head_is_rejected(server):
    response = server.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-A: " + b"y" * 20_000)
    assert response.startswith(b"HTTP/1.1 400")
    assert json.loads(response.split(b"\r\n\r\n")[1])["error"]["type"] == "bad_request"


@pytest.mark.slow
def test_s7_slow_clients_time_out_and_do_not_delay_others(server):
    """Two hundred clients send a byte at a time, half of them in the head and half in the body."""
    with ExitStack() as stack:
        slow_clients = []
        for number in range(200):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            raw.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\n")
            if number % 2:
                raw.sendall(b"Content-Length: 1000000\r\n\r\n{")
            slow_clients.append(raw)
        before, started_at, durations = server.resident_bytes(), time.monotonic(), []
        while time.monotonic() - started_at < limits.BODY_TIMEOUT_SECONDS + 1:
            for raw in slow_clients:
                with suppress(ConnectionError):
                    raw.sendall(b"x")
            status, _, seconds = server.request("POST", "/v1/embed", embed_body(len(durations)))
            durations.append(seconds)
            assert status == 200
            time.sleep(0.05)
        responses = []
        for raw in slow_clients:
            try:
                responses.append(raw.recv(1000)[:12])
            except ConnectionError:
                responses.append(b"")
    assert set(responses[1::2]) == {b"HTTP/1.1 408"}
    assert set(responses[::2]) == {b""}  # no response without a complete head
    assert float(np.median(durations)) < 0.5
    assert server.resident_bytes() - before < 50 * 2**20


def test_s8_no_path_leaves_the_served_directories(server):
    traversals = [
        *("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "....//", "..;/", "%252e%252e%252f", ".%00./", "/"),
        *("%c0%ae%c0%ae/", "..%c0%af", "%uff0e%uff0e/"),
    ]
    targets = ("etc/passwd", "app.py", "limits.py", "service.py", "../serve/app.py")
    secret = Path("/etc/passwd").read_bytes()[:20]
    for base in ("/page/", "/reference/", "/v1/images/", "/v1/quiz/"):
        for traversal in traversals:
            for depth in (1, 2, 8):
                for target in targets:
                    path = base + traversal * depth + target
                    response = server.send_raw(
                        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
                    )
                    status = int(response.split()[1])
                    assert 400 <= status < 500, path
                    assert secret not in response
                    assert b"from fastapi" not in response
