"""Search in ten million images: time, recall and memory of zebra's index, faiss and hnswlib on the same hard vectors.

    python benchmarks/search_large.py fill STORE [--rows N] [--seconds S]    repeat until it prints `complete`
    python benchmarks/search_large.py build STORE                            zebra's index
    python benchmarks/search_large.py faiss STORE --index FILE               faiss' index of the same rows
    python benchmarks/search_large.py hnswlib STORE --index FILE --rows N    hnswlib's index of the first rows
    python benchmarks/search_large.py compare STORE [--peer FILE ...]        zebra and faiss in turns
    python benchmarks/search_large.py changes STORE                          append, delete, update the index
    python benchmarks/search_large.py plot

The vectors and queries are those of hard_vectors.py, and `fill` finds the exact neighbors on the way. In `compare`,
each index has a process of its own, and they take turns, 20 queries each. A search of zebra reads the rows of its ten
hits from the store; faiss returns positions. Times are p50 of warm searches of one thread, memory is the peak of the
process. Rows go to results/search_large.jsonl.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hard_vectors import BLOCK_ROWS, EMBED_DIM, NUM_QUERIES, QUERY_KINDS, HardVectors, NearestRows
from receipt import RESULTS, save_row
from zebra.search.ivf_index import build_ivf_index
from zebra.store import Store, StoreMetadata
from zebra.workflows.search import open_searcher

K = 10
BLOCKS_PER_COMMIT = 8
QUERIES_PER_TURN = 20
ZEBRA_EFFORTS = ((2, 100), (4, 100), (6, 200), (8, 200), (8, 400), None)
"""nprobes and number of candidates; None is the effort that the index chose."""
FAISS_EFFORTS = ((8, 20), (32, 20), (64, 40), (128, 40), (256, 40), (512, 40))
"""nprobe and multiple of k to refine."""
Queries = NDArray[np.float32]


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["fill", "build", "faiss", "hnswlib", "compare", "changes", "plot"])
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--factory", default="IVF1024,PQ128x4fs,Refine(SQ8)")
    parser.add_argument("--peer", type=Path, nargs="*", default=[])
    parser.add_argument("--queries", type=int, default=100)
    args = parser.parse_args()
    if args.step == "fill":
        fill(args.store, args.rows, args.seconds)
    elif args.step == "build":
        with Store.open(args.store) as store:
            start, cpu = time.perf_counter(), time.process_time()
            metadata = build_ivf_index(store, print)
        row = {name: getattr(metadata, name) for name in metadata.__slots__}
        save(args, row | {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu})
    elif args.step == "faiss":
        save(args, {"rows": args.rows, "factory": args.factory} | build_faiss(args.store, args.factory, args.index))
    elif args.step == "hnswlib":
        save(args, {"rows": args.rows} | build_hnswlib(args.store, args.rows, args.index))
    elif args.step == "compare":
        for row in compare(args.store, args.peer, args.queries):
            save(args, row)
    elif args.step == "changes":
        save(args, measure_changes(args.store))
    else:
        plot()


def save(args: argparse.Namespace, row: dict[str, Any]) -> None:
    """Store a row; the receipt names no directory of this machine."""
    sys.argv = [Path(word).name if "/" in word else word for word in sys.argv]
    row = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    save_row("search_large", {"step": args.step} | row | {"peak_mb": round(memory_mb("VmHWM"))})


def fill(path: Path, count: int, seconds: float) -> None:
    """Append hard vectors to a store, and find the exact neighbors of the queries."""
    end_time = time.monotonic() + seconds
    vectors = HardVectors()
    nearest = NearestRows(all_queries(vectors))
    truth_path = path / "truth.npz"
    if Store.exists(path):
        store = Store.open(path)
        nearest.load(truth_path)
    else:
        store = Store.create(path, StoreMetadata("f" * 64, "none", EMBED_DIM, "fp32", "float16"))
    with store:
        while len(store) < count and time.monotonic() < end_time:
            tables = []
            for start in range(len(store), min(len(store) + BLOCKS_PER_COMMIT * BLOCK_ROWS, count), BLOCK_ROWS):
                vectors_NE = vectors.block(start // BLOCK_ROWS)[: count - start]
                nearest.add(vectors_NE)
                tables.append(make_table(start, vectors_NE))
            store.append(pa.concat_tables(tables))
            nearest.save(truth_path)
            print(f"{len(store):,} rows", flush=True)
        if len(store) == count:
            print("complete")


def make_table(start: int, vectors_NE: NDArray[np.float16]) -> pa.Table:
    """Return rows with the number of each in its path."""
    numbers = range(start, start + len(vectors_NE))
    ids = [f"{number:064x}" for number in numbers]
    return pa.table(
        {
            "id": ids,
            "digest": ids,
            "path": [f"images/{number // 1000:05}/{number:08}.jpg" for number in numbers],
            "width": pa.array([640 + number % 128 for number in numbers], pa.int32()),
            "height": pa.array([480] * len(ids), pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), EMBED_DIM),
        }
    )


def vector_blocks(path: Path, num_rows: int) -> Iterator[NDArray[np.float32]]:
    """Yield the unit vectors of the first rows of a store, float32 [about BLOCK_ROWS, E]."""
    pending: list[NDArray[Any]] = []
    for batch in Store.open(path).scan(["vector"]):
        pending.append(batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)[:num_rows])
        num_rows -= len(pending[-1])
        if sum(map(len, pending)) >= BLOCK_ROWS or not num_rows:
            yield np.concatenate(pending).astype(np.float32)
            pending = []
        if not num_rows:
            return


def build_faiss(path: Path, factory: str, index_path: Path) -> dict[str, Any]:
    """Build a faiss index of a store, with a sample of 64 rows a list, and write it.

    If it refines, it is written once more without that, beside, so that both can be measured.
    """
    import faiss

    num_rows = len(Store.open(path))
    start, cpu = time.perf_counter(), time.process_time()
    index = faiss.index_factory(EMBED_DIM, factory, faiss.METRIC_INNER_PRODUCT)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.max_points_per_centroid, ivf.cp.niter = 64, 10
    index.train(next(vector_blocks(path, num_rows)))
    train_seconds = time.perf_counter() - start
    for block_NE in vector_blocks(path, num_rows):
        index.add(block_NE)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    faiss.write_index(index, str(index_path))
    if isinstance(index, faiss.IndexRefine):
        faiss.write_index(index.base_index, str(index_path.with_suffix(".base")))
    return {
        "rows": num_rows,
        "train_seconds": train_seconds,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "index_mb": index_path.stat().st_size / 1e6,
        "version": faiss.__version__,
    }


def build_hnswlib(path: Path, num_rows: int, index_path: Path) -> dict[str, Any]:
    """Build hnswlib's index of the first rows of a store, and search it for rows that are known."""
    import hnswlib

    index = hnswlib.Index("ip", EMBED_DIM)
    index.init_index(num_rows, M=16, ef_construction=100)
    index.set_num_threads(1)
    nearest = NearestRows(all_queries(HardVectors()))
    seconds = 0.0
    for block_NE in vector_blocks(path, num_rows):
        start = time.perf_counter()
        index.add_items(block_NE)
        seconds += time.perf_counter() - start
        nearest.add(block_NE.astype(np.float16))
    index.save_index(str(index_path))
    settings = []
    for ef in (64, 128, 256, 512):
        index.set_ef(ef)
        settings.append({"ef": ef} | timed(lambda query_E: index.knn_query(query_E, K)[0][0], nearest.positions_QK))
    return {"build_seconds": seconds, "index_mb": index_path.stat().st_size / 1e6, "settings": settings}


