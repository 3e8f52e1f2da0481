"""Soak test of the server: mixed load while its store changes; memory and descriptors over time.

    python benchmarks/soak.py --minutes 60 --change-seconds 2 --rate 10 --clients 4

The server is `zebra serve` with a model of the demo's size and a store of 20,000 rows, whose images are files. A second
process appends rows, deletes the oldest of them and compacts, so that the store keeps its size. Clients send every kind
of request at a fixed rate. Each minute a line shows memory, descriptors and threads of the server and of its worker.

The last lines are the growth after the warm-up in percent, the statuses and the latencies of the first and the last
third. The warm-up is the first fifth of the time; the growth compares the medians of the tenth after it and of the last
tenth. The row goes to results/soak.jsonl, with --save. Further arguments are passed to `zebra serve`.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

import zebra
from receipt import save_row
from serve import Server, write_model
from zebra.images.formats import image_digest
from zebra.store import Store
from zebra.store.metadata import StoreMetadata

NUM_ROWS = 20_000
NUM_FILES = 200
"""Image files; the rows share them."""
ROWS_PER_CHANGE = 64
MAX_EXTRA_BLOCKS = 8
"""Appended blocks that stay in the store before the oldest is deleted."""
SAMPLES_PER_RUN = 120


@dataclass(slots=True)
class Responses:
    """Status and latency of every request; filled by all clients."""

    started_at: float
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and milliseconds, of each request."""
    errors: list[str] = field(default_factory=list)
    """The first unexpected responses."""

    def add(self, name: str, status: int | str, seconds: float, body: bytes) -> None:
        """Record one response; only 200 and 202 are expected."""
        self.statuses[str(status)] += 1
        self.latencies.append((time.monotonic() - self.started_at, 1e3 * seconds))
        if status not in (200, 202) and len(self.errors) < 10:
            self.errors.append(f"{name}: {status} {body[:200].decode(errors='replace')}")


