"""Images that resemble a better aligned one (SemDeDup, arXiv 2303.09540).

1. Sort the images by the alignment of their caption, on disk.
2. Train k = √N centroids by spherical k-means on a sample of them.
3. Give each image to its NUM_CLUSTERS nearest centroids, so that few copies are separated by a border.
4. Compare the images of each cluster with the earlier ones that stay.

The cost is O(N^1.5), and the memory holds a few numbers per image and one cluster at a time. An image is dropped only
if an image that stays resembles it; SemDeDup's published code compares with dropped images as well, so that chains of
similar images are dropped whole.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.config.curate_score import SemanticRules
from zebra.curate.balance import draw_uniform
from zebra.curate.rules import PoolReader, PoolRule
from zebra.curate.vectors import ALIGNMENT, IMAGE_VECTOR, to_unit_length, to_vectors

STAGE = "semantic"
NUM_CLUSTERS = 3
"""Clusters per image."""
SAMPLE_PER_CENTROID = 64
KMEANS_ITERATIONS = 10
BLOCK_ROWS = 1024
"""Vectors that are compared at a time."""

Edges = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs of similar rows: the later ones, and the earlier ones."""


def semantic_rules(config: SemanticRules) -> list[PoolRule]:
    """Return the rule that drops the pairs of images that resemble another one; none without a limit."""
    max_cosine = config.max_cosine
    if max_cosine is None:
        return []
    return [
        PoolRule(
            STAGE,
            f"image with a cosine over {max_cosine:g} to a better aligned one",
            ("uid", "index", ALIGNMENT, IMAGE_VECTOR),
            lambda reader: _find_similar_pairs(reader, max_cosine),
        )
    ]


def find_similar(vectors_NE: NDArray[np.floating[Any]], max_cosine: float, seed: int = 0) -> NDArray[np.bool_]:
    """Return which vectors to drop, bool [N]: those with a cosine over max_cosine to an earlier one that stays."""
    is_dropped_N: NDArray[np.bool_] = find_similar_originals(vectors_NE, max_cosine, seed) != np.arange(len(vectors_NE))
    return is_dropped_N