def all_queries(vectors: HardVectors, count: int = NUM_QUERIES) -> Queries:
    """Return `count` queries of each kind."""
    return np.concatenate([vectors.queries(kind)[:count] for kind in QUERY_KINDS])


def timed(search: Callable[[Queries], Any], truth_QK: NDArray[np.int64]) -> dict[str, Any]:
    """Return p50 and recall of each kind of queries."""
    queries_QE = all_queries(HardVectors())
    times, hits = [], []
    for query_E, truth_K in zip(queries_QE, truth_QK, strict=True):
        start = time.perf_counter()
        found = search(query_E)
        times.append(1000 * (time.perf_counter() - start))
        hits.append(len(set(map(int, found)) & set(truth_K.tolist())) / K)
    return summarize(times, hits)


def summarize(times: list[float], hits: list[float]) -> dict[str, Any]:
    """Return p50, p95 and recall of each kind of queries, in the order of QUERY_KINDS."""
    row: dict[str, Any] = {}
    kinds = len(QUERY_KINDS)
    for kind, ms, recalls in zip(
        QUERY_KINDS, np.split(np.array(times), kinds), np.split(np.array(hits), kinds), strict=True
    ):
        row |= {
            f"{kind}_p50_ms": np.median(ms),
            f"{kind}_p95_ms": np.percentile(ms, 95),
            f"{kind}_recall": recalls.mean(),
        }
    return {name: round(float(value), 3) for name, value in row.items()}


