"""A store is exported as Parquet, CSV or numpy, and nothing is overwritten."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.config.export import ExportConfig
from zebra.errors import ConfigError
from zebra.store import Store
from zebra.store.export import export_csv, export_npy
from zebra.workflows import export


def fill(store, rows):
    store.add_columns(pa.schema([("day", pa.timestamp("s")), ("who", pa.string())]))
    store.append(rows(0, 5).append_column("who", pa.array(['a "b", c', "x\ny", None, "é", ""])))
    return store


def test_npy_has_a_row_of_the_table_for_each_vector(store, rows, tmp_path):
    export_npy(fill(store, rows), tmp_path / "out")
    vectors_NE = np.load(tmp_path / "out" / "vectors.npy")
    table = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert (vectors_NE.dtype, vectors_NE.shape) == (np.float16, (5, 8))
    np.testing.assert_array_equal(vectors_NE, store.read_vectors()[1])
    assert table["id"].to_pylist() == [f"id-{n}" for n in range(5)]
    assert {"day", "who", "caption"} <= set(table.column_names)


def test_csv_holds_every_value_and_vectors_as_json(store, rows, tmp_path):
    export_csv(fill(store, rows), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["who"] for row in read] == ['a "b", c', "x\ny", "", "é", ""]
    np.testing.assert_array_equal([json.loads(row["vector"]) for row in read], store.read_vectors()[1])
    assert "thumbnail" not in read[0]


@pytest.mark.parametrize(("format", "name"), [("parquet", "a.parquet"), ("csv", "a.csv"), ("npy", "a")])
def test_an_empty_store_is_exported_and_a_second_export_refused(store, tmp_path, format, name):
    config = ExportConfig(model=str(store.path), format=format, out=str(tmp_path / "new" / name))
    assert export.run(config).exists()
    with pytest.raises(ConfigError, match="Name a new one"):
        export.run(config)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_formats_of_models_and_stores_are_not_mixed_up(store, tmp_path):
    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"is a store; --format onnx is not possible. Use parquet, csv, npy"):
        export.run(ExportConfig(model=str(store.path), format="onnx", out=out))
    with pytest.raises(ConfigError, match=r"is not a store; --format csv is not possible. Use zebra"):
        export.run(ExportConfig(model=str(tmp_path), format="csv", out=out))
    with pytest.raises(ConfigError, match="are for models"):
        ExportConfig(model=str(store.path), format="csv", out=out, base="m", wise_ft=0.5)
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="Name a file, such as"):
        export.run(ExportConfig(model=str(store.path), format="csv", out=out))
    assert Store.open(store.path).version == store.version
