"""Rows are converted to the schema of a store, or rejected with a reason."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from zebra.store import StoreError
from zebra.store.metadata import read_store_metadata
from zebra.store.schema import build_schema, validate_rows


@pytest.fixture
def validate(metadata):
    schema = build_schema(metadata, pa.schema([("label", pa.int64())]))
    return lambda table: validate_rows(table, schema, metadata, "S")


def set_column(table, name, column):
    return table.set_column(table.schema.get_field_index(name), name, column)


def vectors(values):
    values = np.asarray(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def test_rows_get_the_schema_of_the_store_whatever_their_column_order_and_types(validate, metadata, rows):
    table = rows(0, 3)
    shuffled = table.select(table.schema.names[::-1])
    assert validate(shuffled) == validate(table)
    assert validate(table).schema.equals(
        build_schema(metadata, pa.schema([("label", pa.int64())])), check_metadata=True
    )


def test_missing_optional_columns_are_null(validate, rows):
    assert (
        validate(rows(0, 2).drop_columns(["width"])).select(["width", "label"]).to_pylist()
        == [{"width": None, "label": None}] * 2
    )


@pytest.mark.parametrize("name", ["id", "digest", "path", "vector"])
def test_a_missing_required_column_is_an_error(validate, rows, name):
    with pytest.raises(StoreError, match=f"to S: the column '{name}' is missing"):
        validate(rows(0, 2).drop_columns([name]))


@pytest.mark.parametrize("name", ["id", "digest", "path"])
def test_a_missing_required_value_is_an_error(validate, rows, name):
    with pytest.raises(StoreError, match=f"append to S: a row has no '{name}'"):
        validate(set_column(rows(0, 2), name, pa.array(["x", None])))


def test_a_missing_vector_is_an_error(validate, rows):
    column = pa.array([[0.0] * 8, None], pa.list_(pa.float32(), 8))
    with pytest.raises(StoreError, match="append to S: a row has no 'vector'"):
        validate(set_column(rows(0, 2), "vector", column))


def test_an_unknown_column_is_an_error(validate, rows):
    with pytest.raises(StoreError, match=r"S has no column 'lable'.*Did you mean 'label'"):
        validate(rows(0, 2).append_column("lable", pa.array([1, 2])))


def test_a_value_of_the_wrong_type_is_rejected(validate, rows):
    with pytest.raises(StoreError, match="'width' from int64 to int32, its type in S"):
        validate(set_column(rows(0, 2), "width", pa.array([1, 2**40])))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_with_nan_or_infinity_is_rejected(validate, rows, value):
    values = np.zeros((3, 8), np.float32)
    values[1, 7] = value
    with pytest.raises(StoreError, match=r"row 1 .*NaN or infinity"):
        validate(set_column(rows(0, 3), "vector", vectors(values)))


def test_a_number_too_large_for_float16_is_rejected_as_float16_and_accepted_as_float32(validate, metadata, rows):
    table = set_column(rows(0, 1), "vector", vectors(np.full((1, 8), 70_000.0)))
    with pytest.raises(StoreError, match="NaN or infinity as float16"):
        validate(table)
    float32_metadata = replace(metadata, dtype="float32")
    assert validate_rows(table, build_schema(float32_metadata), float32_metadata, "S")["vector"].to_pylist() == [
        [70_000.0] * 8
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_of_any_float_type_are_rounded_to_the_type_of_the_store(validate, rows, dtype):
    values = np.random.default_rng(0).standard_normal((4, 8)).astype(dtype)
    stored = validate(set_column(rows(0, 4), "vector", vectors(values)))["vector"]
    assert stored.type == pa.list_(pa.float16(), 8)
    assert np.array_equal(np.array(stored.to_pylist()), values.astype(np.float16))


def test_a_slice_keeps_the_vectors_of_its_rows(validate, rows):
    assert validate(rows(0, 6).slice(2, 3)) == validate(rows(2, 5))


def test_vectors_of_another_size_are_rejected(validate, rows):
    with pytest.raises(StoreError, match="S holds vectors of size 8; these have size 9"):
        validate(rows(0, 2, width=9))


@pytest.mark.parametrize("column", [["a", "b"], [[1.0] * 8] * 2, vectors(np.zeros((2, 8), np.int8))])
def test_a_column_without_vectors_is_rejected(validate, rows, column):
    with pytest.raises(StoreError, match="fixed-size lists of floats"):
        validate(set_column(rows(0, 2), "vector", pa.array(column) if isinstance(column, list) else column))


def test_a_duplicate_id_is_rejected(validate, rows):
    with pytest.raises(StoreError, match="'id-1' is duplicated"):
        validate(pa.concat_tables([rows(0, 3), rows(1, 2)]))


def test_an_empty_id_is_rejected(validate, rows):
    with pytest.raises(StoreError, match="is empty"):
        validate(set_column(rows(0, 2), "id", pa.array(["x", ""])))


def test_rows_of_another_model_are_rejected_with_both_fingerprints(validate, metadata, rows):
    other = replace(metadata, fingerprint="g" * 64)
    validate(rows(0, 2).replace_schema_metadata(metadata.to_schema_metadata()))
    with pytest.raises(StoreError, match=r"f{64} \(runs/demo/model\).*g{64}"):
        validate(rows(0, 2).replace_schema_metadata(other.to_schema_metadata()))


def test_one_model_in_two_precisions_may_be_mixed(validate, metadata, rows):
    validate(rows(0, 2).replace_schema_metadata(replace(metadata, precision="int8").to_schema_metadata()))


@pytest.mark.parametrize("name", ["caption", "vector"])
def test_an_extra_column_cannot_have_the_name_of_a_zebra_column(metadata, name):
    with pytest.raises(StoreError, match=f"only one column '{name}'"):
        build_schema(metadata, pa.schema([(name, pa.string())]))


@pytest.mark.parametrize("name", ["", "_rowid", "a.b", "a`b"])
def test_a_name_that_lancedb_does_not_support_is_rejected(metadata, name):
    with pytest.raises(StoreError, match="cannot have a column"):
        build_schema(metadata, pa.schema([(name, pa.string())]))


def test_metadata_is_read_back_from_the_schema(metadata):
    assert read_store_metadata(build_schema(metadata).metadata, "S") == metadata


@pytest.mark.parametrize("schema_metadata", [None, {}, {b"zebra": b"{"}, {b"zebra": b"[]"}, {b"zebra": b"{}"}])
def test_a_schema_without_metadata_is_not_a_zebra_store(schema_metadata):
    with pytest.raises(StoreError, match="is not a zebra store"):
        read_store_metadata(schema_metadata, "S")


def test_a_model_that_was_never_saved_has_no_store(metadata):
    with pytest.raises(StoreError, match="Save the model to a folder"):
        replace(metadata, fingerprint="")


@pytest.mark.parametrize("change", [{"embed_dim": 0}, {"dtype": "int8"}])
def test_invalid_vector_formats_are_rejected(metadata, change):
    with pytest.raises(StoreError, match="cannot hold vectors"):
        replace(metadata, **change)
