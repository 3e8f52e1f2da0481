"""Speed and recall of search from 10k to 1M images, compared with other libraries.

    python benchmarks/search.py make|ours|peers [--data real|random] [--rows 1000000] [--per-partition 8192 2048]
    python benchmarks/search.py plot      draw the stored rows

Vectors are 512-dimensional float16. `random` are unit vectors in uniform directions, which no index can speed up.
`real` are 512-dimensional features before the projection, from the model of `zebra demo` on its menagerie: 40,000
training images and the evaluation datasets with their shifts (sketch, inverted, noisy, digits …). 200 of these images
are held out as queries. Up to 50k rows, each vector belongs to another image. Beyond, images repeat with noise along
the principal directions of all images, at 0.3 times their standard deviation (a cosine of 0.97 to the original vector).
Ten directions hold 94 % of the variance of these vectors, which makes them easier to index than those of a large model,
so the index stores and reports the recall that was measured on its store.

    make    write the store to runs/search-benchmark
    ours    `Searcher.search` with the rows of ten hits: exact, and by the index with several numbers of partitions
    peers   the same vectors and queries: numpy in float32, LanceDB without an index, faiss flat, IVF and HNSW

Each step adds one row to results/search.jsonl. Recall is recall@10 over 100 queries; p50 and p95 are of 50 sequential
warm searches. Memory is the growth of the process.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import zebra
from receipt import RESULTS, save_row
from zebra.config.data import DataConfig
from zebra.data.sources import open_images
from zebra.search import ivf_index
from zebra.search.flat_index import FlatIndex
from zebra.store import Store, StoreMetadata
from zebra.store.index_metadata import IndexMetadata
from zebra.workflows.search import open_searcher

HOME = Path(__file__).parents[1] / "runs" / "search-benchmark"
DEMO = Path(__file__).parents[1] / "runs" / "demo"
WIDTH, QUERIES, TIMED, K = 512, 100, 50, 10
SPREAD = 0.3
Find = Callable[[NDArray[np.float32]], Sequence[int]]


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["make", "ours", "peers", "plot"])
    parser.add_argument("--data", choices=["real", "random"], default="real")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--per-partition", type=int, nargs="*", default=[ivf_index.ROWS_PER_PARTITION["IVF_SQ"]])
    args = parser.parse_args()
    if args.step == "plot":
        plot()
        return
    home = HOME / f"{args.data}-{args.rows}"
    if args.step == "make":
        make(home, args.data, args.rows)
    else:
        row = {"data": args.data, "rows": args.rows, "load_before": round(os.getloadavg()[0], 1)}
        save_row("search", row | (peers(home) if args.step == "peers" else ours(home, args.per_partition)))


def make(home: Path, data: str, rows: int) -> None:
    """Write the store and the queries."""
    shutil.rmtree(home, ignore_errors=True)
    rng = np.random.default_rng(0)
    if data == "random":
        queries_QE = unit(rng.standard_normal((QUERIES, WIDTH), dtype=np.float32))
        images_NE, directions_EE = None, None
    else:
        real_NE = rng.permutation(load_features())
        queries_QE, images_NE = real_NE[:QUERIES], real_NE[2 * QUERIES :]
        centered_NE = images_NE[:10_000] - images_NE.mean(axis=0)
        _, spreads_E, directions_EE = np.linalg.svd(centered_NE, full_matrices=False)
        directions_EE = (spreads_E / 100)[:, None] * directions_EE
    store = Store.create(home, StoreMetadata("f" * 64, "runs/demo/model", WIDTH, "fp32", "float16"))
    start = time.perf_counter()
    for first in range(0, rows, 50_000):
        numbers = np.arange(first, min(first + 50_000, rows))
        noise_NE = rng.standard_normal((len(numbers), WIDTH), dtype=np.float32)
        if images_NE is None or directions_EE is None:
            vectors_NE = noise_NE
        else:
            repeated_N1 = (numbers >= len(images_NE))[:, None]
            vectors_NE = images_NE[numbers % len(images_NE)] + repeated_N1 * SPREAD * (
                noise_NE @ directions_EE.astype(np.float32)
            )
        store.append(table(numbers.tolist(), unit(vectors_NE)))
    np.save(home / "queries.npy", queries_QE)
    print(f"{home}: {rows:,} rows in {time.perf_counter() - start:.1f} s")


def load_features() -> NDArray[np.float32]:
    """Return the features of all images of the demo's menagerie [N, E]; they are cached."""
    cache_path = HOME / "features.npy"
    if not cache_path.exists():
        clip = zebra.load(DEMO / "model")
        datasets = [DEMO / "menagerie" / "train", *sorted((DEMO / "menagerie" / "evaluation").glob("*/test"))]
        parts = [
            clip.encode_images(
                (image_ref.load().image for image_ref in open_images(path, DataConfig()).scan()), projected=False
            )
            for path in datasets
        ]
        HOME.mkdir(parents=True, exist_ok=True)
        np.save(cache_path, unit(np.concatenate([part.numpy() for part in parts])))
    vectors_NE: NDArray[np.float32] = np.load(cache_path)
    return vectors_NE


