"""A Parquet file of anybody's features in, labelled train and test vectors for each data set out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zebra.errors import DataError
from zebra.values import Embeddings

FEATURE_COLUMNS = ("set", "split", "id", "label", "vector")
FEATURE_SCHEMA = (
    "set (text), split (train or test), id (text), label (a class index), vector (a list of numbers)"
)


def read_features(path: Path) -> dict[str, tuple[Embeddings, Embeddings]]:
    """Read features of one or more data sets.

    Args:
        path: A Parquet file with the columns set, split, id, label and vector; one row per picture, ids of the test
            pictures as `zebra evaluate` has them in its predictions.

    Returns:
        Name of the set → its train and its test features.

    Raises:
        DataError: The file or a column is missing, vectors differ in width, or a set lacks a split.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({error}); features are a table of {FEATURE_SCHEMA}"
        ) from error
    if missing := [name for name in FEATURE_COLUMNS if name not in table.column_names]:
        raise DataError(f"{path} has no column {missing[0]!r}; features are a table of {FEATURE_SCHEMA}")
    found = {}
    for name in pc.unique(table["set"]).to_pylist():
        rows = table.filter(pc.equal(table["set"], name))
        found[name] = (_read_split(rows, "train", name, path), _read_split(rows, "test", name, path))
    if not found:
        raise DataError(f"{path} has no rows; features are a table of {FEATURE_SCHEMA}")
    return found


def _read_split(table: pa.Table, split: str, dataset: str, path: Path) -> Embeddings:
    rows = table.filter(pc.equal(table["split"], split))
    if not len(rows):
        raise DataError(f"{path} has no rows of {dataset} with split {split!r}; a probe needs train and test")
    try:
        vectors_ND = np.array(rows["vector"].to_pylist(), np.float32)
        labels = rows["label"].cast(pa.int64()).to_numpy()
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(
            f"features of {dataset} in {path} are not whole ({error}); they are {FEATURE_SCHEMA}"
        ) from error
    if vectors_ND.ndim != 2:
        raise DataError(
            f"the vectors of {dataset} in {path} are no lists of numbers; features are {FEATURE_SCHEMA}"
        )
    return Embeddings(vectors_ND, tuple(map(str, rows["id"].to_pylist())), labels)
