"""Tests of search over HTTP: texts, images, rows, filters; no local path in any response."""

import io
import shutil
import time
from functools import partial

import pytest
from PIL import Image
from starlette.testclient import TestClient

from zebra.config.embed import EmbedConfig
from zebra.config.serve import ServeConfig
from zebra.errors import StoreError
from zebra.pretrained.load import load
from zebra.serve.app import create_app
from zebra.serve.service import Service
from zebra.store import Store
from zebra.workflows import embed

from ...tiny_model import save_tiny_model
from .conftest import InProcessClient, error_message, noise_image, request_image


def search(client, **request):
    response = client.post("/v1/search", json=request)
    assert response.status_code == 200, response.text
    return response.json()


def names(response):
    return [hit["name"] for hit in response["hits"]]


def test_about_describes_the_store(store_client):
    info = store_client.get("/v1/about").json()
    assert info["store"]["rows"] == 12
    assert info["store"]["captions"] is True
    assert {"name": "width", "type": "number"} in info["store"]["columns"]
    assert info["examples"]
    assert all(text.startswith("picture ") for text in info["examples"])


def test_a_text_finds_the_nearest_images(store_client, clip, photos):
    response = search(store_client, text="a horse", k=5)
    paths = sorted(photos.glob("*.jpg"))
    scores = (clip.encode_images(paths) @ clip.encode_texts(["a horse"])[0]).tolist()
    expected = sorted(zip(scores, [path.name for path in paths], strict=True), reverse=True)[:5]
    assert names(response) == [name for _, name in expected]
    assert [hit["score"] for hit in response["hits"]] == pytest.approx([score for score, _ in expected], abs=1e-3)
    assert (response["more"], response["method"], response["searched"]) == (True, "exact", 12)
    assert response["warnings"] == []


def test_an_image_finds_itself_first(store_client, photos):
    hit = search(store_client, image=request_image((photos / "007.jpg").read_bytes()), k=3)["hits"][0]
    assert hit["name"] == "007.jpg"
    assert hit["score"] == pytest.approx(1, abs=1e-3)
    assert (hit["width"], hit["height"]) == (40, 40)
    assert hit["caption"] == "picture 7 of a horse"


def test_reference_rows_are_excluded_from_the_results(store_client):
    first = search(store_client, text="a horse", k=1)["hits"][0]
    for request in ({"like": [first["id"]]}, {"image": {"id": first["id"]}}):
        assert first["name"] not in names(search(store_client, **request, k=12))
        assert len(names(search(store_client, **request, k=12))) == 11


def test_excluded_terms_change_the_scores(store_client):
    plain, reduced = (
        search(store_client, text="a horse", k=12),
        search(store_client, **{"text": "a horse", "not": ["a photo"]}, k=12),
    )
    assert [hit["score"] for hit in plain["hits"]] != [hit["score"] for hit in reduced["hits"]]
    only = search(store_client, unlike=[plain["hits"][0]["id"]], k=12)
    assert plain["hits"][0]["id"] not in [hit["id"] for hit in only["hits"]]


def test_filters_paging_and_a_minimum_score(store_client):
    wide = search(store_client, text="a horse", where="width >= 80", k=12)
    assert sorted(names(wide)) == [f"{number:03d}.jpg" for number in range(4)]
    all_names = names(search(store_client, text="a horse", k=12))
    assert names(search(store_client, text="a horse", k=5, offset=5)) == all_names[5:10]
    third_score = search(store_client, text="a horse", k=12)["hits"][2]["score"]
    assert len(search(store_client, text="a horse", k=12, min_score=third_score - 1e-6)["hits"]) == 3


def test_a_filter_on_an_unknown_column_suggests_the_nearest(store_client):
    message = error_message(store_client.post("/v1/search", json={"text": "a", "where": "widht > 5"}), 400)
    assert "width" in message


@pytest.mark.parametrize("where", ["width >", "1; DROP TABLE images", "width > 'a'", "(" * 50, "id = 'x' OR 1=1 --"])
def test_an_invalid_filter_is_rejected(store_client, where):
    error_message(store_client.post("/v1/search", json={"text": "a", "where": where}), 400)


def test_a_query_longer_than_the_context_gets_a_warning(store_client):
    response = search(store_client, text="a horse " * 40)
    assert response["hits"]
    assert len(response["warnings"]) == 1
    assert "16 tokens" in response["warnings"][0]