def ours(home: Path, per_partition: Sequence[int]) -> dict[str, Any]:
    """Measure exact search and the index; return the row."""
    queries_QE = np.load(home / "queries.npy")
    before = rss_mb()
    exact = open_searcher(home, method="exact")
    seconds, _ = time_call(exact.warm_up)
    row: dict[str, Any] = {"step": "ours", "load_seconds": round(seconds, 2), "exact": timed(exact.search, queries_QE)}
    row["exact"]["memory_mb"] = round(rss_mb() - before)
    truth = [[hit.id for hit in exact.search(query_E, k=K).hits] for query_E in queries_QE]
    row["filtered"] = timed(lambda q: exact.search(q, where='width >= 700 and caption contains "7"'), queries_QE)
    row["index"] = []
    for share in per_partition:
        ivf_index.ROWS_PER_PARTITION["IVF_SQ"] = share
        with Store.open(home) as store:
            files = size_mb(home / "images.lance" / "_indices")
            metadata = ivf_index.build_ivf_index(store)
            files = size_mb(home / "images.lance" / "_indices") - files
        for nprobes in sorted({2, 8, 32, metadata.nprobes}):
            before = rss_mb()
            measured = measure_index(home, metadata, nprobes, queries_QE, truth)
            row["index"].append(
                {
                    "partitions": metadata.num_partitions,
                    "build_seconds": metadata.build_seconds,
                    "index_mb": round(files),
                    "probes": nprobes,
                    "chosen": nprobes == metadata.nprobes,
                    "own_recall": metadata.recall,
                    "memory_mb": round(rss_mb() - before),
                }
                | measured
            )
            if nprobes >= metadata.num_partitions:
                break
    return row


def measure_index(
    home: Path, metadata: IndexMetadata, nprobes: int, queries_QE: NDArray[np.float32], truth: list[list[str]]
) -> dict[str, Any]:
    """Measure time and recall of the index with some nprobes."""
    chosen = {name: getattr(metadata, name) for name in IndexMetadata.__slots__} | {"nprobes": nprobes}
    ivf_index.write_index_metadata(home, IndexMetadata(**chosen))
    search = open_searcher(home, method="approximate")
    hits = [[hit.id for hit in search.search(query_E, k=K).hits] for query_E in queries_QE]
    ivf_index.write_index_metadata(home, metadata)
    return {"recall": recall(hits, truth)} | timed(search.search, queries_QE)


