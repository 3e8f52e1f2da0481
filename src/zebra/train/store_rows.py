"""Rows of a store that belong to the samples of a source."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.data.sources import Source
from zebra.embed.hash_index import HashIndex
from zebra.errors import BadSample, DataError
from zebra.images.formats import image_digest
from zebra.store import Store
from zebra.train.stored_vectors import missing_vectors_error

NUM_CHECKED_IMAGES = 64
"""Evenly spaced training images whose bytes are compared with the digests in the store."""


def match_rows(store: Store, data: str, source: Source) -> NDArray[np.int64]:
    """Return the row of each sample, int64 [N], -1 for one that was unusable when the data was embedded.

    A row belongs to a sample if its location ends with the ID, so a dataset may have moved since it was embedded. Some
    images are compared with the digests in the store.

    Args:
        data: Name of the dataset, which decides between rows of several datasets.
        source: The samples.

    Raises:
        DataError: Samples have no row and were not unusable either, have rows of several other datasets, or other
            images than those in the store.
    """
    sample_ids = [source.sample_id(index) for index in range(len(source))]
    row_N, digests = _find_rows(store, data, sample_ids)
    _require_all_samples(store, data, sample_ids, row_N)
    _require_same_images(store, source, digests)
    return row_N


def _find_rows(store: Store, data: str, sample_ids: Sequence[str]) -> tuple[NDArray[np.int64], list[str | None]]:
    """Return the row of each sample in the store, int64 [N], -1 without one, and the digests of their images.

    Raises:
        DataError: A sample has rows with different images, and not one of them is of this dataset.
    """
    index = HashIndex()
    index.add(sample_ids, 0)
    names = {data, str(Path(data).resolve())}
    row_N, is_own_N = np.full(len(sample_ids), -1), np.zeros(len(sample_ids), bool)
    digests: list[str | None] = [None] * len(sample_ids)
    ambiguous: set[int] = set()
    row = 0
    for batch in store.scan(["location", "source", "digest"]):
        for location, name, digest in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            sample = find_sample(index, location)
            if sample is not None and not is_own_N[sample]:
                is_own = name in names
                if row_N[sample] >= 0 and not is_own and digest != digests[sample]:
                    ambiguous.add(sample)
                if row_N[sample] < 0 or is_own:
                    row_N[sample], is_own_N[sample], digests[sample] = row, is_own, digest
                    ambiguous -= {sample} if is_own else set()
            row += 1
    if ambiguous:
        raise DataError(
            f"{store.path} holds several datasets with other images under the IDs of {len(ambiguous):,} samples of "
            f"{data}, for example {sample_ids[min(ambiguous)]!r}. Use a store of this dataset alone"
        )
    return row_N, digests


def find_sample(index: HashIndex, location: str) -> int | None:
    """Return the sample whose ID is the longest end of a location, after a slash; None if there is none."""
    suffix: str = location
    while True:
        sample = next(index.find_rows(suffix), None)
        if sample is not None:
            return sample
        _, slash, suffix = suffix.partition("/")
        if not slash:
            return None


def _require_all_samples(store: Store, data: str, sample_ids: Sequence[str], row_N: NDArray[np.int64]) -> None:
    """Raise DataError if samples have no row, except those that were unusable when the data was embedded."""
    missing = [sample_ids[sample] for sample in np.flatnonzero(row_N < 0).tolist()]
    if missing:
        index, unusable = HashIndex(), set()
        index.add(missing, 0)
        skipped = store.path / "skipped.jsonl"
        for line in skipped.read_text(encoding="utf-8").splitlines() if skipped.is_file() else ():
            sample = find_sample(index, json.loads(line)["id"])
            unusable |= set() if sample is None else {missing[sample]}
        missing = [sample_id for sample_id in missing if sample_id not in unusable]
    if missing:
        error = missing_vectors_error(store.path, "sample", missing, len(sample_ids))
        raise DataError(f"{error}. Embed them: zebra embed {store.metadata.model} {data} --out {store.path} --captions")


def _require_same_images(store: Store, source: Source, digests: Sequence[str | None]) -> None:
    """Raise DataError if some evenly spaced samples have other images than the store."""
    changed, num_checked = [], 0
    for index in np.unique(np.linspace(0, len(source) - 1, NUM_CHECKED_IMAGES).round().astype(int)).tolist():
        try:
            record = source.read(index)
        except BadSample:  # counted in training
            continue
        num_checked += 1
        if digests[index] not in (None, image_digest(record.image)):
            changed.append(record.id)
    if changed:
        raise DataError(
            f"{store.path} holds vectors of other images for {len(changed)} of {num_checked} samples that were "
            f"compared, for example {changed[0]!r}. Embed the data again: zebra embed {store.metadata.model} DATA "
            "--out NEW --captions"
        )
