"""Near duplicates of a store are grouped by their vectors."""

import shutil
import time

import numpy as np
import pytest

from zebra.config.embed import EmbedConfig
from zebra.search import near_duplicates
from zebra.search.near_duplicates import group_near_duplicates
from zebra.serve import duplicates_routes
from zebra.workflows import embed

from .conftest import error_message


def vectors_near(*centers, noise=0.0):
    """Return a vector for each center number; equal numbers give equal vectors, but for the noise."""
    rng = np.random.default_rng(0)
    base = np.random.default_rng(1).normal(size=(max(centers) + 1, 16))
    return (base[list(centers)] + noise * rng.normal(size=(len(centers), 16))).astype(np.float16)


@pytest.mark.parametrize("max_scores", [1, 7, 10**6])
def test_groups_have_all_near_rows_and_do_not_depend_on_the_block_size(monkeypatch, max_scores):
    monkeypatch.setattr(near_duplicates, "MAX_SCORES", max_scores)
    groups = group_near_duplicates(vectors_near(0, 1, 2, 1, 3, 0, 1, noise=0.01), 0.95)
    assert [group.tolist() for group in groups] == [[1, 3, 6], [0, 5]]


def test_equal_vectors_are_duplicates_at_the_highest_similarity():
    vectors_NE = vectors_near(0, 0, 1) * np.array([[1], [2], [1]], np.float16)
    assert [group.tolist() for group in group_near_duplicates(vectors_NE, 1.0)] == [[0, 1]]


def test_zero_vectors_and_no_rows_have_no_duplicates():
    assert group_near_duplicates(np.zeros((3, 4), np.float32), 0.9) == []
    assert group_near_duplicates(np.zeros((0, 4), np.float32), 0.9) == []


def test_a_row_is_near_to_the_first_of_its_group():
    """a ~ b and b ~ c do not put c beside a."""
    angles = np.deg2rad([0, 10, 20])
    vectors_NE = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert [group.tolist() for group in group_near_duplicates(vectors_NE, np.cos(np.deg2rad(12)))] == [[0, 1]]


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


def test_a_store_that_is_too_large_is_refused_with_a_way_out(store_client, monkeypatch):
    monkeypatch.setattr(duplicates_routes, "MAX_ROWS", 11)
    assert "zebra dedup" in error_message(store_client.post("/v1/duplicates", json={}), 400)


@pytest.mark.parametrize("request_body", [{"min_cosine": 0.1}, {"min_cosine": 2}, {"k": 0}, {"offset": -1}])
def test_an_invalid_request_is_refused(store_client, request_body):
    error_message(store_client.post("/v1/duplicates", json=request_body), 422)