def test_an_empty_query_is_rejected(store_client):
    for request in ({}, {"text": " "}):
        assert error_message(store_client.post("/v1/search", json=request), 422).startswith("the query is empty")
    error_message(store_client.post("/v1/search", json={"like": ["unknown"]}), 400)
    error_message(store_client.post("/v1/search", json={"text": "a", "k": 1000}), 422)


def test_images_and_thumbnails_are_served_by_id(store_client, photos):
    hit = search(store_client, text="a horse", k=1)["hits"][0]
    original = store_client.get(hit["image"])
    assert original.content == (photos / hit["name"]).read_bytes()
    assert original.headers["Content-Type"] == "image/jpeg"
    assert "sandbox" in original.headers["Content-Security-Policy"]
    for side in (96, 192):
        thumbnail = store_client.get(hit["thumbnail"], params={"side": side})
        assert max(Image.open(io.BytesIO(thumbnail.content)).size) <= side
    error_message(store_client.get(hit["thumbnail"], params={"side": 5000}), 422)
    error_message(store_client.get("/v1/images/unknown"), 404)
    error_message(store_client.get("/v1/images/unknown/thumbnail"), 404)


def test_a_row_can_be_classified_and_embedded(store_client, clip, photos):
    hit = search(store_client, text="a horse", k=1)["hits"][0]
    request = {"images": [{"id": hit["id"]}]}
    vector = store_client.post("/v1/embed", json=request).json()["vectors"][0]
    assert vector == pytest.approx(clip.encode_images([photos / hit["name"]])[0].tolist(), abs=1e-3)
    ranked = store_client.post("/v1/classify", json=request | {"labels": ["horse", "cow"]})
    assert ranked.status_code == 200


def test_no_response_contains_a_local_path(store_client, photos, store):
    text = store_client.get("/v1/about").text + store_client.post("/v1/search", json={"text": "a", "k": 12}).text
    for path in (photos.parent, store.parent):
        assert str(path) not in text
        assert path.name not in text


def test_a_deleted_image_stays_a_hit_with_a_placeholder(serving, store, photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    model = Store.open(store).metadata.model
    for thumbnail_size in (0, 96):
        out = tmp_path / f"store-{thumbnail_size}"
        embed.run(
            EmbedConfig(
                model=model, data=str(copy), out=str(out), precision="fp32", workers=1, thumbnail_size=thumbnail_size
            )
        )
    (copy / "003.jpg").unlink()
    for thumbnail_size, missing in ((0, True), (96, False)):
        with serving(store=str(tmp_path / f"store-{thumbnail_size}")) as client:
            [hit] = [hit for hit in search(client, text="a", k=12)["hits"] if hit["name"] == "003.jpg"]
            thumbnail = client.get(hit["thumbnail"])
            assert thumbnail.status_code == 200
            assert (thumbnail.headers.get("X-Image") == "missing") == missing
            Image.open(io.BytesIO(thumbnail.content)).load()
            assert "missing or has changed" in error_message(client.get(hit["image"]), 410)


def test_added_rows_are_found_by_the_next_search(serving, model, photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    config = EmbedConfig(model=str(model), data=str(copy), out=str(tmp_path / "store"), precision="fp32", workers=1)
    embed.run(config)
    with serving(store=str(tmp_path / "store")) as client:
        assert search(client, text="a")["searched"] == 12
        (copy / "new.jpg").write_bytes(noise_image(99))
        embed.run(config)
        assert names(search(client, image=request_image(noise_image(99)), k=1)) == ["new.jpg"]


def test_a_store_of_another_model_is_reported(store, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=5)
    errors = []
    service = Service(
        InProcessClient(partial(load, other)), ServeConfig(model=str(other), store=str(store)), on_error=errors.append
    )
    with TestClient(create_app(service), base_url="http://localhost"):
        while not errors:
            time.sleep(0.01)
    assert isinstance(errors[0], StoreError)
    assert "holds vectors of the model" in str(errors[0])


def test_an_empty_store_returns_no_hits(serving, store, tmp_path):
    with Store.create(tmp_path / "empty", Store.open(store).metadata):
        pass
    with serving(store=str(tmp_path / "empty")) as client:
        response = search(client, text="a horse")
        assert (response["hits"], response["more"], response["searched"]) == ([], False, 0)
        assert client.get("/v1/about").json()["store"]["rows"] == 0
