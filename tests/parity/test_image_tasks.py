"""Scores of image tasks agree with mteb, torchmetrics and netcal on random vectors."""

import inspect
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from zebra.evaluators.clustering import MTEB_SEED, run_mini_batch_kmeans
from zebra.protocols.calibration import compute_probabilities
from zebra.protocols.clustering_metrics import score_clusters
from zebra.protocols.image_retrieval import retrieve_same_label


def draw(n: int = 400, num_classes: int = 8, width: int = 12) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit vectors around the center of each class, and their classes."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % num_classes)
    vectors = rng.normal(size=(num_classes, width))[labels] + rng.normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="module")
def mteb(torchvision: None) -> ModuleType:
    """Return mteb."""
    module: ModuleType = pytest.importorskip("mteb")
    return module


def test_clusters_and_their_scores_are_those_of_mteb(mteb: ModuleType) -> None:
    from mteb._evaluators.evaluator import Evaluator
    from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
    from sklearn import cluster

    vectors, labels = draw()
    kmeans = cluster.MiniBatchKMeans(8, batch_size=500, n_init="auto", compute_labels=True, random_state=42)
    assert inspect.signature(Evaluator).parameters["seed"].default == MTEB_SEED
    own = run_mini_batch_kmeans(vectors, 8, MTEB_SEED)
    assert np.array_equal(own, kmeans.fit(vectors).labels_)
    expected = AbsTaskClusteringLegacy._compute_metrics(None, labels.tolist(), own.tolist())
    scores = score_clusters(labels, own, own[None])
    assert scores["v_measure"].value == pytest.approx(expected["v_measure"])
    assert scores["v_measure"].value == pytest.approx(expected["nmi"])
    assert scores["ari"].value == pytest.approx(expected["ari"])
    assert scores["accuracy"].value == pytest.approx(expected["cluster_accuracy"])


def test_retrieval_of_images_by_images_is_that_of_mteb(mteb: ModuleType) -> None:
    pytest.importorskip("pytrec_eval")
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    vectors, labels = draw(200)
    cosines = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(cosines, 2)  # skip_first_result removes the query itself
    relevant = {
        str(n): {str(m): 1 for m in np.flatnonzero(labels == labels[n]).tolist() if m != n} for n in range(len(labels))
    }
    found = {str(n): {str(m): float(cosines[n, m]) for m in range(len(labels))} for n in range(len(labels))}
    expected = calculate_retrieval_scores(found, relevant, [1, 5, 10, 199], skip_first_result=True)
    scores = retrieve_same_label(vectors, labels).scores()
    assert scores["map"].value == pytest.approx(expected.map["MAP@199"], abs=1e-5)
    for k in (1, 5, 10):
        assert scores[f"recall@{k}"].value == pytest.approx(expected.hit_rate[f"HitRate@{k}"], abs=1e-5)


def probabilities() -> tuple[NDArray[np.float64], NDArray[np.int64], dict[str, float]]:
    """Return the probabilities of images, their labels and the scores."""
    vectors, labels = draw()
    classes = np.stack([vectors[labels == label].mean(axis=0) for label in range(8)])
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    scores = compute_probabilities(vectors, classes, labels, 20.0).scores()
    probability_NC = softmax(20.0 * (vectors @ classes.T).astype(np.float64), axis=1)
    return probability_NC, labels, {name: score.value for name, score in scores.items()}


def test_the_calibration_error_is_that_of_torchmetrics(torchvision: None) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    probability_NC, labels, scores = probabilities()
    tensors = torch.from_numpy(probability_NC), torch.from_numpy(labels)
    expected = torchmetrics.functional.classification.multiclass_calibration_error(*tensors, num_classes=8, n_bins=15)
    assert scores["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_the_calibration_error_is_that_of_netcal() -> None:
    metrics = pytest.importorskip("netcal.metrics")
    probability_NC, labels, scores = probabilities()
    assert scores["ece"] == pytest.approx(float(metrics.ECE(15).measure(probability_NC, labels)), abs=1e-6)
