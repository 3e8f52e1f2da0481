"""Read features of other models from Parquet, for `zebra study supervised`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zebra.errors import DataError
from zebra.values import Embeddings

FEATURE_COLUMNS = ("dataset", "split", "id", "label", "vector")
FEATURE_SCHEMA = "dataset (text), split (train or test), id (text), label (a class index), vector (a list of numbers)"


def read_features(path: Path) -> dict[str, tuple[Embeddings, Embeddings]]:
    """Read the features of one or more datasets.

    Args:
        path: A Parquet file with the columns dataset, split, id, label and vector, and one row per image. The ids of
            test images are those in the predictions of `zebra evaluate`.

    Returns:
        Name of the dataset → its train and test features.

    Raises:
        DataError: The file or a column is missing, vectors differ in width, or a dataset lacks a split.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {path} as Parquet ({error}). Features are a table of {FEATURE_SCHEMA}."
        ) from error
    if missing := [name for name in FEATURE_COLUMNS if name not in table.column_names]:
        raise DataError(f"{path} has no column {missing[0]!r}. Features are a table of {FEATURE_SCHEMA}.")
    features = {}
    for name in pc.unique(table["dataset"]).to_pylist():
        rows = table.filter(pc.equal(table["dataset"], name))
        features[name] = (_read_split(rows, "train", name, path), _read_split(rows, "test", name, path))
    if not features:
        raise DataError(f"{path} has no rows. Features are a table of {FEATURE_SCHEMA}.")
    return features


def _read_split(table: pa.Table, split: str, dataset: str, path: Path) -> Embeddings:
    rows = table.filter(pc.equal(table["split"], split))
    if not len(rows):
        raise DataError(f"{path} has no {split} rows of {dataset}. A probe needs both splits, train and test.")
    try:
        vectors_ND = np.array(rows["vector"].to_pylist(), np.float32)
        labels = rows["label"].cast(pa.int64()).to_numpy()
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read the features of {dataset} in {path} ({error}). Features are a table of {FEATURE_SCHEMA}."
        ) from error
    if vectors_ND.ndim != 2:
        raise DataError(
            f"the vectors of {dataset} in {path} are not lists of numbers. Features are a table of {FEATURE_SCHEMA}."
        )
    return Embeddings(vectors_ND, tuple(map(str, rows["id"].to_pylist())), labels)