class Peer:
    """A process that searches one index."""

    def __init__(self, name: str, path: Path, is_faiss: bool) -> None:
        self.name = name
        self._connection, other = multiprocessing.Pipe()
        target = serve_faiss if is_faiss else serve_zebra
        self._process = multiprocessing.get_context("spawn").Process(target=target, args=(path, other))
        self._process.start()

    def search(self, effort: Any, queries_QE: Queries) -> tuple[list[list[int]], list[float]]:
        """Return the positions and the milliseconds of each query."""
        self._connection.send((effort, queries_QE))
        return self._connection.recv()  # type: ignore[no-any-return]

    def close(self) -> dict[str, float]:
        """End the process; return its memory in MB."""
        self._connection.send(None)
        memory: dict[str, float] = self._connection.recv()
        self._process.join()
        return memory


def serve_zebra(path: Path, connection: Connection) -> None:
    """Search a store by the index; an effort is nprobes and the number of candidates, or None for the chosen one."""
    searcher = open_searcher(path, method="approximate")
    searcher.warm_up()
    snapshot = searcher._snapshot
    chosen = snapshot.index_metadata
    while (request := connection.recv()) is not None:
        effort, queries_QE = request
        if effort is not None:
            snapshot._index_metadata = replace(chosen, nprobes=effort[0], num_candidates=effort[1])
        connection.send(answer(lambda query_E: positions_of(searcher.search(query_E, k=K)), queries_QE))
        snapshot._index_metadata = chosen
    connection.send({"rss_mb": memory_mb("VmRSS"), "peak_mb": memory_mb("VmHWM")})


def positions_of(result: Any) -> list[int]:
    """Return the positions of the hits, which are in their paths."""
    return [int(Path(hit.row["path"]).stem) for hit in result.hits]


def serve_faiss(path: Path, connection: Connection) -> None:
    """Search a faiss index; an effort is nprobe and a multiple of k candidates to refine."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(path))
    ivf = faiss.extract_index_ivf(index)
    while (request := connection.recv()) is not None:
        (ivf.nprobe, factor), queries_QE = request
        if isinstance(index, faiss.IndexRefine):
            index.k_factor = factor
        connection.send(answer(lambda query_E: index.search(query_E[None], K)[1][0].tolist(), queries_QE))
    connection.send({"rss_mb": memory_mb("VmRSS"), "peak_mb": memory_mb("VmHWM")})


def answer(search: Callable[[Queries], list[int]], queries_QE: Queries) -> tuple[list[list[int]], list[float]]:
    """Return the positions and the milliseconds of each query."""
    positions, times = [], []
    for query_E in queries_QE:
        start = time.perf_counter()
        positions.append(search(query_E))
        times.append(1000 * (time.perf_counter() - start))
    return positions, times


def compare(path: Path, peer_paths: list[Path], num_queries: int) -> Iterator[dict[str, Any]]:
    """Search with zebra and faiss in turns, with several efforts; yield a row for each."""
    queries_QE = all_queries(HardVectors(), num_queries)
    truth_QK = np.load(path / "truth.npz")["positions_QK"].reshape(len(QUERY_KINDS), NUM_QUERIES, K)
    truth_QK = truth_QK[:, :num_queries].reshape(-1, K)
    peers = [
        Peer("zebra", path, is_faiss=False),
        *(Peer(f"faiss {peer.name}", peer, is_faiss=True) for peer in peer_paths),
    ]
    for step in range(len(ZEBRA_EFFORTS)):
        times, hits = ({peer.name: [] for peer in peers} for _ in range(2))  # type: ignore[var-annotated]
        for start in range(0, len(queries_QE), QUERIES_PER_TURN):
            for peer in peers:
                effort = (ZEBRA_EFFORTS if peer.name == "zebra" else FAISS_EFFORTS)[step]
                turn = slice(start, start + QUERIES_PER_TURN)
                found, milliseconds = peer.search(effort, queries_QE[turn])
                times[peer.name] += milliseconds
                hits[peer.name] += [
                    len(set(one) & set(other)) / K for one, other in zip(found, truth_QK[turn].tolist(), strict=True)
                ]
        for peer in peers:
            effort = (ZEBRA_EFFORTS if peer.name == "zebra" else FAISS_EFFORTS)[step]
            row = {"index": peer.name, "rows": len(Store.open(path)), "effort": effort}
            yield row | summarize(times[peer.name], hits[peer.name])
    for peer in peers:
        yield {"index": peer.name, "memory": peer.close()}


def memory_mb(field: str) -> float:
    """Return a field of /proc/self/status in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


