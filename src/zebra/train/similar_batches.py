"""Batches of similar images, which are hard negatives of each other.

With `--batching similar`, the images are clustered by their vectors in a store. A chunk of a batch has images of one
cluster; a batch has several chunks. Near duplicates, and pairs with one caption, are in different chunks, because they
are no true negatives.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from zebra.atomic_io import atomic_write
from zebra.config.train import TrainConfig
from zebra.curate.semantic import assign_clusters, find_edges, train_centroids
from zebra.data.similar_order import SimilarOrder
from zebra.data.sources import Source
from zebra.distributed import ProcessGroup
from zebra.store import Store
from zebra.train.store_rows import match_rows

CHUNKS_PER_BATCH = 4
MAX_CHUNK_SIZE = 64
"""In large batches there are more chunks, not larger ones: random pairs stay the majority."""
MAX_COSINE = 0.995
"""Images with a larger cosine count as copies of one image."""


@dataclass(frozen=True, slots=True)
class SampleGroups:
    """Which of N samples are similar."""

    data_digest: str
    """Digest of the samples."""
    cluster_N: NDArray[np.int32]
    """-1: not similar to any other."""
    copy_of_N: NDArray[np.int64]
    """Equal for near duplicates and for pairs with one caption."""

    @property
    def digest(self) -> str:
        """A SHA-256 in hex of the groups."""
        return hashlib.sha256(self.cluster_N.tobytes() + self.copy_of_N.tobytes()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the groups atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, data_digest=self.data_digest, cluster=self.cluster_N, copy_of=self.copy_of_N)

    @classmethod
    def read(cls, path: Path) -> "SampleGroups":
        """Read what `write` wrote."""
        with np.load(path) as arrays:
            return cls(str(arrays["data_digest"]), arrays["cluster"], arrays["copy_of"])


@dataclass(frozen=True, slots=True)
class SimilarBatching:
    """The order of a run with similar batches, and what determines it."""

    order: SimilarOrder
    spec: str
    """For the run spec."""


def open_similar_batching(
    config: TrainConfig, source: Source, path: Path, group: ProcessGroup, *, is_resumed: bool
) -> SimilarBatching | None:
    """Group the samples of a new run by their vectors in a store, or read the groups of a resumed one.

    All processes must call it; the main process computes the groups.

    Args:
        source: The training samples.
        path: File of the groups in the run directory.
        is_resumed: The run continues, with the groups that it kept.

    Returns:
        None if batches are random.

    Raises:
        DataError: The store lacks vectors of training images, or holds those of other images.
        StoreError: There is no such store.
    """
    if config.batching != "similar":
        return None

    def write_groups() -> None:
        if not (is_resumed and path.is_file() and SampleGroups.read(path).data_digest == source.digest):
            with Store.open(Path(str(config.similarity_store))) as store:
                group_samples(store, config.data, source).write(path)

    group.broadcast_from_main(write_groups)
    groups = SampleGroups.read(path)
    chunk_size = min(max(2, config.num_new // CHUNKS_PER_BATCH), MAX_CHUNK_SIZE)
    return SimilarBatching(SimilarOrder(groups.cluster_N, groups.copy_of_N, chunk_size), groups.digest)


def group_samples(store: Store, data: str, source: Source) -> SampleGroups:
    """Cluster the samples of a source by their vectors in a store; about √N clusters.

    A sample without a vector, because its image was unusable, is in no cluster.
    """
    row_N = match_rows(store, data, source)
    index_M = np.flatnonzero(row_N >= 0)
    cluster_N, copy_of_N = np.full(len(row_N), -1, np.int32), np.arange(len(row_N))
    if len(index_M):
        vectors_ME = store.read_vectors()[1][row_N[index_M]]
        cluster_M = assign_clusters(vectors_ME, train_centroids(vectors_ME, seed=0), num_clusters=1)[:, 0]
        captions = [caption for batch in store.scan(["caption"]) for caption in batch["caption"].to_pylist()]
        copy_of_M = label_copies(vectors_ME, cluster_M, [captions[row] for row in row_N[index_M].tolist()])
        cluster_N[index_M], copy_of_N[index_M] = cluster_M, index_M[copy_of_M]
    return SampleGroups(source.digest, cluster_N, copy_of_N)


def label_copies(
    vectors_ME: NDArray[np.floating[Any]], cluster_M: NDArray[np.int32], captions: list[str | None]
) -> NDArray[np.int64]:
    """Return labels 0 … M - 1, equal for near duplicates in one cluster and for equal captions, also indirectly."""
    later, earlier = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    order_M = np.argsort(cluster_M, kind="stable")
    for row_C in np.split(order_M, np.flatnonzero(np.diff(cluster_M[order_M])) + 1):
        for edges, rows in zip((later, earlier), find_edges(vectors_ME, row_C, MAX_COSINE), strict=True):
            edges.append(rows)
    first: dict[str, int] = {}
    for row, caption in enumerate(captions):
        if caption is not None and first.setdefault(caption, row) != row:
            later.append(np.array([row]))
            earlier.append(np.array([first[caption]]))
    later_K, earlier_K = np.concatenate(later), np.concatenate(earlier)
    graph = coo_matrix((np.ones(len(later_K)), (later_K, earlier_K)), shape=(len(captions), len(captions)))
    labels_M: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels_M
