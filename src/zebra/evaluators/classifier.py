"""Classifiers learned from examples, and the calibration of labels."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.data.ignored import Ignored, IgnoredCounter, format_counts
from zebra.data.sources import Source
from zebra.data.splits import make_subset
from zebra.errors import BadSample, DataError
from zebra.evaluators.decoded_images import decode_and_resize
from zebra.evaluators.embeddings import embed_features_and_vectors
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.classifier import LinearHead
from zebra.protocols.calibration import acceptance_threshold, calibration_error, fit_temperature
from zebra.protocols.linear_probe import LogisticProbe, LogisticSolver, fit_linear_probe
from zebra.protocols.metrics import proportion
from zebra.values import Embeddings, Score

NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class ExampleVectors:
    """Vectors of labeled images."""

    features: Embeddings
    """Before the projection."""
    vectors: Embeddings
    """Unit vectors of the same images."""
    skipped: tuple[Ignored, ...]
    """Images that cannot be used, by reason."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices [N]."""
        assert self.vectors.labels is not None
        return self.vectors.labels


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperature and threshold, from images that the classifier was not fitted to."""

    temperature: float
    threshold: float
    """Smallest cosine of an image with its nearest class, which 95 % of the images reach."""
    accepted: Score
    """Share of the images that reach the threshold."""
    unknown_rejected: Score
    """Share of the images that do not reach it by a class other than their own, as if their class were unknown."""
    error_before: float
    """Expected calibration error without the temperature."""
    error_after: float


@dataclass(frozen=True, slots=True)
class LearnedClassifier:
    """A classifier with its quality on held-out images."""

    head: LinearHead
    class_CE: Tensor
    l2_penalty: float
    calibration: Calibration
    accuracy: Score
    class_accuracies: tuple[Score | None, ...]
    """Accuracy of each class; None for a class with one image, which cannot be held out."""


def embed_examples(clip: Bundle, source: Source) -> ExampleVectors:
    """Embed labeled images; those that cannot be used are left out and counted.

    Raises:
        DataError: No image can be used.
    """
    try:
        return ExampleVectors(*embed_features_and_vectors(clip, source), ())
    except BadSample:  # decode all images to find out which ones cannot be used
        usable, skipped = _find_usable(clip, source)
    if not usable:
        raise DataError(f"no image of {source.name} can be used: {format_counts(skipped)}. Repair or replace them")
    return ExampleVectors(*embed_features_and_vectors(clip, make_subset(source, usable, "usable")), skipped)


def learn_classifier(examples: ExampleVectors, num_classes: int, seed: int = 0) -> LearnedClassifier:
    """Fit a linear probe, and calibrate it by five-fold cross-validation.

    λ is chosen by the protocol of the linear probe. With it, five probes are fitted, each without a fifth of every
    class. Their logits on that fifth, and cosines to the class means of the other images, give accuracy, temperature
    and threshold. The classifier itself is fitted to all images.

    Args:
        examples: Examples of at least two classes, each class with at least one image.
        seed: Seed of the choice of the validation images and folds.

    Raises:
        DataError: There are fewer than two classes, or no class has two images.
    """
    features, label_N = examples.features, examples.labels
    probe = fit_linear_probe(features, features, num_classes, seed=seed).probe
    fold_N = _assign_folds(label_N, seed)
    logit_NC = np.zeros((len(label_N), num_classes))
    cosine_NC = np.zeros((len(label_N), num_classes))
    for fold in range(NUM_FOLDS):
        held_out, rest = np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
        if len(held_out):
            solver = LogisticSolver(features.vectors[rest], label_N[rest], num_classes)
            logit_NC[held_out] = _logits(solver.fit(probe.l2_penalty, probe), features.vectors[held_out])
            class_CE = class_means(examples.vectors.vectors[rest], label_N[rest], num_classes)
            cosine_NC[held_out] = examples.vectors.vectors[held_out] @ class_CE.T
    rows = np.flatnonzero(fold_N >= 0)
    correct_N = logit_NC[rows].argmax(axis=1) == label_N[rows]
    num_correct, num_held_out = (
        np.bincount(labels, minlength=num_classes).tolist() for labels in (label_N[rows][correct_N], label_N[rows])
    )
    return LearnedClassifier(
        LinearHead(torch.from_numpy(probe.weight_CD).float(), torch.from_numpy(probe.bias_C).float()),
        torch.from_numpy(class_means(examples.vectors.vectors, label_N, num_classes)),
        probe.l2_penalty,
        calibrate(logit_NC[rows], cosine_NC[rows], label_N[rows]),
        proportion(int(correct_N.sum()), len(rows)),
        tuple(proportion(k, n) if n else None for k, n in zip(num_correct, num_held_out, strict=True)),
    )


def calibrate(
    logit_NC: NDArray[np.floating], cosine_NC: NDArray[np.floating], label_N: NDArray[np.int64]
) -> Calibration:
    """Choose temperature and threshold by labeled images.

    The cosine with the nearest class separates known from unknown images better than the probability of the class,
    the energy of the logits and Mahalanobis distances (`benchmarks/unknown.py`).

    Args:
        logit_NC: Logits of each image.
        cosine_NC: Cosines of each image to a vector of each class.
        label_N: Classes of the images.
    """
    best_N = cosine_NC.max(axis=1)
    threshold = acceptance_threshold(best_N)
    temperature = fit_temperature(logit_NC, label_N)
    other_NC = cosine_NC.copy()
    other_NC[np.arange(len(label_N)), label_N] = -np.inf
    num_rejected = int((other_NC.max(axis=1) < threshold).sum())
    return Calibration(
        temperature,
        threshold,
        proportion(int((best_N >= threshold).sum()), len(best_N)),
        proportion(num_rejected, len(best_N)),
        calibration_error(logit_NC, label_N),
        calibration_error(logit_NC, label_N, temperature),
    )


def class_means(vectors_NE: NDArray[np.float32], label_N: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return the mean vector of each class, of unit length; every class has an image."""
    sums_CE = np.zeros((num_classes, vectors_NE.shape[1]))
    np.add.at(sums_CE, label_N, vectors_NE)
    means_CE: NDArray[np.float32] = (sums_CE / np.linalg.norm(sums_CE, axis=1, keepdims=True)).astype(np.float32)
    return means_CE


def _assign_folds(label_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Distribute the images of each class over the folds; -1 for the only image of a class."""
    rng, fold_N = np.random.default_rng(seed), np.full(len(label_N), -1, dtype=np.int64)
    for label in np.unique(label_N):
        rows = rng.permutation(np.flatnonzero(label_N == label))
        if len(rows) > 1:
            fold_N[rows] = (np.arange(len(rows)) + rng.integers(NUM_FOLDS)) % NUM_FOLDS
    return fold_N


def _logits(probe: LogisticProbe, vector_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    logit_NC: NDArray[np.float64] = vector_ND @ probe.weight_CD.T + probe.bias_C
    return logit_NC


def _find_usable(clip: Bundle, source: Source) -> tuple[list[int], tuple[Ignored, ...]]:
    usable, skipped = [], IgnoredCounter()
    for index in range(len(source)):
        try:
            decode_and_resize(source.read(index), clip.preprocess)
            usable.append(index)
        except BadSample as bad:
            skipped.add(bad.reason, bad.location)
    return usable, skipped.entries()
