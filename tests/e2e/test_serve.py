"""`zebra serve` as a user runs it: after a demo without arguments, and with an own store."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from .. import forkserver
from ..tiny_model import save_tiny_model


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "runs" / "demo" / "model")


@pytest.fixture
def demo(model, pairs):
    """Return a directory like the demo's, with a directory of images in place of its shards."""
    train = model.parent / "menagerie" / "train"
    train.mkdir(parents=True)
    for key, suffix, data, caption in pairs:
        (train / f"{key}.{suffix}").write_bytes(data)
        (train / f"{key}.txt").write_text(caption)
    return model.parent


@pytest.fixture
def serve(installed, environment, tmp_path):
    """Return a function that runs a server; it yields a function that sends requests, and the lines of stderr."""

    @contextmanager
    def run(*args, stop=signal.SIGTERM):
        command = [sys.executable, str(installed / "bin" / "zebra"), "serve", "--port", "0", *map(str, args)]
        process = forkserver.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
        lines = []
        try:
            while not lines or not re.search(r"^http://", lines[-1]):
                line = process.stderr.readline()
                assert line, lines
                lines.append(line)
            url = re.search(r"^http://\S+", lines[-1])[0]

            def send(path, body=None):
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as response:
                    return response.read()

            for _ in range(600):
                try:
                    send("/readyz")
                    break
                except urllib.error.HTTPError:
                    time.sleep(0.1)
            yield send, lines
        finally:
            process.send_signal(stop)
            code = process.wait(40)
            process.stderr.close()
        assert code == 0

    return run


def test_after_a_demo_it_serves_the_demos_model_and_images(serve, demo):
    with serve() as (send, lines):
        assert "embedding" in "".join(lines)
        info = json.loads(send("/v1/about"))
        assert info["model"]["name"] == "demo/model"
        assert info["store"]["rows"] == 96
        assert any("circle" in text or "square" in text for text in info["examples"])
        result = json.loads(send("/v1/search", {"text": "a photo of a red circle", "k": 3}))
        assert len(result["hits"]) == 3
        assert send(result["hits"][0]["thumbnail"])
    with serve(stop=signal.SIGINT) as (send, lines):  # the store exists now
        assert json.loads(send("/v1/about"))["store"]["rows"] == 96


def test_the_page_and_the_reference_come_with_the_wheel(serve, model):
    with serve("--model", model) as (send, _lines):
        for page in ("/", "/docs"):
            html = send(page).decode()
            assert html.startswith("<!doctype html>")
            for file in re.findall(r'(?:src|href)="((?:page|reference)/[^"]+)"', html):
                assert send(f"/{file}")


def test_a_store_remembers_its_model(zebra, serve, demo, tmp_path):
    zebra("embed", demo / "model", demo / "menagerie" / "train", "--out", "own", cwd=tmp_path)
    with serve("--store", "own") as (send, _lines):
        assert json.loads(send("/v1/about"))["store"]["rows"] == 96
