"""The server keeps its promises under load, attack and signals: rows V1, V2, V4 and S5 to S8 of the scorecard.

It runs as a process of its own, as `zebra serve` starts it.
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
import torch
from PIL import Image

from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.serve import limits
from zebra.text.bpe import BPETokenizer

from .. import forkserver


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with random weights."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a photo of a horse"] * 5, 520, 16)
    config = ModelConfig(
        embed_dim=16,
        image_size=32,
        vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
        text=TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Bundle(CLIP(config), tokenizer, Preprocess(image_size=32)).save(folder)
    return folder


class Server:
    """`zebra serve` in a process of its own."""

    def __init__(self, model, *words, ready=True):
        command = [sys.executable, "-m", "zebra", "serve", "--model", str(model), "--port", "0", *words]
        self.process = forkserver.Popen(command, stderr=subprocess.PIPE)
        line = self.process.stderr.readline()
        self.port = int(re.search(r":(\d+)", line)[1])
        self.errors = []
        self._reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self._reader.start()
        while ready and self.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.05)

    def connect(self, timeout=30):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=30):
        """Return status, answer and seconds."""
        began = time.monotonic()
        connection = self.connect(timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read(), time.monotonic() - began
        finally:
            connection.close()

    def send(self, *pieces, timeout=30):
        """Send raw bytes, and return all that comes back."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as raw:
            try:
                for piece in pieces:
                    raw.sendall(piece)
                while chunk := raw.recv(65_536):
                    answer += chunk
            except ConnectionError:
                pass
            return answer

    def processes(self):
        """Return the numbers of its processes: the server's, then the model's."""
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return [number, *map(int, children)]

    def resident(self, peak=False):
        """Return the memory of its processes, in bytes; or their peaks since `forget_peak`."""
        name = "VmHWM" if peak else "VmRSS"
        statuses = [Path(f"/proc/{number}/status").read_text() for number in self.processes()]
        return sum(int(re.search(rf"{name}:\s+(\d+)", status)[1]) * 1024 for status in statuses)

    def forget_peak(self):
        for number in self.processes():
            Path(f"/proc/{number}/clear_refs").write_text("5")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(5)
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def server(model):
    running = Server(model)
    yield running
    assert running.stop() == 0


def picture(number=0, size=(40, 30)):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "JPEG")


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def classify(data):
    return {"images": [{"data": base64.b64encode(data).decode()}], "labels": ["horse", "cow"]}


def text(number):
    return {"texts": [f"a photo of horse {number}"]}


def error(answer):
    return json.loads(answer)["error"]["message"]


def test_v1_a_steady_load_is_answered_without_an_error(server):
    """Requests come by the clock, whether the ones before are answered or not."""

    def ask(number):
        time.sleep(max(0.0, began + number / 40 - time.monotonic()))
        body = classify(picture(number)) if number % 4 == 0 else text(number)
        return server.ask("POST", "/v1/classify" if number % 4 == 0 else "/v1/embed", body)[0]

    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(120))) == {200}


def test_v2_more_than_it_can_do_is_refused_at_once_and_then_it_is_well_again(model):
    small = ["--batching.max-batch-size", "4", "--batching.max-queue-size", "8"]
    server = Server(model, *small)
    many = [f"a photo of horse {number}" for number in range(6)]
    try:
        with ThreadPoolExecutor(48) as pool:
            answers = list(
                pool.map(
                    lambda number: server.ask(
                        "POST", "/v1/embed", {"texts": [f"{t} {number}" for t in many]}
                    ),
                    range(480),
                )
            )
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 429}
        assert all(
            error(answer).startswith("the server is busy") for status, answer, _ in answers if status == 429
        )
        assert server.ask("POST", "/v1/embed", text(1))[0] == 200
        connection = server.connect()
        connection.close()
    finally:
        assert server.stop() == 0


def test_v4_sigterm_under_load_answers_everything_that_was_accepted_and_exits_0(model):
    server = Server(model)
    labels = [f"animal {number} of the plains" for number in range(1000)]

    def ask(number):
        body = classify(picture(number)) | {
            "labels": labels,
            "templates": [f"{number} {{}}.", "a {}.", "the {}."],
        }
        return server.ask("POST", "/v1/classify", body)[0]

    try:
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(ask, number) for number in range(12)]
            while b'zebra_queue_items{queue="labels"} 11.0' not in server.ask("GET", "/metrics")[1]:
                assert not all(call.done() for call in asked)
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 30
            assert [call.result() for call in asked] == [200] * 12
        with pytest.raises(ConnectionError):
            server.ask("GET", "/healthz")
    finally:
        server.process.kill()


