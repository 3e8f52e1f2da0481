"""Clusters, their names, outliers and label errors of a store: agreement with the truth, time and memory.

    python -m zebra embed MODEL menagerie/train --out store --columns all
    python benchmarks/clusters.py store --emoji IMAGES --save

The store has 40,000 drawings with their animal and coat as columns. Rows:

clusters      V-measure (equal to NMI) with the animal, the coat and both; a name is right if it has the word of the
              most frequent animal or coat. names_right_words: names from these words, by the model
outliers      AUROC of 20 images planted among 1,000 (mean and range of five draws): emoji, images of noise, or both;
              for the score of zebra outliers, and scikit-learn's LocalOutlierFactor and IsolationForest
label_errors  5 % of the animals replaced by others at random: precision and recall; those of cleanlab's
              find_label_issues with out-of-sample probabilities of a logistic regression, if it is installed
scale         CPU seconds and memory of clusters and outliers for drawn vectors of width 512 (--scale N)
"""

import argparse
import resource
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, v_measure_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import LocalOutlierFactor

import zebra
from receipt import save_row
from zebra.search.arrow_rows import to_unit_vectors
from zebra.search.cluster_names import ClusterWords, words_from_captions, words_from_vectors
from zebra.search.clustering import Clustering, cluster_vectors
from zebra.search.label_errors import find_label_errors
from zebra.search.neighbors import find_neighbors
from zebra.search.selection import Selection, select_rows
from zebra.store import Store

NUM_CLUSTERS = (None, 16, 30, 50)
NUM_PLANTED, NUM_HOSTS, NUM_DRAWS = 20, 1000, 5
WORD_FORMS = {
    "sign": ("sign", "number", "digit"),
    "spotted": ("spot", "dot"),
    "striped": ("strip",),
    "plain": ("plain", "single"),
    "patched": ("patch",),
    "checkered": ("check",),
}
"""What a name may say of an animal or coat; others are named by their own word."""


def measure_clusters(selection: Selection, clip: zebra.Bundle, num_clusters: int | None) -> dict[str, Any]:
    """Return one row of a number of clusters."""
    start = time.process_time()
    clustering = cluster_vectors(selection.vectors_NE, num_clusters)
    names = words_from_captions(selection.rows["caption"].to_pylist(), clustering.cluster_N, len(clustering))
    seconds = time.process_time() - start
    animals = [animal or "sign" for animal in selection.rows["animal"].to_pylist()]
    coats = [coat or "sign" for coat in selection.rows["coat"].to_pylist()]
    kinds = [f"{animal} {coat}" for animal, coat in zip(animals, coats, strict=True)]
    words = sorted({*animals, *coats})
    by_model = words_from_vectors(words, clip.encode_texts(words).numpy(), clustering.centers_KE)
    row: dict[str, Any] = {
        "measurement": "clusters",
        "images": len(selection),
        "requested": num_clusters or "auto",
        "clusters": len(clustering),
        "names_right": share_right(clustering, names, animals, coats),
        "names_right_words": share_right(clustering, by_model, animals, coats),
        "cpu_seconds": round(seconds, 1),
    }
    for name, truth in (("animal", animals), ("coat", coats), ("kind", kinds)):
        row[f"v_measure_{name}"] = round(float(v_measure_score(truth, clustering.cluster_N)), 3)
    return row


def share_right(clustering: Clustering, names: list[ClusterWords], animals: list[str], coats: list[str]) -> float:
    """Return the share of clusters whose name has the most frequent animal or coat."""
    right = 0
    for cluster, words in enumerate(names):
        row_M = np.flatnonzero(clustering.cluster_N == cluster).tolist()
        truths = [Counter(values[row] for row in row_M).most_common(1)[0][0] for values in (animals, coats)]
        right += any(form in words.name for truth in truths for form in WORD_FORMS.get(truth, (truth,)))
    return round(right / len(names), 3)


def measure_outliers(
    vectors_NE: NDArray[np.float32], planted: dict[str, NDArray[np.float32]], counts: dict[str, int]
) -> dict[str, Any]:
    """Return one row of a number of planted images of each kind."""
    scores: dict[str, list[float]] = {"zebra": [], "lof": [], "isolation_forest": []}
    is_planted_N = np.arange(NUM_HOSTS + NUM_PLANTED) >= NUM_HOSTS
    for draw in range(NUM_DRAWS):
        rng = np.random.default_rng(draw)
        hosts_NE = vectors_NE[rng.choice(len(vectors_NE), NUM_HOSTS, replace=False)]
        parts = [planted[name][rng.choice(len(planted[name]), n, replace=False)] for name, n in counts.items()]
        all_NE = np.concatenate([hosts_NE, *parts])
        forest = IsolationForest(random_state=draw).fit(all_NE)
        scores["zebra"].append(roc_auc_score(is_planted_N, find_neighbors(all_NE, 10).mean_distances()))
        factors_N = LocalOutlierFactor(metric="cosine").fit(all_NE).negative_outlier_factor_
        scores["lof"].append(roc_auc_score(is_planted_N, -factors_N))
        scores["isolation_forest"].append(roc_auc_score(is_planted_N, -forest.score_samples(all_NE)))
    row: dict[str, Any] = {"measurement": "outliers", "planted": counts, "hosts": NUM_HOSTS, "draws": NUM_DRAWS}
    for name, values in scores.items():
        row[f"auroc_{name}"] = round(float(np.mean(values)), 3)
        row[f"range_{name}"] = [round(float(min(values)), 3), round(float(max(values)), 3)]
    return row


