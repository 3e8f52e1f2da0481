"""Pairs of an image and a caption as Arrow tables on disk.

One row per caption: an image with three captions has three rows with the same `index`. A sample that cannot be read has
one row without a caption, whose `reason` says why.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

UID_BYTES = 16
PAIR_SCHEMA = pa.schema(
    {
        "uid": pa.binary(UID_BYTES),
        "index": pa.int64(),  # position of the sample in the pool
        "id": pa.string(),  # name of the sample in the pool
        "text": pa.string(),
        "sha256": pa.binary(32),  # of the encoded image
        "num_bytes": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "contrast": pa.float32(),  # standard deviation of the gray values, 0 to 127.5
        "reason": pa.string(),  # why the sample cannot be used; null if it can
        "detail": pa.string(),
    }
)
KEPT = -1
"""Decision on a pair that no rule drops."""


def make_uid(sample_id: str, text: str) -> bytes:
    """Return the identity of a pair: the first 16 bytes of the SHA-256 of sample and caption."""
    return sha256(f"{sample_id}\0{text}".encode("utf-8", "surrogatepass")).digest()[:UID_BYTES]


class Pairs:
    """The pairs of a pool in Parquet files, and the rule that dropped each of them.

    Only one file is in memory at a time, and one decision of two bytes per pair.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._decisions = [np.full(pq.read_metadata(file).num_rows, KEPT, np.int16) for file in self._files]

    def __len__(self) -> int:
        """Return the number of pairs, kept or dropped."""
        return sum(map(len, self._decisions))

    @property
    def num_kept(self) -> int:
        """Return the number of pairs that no rule has dropped so far."""
        return sum(int((decision_N == KEPT).sum()) for decision_N in self._decisions)

    def read_kept(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the remaining pairs of each file, in order."""
        for file, decision_N in zip(self._files, self._decisions, strict=True):
            yield pq.read_table(file, columns=list(columns)).filter(pa.array(decision_N == KEPT))

    def read_decisions(self, columns: Sequence[str]) -> Iterator[tuple[pa.Table, NDArray[np.int16]]]:
        """Yield all pairs of each file with their decisions [N]: KEPT, or the number of a rule."""
        for file, decision_N in zip(self._files, self._decisions, strict=True):
            yield pq.read_table(file, columns=list(columns)), decision_N

    def drop(self, file_number: int, is_dropped_K: NDArray[np.bool_], rule_number: int) -> None:
        """Drop some of the K remaining pairs of a file."""
        decision_N = self._decisions[file_number]
        (kept_K,) = np.nonzero(decision_N == KEPT)
        decision_N[kept_K[is_dropped_K]] = rule_number
