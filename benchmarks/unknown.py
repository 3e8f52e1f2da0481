"""How well "none of these" rejects images of unknown classes, by several scores.

    python benchmarks/unknown.py MODEL menagerie DIR     DIR: the world of `zebra demo`, with evaluation/
    python benchmarks/unknown.py MODEL emoji DIR         DIR: the world of benchmarks/emoji.py, with train.csv

Each case has a classifier of known classes, which is learned from examples, held-out images of these classes, and
images of other classes. A score's threshold is the one that 95 % of the held-out known images reach; `rejected` is the
share of unknown images below it. `auroc` needs no threshold. For the score that `zebra probe` uses, `calibrated` has
the threshold from the examples alone: the share of known images that it accepts, and of unknown ones that it rejects.
The scores by text use the class names instead of examples. One row per case goes to results/unknown.jsonl.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

import zebra
from receipt import save_row
from zebra.data.image_source import open_image_files
from zebra.evaluators.classifier import ExampleVectors, class_means, embed_examples, learn_classifier
from zebra.evaluators.datasets import load_dataset
from zebra.protocols.linear_probe import select
from zebra.protocols.metrics import roc_auc
from zebra.values import Embeddings

NUM_EMOJI_CONCEPTS = 160
EMOJI_CLASSES = (10, 20, 40, 80)
MENAGERIE_ANIMALS = 10
Images = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Features before the projection, and vectors."""


def take(examples: ExampleVectors, rows: NDArray[np.int64], labels: NDArray[np.int64] | None = None) -> ExampleVectors:
    """Return some images, with other labels if these are given."""
    parts = [select(each, rows) for each in (examples.features, examples.vectors)]
    if labels is not None:
        parts = [Embeddings(part.vectors, part.ids, labels, part.fingerprint) for part in parts]
    return ExampleVectors(parts[0], parts[1], ())


def image_scores(train: ExampleVectors, head: Any, class_CE: NDArray[np.float32], images: Images) -> dict[str, Any]:
    """Return the scores of images; larger means known."""
    features, vectors = images
    logit_NC = features @ head.weight_CD.numpy().T + head.bias_C.numpy()
    sorted_NC = np.sort(logit_NC, axis=1)
    mean_D = train.features.vectors.mean(axis=0)
    means_CD = np.stack(
        [train.features.vectors[train.labels == label].mean(axis=0) for label in range(logit_NC.shape[1])]
    )
    residual_ND = train.features.vectors - means_CD[train.labels]
    covariance_DD = residual_ND.T @ residual_ND / len(residual_ND)
    shrunk_DD = 0.7 * covariance_DD + 0.3 * np.trace(covariance_DD) / len(covariance_DD) * np.eye(len(covariance_DD))
    whitening_DD = np.linalg.cholesky(np.linalg.inv(shrunk_DD))
    image_ND, class_CD = (features - mean_D) @ whitening_DD, (means_CD - mean_D) @ whitening_DD
    distance_NC = (image_ND**2).sum(1)[:, None] + (class_CD**2).sum(1) - 2 * image_ND @ class_CD.T
    neighbor_NM = np.sort(vectors @ train.vectors.vectors.T, axis=1)
    return {
        "cosine to the class mean": (vectors @ class_CE.T).max(axis=1),
        "cosine to the nearest example": neighbor_NM[:, -1],
        "cosine to the third nearest example": neighbor_NM[:, -3],
        "probability": log_softmax(logit_NC, axis=1).max(axis=1),
        "largest logit": sorted_NC[:, -1],
        "margin of the logits": sorted_NC[:, -1] - sorted_NC[:, -2],
        "energy": logsumexp(logit_NC, axis=1),
        "Mahalanobis distance": -distance_NC.min(axis=1),
    }


def text_scores(head_CE: NDArray[np.float32], scale: float, images: Images) -> dict[str, Any]:
    """Return the scores of images by class names alone."""
    cosine_NC = images[1] @ head_CE.T
    return {
        "text: cosine": cosine_NC.max(axis=1),
        "text: probability": log_softmax(scale * cosine_NC, axis=1).max(axis=1),
        "text: energy": logsumexp(scale * cosine_NC, axis=1),
    }


def add_combinations(known: dict[str, Any], unknown: dict[str, Any]) -> None:
    """Add sums of two standardized scores."""
    first = "cosine to the class mean"
    for second in ("probability", "margin of the logits", "energy", "cosine to the third nearest example"):
        parts = [(known[name].mean(), known[name].std()) for name in (first, second)]
        for scores in (known, unknown):
            standardized = [
                (scores[name] - mean) / std for name, (mean, std) in zip((first, second), parts, strict=True)
            ]
            scores[f"{first} + {second}"] = standardized[0] + standardized[1]