def measure_label_errors(vectors_NE: NDArray[np.float32], labels: NDArray[np.str_], num_images: int) -> dict[str, Any]:
    """Return one row of a number of images."""
    rng = np.random.default_rng(num_images)
    row_M = rng.choice(len(vectors_NE), num_images, replace=False)
    vectors_NE = vectors_NE[row_M]
    names, true_N = np.unique(labels[row_M], return_inverse=True)
    is_wrong_N = rng.random(num_images) < 0.05
    label_N = np.where(is_wrong_N, (true_N + rng.integers(1, len(names), num_images)) % len(names), true_N)
    start = time.process_time()
    errors = find_label_errors(label_N, find_neighbors(vectors_NE, 20).index_NK)
    is_found_N = errors.suggested_N >= 0
    row: dict[str, Any] = {"measurement": "label_errors", "images": num_images, "wrong": int(is_wrong_N.sum())}
    row |= {f"{name}_zebra": value for name, value in score_found(is_found_N, is_wrong_N).items()}
    row["suggestions_right"] = round(float((errors.suggested_N == true_N)[is_found_N & is_wrong_N].mean()), 3)
    row["cpu_seconds_zebra"] = round(time.process_time() - start, 2)
    if find_spec("cleanlab"):
        from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]

        start = time.process_time()
        model = LogisticRegression(C=10.0, max_iter=200)
        share_NC = cross_val_predict(model, vectors_NE, label_N, cv=5, method="predict_proba")
        is_found_N = find_label_issues(label_N, share_NC, n_jobs=1)
        row |= {f"{name}_cleanlab": value for name, value in score_found(is_found_N, is_wrong_N).items()}
        row["cpu_seconds_cleanlab"] = round(time.process_time() - start, 2)
    return row


def score_found(is_found_N: NDArray[np.bool_], is_wrong_N: NDArray[np.bool_]) -> dict[str, float]:
    """Return precision and recall."""
    num_right = int((is_found_N & is_wrong_N).sum())
    return {
        "precision": round(num_right / max(1, int(is_found_N.sum())), 3),
        "recall": round(num_right / int(is_wrong_N.sum()), 3),
    }


def measure_scale(num_rows: int) -> list[dict[str, Any]]:
    """Return the cost of clusters and of outliers for N float16 vectors around 1,000 themes."""
    rng = np.random.default_rng(0)
    themes_TE = rng.standard_normal((1000, 512), np.float32)
    vectors_NE = np.empty((num_rows, 512), np.float16)
    for start in range(0, num_rows, 8192):
        block_BE = vectors_NE[start : start + 8192]
        noise_BE = rng.standard_normal(block_BE.shape, np.float32)
        block_BE[:] = to_unit_vectors(themes_TE[rng.integers(1000, size=len(block_BE))] + 0.7 * noise_BE)
    rows = []
    for name, task in (
        ("clusters", lambda: cluster_vectors(vectors_NE)),
        ("outliers", lambda: find_neighbors(vectors_NE, 10)),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.process_time()
        task()
        seconds = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row = {"measurement": "scale", "task": name, "vectors": num_rows, "cpu_seconds": round(seconds, 1)}
        rows.append(
            row | {"vectors_mb": round(vectors_NE.nbytes / 1e6), "more_memory_mb": round((peak - before) / 1e3)}
        )
    return rows


def main() -> None:
    """Measure and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--emoji", type=Path, help="a folder of PNG files to plant as outliers")
    parser.add_argument("--scale", type=int, help="number of drawn vectors for time and memory")
    parser.add_argument("--save", action="store_true", help="append rows to results/clusters.jsonl")
    args = parser.parse_args()
    store = Store.open(args.store)
    selection = select_rows(store, "", ["id", "caption", "animal", "coat"])
    clip = zebra.load(store.metadata.model)
    rows = [measure_clusters(selection, clip, number) for number in NUM_CLUSTERS]
    vectors_NE = to_unit_vectors(selection.vectors_NE)
    if args.emoji:
        paths = sorted(args.emoji.rglob("*.png"))
        chosen = np.random.default_rng(0).choice(len(paths), 100, replace=False)
        noise_BHWC = np.random.default_rng(0).integers(0, 256, (NUM_PLANTED, 96, 96, 3), np.uint8)
        planted = {
            "emoji": clip.encode_images([paths[index] for index in chosen]).numpy(),
            "noise": clip.encode_images(list(map(Image.fromarray, noise_BHWC))).numpy(),
        }
        rows += [
            measure_outliers(vectors_NE, planted, {"emoji": NUM_PLANTED - num_noise, "noise": num_noise})
            for num_noise in (0, 5, 10, 20)
        ]
    animals = np.array([animal or "sign" for animal in selection.rows["animal"].to_pylist()])
    rows += [measure_label_errors(vectors_NE, animals, number) for number in (2000, 10_000)]
    rows += measure_scale(args.scale) if args.scale else []
    for row in rows:
        if args.save:
            save_row("clusters", row)
        else:
            print(row)


if __name__ == "__main__":
    main()
