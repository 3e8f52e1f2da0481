"""Groups of the images of a dataset, read from its shards.

DataComp's copies of WILDS, Dollar Street and GeoDE have a `.npy` beside each image: a vector of integers with the
region, the income group, ….
"""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.entry import GroupColumn
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.shards import ShardSource
from zebra.data.tar_index import TarIndex
from zebra.errors import DataError


def add_groups(benchmark: ClassificationBenchmark, column: GroupColumn) -> ClassificationBenchmark:
    """Return the benchmark with the groups of its images; with a note and accuracy as its metric if it has none.

    Raises:
        DataError: A vector is damaged or too short, an integer has no name, or only some images have a vector.
    """
    source = benchmark.source
    values = list(_iter_vectors(source)) if isinstance(source, ShardSource) else []
    num_missing = sum(vector is None for _, vector in values)
    if num_missing == len(values):
        note = f"no groups by {column.name}: this copy has no .npy with the {column.name} of each image"
        return replace(benchmark, metric="accuracy", notes=(*benchmark.notes, note))
    groups = {}
    for index, (where, vector) in enumerate(values):
        if vector is None:
            raise DataError(
                f"{where} has no .npy with its {column.name}, unlike {len(values) - num_missing} other images. "
                "Download the dataset again"
            )
        groups[source.sample_id(index)] = _name_group(_parse_vector(vector, where), column, where)
    return replace(benchmark, groups=groups)


def _iter_vectors(source: ShardSource) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the bytes of the `.npy` of each sample, in the order of the source."""
    for shard in source.shards:
        yield from _read_shard_vectors(shard)
        shard.close()


def _read_shard_vectors(shard: TarIndex) -> list[tuple[str, bytes | None]]:
    samples = [shard.sample(index) for index in range(len(shard))]
    data = iter(shard.start_read([sample.fields["npy"] for sample in samples if "npy" in sample.fields])())
    return [(f"{shard.blob.name}/{sample.key}", next(data) if "npy" in sample.fields else None) for sample in samples]


def _parse_vector(data: bytes, where: str) -> NDArray[np.int64]:
    try:
        vector = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:  # a damaged header may name any shape
        raise DataError(f"{where}.npy is no array ({error}). Download the dataset again") from error
    if vector.ndim != 1 or vector.dtype.kind not in "iuf" or not (np.abs(vector) < 2**31).all() or (vector % 1).any():
        raise DataError(f"{where}.npy has {vector.dtype} of shape {vector.shape}, not a vector of integers")
    numbers: NDArray[np.int64] = vector.astype(np.int64)
    return numbers


def _name_group(vector: NDArray[np.int64], column: GroupColumn, where: str) -> str:
    if column.position >= len(vector):
        raise DataError(
            f"{where}.npy has {len(vector)} numbers, so that position {column.position} with the {column.name} is "
            "missing. Download the dataset again"
        )
    number = int(vector[column.position])
    if not column.values:
        return f"{column.name} {number}"
    if not 0 <= number < len(column.values):
        raise DataError(
            f"{where}.npy has the {column.name} {number}, but the catalog knows 0 to {len(column.values) - 1}"
        )
    return column.values[number]
