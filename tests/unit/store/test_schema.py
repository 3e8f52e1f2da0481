"""What is handed to a store is brought into its form, or refused with what is wrong about it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from zebra.store import StoreError
from zebra.store.metadata import read_store_metadata
from zebra.store.schema import build_schema, validate_rows


@pytest.fixture
def check(facts):
    schema = build_schema(facts, pa.schema([("label", pa.int64())]))
    return lambda table: validate_rows(table, schema, facts, "S")


def put(table, name, column):
    return table.set_column(table.schema.get_field_index(name), name, column)


def vectors(values):
    values = np.asarray(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def test_the_form_of_the_store_comes_out_whatever_the_order_and_types_of_columns(check, facts, rows):
    given = rows(0, 3)
    shuffled = given.select(given.schema.names[::-1])
    assert check(shuffled) == check(given)
    assert check(given).schema.equals(
        build_schema(facts, pa.schema([("label", pa.int64())])), check_metadata=True
    )


def test_columns_that_may_be_missing_are_null(check, rows):
    assert (
        check(rows(0, 2).drop_columns(["width"])).select(["width", "label"]).to_pylist()
        == [{"width": None, "label": None}] * 2
    )


@pytest.mark.parametrize("name", ["id", "digest", "path", "vector"])
def test_columns_that_every_row_needs_are_missed(check, rows, name):
    with pytest.raises(StoreError, match=f"to S lacks the column '{name}'"):
        check(rows(0, 2).drop_columns([name]))


@pytest.mark.parametrize("name", ["id", "digest", "path"])
def test_a_value_that_every_row_needs_is_missed(check, rows, name):
    with pytest.raises(StoreError, match=f"'{name}' of a row to be added to S is missing"):
        check(put(rows(0, 2), name, pa.array(["x", None])))


def test_a_missing_vector_is_missed(check, rows):
    column = pa.array([[0.0] * 8, None], pa.list_(pa.float32(), 8))
    with pytest.raises(StoreError, match="'vector' of a row to be added to S is missing"):
        check(put(rows(0, 2), "vector", column))


def test_an_unknown_column_is_never_dropped_in_silence(check, rows):
    with pytest.raises(StoreError, match=r"S has no column 'lable'.*Did you mean 'label'"):
        check(rows(0, 2).append_column("lable", pa.array([1, 2])))


def test_a_value_that_does_not_fit_its_column_is_refused(check, rows):
    with pytest.raises(StoreError, match="'width' of S holds int32; int64 does not fit"):
        check(put(rows(0, 2), "width", pa.array([1, 2**40])))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_with_a_number_that_is_none_is_refused(check, rows, value):
    values = np.zeros((3, 8), np.float32)
    values[1, 7] = value
    with pytest.raises(StoreError, match=r"row 1 .*NaN or infinity"):
        check(put(rows(0, 3), "vector", vectors(values)))


def test_a_number_too_large_for_float16_is_refused_there_and_taken_as_float32(check, facts, rows):
    given = put(rows(0, 1), "vector", vectors(np.full((1, 8), 70_000.0)))
    with pytest.raises(StoreError, match="NaN or infinity as float16"):
        check(given)
    wide = replace(facts, dtype="float32")
    assert validate_rows(given, build_schema(wide), wide, "S")["vector"].to_pylist() == [[70_000.0] * 8]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_vectors_of_any_float_are_rounded_to_the_type_of_the_store(check, rows, kind):
    values = np.random.default_rng(0).standard_normal((4, 8)).astype(kind)
    found = check(put(rows(0, 4), "vector", vectors(values)))["vector"]
    assert found.type == pa.list_(pa.float16(), 8)
    assert np.array_equal(np.array(found.to_pylist()), values.astype(np.float16))


def test_vectors_of_a_slice_are_those_of_its_rows(check, rows):
    assert check(rows(0, 6).slice(2, 3)) == check(rows(2, 5))


def test_vectors_of_another_width_are_refused(check, rows):
    with pytest.raises(StoreError, match="S holds vectors of 8 numbers; these have 9"):
        check(rows(0, 2, width=9))


@pytest.mark.parametrize("column", [["a", "b"], [[1.0] * 8] * 2, vectors(np.zeros((2, 8), np.int8))])
def test_what_is_no_vector_is_refused(check, rows, column):
    with pytest.raises(StoreError, match="fixed-size lists of floats"):
        check(put(rows(0, 2), "vector", pa.array(column) if isinstance(column, list) else column))


def test_an_id_that_comes_twice_is_refused(check, rows):
    with pytest.raises(StoreError, match="'id-1' is there twice"):
        check(pa.concat_tables([rows(0, 3), rows(1, 2)]))


def test_an_empty_id_is_refused(check, rows):
    with pytest.raises(StoreError, match="is empty"):
        check(put(rows(0, 2), "id", pa.array(["x", ""])))


def test_rows_that_carry_another_model_are_refused_with_both_fingerprints(check, facts, rows):
    other = replace(facts, fingerprint="g" * 64)
    check(rows(0, 2).replace_schema_metadata(facts.to_schema_metadata()))
    with pytest.raises(StoreError, match=r"f{64} \(runs/demo/model\).*g{64}"):
        check(rows(0, 2).replace_schema_metadata(other.to_schema_metadata()))


def test_one_model_in_two_precisions_may_be_mixed(check, facts, rows):
    check(rows(0, 2).replace_schema_metadata(replace(facts, precision="int8").to_schema_metadata()))


@pytest.mark.parametrize("name", ["caption", "vector"])
def test_a_further_column_cannot_take_the_name_of_one_of_zebra(facts, name):
    with pytest.raises(StoreError, match=f"one column '{name}'"):
        build_schema(facts, pa.schema([(name, pa.string())]))


@pytest.mark.parametrize("name", ["", "_rowid", "a.b", "a`b"])
def test_a_name_that_lancedb_cannot_have_is_refused(facts, name):
    with pytest.raises(StoreError, match="cannot have a column"):
        build_schema(facts, pa.schema([(name, pa.string())]))


def test_facts_come_back_from_the_metadata_of_the_schema(facts):
    assert read_store_metadata(build_schema(facts).metadata, "S") == facts


@pytest.mark.parametrize("metadata", [None, {}, {b"zebra": b"{"}, {b"zebra": b"[]"}, {b"zebra": b"{}"}])
def test_a_schema_without_facts_is_not_one_of_zebra(metadata):
    with pytest.raises(StoreError, match="not one of zebra"):
        read_store_metadata(metadata, "S")


def test_a_model_that_was_never_saved_has_no_store(facts):
    with pytest.raises(StoreError, match="save it to a folder"):
        replace(facts, fingerprint="")


@pytest.mark.parametrize("change", [{"embed_dim": 0}, {"dtype": "int8"}])
def test_vectors_that_cannot_be_are_refused(facts, change):
    with pytest.raises(StoreError, match="cannot hold vectors"):
        replace(facts, **change)