def write_images(folder: Path) -> list[Path]:
    """Write distinct JPEGs of 640 × 480."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:04d}.jpg" for number in range(NUM_FILES)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=85)
    return paths


def make_rows(images: Sequence[Path], first: int, num_rows: int, embed_dim: int) -> pa.Table:
    """Return rows with random vectors, ids from `first` on, and a thumbnail of 96 pixels."""
    rng = np.random.default_rng(first)
    vectors_NE = rng.standard_normal((num_rows, embed_dim)).astype(np.float32)
    vectors_NE /= np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    paths = [images[(first + row) % len(images)] for row in range(num_rows)]
    encoded = {path: path.read_bytes() for path in set(paths)}
    thumbnails = {path: _thumbnail(data) for path, data in encoded.items()}
    return pa.table(
        {
            "id": [f"row{first + row}" for row in range(num_rows)],
            "digest": [image_digest(encoded[path]) for path in paths],
            "path": [str(path) for path in paths],
            "caption": [f"a photo of animal {(first + row) % 977}" for row in range(num_rows)],
            "width": pa.array([640 - row % 7 for row in range(num_rows)], pa.int32()),
            "height": pa.array([480] * num_rows, pa.int32()),
            "thumbnail": [thumbnails[path] for path in paths],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), embed_dim),
        }
    )


def _thumbnail(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    image.thumbnail((96, 96))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def change_store(store_path: Path, image_folder: Path, seconds: float, compact_every: int) -> None:
    """Append, delete and compact until the process is killed: `soak.py --writer STORE IMAGES SECONDS CHANGES`."""
    images, number = sorted(image_folder.iterdir()), 0
    with Store.open(store_path) as store:
        while True:
            time.sleep(seconds)
            first = NUM_ROWS + number * ROWS_PER_CHANGE
            store.append(make_rows(images, first, ROWS_PER_CHANGE, store.metadata.embed_dim))
            oldest = first - MAX_EXTRA_BLOCKS * ROWS_PER_CHANGE
            if oldest >= NUM_ROWS:
                store.delete([f"row{oldest + row}" for row in range(ROWS_PER_CHANGE)])
            number += 1
            if compact_every and number % compact_every == 0:
                store.compact(timedelta(minutes=1))


def make_requests(images: Sequence[bytes], rng: random.Random) -> Iterator[tuple[str, str, str, dict[str, Any] | None]]:
    """Yield name, method, path and body of requests of every kind, in random order, without end."""
    while True:
        number = rng.randrange(NUM_ROWS)
        text = f"a photo of animal {rng.randrange(10**6)}"
        image = {"data": base64.b64encode(images[number % len(images)]).decode()}
        labels = [f"animal {label}" for label in range(rng.randrange(2, 60))]
        yield rng.choice(
            [
                ("classify", "POST", "/v1/classify", {"images": [image], "labels": labels}),
                ("embed text", "POST", "/v1/embed", {"texts": [text]}),
                ("embed image", "POST", "/v1/embed", {"images": [image]}),
                ("embeddings", "POST", "/v1/embeddings", {"input": [text] * 8, "encoding_format": "base64"}),
                ("search", "POST", "/v1/search", {"text": text, "k": 50}),
                ("like", "POST", "/v1/search", {"like": [f"row{number}"], "k": 20, "dedup": 0.9}),
                ("filter", "POST", "/v1/search", {"text": text, "where": f"width >= {634 + number % 6}"}),
                ("row", "GET", f"/v1/rows/row{number}", None),
                ("stored thumbnail", "GET", f"/v1/images/row{number}/thumbnail?side=96", None),
                ("thumbnail", "GET", f"/v1/images/row{number}/thumbnail?side=384", None),
                ("original", "GET", f"/v1/images/row{number}", None),
                ("about", "GET", "/v1/about", None),
                ("map", "GET", "/v1/map", None),
            ]
        )


def run_client(
    port: int, images: Sequence[bytes], seed: int, interval: float, stop: threading.Event, out: Responses
) -> None:
    """Send one request per interval over a kept connection until `stop` is set."""
    requests = make_requests(images, random.Random(seed))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    due = time.monotonic() + interval * random.Random(seed).random()
    while not stop.wait(max(0.0, due - time.monotonic())):
        due = max(due + interval, time.monotonic() - 10 * interval)
        name, method, path, body = next(requests)
        started_at = time.monotonic()
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data, status = response.read(), response.status
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            out.add(name, type(error).__name__, time.monotonic() - started_at, str(error).encode())
            continue
        out.add(name, status, time.monotonic() - started_at, data)


def sample(pids: dict[str, int], minutes: float) -> dict[str, Any]:
    """Return memory in MiB, descriptors and threads of each process; zeros for one that has died."""
    row: dict[str, Any] = {"minutes": round(minutes, 2)}
    for name, pid in pids.items():
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(FileNotFoundError):
            values = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            row[name] = {
                "mib": round(int(values["VmRSS"].split()[0]) / 1024, 1),
                "descriptors": len(list((process / "fd").iterdir())),
                "threads": int(values["Threads"]),
            }
    return row


def growth_percent(samples: Sequence[dict[str, Any]], name: str, key: str) -> float:
    """Return by how much the last tenth exceeds the tenth after the warm-up, in percent of the latter."""
    values = [row[name][key] for row in samples if name in row]
    tenth, start = max(1, len(values) // 10), len(values) // 5
    early, late = median(values[start : start + tenth]), median(values[-tenth:])
    return round(100 * (late - early) / early, 1)


def percentiles(latencies: Sequence[tuple[float, float]], start: float, stop: float) -> list[float]:
    """Return p50 and p99 in milliseconds of the requests that ended in an interval."""
    values = [milliseconds for moment, milliseconds in latencies if start <= moment < stop] or [0.0]
    return [round(float(np.percentile(values, p)), 1) for p in (50, 99)]


def soak(args: argparse.Namespace, server_args: Sequence[str]) -> dict[str, Any]:
    """Run the load and return the row."""
    with tempfile.TemporaryDirectory() as temp_dir, contextlib.ExitStack() as stack:
        root = Path(temp_dir)
        model_path, store_path = write_model(root / "model", "tiny-resnet"), root / "store"
        images = write_images(root / "images")
        clip = zebra.load(model_path, device="cpu")
        metadata = StoreMetadata(clip.fingerprint, str(model_path), clip.embed_dim, "fp32", "float16")
        with Store.create(store_path, metadata) as store:
            for first in range(0, NUM_ROWS, 2000):
                store.append(make_rows(images, first, 2000, clip.embed_dim))
        server = Server(model_path, "--store", str(store_path), *server_args)
        stack.callback(server.process.kill)
        writer_command = [sys.executable, __file__, "--writer", str(store_path), str(images[0].parent)]
        writer = subprocess.Popen([*writer_command, str(args.change_seconds), str(args.compact_every)])
        stack.callback(writer.wait)
        stack.callback(writer.kill)
        pid = server.process.pid
        [worker] = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        pids = {"server": pid, "worker": worker}
        out, stop = Responses(time.monotonic()), threading.Event()
        encoded = [path.read_bytes() for path in images]
        clients = [
            threading.Thread(
                target=run_client,
                args=(server.port, encoded, seed, args.clients / args.rate, stop, out),
                daemon=True,  # the script may be stopped
            )
            for seed in range(args.clients)
        ]
        for client in clients:
            client.start()
        seconds, samples = 60 * args.minutes, []
        while (elapsed := time.monotonic() - out.started_at) < seconds:
            time.sleep(min(seconds / SAMPLES_PER_RUN, 60.0))
            samples.append(sample(pids, (time.monotonic() - out.started_at) / 60))
            print(json.dumps(samples[-1] | {"requests": len(out.latencies)}), flush=True)
        stop.set()
        for client in clients:
            client.join()
        has_writer_died, version = writer.poll() is not None, Store.open(store_path).version
        exit_code = server.stop()
    return {
        "minutes": args.minutes,
        "change_seconds": args.change_seconds,
        "compact_every": args.compact_every,
        "store_version": version,
        "writer_died": has_writer_died,
        "exit_code": exit_code,
        "statuses": dict(out.statuses),
        "errors": out.errors,
        "milliseconds_p50_p99": {
            name: percentiles(out.latencies, start * elapsed, stop * elapsed)
            for name, start, stop in (("first third", 0, 1 / 3), ("last third", 2 / 3, 1))
        },
        "growth_percent": {
            f"{name} {key}": growth_percent(samples, name, key)
            for name in pids
            for key in ("mib", "descriptors", "threads")
        },
        "first_sample": samples[0],
        "last_sample": samples[-1],
    }


def main() -> None:
    """Run the soak test, or its writer process."""
    if sys.argv[1:2] == ["--writer"]:
        change_store(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--change-seconds", type=float, default=2.0, help="pause between two changes of the store")
    parser.add_argument("--compact-every", type=int, default=40, help="changes between two compactions; 0 for none")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second of all clients")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--save", action="store_true", help="append the row to results/soak.jsonl")
    args, server_args = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops the server and the writer too
    row = soak(args, server_args)
    if args.save:
        save_row("soak", row)
    else:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
