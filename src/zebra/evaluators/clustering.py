"""Evaluate how well clusters of image vectors agree with the classes."""

import warnings

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import ClassificationBenchmark, InstanceBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.clustering_metrics import score_clusters

MTEB_BATCH_SIZE, MTEB_SEED = 500, 42
"""Settings of mini-batch k-means in mteb's image clustering, so that the scores are the same."""
NUM_RERUNS = 4
"""Further clusterings from other first centers, for the interval."""


def evaluate_clustering(clip: Bundle, benchmark: ClassificationBenchmark | InstanceBenchmark) -> TaskResult:
    """Cluster the image vectors into as many clusters as there are classes, and compare both.

    Raises:
        UnsuitableDataset: The images are of one class.
    """
    images = embed_source(clip, benchmark.source)
    assert images.labels is not None
    num_classes = len(np.unique(images.labels))
    cluster_SN = np.stack(
        [run_mini_batch_kmeans(images.vectors, num_classes, MTEB_SEED + run) for run in range(1 + NUM_RERUNS)]
    )
    scores = score_clusters(images.labels, cluster_SN[0], cluster_SN[1:])
    predictions = pa.table({"id": list(images.ids), "label": images.labels, "cluster": cluster_SN[0]})
    return TaskResult(
        benchmark.name, "clustering", scores, benchmark.source.digest, notes=benchmark.notes, predictions=predictions
    )


def run_mini_batch_kmeans(vectors_NE: NDArray[np.float32], num_clusters: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster [N] of each vector by mini-batch k-means with mteb's settings."""
    from sklearn.cluster import MiniBatchKMeans  # importing takes a second
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors: some clusters stay empty
        kmeans = MiniBatchKMeans(num_clusters, batch_size=MTEB_BATCH_SIZE, n_init="auto", random_state=seed)
        cluster_N: NDArray[np.int64] = kmeans.fit(vectors_NE).labels_.astype(np.int64)
    return cluster_N
