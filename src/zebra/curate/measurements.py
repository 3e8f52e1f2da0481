"""Columns computed from the remaining pairs, in files that a later run reuses."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import islice
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
    num_waiting: int = 1
    """Units that one process computes at a time because it mostly waits, whatever its number of cores."""


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
    jobs_per_item = measurement.num_waiting if engine.is_distributed and measurement.is_parallel else 1
    if not measurement.is_parallel:
        engine = ThreadEngine(1)
    elif measurement.num_waiting > 1 and not engine.is_distributed:
        engine = ThreadEngine(measurement.num_waiting)
    files: list[Path] = []
    jobs = enumerate(pairs.iter_units())
    items = iter(lambda: list(islice(jobs, jobs_per_item)), [])
    for paths in engine.map(partial(_measure_units, measurement, folder), items):
        files += paths
        callback(len(files), len(pairs.units), measurement.stage)
    pairs.add_columns(files)


def _measure_units(measurement: Measurement, folder: Path, jobs: Sequence[tuple[int, Block]]) -> list[Path]:
    """Write the columns of some units, at the same time; return the files."""
    return list(ThreadEngine(len(jobs)).map(partial(_measure_unit, measurement, folder), jobs))


def _measure_unit(measurement: Measurement, folder: Path, job: tuple[int, Block]) -> Path:
    """Write the columns of a unit if they are not there yet; return the file."""
    unit, block = job
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
