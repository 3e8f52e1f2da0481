"""What does the server do with as much as it can do, with twice as much, and what is batching worth?

    python benchmarks/serve.py load [--ask texts|images] [--seconds 40]
    python benchmarks/serve.py batching [--ask texts|images]

Rows go to results/serve.jsonl. The server is `zebra serve` in a process of its own, the client another
(`open_loop.py`, which says why it is ours); both share the machine. Further words go to `zebra serve`.

load      A model of the demo's shape with random weights. Requests come by the clock, and times count from when they
          were due. Ten rates around what a closed loop of 64 gets are tried for 20 s each: the capacity is the last one
          before something is refused, and the peak is at the one where most is answered. Then the rate of the peak and
          twice the capacity take turns, five times, so that both meet the machine in the same moods; and 80 % of the
          capacity follow for long. At 80 % there is to be no error, and the 99th percentile no more than the batch
          delay and three full passes of the model; at 200 % the answers a second at least 90 % of the peak, refusals
          within 50 ms, and things as they were within 5 s after.
batching  ViT-B/32 with random weights: 32 clients, batches of 32 against batches of 1. Texts are captions of 8 to 20
          words, images JPEGs of 640 × 480. Texts are to be at least twice as fast, images 1.2 times.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from embed_text import captions
from receipt import keep
from zebra.config.presets import get_preset
from zebra.config.serve import BatchingConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer

HERE = Path(__file__).parent
PATHS = {"texts": "/v1/embed", "images": "/v1/classify"}
SHARES = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)
"""Of what the closed loop gets; the rates that are tried."""
TRY_SECONDS = 20.0
"""In which a queue that grows by a twentieth of the rate becomes full."""
TURNS = 5
"""Of the rate of the peak and twice the capacity."""
SIZES = {"load": (256, 192), "batching": (640, 480)}


class Server:
    """`zebra serve` in a process of its own."""

    def __init__(self, model: Path, *words: str) -> None:
        command = [sys.executable, "-m", "zebra", "serve", "--model", str(model), "--port", "0", *words]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        found = re.search(r":(\d+)", self.process.stderr.readline())
        assert found
        self.port = int(found[1])
        while not self.is_ready():
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Say whether the model is warm."""
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz").status == 200)
        return False

    def resident(self) -> float:
        """Return the memory of its processes, the model's with it, in MiB."""
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        statuses = [Path(f"/proc/{one}/status").read_text() for one in (number, *children)]
        return round(sum(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) for status in statuses) / 1024, 1)

    def figures(self, queue: str) -> dict[str, float]:
        """Return how many passes there were, of how many items, in how many seconds."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        names = {
            "passes": f'zebra_batch_items_count{{queue="{queue}"}}',
            "items": f'zebra_batch_items_sum{{queue="{queue}"}}',
            "seconds": f'zebra_stage_seconds_sum{{queue="{queue}",stage="inference"}}',
        }
        return {name: float(re.findall(re.escape(line) + r" (\S+)", text)[0]) for name, line in names.items()}

    def ask(self, path: str, file: Path, **options: float) -> dict[str, Any]:
        """Run the client."""
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, str(HERE / "open_loop.py"), str(self.port), path, str(file), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    def stop(self) -> int:
        """Tell it to stop; return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def serving(model: Path, *words: str) -> Iterator[Server]:
    """Serve while something is measured."""
    server = Server(model, *words)
    try:
        yield server
    finally:
        code = server.stop()
        assert code == 0, code


def write_model(folder: Path, name: str) -> Path:
    """Save a model of random weights."""
    torch.manual_seed(0)
    config = get_preset(name)
    words = BPETokenizer.train(captions(2000), 2048, config.text.context_length)
    Bundle(CLIP(config).eval(), words, Preprocess(image_size=config.image_size)).save(folder)
    return folder


def write_bodies(file: Path, ask: str, number: int, size: tuple[int, int]) -> Path:
    """Write distinct requests, one text or one image each."""
    draw = np.random.default_rng(0)
    texts = captions(min(number, 4000))
    with file.open("w") as out:
        for position in range(number):
            if ask == "texts":
                out.write(json.dumps({"texts": [f"{texts[position % len(texts)]} {position}"]}) + "\n")
                continue
            coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
            data = base64.b64encode(buffer.getvalue()).decode()
            out.write(json.dumps({"images": [{"data": data}], "labels": ["horse", "zebra", "cow"]}) + "\n")
    return file


