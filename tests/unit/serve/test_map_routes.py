"""A store's vectors as points of a plane, and how they are asked for."""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from zebra.errors import ConfigError, StoreError
from zebra.search import projection as plane
from zebra.search.projection import list_color_columns, project_store, project_vectors, read_column_colors
from zebra.serve import errors
from zebra.serve import map_routes as served
from zebra.store import Store, StoreMetadata

FACTS = StoreMetadata("a" * 16, "model", 8, "fp32", "float16")
COLUMNS = pa.schema(
    [("kind", pa.string()), ("weight", pa.float64()), ("tame", pa.bool_()), ("seen", pa.timestamp("us"))]
)


def rows(first, last):
    """Rows in three groups far from each other."""
    numbers = range(first, last)
    rng = np.random.default_rng(first)
    vector_NE = np.eye(8)[[n % 3 for n in numbers]] + 0.1 * rng.normal(size=(len(numbers), 8))
    vector_NE /= np.linalg.norm(vector_NE, axis=1, keepdims=True)
    return pa.table(
        {
            "id": [f"id-{n}" for n in numbers],
            "digest": [f"{n}" for n in numbers],
            "path": ["a.tar" for _ in numbers],
            "caption": [f"picture {n}" for n in numbers],
            "width": pa.array([64 for _ in numbers], pa.int32()),
            "kind": [("cat", "dog", None)[n % 3] for n in numbers],
            "weight": [float(n) if n % 4 else float("nan") for n in numbers],
            "tame": [n % 2 == 0 for n in numbers],
            "seen": pa.array([n * 1_000_000 for n in numbers], pa.timestamp("us")),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vector_NE.ravel().astype(np.float32)), 8),
        }
    )


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "store", FACTS, COLUMNS) as opened:
        opened.append(rows(0, 60))
        yield opened


@pytest.fixture
def client(store):
    app = FastAPI()
    errors.add_exception_handlers(app)
    app.include_router(served.map_router(store.path))
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


def wait(client, path="/v1/map"):
    for _ in range(600):
        answer = client.get(path)
        if answer.status_code != 202:
            return answer
        time.sleep(0.05)
    raise AssertionError("the map was never ready")


# The plane


def test_what_is_alike_lies_together():
    group_N = np.arange(90) % 3
    rng = np.random.default_rng(0)
    place_N2 = project_vectors((np.eye(8)[group_N] + 0.1 * rng.normal(size=(90, 8))).astype(np.float32))
    away = np.linalg.norm(place_N2[:, None] - place_N2[None], axis=2)
    np.fill_diagonal(away, np.inf)
    assert (group_N[away.argmin(axis=1)] == group_N).all()
    assert np.abs(place_N2).max() == pytest.approx(1)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 7])
def test_few_vectors_have_places_too(rows):
    place_N2 = (
        project_vectors(np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32))
        if rows
        else np.zeros((0, 2))
    )
    assert place_N2.shape == (rows, 2)
    assert np.isfinite(place_N2).all()


def test_equal_vectors_have_places_too():
    assert np.isfinite(project_vectors(np.ones((9, 8), np.float32))).all()


def test_the_same_vectors_get_the_same_places_and_from_the_cache_at_once(store, monkeypatch):
    first = project_store(store)
    assert np.array_equal(project_vectors(vectors(store)), first.coords_N2)
    monkeypatch.setattr(plane, "project_vectors", None)
    assert np.array_equal(project_store(store).coords_N2, first.coords_N2)


def vectors(store):
    return store.read_vectors()[1].astype(np.float32)


def test_of_many_rows_a_lot_is_shown_and_says_where_it_stands(store):
    shown = project_store(store, max_points=20)
    assert (shown.num_rows, len(shown.ids), len(shown.coords_N2)) == (60, 20, 20)
    assert list(shown.ids) == store.take_positions(shown.positions.tolist(), ["id"])["id"].to_pylist()


