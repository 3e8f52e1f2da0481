"""A pool with noise from the emoji dataset, for benchmarks/curation.py."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from wild_menagerie import (
    BOILERPLATE,
    CLEAN,
    EXACT_COPY,
    NEAR_COPY,
    TRUTH_SCHEMA,
    WRONG_CAPTION,
    list_boilerplate,
    make_key,
    plan_pool,
    write_experiment,
)
from zebra.data.shard_writer import ShardWriter
from zebra.images.distort import distort_image

POOL_SHARES = {CLEAN: 0.6, WRONG_CAPTION: 0.2, BOILERPLATE: 0.05, EXACT_COPY: 0.05, NEAR_COPY: 0.1}


def write_pool(out: Path, seed: int) -> Counter[str]:
    """Write the training images with noise as tar shards, and the truth; return the pairs by noise."""
    with (out / "train.csv").open(encoding="utf-8", newline="") as file:
        images = list(csv.DictReader(file))
    rng = np.random.default_rng([seed, 3])
    num_copies = round(len(images) * (POOL_SHARES[EXACT_COPY] + POOL_SHARES[NEAR_COPY]) / (1 - 0.15))
    plan = plan_pool(len(images) + num_copies, seed, POOL_SHARES)
    is_copy_N = np.isin(plan.noise_N, (EXACT_COPY, NEAR_COPY))
    image_N = np.zeros(len(is_copy_N), np.int64)
    image_N[~is_copy_N] = rng.permutation(len(images))[: int((~is_copy_N).sum())]
    rows = []
    with ShardWriter(out / "pool") as writer:
        for position, noise in enumerate(plan.noise_N.tolist()):
            original = int(plan.original_N[position])
            row = images[image_N[original]]
            png, caption = (out / row["filepath"]).read_bytes(), row["caption"]
            if noise == NEAR_COPY:
                image = Image.open(io.BytesIO(png))
                png = encode_png(distort_image(image, image.width, rng))
            elif noise == WRONG_CAPTION:
                others = [other for other in images if other["concept"] != row["concept"]]
                caption = others[int(rng.integers(len(others)))]["caption"]
            elif noise == BOILERPLATE:
                caption = list_boilerplate(seed)[int(rng.integers(300))]
            key = make_key(position)
            writer.write(key, {"png": png, "txt": caption.encode()})
            kind = {"animal": row["caption"], "coat": row["artist"]}
            rows.append({"key": key, "noise": noise, "original": make_key(original), "caption": caption} | kind)
    pq.write_table(pa.Table.from_pylist(rows, TRUTH_SCHEMA), out / "truth.parquet")
    write_experiment(out, "emoji", "tiny", ["evaluation/unseen-artist", "evaluation/unseen-concepts"], {})
    return Counter(row["noise"] for row in rows)


def encode_png(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
