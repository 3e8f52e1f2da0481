"""Downloads from a local server, by zebra and img2dataset: speed when all is well, and what happens when it is not.

    python benchmarks/fetch.py healthy --peers FOLDER --save      FOLDER: pip install --target FOLDER img2dataset
    python benchmarks/fetch.py faulty --peers FOLDER --save

The server is a process of its own on loopback addresses, with JPEGs of 640 × 480. Each download is a process too; its
CPU time is that of the process and its children. `healthy` runs every download with few and with many URLs and reports
the difference, so start-up does not count. `faulty` has 20,000 URLs with the faults of FAULTS. Its ideal is the larger
of two lower bounds: the CPU time that as many requests take on the healthy server, and, of the slowest host, the
seconds that its responses take on two connections.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faulty_server import FaultyServer, make_jpeg, serving

HEALTHY_HOSTS = 24
NUM_HEALTHY_URLS = {None: (500, 10_000), 256: (200, 2_200)}
"""Shorter side, or None for untouched bytes → few and many URLs."""
FAULTY_HOSTS, FAULTY_URLS = 50, 20_000
TIMEOUT_SECONDS = 10.0
MAX_BYTES = 4 << 20
MAX_MEMORY = 6 << 30
"""Address space of a peer's process, since it may read endless bodies into memory."""
PEER_SECONDS = 360.0
FAULTS = {
    # share of URLs in per mille; the rest are healthy
    **{"missing": 80, "gone": 10, "forbidden": 20, "error": 10, "html": 30, "placeholder": 30, "empty": 10, "cut": 10},
    **{"pixels": 5, "thin": 5, "zero": 5, "svg": 5, "video": 5, "noai": 10, "tdm": 5, "usage": 5, "reserved": 5},
    **{"loop": 5, "private": 5, "file": 5, "nowhere": 5, "moved": 20, "gzip": 5, "brotli": 5, "huge": 5},
    **{"endless": 2, "bomb": 5, "slow": 8, "silent": 7, "busy": 2, "limited": 2, "short": 10, "reset": 10},
    **{"no host": 5, "refused": 5, "not http": 5, "relative": 5, "malformed": 5},
}
SLOW_KINDS = ("slow", "silent")
"""Kinds that take TIMEOUT_SECONDS on a connection."""


