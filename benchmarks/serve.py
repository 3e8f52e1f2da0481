"""Load test of the server: capacity, overload, and the benefit of batching.

    python benchmarks/serve.py load [--ask texts|images] [--seconds 40]
    python benchmarks/serve.py batching [--ask texts|images]
    python benchmarks/serve.py versions --other FOLDER [--model MODEL]

Rows go to results/serve.jsonl. The server is `zebra serve` in its own process, the client is `open_loop.py` in another;
both run on the same machine. Further arguments are passed to `zebra serve`.

load      A model of the demo's shape with random weights. Requests are sent on schedule, and latency counts from the
          scheduled time. Ten rates around that of a closed loop of 64 are tried for 20 s each. The capacity is the last
          rate without rejected requests; the peak is the rate with the most answers. Then the peak rate and twice the
          capacity alternate five times, so that both run under the same conditions, followed by a long run at 80 % of
          the capacity. Goals at 80 %: no errors, and a 99th percentile of at most the batch delay plus three full model
          passes. Goals at 200 %: at least 90 % of the peak throughput, rejections within 50 ms, and normal latency
          within 5 s afterwards.
batching  ViT-B/32 with random weights: 32 clients, batches of 32 against batches of 1. Texts are captions of 8 to 20
          words, images are JPEGs of 640 × 480. Goals: texts at least twice as fast, images 1.2 times.
versions  Texts served per second by this version and by another one, whose repository is in FOLDER. Servers of both run
          at the same time, with the same arguments, and take turns of 4 s with 64 clients each. Also the seconds until
          each is ready, its memory as the sum of the proportional set sizes (PSS) of its processes, and the CPU time
          per request of its own process and of its worker.
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

from receipt import save_row
from zebra.bench.inputs import make_captions
from zebra.config.presets import get_preset
from zebra.config.serve import BatchingConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer

HERE = Path(__file__).parent
PATHS = {"texts": "/v1/embed", "images": "/v1/classify"}
SHARES = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)
"""Rates to try, as shares of the closed-loop rate."""
TRY_SECONDS = 20.0
"""Duration in which a queue that grows by 1/20 of the rate becomes full."""
VERSION_TURNS = 5
"""Turns of each version and route."""
TURNS = 5
"""Alternations of the peak rate and twice the capacity."""
SIZES = {"load": (256, 192), "batching": (640, 480)}


class Server:
    """`zebra serve` in its own process."""

    def __init__(self, model: Path, *server_args: str, source: Path = HERE.parent / "src") -> None:
        command = [sys.executable, "-m", "zebra", "serve", "--model", str(model), "--port", "0", *server_args]
        environment = os.environ | {"PYTHONPATH": str(source)}
        started_at = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        match = re.search(r":(\d+)", self.process.stderr.readline())
        assert match
        self.port = int(match[1])
        while not self.is_ready():
            time.sleep(0.02)
        self.seconds_to_ready = round(time.perf_counter() - started_at, 2)

    def is_ready(self) -> bool:
        """Return whether the server is ready."""
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz").status == 200)
        return False

    def resident(self) -> float:
        """Return the memory of the server and its worker in MiB."""
        statuses = [Path(f"/proc/{one}/status").read_text() for one in self.processes()]
        return round(sum(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) for status in statuses) / 1024, 1)

    def processes(self) -> list[int]:
        """Return the process ids of the server and its workers."""
        number = self.process.pid
        return [number, *map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())]

    def proportional_mib(self) -> float:
        """Return the memory of the server and its workers in MiB, each shared page divided among its users."""
        pages = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in self.processes()]
        return round(sum(int(re.findall(r"^Pss:\s+(\d+)", text, re.M)[0]) for text in pages) / 1024, 1)

    def cpu_seconds(self) -> list[float]:
        """Return the CPU time of the server and of its workers."""
        fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in self.processes()]
        return [(int(each[11]) + int(each[12])) / os.sysconf("SC_CLK_TCK") for each in fields]

    def figures(self, queue: str) -> dict[str, float]:
        """Return the number of model passes, their items and their seconds."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        names = {
            "passes": f'zebra_batch_items_count{{queue="{queue}"}}',
            "items": f'zebra_batch_items_sum{{queue="{queue}"}}',
            "seconds": f'zebra_stage_seconds_sum{{queue="{queue}",stage="inference"}}',
        }
        return {name: float(re.findall(re.escape(line) + r" (\S+)", text)[0]) for name, line in names.items()}

    def ask(self, path: str, file: Path, **options: float) -> dict[str, Any]:
        """Run the client and return its result."""
        arguments = [item for name, value in options.items() for item in (f"--{name}", str(value))]
        command = [sys.executable, str(HERE / "open_loop.py"), str(self.port), path, str(file), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(json.loads(result.stdout))

    def stop(self) -> int:
        """Stop the server; return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def serving(model: Path, *server_args: str, source: Path = HERE.parent / "src") -> Iterator[Server]:
    """Run a server until the block ends."""
    server = Server(model, *server_args, source=source)
    try:
        yield server
    finally:
        code = server.stop()
        assert code == 0, code


def write_model(folder: Path, name: str) -> Path:
    """Save a model with random weights."""
    torch.manual_seed(0)
    config = get_preset(name)
    tokenizer = BPETokenizer.train(make_captions(2000), 2048, config.text.context_length)
    Bundle(CLIP(config).eval(), tokenizer, Preprocess(image_size=config.image_size)).save(folder)
    return folder


def write_bodies(file: Path, ask: str, number: int, size: tuple[int, int]) -> Path:
    """Write distinct requests with one text or one image each."""
    draw = np.random.default_rng(0)
    texts = make_captions(min(number, 4000))
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
    """Summarize scheduled requests of some seconds."""
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
    """Return the start of the first second with at most twice the normal median latency; None if there is none."""
    due, taken = np.array(result["due"]), 1e3 * np.array(result["seconds"])
    for start in np.arange(0, due.max() - 1, 0.5):
        if np.median(taken[(due >= start) & (due < start + 1)]) <= 2 * normal_milliseconds:
            return float(start)
    return None


def load(ask: str, seconds: float, server_args: list[str]) -> dict[str, Any]:
    """Find capacity and peak, then measure load and overload; return the row."""
    path, before = PATHS[ask], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        model = write_model(Path(name) / "model", "tiny-resnet")
        number = 40_000 if ask == "texts" else 12_000
        file = write_bodies(Path(name) / "bodies.jsonl", ask, number, SIZES["load"])
        with serving(model, *server_args) as server:
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


def batching(ask: str, server_args: list[str]) -> dict[str, Any]:
    """Compare batches of 32 with batches of 1; return the row."""
    rates: dict[str, list[float]] = {"1": [], "32": []}
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        model = write_model(Path(name) / "model", "ViT-B/32")
        number = 4000 if ask == "texts" else 1000
        file = write_bodies(Path(name) / "bodies.jsonl", ask, number, SIZES["batching"])
        servers = {
            size: stack.enter_context(serving(model, "--batching.max-batch-size", size, *server_args)) for size in rates
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


def versions(other: Path, model: Path | None, server_args: list[str]) -> dict[str, Any]:
    """Compare this version with another one; return the row."""
    columns: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = model or write_model(Path(name) / "model", "tiny-resnet")
        files = {
            "/v1/embed": write_bodies(Path(name) / "embed.jsonl", "texts", 20_000, SIZES["load"]),
            "/v1/embeddings": write_openai_bodies(Path(name) / "embeddings.jsonl", 20_000),
        }
        servers = {}
        for version, source in (("other", other / "src"), ("this", HERE.parent / "src")):
            servers[version] = stack.enter_context(serving(folder, *server_args, source=source))
        resting = {version: server.proportional_mib() for version, server in servers.items()}
        for turn in range(VERSION_TURNS + 1):
            for path, file in files.items():
                for version, server in servers.items():
                    before = server.cpu_seconds()
                    answer = server.ask(path, file, together=64, seconds=4, skip=4000 * turn)
                    used = [after - start for after, start in zip(server.cpu_seconds(), before, strict=True)]
                    if turn:  # the first one warms up
                        row = columns.setdefault(path, {})
                        row.setdefault(f"{version}, per second", []).append(round(answer["rate"], 1))
                        for process, seconds in zip(("server", "worker"), used, strict=True):
                            microseconds = round(1e6 * seconds / (4 * answer["rate"]))
                            row.setdefault(f"{version}, CPU µs of the {process}", []).append(microseconds)
    ratios = {
        path: [new / old for new, old in zip(row["this, per second"], row["other, per second"], strict=True)]
        for path, row in columns.items()
    }
    return {
        "question": "versions",
        "ask": "texts",
        "model": "trained" if model else "tiny-resnet, random weights",
        "cores": len(os.sched_getaffinity(0)),
        "seconds_to_ready": {version: server.seconds_to_ready for version, server in servers.items()},
        "pss_mib": resting,
        "turns": columns,
        "times as fast, median of turns": {path: round(float(np.median(each)), 2) for path, each in ratios.items()},
    }


def write_openai_bodies(file: Path, number: int) -> Path:
    """Write distinct requests in OpenAI's format, one text each; as its clients do, they ask for base64."""
    texts = make_captions(min(number, 4000))
    bodies = (
        {"input": f"{texts[n % len(texts)]} {n}", "model": "", "encoding_format": "base64"} for n in range(number)
    )
    file.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    return file


def main() -> None:
    """Measure and store a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("load", "batching", "versions"))
    parser.add_argument("--ask", choices=tuple(PATHS), default="texts")
    parser.add_argument("--seconds", type=float, default=40.0, help="duration at 80 %%; half of it at 200 %%")
    parser.add_argument("--other", type=Path, help="repository of the other version")
    parser.add_argument("--model", type=Path, help="model of both versions; by default one with random weights")
    args, server_args = parser.parse_known_args()
    if args.question == "versions":
        save_row("serve", versions(args.other, args.model, server_args))
        return
    row = load(args.ask, args.seconds, server_args) if args.question == "load" else batching(args.ask, server_args)
    save_row("serve", row)


if __name__ == "__main__":
    main()
