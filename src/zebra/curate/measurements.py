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
from zebra.curate.pairs import Block, Pairs
from zebra.engines import Engine, ThreadEngine


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
    is_parallel: bool = False
    """Whether threads or machines may compute several units at the same time."""
    engine: Engine | None = None
    """Computes units at the same time instead of the engine of all stages: threads that mostly wait, for instance."""


def measure(
    pairs: Pairs, measurement: Measurement, folder: Path, engine: Engine, callback: Callable[[int, int, str], None]
) -> None:
    """Compute the columns for the remaining pairs of each unit; the others get nulls.

    A file is named by the key, the files that the unit consists of and the pairs that remain, so that an interrupted
    run continues and changed settings compute anew.

    Args:
        folder: Where the files are.
        engine: Runs the computation if it is parallel.
        callback: Called with the number of units done, their total and the stage.
    """
    jobs = ((measurement, folder, unit, block) for unit, block in enumerate(pairs.iter_units()))
    files = []
    run = measurement.engine or (engine if measurement.is_parallel else ThreadEngine(1))
    for path in run.map(_measure_unit, jobs):
        files.append(path)
        callback(len(files), len(pairs.units), measurement.stage)
    pairs.add_columns(files)


def _measure_unit(job: tuple[Measurement, Path, int, Block]) -> Path:
    """Write the columns of a unit if they are not there yet; return the file."""
    measurement, folder, unit, block = job
    key = json.dumps([measurement.key, [path.name for path in block.units[0]]]).encode() + block.is_kept_N.tobytes()
    path = folder / f"{measurement.stage}-{unit:09d}-{sha256(key).hexdigest()[:16]}.parquet"
    if not path.is_file():
        columns = measurement.compute(block.read(measurement.columns)).cast(measurement.schema)
        with atomic_write(path, fsync=True) as partial:
            pq.write_table(_spread(columns, block.is_kept_N), partial)
    return path


def _spread(columns: pa.Table, is_kept_N: NDArray[np.bool_]) -> pa.Table:
    """Return the rows at the positions of the remaining pairs, and nulls elsewhere."""
    row_N = np.cumsum(is_kept_N) - 1
    return columns.take(pa.array(row_N, mask=~is_kept_N))