def make_urls(server: FaultyServer, number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return kind and URL of a list with faults."""
    rng = random.Random(seed)
    kinds = [kind for kind, count in FAULTS.items() for _ in range(count * number // 1000)]
    kinds += ["ok"] * (number - len(kinds))
    rng.shuffle(kinds)
    addresses = {
        "no host": "http://host-{0}.invalid/{0}.jpg",
        "refused": "http://127.0.0.200:1100/{}.jpg",
        "not http": "file:///etc/{}.jpg",
        "relative": "/images/{}.jpg",
        "malformed": "http://exa mple.org:port/{}.jpg",
    }
    return [
        (
            kind,
            addresses[kind].format(n) if kind in addresses else server.url(kind, n, rng.randint(1, server.num_hosts)),
        )
        for n, kind in enumerate(kinds)
    ]


@contextmanager
def server_process(num_hosts: int) -> Iterator[FaultyServer]:
    """Start the server as a process; it ends with the block."""
    command = [sys.executable, __file__, "serve", "--hosts", str(num_hosts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = FaultyServer(num_hosts=num_hosts, images=[b""])
        server.port = int(process.stdout.readline())
        try:
            yield server
        finally:
            process.communicate()  # its standard input ends


def serve(num_hosts: int) -> None:
    """Run the server until standard input ends."""
    images = [make_jpeg(seed, 640, 480) for seed in range(32)]
    with serving(FaultyServer(num_hosts=num_hosts, images=images)) as server:
        print(server.port, flush=True)
        sys.stdin.read()


def run_zebra(urls: list[str], folder: Path, side: int | None) -> dict[str, Any]:
    """Download with zebra in this process; return counts."""
    from zebra.config.fetch import FetchConfig
    from zebra.curate.fetch.fetcher import Fetcher

    config = FetchConfig(timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_BYTES, shorter_side=side)
    with Fetcher(config, is_allowed=lambda address: address.startswith("127.")) as fetcher:
        images = list(fetcher.fetch(urls, folder))
    return {
        "outcomes": len(images),
        "kept": sum(image.status == "kept" for image in images),
        "reasons": dict(Counter(f"{image.status}: {image.reason}" for image in images if image.reason).most_common()),
        "requests": sum(image.num_tries for image in images),
    }


def run_img2dataset(urls: list[str], folder: Path, side: int | None) -> dict[str, Any]:
    """Download with img2dataset in this process and its workers; return counts."""
    from img2dataset import download

    table = folder / "urls.txt"
    table.write_text("\n".join(urls) + "\n")
    resizing = {"resize_mode": "keep_ratio", "image_size": side, "resize_only_if_bigger": True}
    untouched = {"resize_mode": "no", "disable_all_reencoding": True}
    download(
        url_list=str(table),
        output_folder=str(folder / "out"),
        output_format="webdataset",
        processes_count=2,
        thread_count=64,
        timeout=TIMEOUT_SECONDS,
        retries=2,
        number_sample_per_shard=5_000,
        enable_wandb=False,
        **(resizing if side else untouched),
    )
    return count_img2dataset(folder)


def count_img2dataset(folder: Path) -> dict[str, Any]:
    """Return the outcomes in the tables and stats that img2dataset has written."""
    import pyarrow.parquet as pq

    finished = sorted((folder / "out").glob("*_stats.json"))  # the table of another shard may be incomplete
    stats = [json.loads(path.read_text()) for path in finished]
    tables = [path.with_name(path.name.replace("_stats.json", ".parquet")) for path in finished]
    statuses = [status for table in tables for status in pq.read_table(table, columns=["status"])["status"].to_pylist()]
    return {
        "outcomes": len(statuses),
        "kept": statuses.count("success"),
        "counted_in_stats": sum(item["count"] for item in stats),
        "reasons": dict(sum((Counter(item["status_dict"]) for item in stats), Counter()).most_common(12)),
    }


def measure(program: str, urls: list[str], side: int | None, peers: str | None) -> dict[str, Any]:
    """Run a download in a process of its own; return its counts, seconds, CPU seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "urls.json").write_text(json.dumps(urls))
        command = [sys.executable, __file__, "download", program, folder, str(side or 0)]
        paths = [os.environ.get("PYTHONPATH", ""), *([peers] if peers and program == "img2dataset" else [])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, reversed(paths)))}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        peak = [0]
        watch = threading.Thread(target=watch_memory, args=(process, peak), daemon=True)
        watch.start()
        try:
            output, _ = process.communicate(timeout=PEER_SECONDS)
            has_ended = True
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            has_ended = False
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads(output.splitlines()[-1]) if has_ended and output.strip() else {}
        if not result and program == "img2dataset":
            result = count_img2dataset(Path(folder))
        cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return result | {
            "has_ended": has_ended and process.returncode == 0,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 2) if has_ended else None,  # of workers only if they were waited for
            "peak_mib": peak[0] >> 20,
            "load_average": round(os.getloadavg()[0], 1),
        }


def watch_memory(process: "subprocess.Popen[str]", peak: list[int]) -> None:
    """Record the largest sum of resident memory of a process group."""
    page = os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        total = 0
        for path in Path("/proc").glob("[0-9]*"):
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == process.pid:
                    total += int((path / "statm").read_text().split()[1]) * page
            except (OSError, ValueError, IndexError):
                continue
        peak[0] = max(peak[0], total)
        time.sleep(0.2)