def find_similar_originals(
    vectors_NE: NDArray[np.floating[Any]], max_cosine: float, seed: int = 0
) -> NDArray[np.int64]:
    """Return for each vector an earlier one that stays and is similar to it, int64 [N]; its own row if it stays.

    Args:
        vectors_NE: Vectors that are not 0; may be a memory map.
        max_cosine: Cosine above which two vectors are similar.
        seed: Seed of the clusters.
    """
    original_N = np.arange(len(vectors_NE))
    if len(vectors_NE) < 2:
        return original_N
    centroids_KE = train_centroids(vectors_NE, seed)
    cluster_NP = assign_clusters(vectors_NE, centroids_KE)
    num_clusters = cluster_NP.shape[1]
    order = np.argsort(cluster_NP, axis=None, kind="stable")  # by cluster, then by row
    ends = np.cumsum(np.bincount(cluster_NP.ravel(), minlength=len(centroids_KE)))
    clusters = np.split(order // num_clusters, ends[:-1])
    edges = [find_edges(vectors_NE, row_M, max_cosine) for row_M in clusters]
    later_M, earlier_M = (np.concatenate(rows) for rows in zip(*edges, strict=True))
    order = np.argsort(later_M, kind="stable")
    for later, earlier in zip(later_M[order].tolist(), earlier_M[order].tolist(), strict=True):
        if original_N[earlier] == earlier and original_N[later] == later:
            original_N[later] = earlier
    return original_N


def train_centroids(vectors_NE: NDArray[np.floating[Any]], seed: int) -> NDArray[np.float32]:
    """Return about √N unit centroids [K, E] by spherical k-means on a sample; a cluster may be empty."""
    num_centroids = round(math.sqrt(len(vectors_NE)))
    rng = np.random.default_rng(seed)
    num_samples = min(len(vectors_NE), SAMPLE_PER_CENTROID * num_centroids)
    row_S = np.sort(rng.choice(len(vectors_NE), num_samples, replace=False))
    sample_SE = to_unit_length(vectors_NE[row_S])
    centroids_KE = sample_SE[rng.choice(num_samples, num_centroids, replace=False)]
    for _ in range(KMEANS_ITERATIONS):
        cluster_S = assign_clusters(sample_SE, centroids_KE, num_clusters=1)[:, 0]
        order = np.argsort(cluster_S, kind="stable")
        used, first_U = np.unique(cluster_S[order], return_index=True)
        sum_UE = np.add.reduceat(sample_SE[order], first_U, axis=0)
        centroids_KE[used] = to_unit_length(sum_UE)
    return centroids_KE


def assign_clusters(
    vectors_NE: NDArray[np.floating[Any]], centroids_KE: NDArray[np.float32], num_clusters: int = NUM_CLUSTERS
) -> NDArray[np.int32]:
    """Return the nearest centroids of each vector, int32 [N, P]."""
    num_clusters = min(num_clusters, len(centroids_KE))
    cluster_NP = np.empty((len(vectors_NE), num_clusters), np.int32)
    for start in range(0, len(vectors_NE), BLOCK_ROWS):
        cosine_BK = vectors_NE[start : start + BLOCK_ROWS].astype(np.float32) @ centroids_KE.T
        for column in range(num_clusters):
            nearest_B = cosine_BK.argmax(axis=1)
            cluster_NP[start : start + BLOCK_ROWS, column] = nearest_B
            cosine_BK[np.arange(len(nearest_B)), nearest_B] = -np.inf
    return cluster_NP


def find_edges(vectors_NE: NDArray[np.floating[Any]], row_M: NDArray[np.int64], max_cosine: float) -> Edges:
    """Compare each vector of a cluster with the earlier ones that stay if there is no other cluster.

    Vectors that stay are dissimilar, so that each has few edges even if the cluster is one image a million times.

    Args:
        row_M: Rows of the cluster, ascending.
    """
    edges: list[Edges] = []
    staying: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, len(row_M), BLOCK_ROWS):
        row_B = row_M[start : start + BLOCK_ROWS]
        block_BE = to_unit_length(vectors_NE[row_B])
        stays_B = np.ones(len(row_B), np.bool_)
        for earlier_row_S, earlier_SE in staying:
            later_M, earlier_M = np.nonzero(block_BE @ earlier_SE.T > max_cosine)
            edges.append((row_B[later_M], earlier_row_S[earlier_M]))
            stays_B[later_M] = False
        is_similar_BB = np.tril(block_BE @ block_BE.T > max_cosine, -1)
        for later in np.flatnonzero(is_similar_BB.any(axis=1)):
            earlier_M = np.flatnonzero(is_similar_BB[later] & stays_B)
            edges.append((np.full(len(earlier_M), row_B[later]), row_B[earlier_M]))
            stays_B[later] &= not len(earlier_M)
        staying.append((row_B[stays_B], block_BE[stays_B]))
    empty = np.zeros(0, np.int64)
    return (
        np.concatenate([empty, *(later for later, _ in edges)]),
        np.concatenate([empty, *(earlier for _, earlier in edges)]),
    )


def _find_similar_pairs(reader: PoolReader, max_cosine: float) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have an image that resembles a better aligned one.

    The order of the pool does not matter: images are sorted by alignment, equal ones by a hash of their uid.
    """
    image_of_pair, alignments, draws, width = [], [np.zeros(0)], [np.zeros(0)], 0
    with reader.make_folder() as folder:
        unsorted = folder / "vectors"
        with unsorted.open("wb") as file:
            for table in reader():
                _, first_row, image_N = np.unique(table["index"].to_numpy(), return_index=True, return_inverse=True)
                image_of_pair.append(image_N + sum(map(len, alignments)))
                best = np.full(len(first_row), -np.inf)
                np.maximum.at(best, image_N, table[ALIGNMENT].to_numpy())
                alignments.append(best)
                draws.append(draw_uniform(table["uid"], 0)[first_row])
                vectors_NE = to_vectors(table[IMAGE_VECTOR])[first_row]
                file.write(vectors_NE.tobytes())
                width = vectors_NE.shape[1]
        order = np.lexsort((np.concatenate(draws), -np.concatenate(alignments)))
        is_dropped_N = np.zeros(len(order), np.bool_)
        if len(order):
            vectors_NE = _sort_vectors(unsorted, folder / "sorted", order, width)
            is_dropped_N[order] = find_similar(vectors_NE, max_cosine)
    return (is_dropped_N[image_N] for image_N in image_of_pair)


def _sort_vectors(source: Path, target: Path, order: NDArray[np.int64], width: int) -> NDArray[np.float16]:
    """Write the vectors of a file to another one in some order, and map it into memory."""
    shape = (len(order), width)
    source_NE = np.memmap(source, np.float16, "r", shape=shape)
    target_NE = np.memmap(target, np.float16, "w+", shape=shape)
    for start in range(0, len(order), BLOCK_ROWS):
        target_NE[start : start + BLOCK_ROWS] = source_NE[order[start : start + BLOCK_ROWS]]
    return target_NE
