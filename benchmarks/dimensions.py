"""Accuracy and recall against the size of the vectors: first components, principal axes, Matryoshka training.

    zebra menagerie WORLD
    zebra demo --out DEMO
    python benchmarks/dimensions.py WORLD DEMO/model [--steps 400]

The model is fine-tuned with `--objective.dimensions`, so that its first components are vectors too. Then images and
captions are embedded by both models, and their vectors are shortened:

    prefix      the first components of the model as it is, which no loss has trained
    pca         principal axes of the model as it is, computed on the searched images
    matryoshka  the first components of the fine-tuned model

Zero-shot top-1 on kinds that were seen and on kinds that were not; and recall at 10 of searches by caption among some
training images, where the 10 best with the full vectors of the same model are the truth. A row per way and size goes
to results/dimensions.jsonl, and a plot of all rows to results/dimensions.svg.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from receipt import RESULTS, save_row
from zebra.config.data import DataConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import open_source
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.search.short_vectors import Shortening
from zebra.store.pca import fit_principal_axes
from zebra.train.finetune import suggest_settings
from zebra.workflows import train

SIZES = (4, 8, 16, 32, 64)
DATASETS = ("seen-kinds", "unseen-kinds")
NUM_SEARCHED, NUM_QUERIES, K = 3_000, 300, 10
LINE_STYLES = {"prefix": ("#888888", "4 3"), "pca": ("#1f6fb4", "none"), "matryoshka": ("#c2501a", "none")}


class Vectors:
    """Vectors of one model: images and heads of the datasets, searched images and queries."""

    def __init__(self, clip: Bundle, world: Path) -> None:
        source = open_source(world / "train", DataConfig())
        step = len(source) // NUM_SEARCHED
        records = [source.read(index) for index in range(0, step * NUM_SEARCHED, step)]
        self.image_NE = clip.encode_images([record.image for record in records]).numpy()
        captions = [record.captions[0] for record in records[:: NUM_SEARCHED // NUM_QUERIES]]
        self.query_QE = clip.encode_texts(captions).numpy()
        self.sets = {}
        for name in DATASETS:
            benchmark = read_classification(world / "evaluation" / name)
            samples = [benchmark.source.read(index) for index in range(len(benchmark.source))]
            images = clip.encode_images([sample.image for sample in samples]).numpy()
            head_CE = clip.class_vectors(benchmark.classnames).numpy()
            self.sets[name] = images, np.array([sample.label for sample in samples]), head_CE

    def scores(self, shortening: Shortening | None) -> dict[str, float]:
        """Return top-1 of each dataset, and recall at 10 of the searches."""
        found_QK, best_QK = _nearest(self.query_QE, self.image_NE, shortening), _nearest(self.query_QE, self.image_NE)
        hits = [len(set(found) & set(best)) for found, best in zip(found_QK.tolist(), best_QK.tolist(), strict=True)]
        scores = {"recall@10": sum(hits) / best_QK.size}
        for name, (image_NE, label_N, head_CE) in self.sets.items():
            predicted_N = (_shorten(image_NE, shortening) @ _shorten(head_CE, shortening).T).argmax(1)
            scores[name] = float((predicted_N == label_N).mean())
        return {name: round(score, 4) for name, score in scores.items()}


def _shorten(vectors_NE: NDArray[np.float32], shortening: Shortening | None) -> NDArray[np.floating[Any]]:
    short_NK = vectors_NE if shortening is None else shortening(vectors_NE)
    return short_NK / np.linalg.norm(short_NK, axis=1, keepdims=True)


def _nearest(
    query_QE: NDArray[np.float32], image_NE: NDArray[np.float32], shortening: Shortening | None = None
) -> NDArray[np.int64]:
    similarity_QN = _shorten(query_QE, shortening) @ _shorten(image_NE, shortening).T
    return np.argsort(-similarity_QN, axis=1)[:, :K]


def fine_tune(model: Path, world: Path, steps: int) -> tuple[Bundle, int]:
    """Train the first components of a model as vectors; return it and the CPU seconds."""
    with tempfile.TemporaryDirectory() as out:
        settings = suggest_settings(str(model), str(world / "train"), steps=steps, batch_size=48)
        settings |= {"objective": {"dimensions": SIZES}, "eval_every": steps, "checkpoint_every": steps, "workers": 0}
        settings |= {"data": str(world / "train"), "out": out, "steps": steps, "epochs": None}
        start = time.process_time()
        train.run(structure(TrainConfig, settings, "dimensions"))
        cpu_seconds = round(time.process_time() - start)
        clip = load(Path(out) / "model")
        assert clip.fingerprint  # read from the folder, which is removed here
        return clip, cpu_seconds


def plot(rows: list[dict[str, Any]], full: dict[str, float], path: Path) -> None:
    """Draw a panel per score: one line for each way, and the full vectors as a horizontal line."""
    panels, width, height = list(full), 250, 190
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(panels) * (width + 60)}" height="{height + 90}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for panel, score in enumerate(panels):
        left, top = 45 + panel * (width + 60), 30
        parts.append(f'<text x="{left}" y="18" font-weight="bold">{score}</text>')
        for percent in (0, 25, 50, 75, 100):
            y = top + height * (1 - percent / 100)
            parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{percent} %</text>')
        for index, size in enumerate(SIZES):
            x = left + width * index / (len(SIZES) - 1)
            parts.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{size}</text>')
        y = top + height * (1 - full[score])
        parts.append(f'<path d="M{left} {y}h{width}" stroke="black" stroke-dasharray="1 3"/>')
        for way, (color, dashes) in LINE_STYLES.items():
            values = [
                row["scores"][score] for size in SIZES for row in rows if (row["way"], row["size"]) == (way, size)
            ]
            points = " ".join(
                f"{left + width * index / (len(SIZES) - 1):.1f},{top + height * (1 - value):.1f}"
                for index, value in enumerate(values)
            )
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" '
                f'stroke-dasharray="{dashes}"/>'
            )
    for index, (way, (color, _)) in enumerate(LINE_STYLES.items()):
        parts.append(f'<text x="{45 + 120 * index}" y="{height + 75}" fill="{color}">{way}</text>')
    parts.append(
        f'<text x="{45 + 120 * len(LINE_STYLES)}" y="{height + 75}">dotted: full vectors of the model</text></svg>'
    )
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Measure all ways and sizes, and save rows and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    before = Vectors(load(args.model), args.world)
    axes_EE = fit_principal_axes([before.image_NE], before.image_NE.shape[1])
    clip, cpu_seconds = fine_tune(args.model, args.world, args.steps)
    after = Vectors(clip, args.world)
    rows = []
    for size in SIZES:
        for way, vectors, shortening in (
            ("prefix", before, Shortening(size)),
            ("pca", before, Shortening(size, axes_EE[:, :size])),
            ("matryoshka", after, Shortening(size)),
        ):
            row: dict[str, Any] = {"way": way, "size": size, "scores": vectors.scores(shortening)}
            rows.append(row | {"full": vectors.scores(None), "steps": args.steps, "training_cpu_seconds": cpu_seconds})
    for row in rows:
        save_row("dimensions", row | {"machine": "shared"})
    print(json.dumps(rows[0]["full"]))
    plot(rows, rows[0]["full"], RESULTS / "dimensions.svg")


if __name__ == "__main__":
    main()
