"""Tests of the map: projection of a store's vectors, columns as colors, and the routes."""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from zebra.errors import ConfigError, StoreError
from zebra.search import projection
from zebra.search.projection import list_color_columns, project_store, project_vectors, read_column_colors
from zebra.serve import errors, map_routes
from zebra.store import Store, StoreMetadata

METADATA = StoreMetadata("a" * 16, "model", 8, "fp32", "float16")
COLUMNS = pa.schema(
    [("kind", pa.string()), ("weight", pa.float64()), ("tame", pa.bool_()), ("seen", pa.timestamp("us"))]
)


def make_rows(first, last):
    """Return rows whose vectors form three distant groups."""
    numbers = range(first, last)
    rng = np.random.default_rng(first)
    vector_NE = np.eye(8)[[n % 3 for n in numbers]] + 0.1 * rng.normal(size=(len(numbers), 8))
    vector_NE /= np.linalg.norm(vector_NE, axis=1, keepdims=True)
    return pa.table(
        {
            "id": [f"id-{n}" for n in numbers],
            "digest": [f"{n}" for n in numbers],
            "path": ["a.tar" for _ in numbers],
            "caption": [f"image {n}" for n in numbers],
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
    with Store.create(tmp_path / "store", METADATA, COLUMNS) as store:
        store.append(make_rows(0, 60))
        yield store


@pytest.fixture
def client(store):
    app = FastAPI()
    errors.add_exception_handlers(app)
    app.include_router(map_routes.map_router(store.path))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def wait_for_map(client):
    for _ in range(600):
        response = client.get("/v1/map")
        if response.status_code != 202:
            return response
        time.sleep(0.05)
    raise AssertionError("the map was never ready")


# Projection


def test_similar_vectors_are_close_together():
    group_N = np.arange(90) % 3
    rng = np.random.default_rng(0)
    coords_N2 = project_vectors((np.eye(8)[group_N] + 0.1 * rng.normal(size=(90, 8))).astype(np.float32))
    distance_NN = np.linalg.norm(coords_N2[:, None] - coords_N2[None], axis=2)
    np.fill_diagonal(distance_NN, np.inf)
    assert (group_N[distance_NN.argmin(axis=1)] == group_N).all()
    assert np.abs(coords_N2).max() == pytest.approx(1)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 4, 7])
def test_few_vectors_have_coordinates(num_rows):
    coords_N2 = (
        project_vectors(np.random.default_rng(0).normal(size=(num_rows, 8)).astype(np.float32))
        if num_rows
        else np.zeros((0, 2))
    )
    assert coords_N2.shape == (num_rows, 2)
    assert np.isfinite(coords_N2).all()


def test_equal_vectors_have_coordinates():
    assert np.isfinite(project_vectors(np.ones((9, 8), np.float32))).all()


def test_the_same_vectors_get_the_same_coordinates_and_are_cached(store, monkeypatch):
    first = project_store(store)
    assert np.array_equal(project_vectors(vectors(store)), first.coords_N2)
    monkeypatch.setattr(projection, "project_vectors", None)
    assert np.array_equal(project_store(store).coords_N2, first.coords_N2)


def vectors(store):
    return store.read_vectors()[1].astype(np.float32)


def test_of_many_rows_a_sample_is_projected(store):
    projected = project_store(store, max_points=20)
    assert (projected.num_rows, len(projected.ids), len(projected.coords_N2)) == (60, 20, 20)
    assert list(projected.ids) == store.take_positions(projected.positions.tolist(), ["id"])["id"].to_pylist()


