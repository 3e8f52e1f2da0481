"""Tables with a row per image, as CSV or Parquet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.errors import ConfigError


def write_row_table(path: str | Path, rows: pa.Table) -> None:
    """Write rows; the suffix of the file decides the format.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = Path(path)
    write = pq.write_table if path.suffix.lower() == ".parquet" else pa.csv.write_csv
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            write(rows, partial)
    except OSError as error:
        raise ConfigError(f"cannot write --out {path}: {error.strerror or error}. Name another file") from error
