"""`zebra serve` as a user runs it: after a demo without a word, on a store of one's own, until told to stop."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
import torch

from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer

from .. import forkserver


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a photo of a red circle"] * 5, 520, 16)
    config = ModelConfig(
        embed_dim=16,
        image_size=32,
        vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
        text=TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16),
    )
    folder = tmp_path / "runs" / "demo" / "model"
    Bundle(CLIP(config), tokenizer, Preprocess(image_size=32)).save(folder)
    return folder


@pytest.fixture
def demo(model, pairs):
    """What a demo leaves behind, with a folder of pictures in place of its shards."""
    train = model.parent / "menagerie" / "train"
    train.mkdir(parents=True)
    for key, suffix, data, caption in pairs:
        (train / f"{key}.{suffix}").write_bytes(data)
        (train / f"{key}.txt").write_text(caption)
    return model.parent


@pytest.fixture
def serve(installed, environment, tmp_path):
    """A function that serves with some words, and yields a function that asks, and what was said."""

    @contextmanager
    def run(*words, stop=signal.SIGTERM):
        command = [sys.executable, str(installed / "bin" / "zebra"), "serve", "--port", "0", *map(str, words)]
        process = forkserver.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
        said = []
        try:
            while not said or not re.search(r"^http://", said[-1]):
                line = process.stderr.readline()
                assert line, said
                said.append(line)
            address = re.search(r"^http://\S+", said[-1])[0]

            def ask(path, body=None):
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.read()

            for _ in range(600):
                try:
                    ask("/readyz")
                    break
                except urllib.error.HTTPError:
                    time.sleep(0.1)
            yield ask, said
        finally:
            process.send_signal(stop)
            code = process.wait(40)
            process.stderr.close()
        assert code == 0

    return run


def test_after_a_demo_it_opens_on_its_model_and_a_store_of_its_pictures(serve, demo):
    with serve() as (ask, said):
        assert "embedding" in "".join(said)
        about = json.loads(ask("/v1/about"))
        assert about["model"]["name"] == "demo/model"
        assert about["store"]["rows"] == 96
        assert any("circle" in text or "square" in text for text in about["examples"])
        found = json.loads(ask("/v1/search", {"text": "a photo of a red circle", "k": 3}))
        assert len(found["hits"]) == 3
        assert ask(found["hits"][0]["thumbnail"])
    with serve(stop=signal.SIGINT) as (ask, said):  # the store is there by now
        assert json.loads(ask("/v1/about"))["store"]["rows"] == 96


def test_the_page_and_the_reference_come_with_the_wheel(serve, model):
    with serve("--model", model) as (ask, _said):
        for page in ("/", "/docs"):
            html = ask(page).decode()
            assert html.startswith("<!doctype html>")
            for file in re.findall(r'(?:src|href)="(/(?:page|reference)/[^"]+)"', html):
                assert ask(file)


def test_a_store_remembers_its_model(zebra, serve, demo, tmp_path):
    zebra("embed", demo / "model", demo / "menagerie" / "train", "--out", "own", cwd=tmp_path)
    with serve("--store", "own") as (ask, _said):
        assert json.loads(ask("/v1/about"))["store"]["rows"] == 96


def test_with_nothing_to_serve_it_says_what_to_do(zebra, tmp_path):
    said = zebra("serve", cwd=tmp_path, code=1).stderr
    assert "zebra demo" in said
    assert "Traceback" not in said


def test_a_store_that_is_not_there_and_one_of_another_model_are_refused(zebra, demo, model, tmp_path):
    assert "there is no store" in zebra("serve", "--store", "none", cwd=tmp_path, code=1).stderr
    zebra("embed", model, demo / "menagerie" / "train", "--out", "own", cwd=tmp_path)
    clip = Bundle(
        CLIP(
            ModelConfig(
                embed_dim=16,
                image_size=32,
                vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
                text=TextConfig(width=64, layers=1, heads=1, vocab_size=520, context_length=16),
            )
        ),
        BPETokenizer.train(["another one"] * 5, 520, 16),
        Preprocess(image_size=32),
    )
    clip.save(tmp_path / "other")
    said = zebra("serve", "--model", "other", "--store", "own", "--port", "0", cwd=tmp_path, code=1).stderr
    assert "holds vectors of the model" in said


def test_a_port_that_is_taken_is_told(zebra, model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = zebra("serve", "--model", model, "--port", port, cwd=tmp_path, code=1).stderr
    assert f"cannot listen at 127.0.0.1, port {port}" in said