def test_a_damaged_file_in_the_cache_is_made_again(store, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    first = project_store(store)
    (kept,) = (tmp_path / "cache" / "maps").iterdir()
    kept.write_bytes(b"PAR1")
    assert np.array_equal(project_store(store).coords_N2, first.coords_N2)


def test_groups_and_numbers_colour_names_do_not(store):
    assert list_color_columns(store) == ["kind", "weight", "tame", "seen"]


def test_a_column_that_most_rows_lack_does_not_colour(tmp_path):
    store = Store.create(tmp_path / "store", FACTS, pa.schema([("label", pa.int64())]))
    table = rows(0, 30).drop_columns(["kind", "weight", "tame", "seen"])
    store.append(table.append_column("label", pa.array([n if n < 10 else None for n in range(30)])))
    assert list_color_columns(store) == []


def test_values_come_in_the_order_of_the_points(store):
    shown = project_store(store, max_points=20)
    numbers = [int(name.removeprefix("id-")) for name in shown.ids]
    kind, weight, tame, seen = (
        read_column_colors(store, shown, name) for name in ("kind", "weight", "tame", "seen")
    )
    assert kind.values == tuple(("cat", "dog", None)[n % 3] for n in numbers)
    assert weight.values == tuple(float(n) if n % 4 else None for n in numbers)  # NaN is no number of JSON
    assert tame.values == tuple("yes" if n % 2 == 0 else "no" for n in numbers)
    assert seen.values == tuple(float(n) for n in numbers)
    assert [colours.kind for colours in (kind, weight, tame, seen)] == [
        "category",
        "number",
        "category",
        "number",
    ]


def test_another_column_is_refused_with_the_nearest_name(store):
    shown = project_store(store)
    with pytest.raises(ConfigError, match="Did you mean 'kind'"):
        read_column_colors(store, shown, "kinds")
    with pytest.raises(ConfigError, match="cannot be colored by 'vector'"):
        read_column_colors(store, shown, "vector")


def test_values_of_another_version_are_not_laid_on_old_points(store):
    shown = project_store(store)
    store.append(rows(60, 61))
    with pytest.raises(StoreError, match="changed after the map was computed"):
        read_column_colors(store, shown, "kind")


# The routes


def test_the_map_is_made_in_the_background_and_then_given(client, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(served, "project_store", lambda store: (gate.wait(30), project_store(store))[1])
    first = client.get("/v1/map")
    assert (first.status_code, first.json()) == (202, {"state": "computing"})
    assert client.get("/v1/map/columns/kind").status_code == 202
    gate.set()
    answer = wait(client).json()
    assert (answer["state"], answer["num_rows"], answer["num_points"]) == ("ready", 60, 60)
    assert len(answer["ids"]) == len(answer["x"]) == len(answer["y"]) == 60
    assert answer["columns"] == ["kind", "weight", "tame", "seen"]
    colours = client.get("/v1/map/columns/kind").json()
    assert (colours["kind"], colours["values"][:3]) == ("category", ["cat", "dog", None])


def test_new_rows_make_a_new_map(client, store):
    assert wait(client).json()["num_points"] == 60
    store.append(rows(60, 66))
    assert client.get("/v1/map").status_code == 202
    assert wait(client).json()["num_points"] == 66


def test_a_map_that_cannot_be_made_says_why_and_is_tried_again(client, monkeypatch):
    def fail(_store):
        raise StoreError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(served, "project_store", fail)
        answer = wait(client)
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the disk is on fire")
    assert wait(client).json()["num_points"] == 60


def test_labels_as_vectors_colour_the_points(client):
    wait(client)
    axes = np.eye(8)[:3].tolist()
    nearest = client.post("/v1/map/nearest", json={"vectors": axes}).json()["nearest"]
    assert nearest == [number % 3 for number in range(60)]
    for vectors in ([[1.0, 0.0]], [[1.0] * 8, [1.0]]):
        assert client.post("/v1/map/nearest", json={"vectors": vectors}).status_code == 400
    for vectors in ([], [["a"] * 8], [[None] * 8]):
        assert client.post("/v1/map/nearest", json={"vectors": vectors}).status_code == 422


def test_an_unknown_column_is_one_message(client):
    wait(client)
    answer = client.get("/v1/map/columns/kinds")
    assert answer.status_code == 400
    assert "Did you mean 'kind'" in answer.json()["error"]["message"]


def test_an_empty_store_has_an_empty_map(tmp_path):
    store = Store.create(tmp_path / "empty", FACTS, COLUMNS)
    shown = project_store(store)
    assert (shown.num_rows, shown.ids, list_color_columns(store)) == (0, (), [])
    assert read_column_colors(store, shown, "kind").values == ()
