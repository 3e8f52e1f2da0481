"""Columns computed from the remaining pairs, in files that a later run reuses."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write
from zebra.curate.pairs import Pairs


@dataclass(frozen=True, slots=True)
class Measurement:
    """A computation that adds columns, such as a language, a hash or a score."""

    stage: str
    key: str
    """Identifies the version and all settings of the computation."""
    columns: tuple[str, ...]
    """Columns that it reads."""
    schema: pa.Schema
    """Columns that it adds."""
    compute: Callable[[pa.Table], pa.Table]
    """Returns a row, by `schema`, for each row of a table."""


def measure(pairs: Pairs, measurement: Measurement, folder: Path, callback: Callable[[int, int, str], None]) -> None:
    """Compute the columns for the remaining pairs of each unit; the others get nulls.

    A file is named by the key, the files that the unit consists of and the pairs that remain, so that an interrupted
    run continues and changed settings compute anew.

    Args:
        folder: Where the files are.
        callback: Called with the number of units done, their total and the stage.
    """
    files = []
    for unit, inputs in enumerate(pairs.units):
        callback(unit, len(pairs.units), measurement.stage)
        is_kept_N = pairs.is_kept(unit)
        key = json.dumps([measurement.key, [path.name for path in inputs]]).encode() + is_kept_N.tobytes()
        path = folder / f"{measurement.stage}-{unit:09d}-{sha256(key).hexdigest()[:16]}.parquet"
        if not path.is_file():
            columns = measurement.compute(pairs.read(unit, measurement.columns)).cast(measurement.schema)
            with atomic_write(path, fsync=True) as partial:
                pq.write_table(_spread(columns, is_kept_N), partial)
        files.append(path)
    pairs.add_columns(files)


def _spread(columns: pa.Table, is_kept_N: NDArray[np.bool_]) -> pa.Table:
    """Return the rows at the positions of the remaining pairs, and nulls elsewhere."""
    row_N = np.cumsum(is_kept_N) - 1
    return columns.take(pa.array(row_N, mask=~is_kept_N))