def test_a_damaged_cache_file_is_computed_again(store, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    first = project_store(store)
    (cached,) = (tmp_path / "cache" / "maps").iterdir()
    cached.write_bytes(b"PAR1")
    assert np.array_equal(project_store(store).coords_N2, first.coords_N2)


def test_groups_and_numbers_color_the_map_and_names_do_not(store):
    assert [column.name for column in list_color_columns(store)] == ["kind", "weight", "tame", "seen"]


def test_a_column_with_mostly_missing_values_does_not_color_the_map(tmp_path):
    store = Store.create(tmp_path / "store", METADATA, pa.schema([("label", pa.int64())]))
    table = make_rows(0, 30).drop_columns(["kind", "weight", "tame", "seen"])
    store.append(table.append_column("label", pa.array([n if n < 10 else None for n in range(30)])))
    assert list_color_columns(store) == []


def test_values_have_the_order_of_the_points(store):
    projected = project_store(store, max_points=20)
    numbers = [int(name.removeprefix("id-")) for name in projected.ids]
    kind, weight, tame, seen = (
        read_column_colors(store, projected, name) for name in ("kind", "weight", "tame", "seen")
    )
    assert kind.values == tuple(("cat", "dog", None)[n % 3] for n in numbers)
    assert weight.values == tuple(float(n) if n % 4 else None for n in numbers)  # JSON has no NaN
    assert tame.values == tuple("yes" if n % 2 == 0 else "no" for n in numbers)
    assert seen.values == tuple(float(n) for n in numbers)
    assert [colors.kind for colors in (kind, weight, tame, seen)] == ["category", "number", "category", "number"]


def test_an_unknown_column_suggests_the_nearest_name(store):
    projected = project_store(store)
    with pytest.raises(ConfigError, match="Did you mean 'kind'"):
        read_column_colors(store, projected, "kinds")
    with pytest.raises(ConfigError, match="cannot be colored by 'vector'"):
        read_column_colors(store, projected, "vector")


def test_values_of_another_version_are_rejected(store):
    projected = project_store(store)
    store.append(make_rows(60, 61))
    with pytest.raises(StoreError, match="changed after the map was computed"):
        read_column_colors(store, projected, "kind")


# Routes


def test_the_map_is_computed_in_the_background(client, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(map_routes, "project_store", lambda store: (gate.wait(30), project_store(store))[1])
    first = client.get("/v1/map")
    assert (first.status_code, first.json()) == (202, {"state": "computing"})
    assert client.get("/v1/map/columns/kind").status_code == 202
    gate.set()
    body = wait_for_map(client).json()
    assert (body["state"], body["num_rows"], body["num_points"]) == ("ready", 60, 60)
    assert len(body["ids"]) == len(body["x"]) == len(body["y"]) == 60
    assert body["columns"] == ["kind", "weight", "tame", "seen"]
    colors = client.get("/v1/map/columns/kind").json()
    assert (colors["kind"], colors["values"][:3]) == ("category", ["cat", "dog", None])


def test_new_rows_cause_a_new_map(client, store):
    assert wait_for_map(client).json()["num_points"] == 60
    store.append(make_rows(60, 66))
    assert client.get("/v1/map").status_code == 202
    assert wait_for_map(client).json()["num_points"] == 66


def test_a_failed_map_is_reported_and_computed_again(client, monkeypatch):
    def fail(_store):
        raise StoreError("disk failure")

    with monkeypatch.context() as patch:
        patch.setattr(map_routes, "project_store", fail)
        response = wait_for_map(client)
        assert (response.status_code, response.json()["error"]["message"]) == (503, "disk failure")
    assert wait_for_map(client).json()["num_points"] == 60


def test_points_get_the_nearest_of_given_vectors(client):
    wait_for_map(client)
    axes = np.eye(8)[:3].tolist()
    nearest = client.post("/v1/map/nearest", json={"vectors": axes}).json()["nearest"]
    assert nearest == [number % 3 for number in range(60)]
    for vectors in ([[1.0, 0.0]], [[1.0] * 8, [1.0]]):
        assert client.post("/v1/map/nearest", json={"vectors": vectors}).status_code == 400
    for vectors in ([], [["a"] * 8], [[None] * 8]):
        assert client.post("/v1/map/nearest", json={"vectors": vectors}).status_code == 422


def test_an_unknown_column_gets_status_400(client):
    wait_for_map(client)
    response = client.get("/v1/map/columns/kinds")
    assert response.status_code == 400
    assert "Did you mean 'kind'" in response.json()["error"]["message"]


def test_an_empty_store_has_an_empty_map(tmp_path):
    store = Store.create(tmp_path / "empty", METADATA, COLUMNS)
    projected = project_store(store)
    assert (projected.num_rows, projected.ids, list_color_columns(store)) == (0, (), [])
    assert read_column_colors(store, projected, "kind").values == ()


def test_clusters_are_named_by_the_words_of_their_captions(tmp_path):
    table = make_rows(0, 60)
    captions = pa.array([f"a photo of a {('cat', 'dog', 'bird')[n % 3]}" for n in range(60)])
    table = table.set_column(table.column_names.index("caption"), "caption", captions)
    store = Store.create(tmp_path / "store", METADATA, COLUMNS)
    store.append(table)
    builder = map_routes.MapBuilder(store.path)
    while (names := builder.cluster_names()) is None:
        time.sleep(0.01)
    animals = [caption.split()[-1] for caption in captions.to_pylist()]
    assert len(set(names)) > 1
    for name in set(names):
        members = {animal for animal, cluster in zip(animals, names, strict=True) if cluster == name}
        assert len(members) == 1
    assert builder.cluster_names() is names


def test_a_column_of_few_values_is_the_first_color(client):
    assert wait_for_map(client).json()["default_column"] == "kind"
