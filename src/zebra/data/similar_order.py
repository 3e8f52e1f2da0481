"""An order of samples in which similar ones are in the same batch."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Last number of the seed; the other streams are in `zebra.data.sampling`.
_SIMILAR_ORDER_STREAM = 3


class SimilarOrder:
    """Chunks of samples of one cluster, in random order.

    In each epoch, the samples of each cluster are dealt out to chunks at random, so that no chunk holds two copies of
    one sample; then the chunks are shuffled. Seed and epoch alone determine the order.
    """

    def __init__(self, cluster_N: NDArray[np.int32], copy_of_N: NDArray[np.int64], chunk_size: int) -> None:
        """Prepare the order of N samples.

        Args:
            cluster_N: Cluster of each sample; -1 for one that is similar to no other.
            copy_of_N: Equal integers for copies of one sample, which must not be each other's negatives.
            chunk_size: Largest number of samples in a chunk.
        """
        self.cluster_N, self.copy_of_N, self.chunk_size = cluster_N, copy_of_N, chunk_size
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def __call__(self, seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
        """Return the order of an epoch, as `zebra.data.sampling.epoch_permutation` does."""
        assert num_samples == len(self.cluster_N)
        return self._permutation(seed, epoch)

    def _permute(self, seed: int, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([seed, epoch, _SIMILAR_ORDER_STREAM])
        order_N = rng.permutation(len(self.cluster_N))
        by_copies_N = order_N[np.argsort(self.copy_of_N[order_N], kind="stable")]
        copy_number_N = np.empty_like(order_N)
        copy_number_N[by_copies_N] = _positions_in_runs(self.copy_of_N[by_copies_N])
        # Samples of one cluster that are the n-th copy of theirs are no copies of each other.
        order_N = order_N[np.lexsort((copy_number_N[order_N], self.cluster_N[order_N]))]
        cluster_N = self.cluster_N[order_N]
        position_N = _positions_in_runs(cluster_N, copy_number_N[order_N])
        is_first_N = (position_N % self.chunk_size == 0) | (cluster_N < 0)
        chunk_N = np.cumsum(is_first_N) - 1
        order_N = order_N[np.argsort(rng.permutation(is_first_N.sum())[chunk_N], kind="stable")]
        order_N.flags.writeable = False
        return order_N


def _positions_in_runs(*keys_N: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the position of each element in its run of equal keys, from 0."""
    index_N = np.arange(len(keys_N[0]))
    is_start_N = np.ones(len(index_N), np.bool_)
    is_start_N[1:] = np.any([key_N[1:] != key_N[:-1] for key_N in keys_N], axis=0)
    return index_N - np.maximum.accumulate(np.where(is_start_N, index_N, 0))
