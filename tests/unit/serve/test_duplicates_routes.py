"""Near duplicates of a store are grouped by their vectors."""

import shutil
import time

import numpy as np
import pyarrow as pa
import pytest

from zebra.config.embed import EmbedConfig
from zebra.serve import duplicates_routes
from zebra.store import Store, StoreMetadata
from zebra.workflows import embed

from .conftest import error_message


@pytest.fixture(scope="module")
def client_with_copies(serving, model, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(photos, folder / "photos")
    for name in ("000.jpg", "005.jpg"):
        shutil.copy(photos / name, folder / "photos" / f"copy of {name}")
    store = str(folder / "store")
    embed.run(EmbedConfig(model=str(model), data=str(folder / "photos"), out=store, precision="fp32", workers=1))
    with serving(store=store) as client:
        yield client


def wait_for_groups(client, **request):
    for _ in range(600):
        response = client.post("/v1/duplicates", json=request)
        if response.status_code != 202:
            assert response.status_code == 200, response.text
            return response.json()
        time.sleep(0.02)
    raise AssertionError("no groups within 12 s")


def test_copies_are_listed_in_pages(client_with_copies):
    body = wait_for_groups(client_with_copies, min_cosine=1, k=1)
    assert (body["num_groups"], body["num_duplicates"], body["more"]) == (2, 2, True)
    second = wait_for_groups(client_with_copies, min_cosine=1, k=1, offset=1)
    names = [sorted(row["name"] for row in page["groups"][0]["rows"]) for page in (body, second)]
    assert sorted(names) == [["000.jpg", "copy of 000.jpg"], ["005.jpg", "copy of 005.jpg"]]
    assert second["more"] is False
    assert body["groups"][0]["ids"] == [row["id"] for row in body["groups"][0]["rows"]]


def test_the_image_with_the_most_pixels_comes_first(serving, store_of_sizes):
    with serving(store=str(store_of_sizes)) as client:
        (group,) = wait_for_groups(client, min_cosine=0.99)["groups"]
    assert [row["width"] for row in group["rows"]] == [300, 200, 100]


@pytest.fixture
def store_of_sizes(tmp_path, model, clip):
    metadata = StoreMetadata(clip.fingerprint, str(model), clip.embed_dim, "fp32", "float16")
    vectors_NE = np.random.default_rng(0).normal(size=(5, clip.embed_dim)).astype(np.float32)
    vectors_NE[[1, 3]] = 2 * vectors_NE[0]
    vectors_NE[4] = 0
    numbers = range(5)
    columns = {
        "id": [f"id-{n}" for n in numbers],
        "digest": [f"{n}" for n in numbers],
        "path": [f"/data/{n}.png" for n in numbers],
        "width": pa.array([200, 100, 900, 300, None], pa.int32()),
        "height": pa.array([10] * 5, pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), clip.embed_dim),
    }
    with Store.create(tmp_path / "store", metadata) as store:
        store.append(pa.table(columns))
    return tmp_path / "store"


def test_a_store_that_is_too_large_is_refused_with_a_way_out(store_client, monkeypatch):
    monkeypatch.setattr(duplicates_routes, "MAX_ROWS", 11)
    assert "zebra dedup" in error_message(store_client.post("/v1/duplicates", json={}), 400)


@pytest.mark.parametrize("request_body", [{"min_cosine": 0.1}, {"min_cosine": 2}, {"k": 0}, {"offset": -1}])
def test_an_invalid_request_is_refused(store_client, request_body):
    error_message(store_client.post("/v1/duplicates", json=request_body), 422)