def measure(
    name: str, clip: zebra.Bundle, train: ExampleVectors, known: ExampleVectors, unknown: Images, classnames: list[str]
) -> None:
    """Learn a classifier from `train` and save a row."""
    learned = learn_classifier(train, len(classnames))
    class_CE = class_means(train.vectors.vectors, train.labels, len(classnames))
    head_CE = clip.class_vectors(classnames).numpy()
    pair = [(known.features.vectors, known.vectors.vectors), unknown]
    known_scores, unknown_scores = (
        image_scores(train, learned.head, class_CE, images) | text_scores(head_CE, clip.logit_scale, images)
        for images in pair
    )
    add_combinations(known_scores, unknown_scores)
    logit_NC = pair[0][0] @ learned.head.weight_CD.numpy().T + learned.head.bias_C.numpy()
    threshold, best = learned.calibration.threshold, "cosine to the class mean"
    scores = {}
    for score, known_N in known_scores.items():
        positive = np.arange(len(known_N) + len(unknown[0])) < len(known_N)
        auroc = roc_auc(np.concatenate([known_N, unknown_scores[score]]), positive)
        rejected = float((unknown_scores[score] < np.quantile(known_N, 0.05, method="lower")).mean())
        scores[score] = {"rejected": round(rejected, 3), "auroc": round(auroc.value, 3)}
    save_row(
        "unknown",
        {
            "case": name,
            "classes": len(classnames),
            "examples": len(train.labels),
            "known": len(known.labels),
            "unknown": len(unknown[0]),
            "accuracy": round(float((logit_NC.argmax(axis=1) == known.labels).mean()), 3),
            "calibrated": {
                "accepted": round(float((known_scores[best] >= threshold).mean()), 3),
                "rejected": round(float((unknown_scores[best] < threshold).mean()), 3),
                "estimated_rejected": round(learned.calibration.unknown_rejected.value, 3),
                "temperature": round(learned.calibration.temperature, 3),
                "error_before": round(learned.calibration.error_before, 3),
                "error_after": round(learned.calibration.error_after, 3),
            },
            "scores": dict(sorted(scores.items(), key=lambda entry: -entry[1]["rejected"])),
        },
    )


def relabeled(examples: ExampleVectors, classes: list[int]) -> ExampleVectors:
    """Return the images of some classes, with labels from 0 in the order of the classes."""
    rows = np.flatnonzero(np.isin(examples.labels, classes))
    return take(examples, rows, np.searchsorted(classes, examples.labels[rows]))


def stack(*parts: ExampleVectors) -> Images:
    """Return the vectors of all images."""
    return (
        np.concatenate([part.features.vectors for part in parts]),
        np.concatenate([part.vectors.vectors for part in parts]),
    )


def measure_menagerie(clip: zebra.Bundle, world: Path) -> None:
    """Unknown are the combinations of coat and animal that the model has not seen, other animals, and other kinds."""
    benchmark = load_dataset(world / "evaluation/seen-kinds")
    names = [*benchmark.classnames]
    train = embed_examples(clip, load_dataset("menagerie/seen-kinds", "train").source)
    test, unseen = (
        embed_examples(clip, load_dataset(world / f"evaluation/{kind}-kinds").source) for kind in ("seen", "unseen")
    )
    kinds = sorted(set(train.labels.tolist()))
    animals = [name.split(" ", 1)[1] for name in names]
    rng = np.random.default_rng(0)
    chosen = set(rng.choice(sorted(set(animals)), MENAGERIE_ANIMALS, replace=False).tolist())
    of_animals = [kind for kind in kinds if animals[kind] in chosen]
    half = sorted(rng.choice(kinds, len(kinds) // 2, replace=False).tolist())
    for case, known in (("18 unseen kinds", kinds), ("5 other animals", of_animals), ("54 other kinds", half)):
        others = [
            take(part, np.flatnonzero(~np.isin(part.labels, known)))
            if case != "5 other animals"
            else take(part, np.flatnonzero([animals[label] not in chosen for label in part.labels]))
            for part in (test, unseen)
        ]
        classnames = [names[kind] for kind in known]
        measure(f"menagerie: {case}", clip, relabeled(train, known), relabeled(test, known), stack(*others), classnames)


def measure_emoji(clip: zebra.Bundle, world: Path) -> None:
    """Known are concepts, drawn by eight artists each; unknown are other concepts."""
    rows = list(csv.DictReader((world / "train.csv").open(encoding="utf-8")))
    counts = Counter(row["concept"] for row in rows)
    rng = np.random.default_rng(0)
    complete = sorted(concept for concept, count in counts.items() if count == max(counts.values()))
    concepts = sorted(rng.choice(complete, NUM_EMOJI_CONCEPTS, replace=False).tolist())
    names = {row["concept"]: row["caption"] for row in rows}
    rows = [row for row in rows if row["concept"] in concepts]
    labels = [concepts.index(row["concept"]) for row in rows]
    images = embed_examples(clip, open_image_files(world, [world / row["filepath"] for row in rows], labels))
    for num_classes in EMOJI_CLASSES:
        known = sorted(rng.choice(NUM_EMOJI_CONCEPTS, num_classes, replace=False).tolist())
        own = relabeled(images, known)
        order = rng.permutation(len(own.labels))
        test, train = order[: len(order) // 4], order[len(order) // 4 :]
        others = take(images, np.flatnonzero(~np.isin(images.labels, known)))
        measure(
            f"emoji: {NUM_EMOJI_CONCEPTS - num_classes} other concepts",
            clip,
            take(own, train),
            take(own, test),
            stack(others),
            [names[concepts[label]] for label in known],
        )


def main() -> None:
    """Measure one world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("world", choices=("menagerie", "emoji"))
    parser.add_argument("dir", type=Path)
    args = parser.parse_args()
    clip = zebra.load(args.model)
    (measure_menagerie if args.world == "menagerie" else measure_emoji)(clip, args.dir)


if __name__ == "__main__":
    main()