def peers(home: Path) -> dict[str, Any]:
    """Measure other libraries on the same vectors and queries; return the row."""
    import faiss
    import lancedb

    queries_QE = np.load(home / "queries.npy")
    _, half_NE = Store.open(home).read_vectors()
    truth = FlatIndex.from_vectors(half_NE).search(queries_QE, K)[0].tolist()
    row: dict[str, Any] = {"step": "peers", "faiss": faiss.__version__, "lancedb": lancedb.__version__}
    lance = lancedb.connect(home).open_table("images")

    def brute(query_E: NDArray[np.float32]) -> Any:
        search = lance.search(query_E, vector_column_name="vector").distance_type("cosine").bypass_vector_index()
        return search.limit(K).select(["id", "_distance"]).to_arrow()

    row["lancedb_brute"] = timed(brute, queries_QE[:12])
    full_NE = half_NE.astype(np.float32)
    del half_NE

    def by_numpy(query_E: NDArray[np.float32]) -> list[int]:
        scores_N = full_NE @ query_E
        best_K = np.argpartition(-scores_N, K)[:K]
        return best_K[np.argsort(-scores_N[best_K])].tolist()

    row["numpy"] = timed(by_numpy, queries_QE[:30])
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(full_NE)
    row["faiss_flat"] = timed(lambda q: flat.search(q[None], K), queries_QE[:30])
    lists = max(1, len(full_NE) // 2048)
    ivf = faiss.index_factory(WIDTH, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    ivf.cp.max_points_per_centroid = 64
    row["faiss_ivf_sq8"] = indexed(ivf, full_NE, queries_QE, truth, [("nprobe", n) for n in (4, 8, 16, 32)])
    if len(full_NE) <= 100_000:  # a million rows take a quarter of an hour
        hnsw = faiss.IndexHNSWFlat(WIDTH, 16, faiss.METRIC_INNER_PRODUCT)
        settings = [("efSearch", n) for n in (16, 64, 256)]
        row["faiss_hnsw"] = indexed(hnsw, full_NE, queries_QE, truth, settings)
    return row


def indexed(
    index: Any,
    vectors_NE: NDArray[np.float32],
    queries_QE: NDArray[np.float32],
    truth: list[list[int]],
    settings: Sequence[tuple[str, int]],
) -> dict[str, Any]:
    """Build a faiss index and search it with several settings."""
    import faiss

    train, _ = time_call(lambda: index.train(vectors_NE))
    add, _ = time_call(lambda: index.add(vectors_NE))
    tried = []
    for name, value in settings:
        faiss.ParameterSpace().set_index_parameter(index, name, value)
        hits = [index.search(query_E[None], K)[1][0].tolist() for query_E in queries_QE]
        timing = timed(lambda q: index.search(q[None], K), queries_QE)
        tried.append({name: value, "recall": recall(hits, truth)} | timing)
    return {"build_seconds": round(train + add, 1), "settings": tried}


def plot() -> None:
    """Plot the latest row of each size."""
    import json

    from zebra.report.style import ACCENT, FAINT, FOREGROUND, MUTED, SMALL_FONT_SIZE, create_figure
    from zebra.report.style import add_axes as axes_in

    rows = [json.loads(line) for line in (RESULTS / "search.jsonl").read_text().splitlines()]
    usual = [
        row
        for row in rows
        if row["step"] == "ours"
        and row["index"][0]["partitions"] == max(1, row["rows"] // ivf_index.ROWS_PER_PARTITION["IVF_SQ"])
    ]
    latest = {(row["data"], row["rows"]): row for row in usual}
    real_rows = [latest[key] for key in sorted(latest) if key[0] == "real"]
    sizes = [row["rows"] for row in real_rows]
    best = [next(one for one in row["index"] if one["chosen"]) for row in real_rows]
    figure = create_figure(7.6, 3.2)
    for place, (title, exact, index) in enumerate(
        [
            ("a search, ms (p50)", [row["exact"]["p50_ms"] for row in real_rows], [one["p50_ms"] for one in best]),
            ("memory, MB", [row["exact"]["memory_mb"] for row in real_rows], [one["index_mb"] for one in best]),
        ]
    ):
        axes = axes_in(figure, 0.6 + 3.8 * place, 0.5, right=0.3 + 3.8 * (1 - place), top=0.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_title(title, loc="left", fontsize=SMALL_FONT_SIZE, color=FOREGROUND)
        for values, color, name, beside in ((exact, ACCENT, "exact", (-8, 2)), (index, FOREGROUND, "index", (2, -20))):
            axes.plot(sizes, values, color=color, marker="o", markersize=4)
            where = (sizes[-1], values[-1])
            axes.annotate(
                name, where, beside, textcoords="offset points", ha="right", color=color, fontsize=SMALL_FONT_SIZE
            )
        ticks = [tick for tick in (1, 10, 100, 1000) if min(index + exact) / 10 < tick < max(index + exact) * 3]
        axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_ylim(min(ticks), None)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], color=MUTED)
        axes.minorticks_off()
    figure.savefig(RESULTS / "search.svg", metadata={"Date": None})


def table(numbers: list[int], vectors_NE: NDArray[np.float32]) -> pa.Table:
    """Return rows of realistic size, without thumbnails."""
    names = [f"{number:064x}" for number in numbers]
    return pa.table(
        {
            "id": names,
            "digest": names,
            "path": [f"images/{number // 1000}/{number}.jpg" for number in numbers],
            "caption": [f"an image with the number {number} and a few more words" for number in numbers],
            "width": [640 + number % 128 for number in numbers],
            "height": [480] * len(numbers),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), WIDTH),
        }
    )


def timed(search: Callable[[NDArray[np.float32]], Any], queries_QE: NDArray[np.float32]) -> dict[str, Any]:
    """Return latencies of warm searches."""
    for query_E in queries_QE[:5]:
        search(query_E)
    seconds = [time_call(lambda q=query_E: search(q))[0] for query_E in queries_QE[:TIMED]]
    cuts = quantiles(seconds, n=20)
    return {"p50_ms": round(1000 * cuts[9], 2), "p95_ms": round(1000 * cuts[18], 2)}


def recall(hits: Sequence[Sequence[Any]], truth: Sequence[Sequence[Any]]) -> float:
    """Return recall@K."""
    shares = [len(set(one) & set(other)) / K for one, other in zip(hits, truth, strict=True)]
    return round(float(np.mean(shares)), 4)


def unit(vectors_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalize vectors to unit length."""
    return vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)


def rss_mb() -> float:
    """Return the resident memory of this process in MB."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def size_mb(folder: Path) -> float:
    """Return the size of a directory in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def time_call(fn: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds and the result of a call."""
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