def level(results: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Sum up what came of requests by the clock, in so many seconds."""
    status = np.concatenate([result["status"] for result in results])
    taken = 1e3 * np.concatenate([result["seconds"] for result in results])
    good, refused = taken[status == 200], taken[status == 429]
    row: dict[str, Any] = {
        "seconds": seconds,
        "asked": len(status),
        "answered_per_second": round(len(good) / seconds, 1),
        "refused": len(refused),
        "errors": int(((status != 200) & (status != 429)).sum()),
        "milliseconds": {f"p{p:g}": round(float(np.percentile(good, p)), 1) for p in (50, 95, 99, 99.9)},
        "connections": sum(result["connections"] for result in results),
    }
    if len(refused):
        row["refusals_milliseconds"] = {f"p{p}": round(float(np.percentile(refused, p)), 1) for p in (50, 99)}
    return row


def seconds_to_normal(result: dict[str, Any], normal_milliseconds: float) -> float | None:
    """Return when the first second began whose requests took no more than twice the normal median; None if none did."""
    due, taken = np.array(result["due"]), 1e3 * np.array(result["seconds"])
    for start in np.arange(0, due.max() - 1, 0.5):
        if np.median(taken[(due >= start) & (due < start + 1)]) <= 2 * normal_milliseconds:
            return float(start)
    return None


def load(ask: str, seconds: float, words: list[str]) -> dict[str, Any]:
    """Find the peak, then ask by the clock."""
    path, before = PATHS[ask], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        model = write_model(Path(name) / "model", "tiny-resnet")
        number = 40_000 if ask == "texts" else 12_000
        file = write_bodies(Path(name) / "bodies.jsonl", ask, number, SIZES["load"])
        with serving(model, *words) as server:
            server.ask(path, file, together=64, seconds=3)
            first = server.figures(ask)
            closed = server.ask(path, file, together=64, seconds=8, skip=3000)["rate"]
            last = server.figures(ask)
            passes, items, spent = (last[name] - first[name] for name in ("passes", "items", "seconds"))

            def ask_for(seconds: float, rate: float) -> dict[str, Any]:
                return server.ask(path, file, rate=rate, seconds=seconds, skip=random.randrange(9999))

            rates = [share * closed for share in SHARES]
            tried = [level([ask_for(TRY_SECONDS, rate)], TRY_SECONDS) for rate in rates]
            answered = [one["answered_per_second"] for one in tried]
            at_best = rates[answered.index(max(answered))]
            kept_up = list(takewhile(lambda one: not one["refused"], tried))
            capacity = rates[max(0, len(kept_up) - 1)]
            normal = level([ask_for(8, 0.5 * capacity)], 8)
            memory = [server.resident()]
            single, double = [], []
            for _ in range(TURNS):
                single.append(ask_for(20, at_best))
                double.append(ask_for(seconds / 2 / TURNS, 2 * capacity))
            after = ask_for(10, 0.5 * capacity)
            at_peak, at_twice = level(single, 20 * TURNS), level(double, seconds / 2)
            peak = at_peak["answered_per_second"]
            at_80 = level([ask_for(seconds, 0.8 * capacity)], seconds)
            memory.append(server.resident())
    allowed = 1e3 * (BatchingConfig().max_delay_seconds + 3 * spent / passes)
    return {
        "question": "load",
        "ask": ask,
        "capacity_per_second": round(capacity, 1),
        "peak_per_second": peak,
        "closed_loop_of_64_per_second": round(closed, 1),
        "items_of_a_pass": round(items / passes, 1),
        "milliseconds_of_a_pass": round(1e3 * spent / passes, 1),
        "50%": normal,
        "80%": at_80,
        "at the peak": at_peak,
        "200%": at_twice,
        "memory_mib": memory,
        "p99 at 80%, allowed and found": [round(allowed, 1), at_80["milliseconds"]["p99"]],
        "goodput at 200%, of the peak": round(at_twice["answered_per_second"] / peak, 3),
        "seconds to normal": seconds_to_normal(after, normal["milliseconds"]["p50"]),
        "load before": before,
    }


def batching(ask: str, words: list[str]) -> dict[str, Any]:
    """Compare batches of 32 with one item at a time."""
    rates: dict[str, list[float]] = {"1": [], "32": []}
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        model = write_model(Path(name) / "model", "ViT-B/32")
        number = 4000 if ask == "texts" else 1000
        file = write_bodies(Path(name) / "bodies.jsonl", ask, number, SIZES["batching"])
        servers = {
            size: stack.enter_context(serving(model, "--batching.max-batch-size", size, *words)) for size in rates
        }
        for turn in range(3):
            for size, server in servers.items():
                asked = server.ask(PATHS[ask], file, together=32, seconds=8, skip=300 * turn)
                rates[size].append(round(asked["rate"], 1))
    return {
        "question": "batching",
        "ask": ask,
        "together_per_second": rates["32"],
        "one_by_one_per_second": rates["1"],
        "times as fast": round(float(np.median(rates["32"]) / np.median(rates["1"])), 2),
        "load before": before,
    }


def main() -> None:
    """Measure and keep a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question", choices=("load", "batching"))
    parser.add_argument("--ask", choices=tuple(PATHS), default="texts")
    parser.add_argument("--seconds", type=float, default=40.0, help="at 80 %%; half of it at 200 %%")
    told, words = parser.parse_known_args()
    row = load(told.ask, told.seconds, words) if told.question == "load" else batching(told.ask, words)
    keep("serve", row)


if __name__ == "__main__":
    main()
