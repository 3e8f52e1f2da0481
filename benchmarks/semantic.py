"""Semantic duplicates by clusters: recall of planted copies, cost against the number of images, memory.

    python benchmarks/semantic.py --sizes 10000,100000 --save

Vectors of width 512 are drawn around themes whose sizes follow Zipf's law, or without themes, which is the worst case
for clusters. A fifth are copies with a cosine of 0.96 to 0.999 to another vector; the limit is 0.95. Up to 20,000
vectors, the result is compared with that of comparing all. The row has CPU seconds, the exponent of the time between
the smallest and the largest size, and the peak of the memory, which includes the mapped file of vectors.
"""

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from receipt import save_row
from zebra.curate.semantic import find_edges, find_similar
from zebra.curate.vectors import to_unit_length

WIDTH = 512
MAX_COSINE = 0.95
COPY_SHARE = 0.2
CHUNK_ROWS = 8_192
MAX_EXACT = 20_000


def draw_originals(number: int, themes: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Yield chunks of unit vectors around themes; with 0 themes, of random directions."""
    theme_TE = rng.standard_normal((max(1, themes), WIDTH), np.float32)
    share_T = 1 / np.arange(1, len(theme_TE) + 1)
    for start in range(0, number, CHUNK_ROWS):
        rows = min(CHUNK_ROWS, number - start)
        vectors_NE = rng.standard_normal((rows, WIDTH), np.float32)
        if themes:
            vectors_NE = 0.6 * vectors_NE + 0.8 * theme_TE[rng.choice(themes, rows, p=share_T / share_T.sum())]
        yield to_unit_length(vectors_NE)


def write_vectors(path: Path, number: int, themes: int) -> tuple[NDArray[np.float16], int]:
    """Write originals, then copies; return the mapped file and the number of originals."""
    rng = np.random.default_rng(0)
    vectors_NE = np.memmap(path, np.float16, "w+", shape=(number, WIDTH))
    num_originals = round(number * (1 - COPY_SHARE))
    start = 0
    for chunk_NE in draw_originals(num_originals, themes, rng):
        vectors_NE[start : start + len(chunk_NE)] = chunk_NE
        start += len(chunk_NE)
    for start in range(num_originals, number, CHUNK_ROWS):
        rows = min(CHUNK_ROWS, number - start)
        base_NE = to_unit_length(vectors_NE[rng.integers(num_originals, size=rows)])
        noise_NE = rng.standard_normal(base_NE.shape, np.float32)
        noise_NE -= np.sum(noise_NE * base_NE, axis=1, keepdims=True) * base_NE
        cosine_N1 = rng.uniform(0.96, 0.999, (rows, 1)).astype(np.float32)
        copies_NE = cosine_N1 * base_NE + np.sqrt(1 - cosine_N1**2) * to_unit_length(noise_NE)
        vectors_NE[start : start + rows] = copies_NE
    return vectors_NE, num_originals


def measure(number: int, themes: int) -> dict[str, object]:
    """Return one row of a size."""
    with tempfile.TemporaryDirectory() as folder:
        vectors_NE, num_originals = write_vectors(Path(folder) / "vectors", number, themes)
        start = time.process_time()
        is_dropped_N = find_similar(vectors_NE, MAX_COSINE)
        seconds = time.process_time() - start
        row: dict[str, object] = {
            "vectors": number,
            "themes": themes,
            "cpu_seconds": round(seconds, 2),
            "copies_found": round(float(is_dropped_N[num_originals:].mean()), 5),
            "originals_dropped": int(is_dropped_N[:num_originals].sum()),
        }
        if number <= MAX_EXACT:
            later_M, _ = find_edges(vectors_NE, np.arange(number), MAX_COSINE)
            row["dropped_by_comparing_all"] = len(np.unique(later_M))
        row["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return row


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    sizes = sorted(map(int, args.sizes.split(",")))
    measure(1_000, 0)  # starts the threads of the matrix product
    rows = [measure(size, themes) for size in sizes for themes in (0, math.isqrt(size))]
    seconds = {(row["vectors"], bool(row["themes"])): float(str(row["cpu_seconds"])) for row in rows}
    document = {
        "sizes": rows,
        "exponent": {
            name: round(
                math.log(seconds[sizes[-1], themed] / seconds[sizes[0], themed]) / math.log(sizes[-1] / sizes[0]), 3
            )
            for name, themed in (("no themes", False), ("themes", True))
        }
        if len(sizes) > 1
        else None,
    }
    if args.save:
        save_row("semantic", document)
    else:
        print(document)


if __name__ == "__main__":
    main()