def measure_healthy(peers: str | None) -> dict[str, Any]:
    """Return images per CPU second of each program, untouched and resized to 256 pixels."""
    rows: dict[str, Any] = {}
    programs = ["zebra", *(["img2dataset"] if peers else [])]
    with server_process(HEALTHY_HOSTS) as server:
        for side, (num_few, num_many) in NUM_HEALTHY_URLS.items():
            urls = [server.url("ok", n, n % HEALTHY_HOSTS + 1) for n in range(num_many)]
            name = f"shorter side {side}" if side else "untouched"
            for program in programs:
                few, many = (measure(program, urls[:number], side, peers) for number in (num_few, num_many))
                assert many["kept"] == num_many, many
                cpu_seconds = many["cpu_seconds"] - few["cpu_seconds"]
                rows[f"{program}, {name}"] = {
                    "images_per_cpu_second": round((num_many - num_few) / cpu_seconds),
                    "start_cpu_seconds": few["cpu_seconds"],
                    "load_average": many["load_average"],
                    "peak_mib": many["peak_mib"],
                }
            if peers:
                ours, theirs = (rows[f"{program}, {name}"]["images_per_cpu_second"] for program in programs)
                rows[f"ratio, {name}"] = round(ours / theirs, 2)
    return rows


def measure_faulty(peers: str | None, number: int) -> dict[str, Any]:
    """Return what becomes of a list with faults, and the ideal time."""
    with server_process(FAULTY_HOSTS) as server:
        pairs = make_urls(server, number)
        urls = [url for _, url in pairs]
        healthy = [server.url("ok", n, n % FAULTY_HOSTS + 1) for n in range(5_000)]
        few, many = (measure("zebra", healthy[:count], None, None) for count in (500, 5_000))
        cpu_per_request = (many["cpu_seconds"] - few["cpu_seconds"]) / 4_500
        zebra = measure("zebra", urls, None, None)
        waits: dict[str, float] = defaultdict(float)
        for kind, url in pairs:
            waits[url.split("/")[2]] += TIMEOUT_SECONDS / 2 * (kind in SLOW_KINDS)
        bounds = {
            "requests": round(zebra["requests"] * cpu_per_request + few["seconds"], 1),
            "slowest_host": round(max(waits.values()), 1),
        }
        ideal = max(bounds.values())
        rows = {"urls": number, "ideal_seconds": ideal, "bounds": bounds, "zebra": zebra}
        zebra["ratio_to_ideal"] = round(zebra["seconds"] / ideal, 2)
        zebra["unaccounted"] = number - zebra["outcomes"]
        if peers:
            rows["img2dataset"] = peer = measure("img2dataset", urls, None, peers)
            peer["unaccounted"] = number - peer.get("outcomes", 0)
        return rows


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("healthy", "faulty"):
        command = commands.add_parser(name)
        command.add_argument("--peers", help="folder with img2dataset")
        command.add_argument("--save", action="store_true")
        command.add_argument("--urls", type=int, default=FAULTY_URLS)
    commands.add_parser("serve").add_argument("--hosts", type=int)
    download = commands.add_parser("download")
    download.add_argument("program")
    download.add_argument("folder", type=Path)
    download.add_argument("side", type=int)
    args = parser.parse_args()
    if args.command == "serve":
        serve(args.hosts)
    elif args.command == "download":
        if args.program == "img2dataset":
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        urls = json.loads((args.folder / "urls.json").read_text())
        run = run_img2dataset if args.program == "img2dataset" else run_zebra
        print(
            json.dumps(run(urls, args.folder / "work" if args.program == "zebra" else args.folder, args.side or None))
        )
    else:
        row = measure_healthy(args.peers) if args.command == "healthy" else measure_faulty(args.peers, args.urls)
        row = {"measurement": args.command} | row
        if args.save:
            from receipt import save_row  # imports torch, which a download does not need

            save_row("fetch", row)
        else:
            print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
