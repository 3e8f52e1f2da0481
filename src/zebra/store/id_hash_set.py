"""Compact set of id hashes: a fast membership test with rare false positives."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.store.sorted_values import SortedValues


class IdHashSet:
    """64-bit hashes of ids.

    It takes 80 MB for ten million ids; a set of strings takes more than a gigabyte.
    """

    def __init__(self, batches: Iterable[pa.Array]) -> None:
        self._hashes = SortedValues(_hash_ids(chain.from_iterable(batch.to_pylist() for batch in batches)))

    def possible_members(self, ids: Sequence[str]) -> list[str]:
        """Return the ids whose hash is in the set.

        All members are returned. A non-member is returned with a probability of about 1e-12, so confirm in the store.
        """
        is_member = self._hashes.contains(_hash_ids(ids))
        return [id for id, matches in zip(ids, is_member, strict=True) if matches]

    def add(self, ids: Sequence[str]) -> None:
        """Add ids."""
        self._hashes.add(_hash_ids(ids))


def _hash_ids(ids: Iterable[str]) -> NDArray[np.uint64]:
    return np.fromiter(map(hash, ids), np.int64).view(np.uint64)