def test_v4_a_model_that_is_killed_under_load_is_replaced_and_the_server_goes_on(model):
    """Kill -9 of its process: what it was at may be refused, with when to come again; nothing else is."""
    server = Server(model)
    stop, answers = threading.Event(), []

    def ask(number):
        while not stop.is_set():
            answers.append(server.ask("POST", "/v1/embed", text(number))[::2])

    try:
        _server, killed = server.processes()
        with ThreadPoolExecutor(4) as pool:
            for number in range(4):
                pool.submit(ask, number)
            time.sleep(0.5)
            os.kill(killed, signal.SIGKILL)
            began = time.monotonic()
            while server.ask("GET", "/readyz")[0] == 200:
                assert time.monotonic() - began < 5
            while server.ask("GET", "/readyz")[0] != 200:
                assert time.monotonic() - began < 30
            before = len(answers)
            while len(answers) < before + 100:
                time.sleep(0.01)
            stop.set()
        statuses = [status for status, _ in answers]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= 4
        assert set(statuses[-50:]) == {200}
        assert killed not in server.processes()
    finally:
        stop.set()
        assert server.stop() == 0
    assert "was ended by SIGKILL; another one is started" in "".join(server.errors)


def test_v4_a_model_that_cannot_be_opened_ends_the_server_with_a_message(model, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    server = Server(tmp_path / "broken", ready=False)
    assert server.process.wait(60) == 1
    server.stop()
    assert "zebra serve:" in "".join(server.errors)


def test_s5_no_address_makes_the_server_knock_at_a_private_door(model):
    """Traps on this machine count who comes; with fetching switched on for every name of the traps."""
    traps = [socket.create_server((host, 0)) for host in ("127.0.0.1", "0.0.0.0")]
    if socket.has_ipv6:
        traps.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
    ports = [trap.getsockname()[1] for trap in traps]
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
            f"https://pictures.test\\@127.0.0.1:{port}/",
            f"https://pictures.test@127.0.0.1:{port}/",
            f"https://127.0.0.1:{port}#@pictures.test/",
            f"https://127.0.0.1:{port}\\.pictures.test/",
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
            answers = list(
                pool.map(
                    lambda url: server.ask("POST", "/v1/classify", body | {"images": [{"url": url}]}), urls
                )
            )
        assert {status for status, _, _ in answers} == {400}
        assert len({answer for _, answer, _ in answers}) == 1  # the answer tells nothing about the network
        for trap in traps:
            trap.setblocking(False)
            with pytest.raises(BlockingIOError):
                trap.accept()
    finally:
        for trap in traps:
            trap.close()
        assert server.stop() == 0


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *extra, rows=b""):
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(rows or bytes(100), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def bombs():
    """Name → bytes of small files that are, or claim to be, large, slow or of another kind."""
    packed = zlib.compress(bytes(50_000_000), 9)
    scan = picture()[picture().index(b"\xff\xda") :]
    frames = [Image.new("P", (100, 100), number % 256) for number in range(1000)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    side = 13_304
    return {
        "177 megapixels": png(side, side, rows=bytes((side // 8 + 1) * side)),
        "65,535 on a side": png(65_535, 65_535),
        "one very long row": png(2**31 - 1, 1),
        "compressed text": png(100, 100, *[chunk(b"zTXt", b"a%d\0\0" % n + packed) for n in range(20)]),
        "compressed profile": png(100, 100, chunk(b"iCCP", b"icc\0\0" + packed)),
        "compressed international text": png(
            100, 100, *[chunk(b"iTXt", b"b%d\0\1\0\0\0" % n + packed) for n in range(20)]
        ),
        "a thousand scans": picture()[:-2] + scan * 1000,
        "a large GIF screen": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        "a large WebP": encoded(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
        "TIFF": encoded(Image.new("RGB", (40, 40)), "TIFF"),
        "TIFF behind the beginning of a JPEG": b"\xff\xd8\xff" + encoded(Image.new("RGB", (40, 40)), "TIFF"),
        "TIFF behind the beginning of a WebP": b"RIFF\0\0\0\0WEBP"
        + encoded(Image.new("RGB", (40, 40)), "TIFF"),
        "BMP": encoded(Image.new("RGB", (40, 40)), "BMP"),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "nothing": b"\0",
    }


def test_s6_bombs_are_refused_quickly_and_without_memory(server):
    bodies = {name: json.dumps(classify(data)).encode() for name, data in bombs().items()}
    server.ask("POST", "/v1/classify", classify(picture()))
    server.forget_peak()
    before = server.resident()
    for name, body in bodies.items():
        tries = [server.ask("POST", "/v1/classify", body) for _ in range(3)]
        assert {status for status, _, _ in tries} == {400}, (name, tries[0])
        assert min(seconds for _, _, seconds in tries) < 0.2, name
    grown = server.resident(peak=True) - before
    assert grown < 50 * 2**20, f"{grown / 2**20:.0f} MiB"
    assert server.ask("POST", "/v1/classify", classify(picture()))[0] == 200


def test_s6_of_a_thousand_frames_the_first_is_looked_at(server):
    frames = [Image.new("P", (100, 100), number % 256) for number in range(1000)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    still = encoded(frames[0], "GIF")
    answers = [server.ask("POST", "/v1/classify", classify(data))[:2] for data in (gif, still)]
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_s7_a_body_beyond_the_limit_is_refused_whatever_its_head_says(server):
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    piece = b"x" * 2**20
    before = server.resident()
    honest = server.send(head + b"Content-Length: %d\r\n\r\n" % (limits.MAX_BODY_BYTES + 1))
    assert honest.startswith(b"HTTP/1.1 413")
    chunked = [b"%x\r\n" % len(piece) + piece + b"\r\n"] * 40
    assert b"413" in server.send(head + b"Transfer-Encoding: chunked\r\n\r\n", *chunked)[:20]
    # More than was promised is another request, and not one: the connection ends.
    lying = server.send(head + b"Content-Length: 10\r\n\r\n", *[piece] * 3)
    assert lying.startswith(b"HTTP/1.1 422")
    assert lying.count(b"HTTP/1.1 200") == 0
    assert server.send(head + b"Content-Length: -5\r\n\r\n").startswith(b"HTTP/1.1 400")
    both = server.send(
        head + b"Connection: close\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert both[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 422")
    assert server.resident() - before < 100 * 2**20
    assert server.ask("POST", "/v1/embed", text(1))[0] == 200


def test_s7_an_endless_head_is_refused(server):
    answer = server.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-A: " + b"y" * 20_000)
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["type"] == "bad_request"


@pytest.mark.slow
def test_s7_slow_senders_are_cut_off_and_hold_nobody_up(server):
    """Two hundred that drip, half of them their heads and half their bodies."""
    with ExitStack() as stack:
        drips = []
        for number in range(200):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            raw.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\n")
            if number % 2:
                raw.sendall(b"Content-Length: 1000000\r\n\r\n{")
            drips.append(raw)
        before, began, taken = server.resident(), time.monotonic(), []
        while time.monotonic() - began < limits.BODY_TIMEOUT_SECONDS + 1:
            for raw in drips:
                with suppress(ConnectionError):
                    raw.sendall(b"x")
            status, _, seconds = server.ask("POST", "/v1/embed", text(len(taken)))
            taken.append(seconds)
            assert status == 200
            time.sleep(0.05)
        answers = []
        for raw in drips:
            try:
                answers.append(raw.recv(1000)[:12])
            except ConnectionError:
                answers.append(b"")
    assert set(answers[1::2]) == {b"HTTP/1.1 408"}
    assert set(answers[::2]) == {b""}  # not even a head came
    assert float(np.median(taken)) < 0.5
    assert server.resident() - before < 50 * 2**20


def test_s8_no_path_leads_out_of_the_folders_that_are_served(server):
    climbs = [
        *(
            "../",
            "..%2f",
            "%2e%2e/",
            "%2e%2e%2f",
            "..%5c",
            "..\\",
            "....//",
            "..;/",
            "%252e%252e%252f",
            ".%00./",
            "/",
        ),
        *("%c0%ae%c0%ae/", "..%c0%af", "%uff0e%uff0e/"),
    ]
    targets = ("etc/passwd", "app.py", "limits.py", "service.py", "../serve/app.py")
    secret = Path("/etc/passwd").read_bytes()[:20]
    for base in ("/page/", "/reference/", "/v1/images/", "/v1/quiz/"):
        for climb in climbs:
            for depth in (1, 2, 8):
                for target in targets:
                    path = base + climb * depth + target
                    raw = server.send(
                        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
                    )
                    status = int(raw.split()[1])
                    assert 400 <= status < 500, path
                    assert secret not in raw
                    assert b"from fastapi" not in raw