def measure_changes(path: Path) -> dict[str, Any]:
    """Append and delete rows of an indexed store, then add the new rows to the index; the store ends as it began."""
    vectors = HardVectors()
    queries_QE = vectors.queries("image")[:20]
    with Store.open(path) as store:
        num_rows, version = len(store), store.version
        row: dict[str, Any] = {"rows": num_rows}
        new_NE = vectors.block(-(-num_rows // BLOCK_ROWS))[:10_000]
        for count in (1000, 10_000):
            table = make_table(len(store), new_NE[len(store) - num_rows : count])
            row[f"append_{count}_s"], _ = time_call(lambda table=table: store.append(table))
            searcher = open_searcher(path, method="approximate")
            assert positions_of(searcher.search(new_NE[count - 1], k=1)) == [num_rows + count - 1]
            row[f"search_p50_ms_with_{count}_new_rows"] = p50(searcher.search, queries_QE)
        deleted = [f"{number:064x}" for number in range(num_rows, num_rows + 10)]
        row["delete_10_s"], _ = time_call(lambda: store.delete(deleted))
        found = positions_of(open_searcher(path, method="approximate").search(new_NE[0], k=K))
        assert not set(found) & set(range(num_rows, num_rows + 10))
        row["update_index_s"], _ = time_call(store.update_index)
        row["num_indexed"] = store.num_indexed()
        row["search_p50_ms_after_update"] = p50(open_searcher(path, method="approximate").search, queries_QE)
        store.restore(version)
    return row


def p50(search: Callable[[Queries], Any], queries_QE: Queries) -> float:
    """Return the median milliseconds of warm searches."""
    search(queries_QE[0])
    return 1000 * float(np.median([time_call(lambda query_E=query_E: search(query_E))[0] for query_E in queries_QE]))


def time_call(fn: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds and the result of a call."""
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


def plot() -> None:
    """Plot recall against time of the latest comparison."""
    from zebra.report.style import ACCENT, FAINT, FOREGROUND, MUTED, SMALL_FONT_SIZE, add_axes, create_figure

    rows = [json.loads(line) for line in (RESULTS / "search_large.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["step"] == "compare" and "effort" in row]
    rows = [row for row in rows if row["receipt"]["commit"] == rows[-1]["receipt"]["commit"]]
    figure = create_figure(7.6, 3.4)
    for place, kind in enumerate(("image", "text")):
        axes = add_axes(figure, 0.6 + 3.8 * place, 0.5, right=0.3 + 3.8 * (1 - place), top=0.5)
        axes.set_title(f"queries like {kind}s: ms (p50) by recall@10", loc="left", fontsize=SMALL_FONT_SIZE)
        axes.set_yscale("log")
        axes.grid(color=FAINT, linewidth=0.8)
        for name, color in zip(dict.fromkeys(row["index"] for row in rows), (ACCENT, FOREGROUND, MUTED), strict=False):
            points = sorted(
                (row[f"{kind}_recall"], row[f"{kind}_p50_ms"]) for row in rows if row["index"] == name and row["effort"]
            )
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3)
            axes.annotate(name, points[-1], (-4, 6), textcoords="offset points", ha="right", color=color, fontsize=7)
        axes.axhline(50, color=MUTED, linewidth=0.8, linestyle="dotted")
        axes.axvline(0.95, color=MUTED, linewidth=0.8, linestyle="dotted")
    figure.savefig(RESULTS / "search_large.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
