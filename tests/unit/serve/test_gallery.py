"""A store is searched by words, pictures and rows; what is shown of it are pictures, never places on this machine."""

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

from .conftest import Here, encoded, sent, write_model
from .test_app import problem


def found(client, **asked):
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(answer):
    return [hit["name"] for hit in answer["hits"]]


def test_about_tells_of_the_store(gallery):
    about = gallery.get("/v1/about").json()
    assert about["store"]["rows"] == 12
    assert about["store"]["captions"] is True
    assert {"name": "width", "type": "number"} in about["store"]["columns"]
    assert about["examples"]
    assert all(text.startswith("picture ") for text in about["examples"])


def test_words_find_the_pictures_nearest_to_them(gallery, clip, photos):
    answer = found(gallery, text="a horse", k=5)
    paths = sorted(photos.glob("*.jpg"))
    scores = (clip.encode_images(paths) @ clip.encode_texts(["a horse"])[0]).tolist()
    expected = sorted(zip(scores, [path.name for path in paths], strict=True), reverse=True)[:5]
    assert names(answer) == [name for _, name in expected]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(
        [score for score, _ in expected], abs=1e-3
    )
    assert (answer["more"], answer["method"], answer["searched"]) == (True, "exact", 12)
    assert answer["warnings"] == []


def test_a_picture_finds_itself_first(gallery, photos):
    hit = found(gallery, image=sent((photos / "007.jpg").read_bytes()), k=3)["hits"][0]
    assert hit["name"] == "007.jpg"
    assert hit["score"] == pytest.approx(1, abs=1e-3)
    assert (hit["width"], hit["height"]) == (40, 40)
    assert hit["caption"] == "picture 7 of a horse"


def test_more_like_this_leaves_this_out(gallery):
    first = found(gallery, text="a horse", k=1)["hits"][0]
    for asked in ({"like": [first["id"]]}, {"image": {"id": first["id"]}}):
        assert first["name"] not in names(found(gallery, **asked, k=12))
        assert len(names(found(gallery, **asked, k=12))) == 11


def test_what_is_not_wanted_changes_what_is_found(gallery):
    plain, less = (
        found(gallery, text="a horse", k=12),
        found(gallery, **{"text": "a horse", "not": ["a photo"]}, k=12),
    )
    assert [hit["score"] for hit in plain["hits"]] != [hit["score"] for hit in less["hits"]]
    only = found(gallery, unlike=[plain["hits"][0]["id"]], k=12)
    assert plain["hits"][0]["id"] not in [hit["id"] for hit in only["hits"]]


def test_filters_paging_and_a_least_score(gallery):
    wide = found(gallery, text="a horse", where="width >= 80", k=12)
    assert sorted(names(wide)) == [f"{number:03d}.jpg" for number in range(4)]
    every = names(found(gallery, text="a horse", k=12))
    assert names(found(gallery, text="a horse", k=5, offset=5)) == every[5:10]
    best = found(gallery, text="a horse", k=12)["hits"][2]["score"]
    assert len(found(gallery, text="a horse", k=12, min_score=best - 1e-6)["hits"]) == 3


def test_a_filter_on_an_unknown_column_names_the_nearest(gallery):
    message = problem(gallery.post("/v1/search", json={"text": "a", "where": "widht > 5"}), 400)
    assert "width" in message


@pytest.mark.parametrize(
    "where", ["width >", "1; DROP TABLE images", "width > 'a'", "(" * 50, "id = 'x' OR 1=1 --"]
)
def test_a_filter_that_means_nothing_says_so(gallery, where):
    problem(gallery.post("/v1/search", json={"text": "a", "where": where}), 400)


def test_a_query_longer_than_the_context_is_answered_with_a_warning(gallery):
    answer = found(gallery, text="a horse " * 40)
    assert answer["hits"]
    assert len(answer["warnings"]) == 1
    assert "16 tokens" in answer["warnings"][0]


def test_a_query_for_nothing_is_refused(gallery):
    for nothing in ({}, {"text": " "}):
        assert problem(gallery.post("/v1/search", json=nothing), 422).startswith("the query is empty")
    problem(gallery.post("/v1/search", json={"like": ["unknown"]}), 400)
    problem(gallery.post("/v1/search", json={"text": "a", "k": 1000}), 422)


def test_pictures_and_thumbnails_come_by_id(gallery, photos):
    hit = found(gallery, text="a horse", k=1)["hits"][0]
    original = gallery.get(hit["image"])
    assert original.content == (photos / hit["name"]).read_bytes()
    assert original.headers["Content-Type"] == "image/jpeg"
    assert "sandbox" in original.headers["Content-Security-Policy"]
    for side in (96, 192):
        small = gallery.get(hit["thumbnail"], params={"side": side})
        assert max(Image.open(io.BytesIO(small.content)).size) <= side
    problem(gallery.get(hit["thumbnail"], params={"side": 5000}), 422)
    problem(gallery.get("/v1/images/unknown"), 404)
    problem(gallery.get("/v1/images/unknown/thumbnail"), 404)


def test_a_row_is_a_picture_to_classify_and_embed(gallery, clip, photos):
    hit = found(gallery, text="a horse", k=1)["hits"][0]
    asked = {"images": [{"id": hit["id"]}]}
    vector = gallery.post("/v1/embed", json=asked).json()["vectors"][0]
    assert vector == pytest.approx(clip.encode_images([photos / hit["name"]])[0].tolist(), abs=1e-3)
    ranked = gallery.post("/v1/classify", json=asked | {"labels": ["horse", "cow"]})
    assert ranked.status_code == 200


def test_no_answer_tells_where_things_lie_on_this_machine(gallery, photos, store):
    told = gallery.get("/v1/about").text + gallery.post("/v1/search", json={"text": "a", "k": 12}).text
    for place in (photos.parent, store.parent):
        assert str(place) not in told
        assert place.name not in told


def test_a_picture_that_was_deleted_stays_as_a_result_with_a_placeholder(serving, store, photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    model = Store.open(store).metadata.model
    for thumbnails in (0, 96):
        out = tmp_path / f"store-{thumbnails}"
        embed.run(
            EmbedConfig(
                model=model,
                data=str(copy),
                out=str(out),
                precision="fp32",
                workers=1,
                thumbnail_size=thumbnails,
            )
        )
    (copy / "003.jpg").unlink()
    for thumbnails, missing in ((0, True), (96, False)):
        with serving(store=str(tmp_path / f"store-{thumbnails}")) as client:
            [hit] = [hit for hit in found(client, text="a", k=12)["hits"] if hit["name"] == "003.jpg"]
            small = client.get(hit["thumbnail"])
            assert small.status_code == 200
            assert (small.headers.get("X-Image") == "missing") == missing
            Image.open(io.BytesIO(small.content)).load()
            assert "missing or has changed" in problem(client.get(hit["image"]), 410)


def test_rows_that_are_added_are_found_by_the_next_search(serving, model, photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    config = EmbedConfig(
        model=str(model), data=str(copy), out=str(tmp_path / "store"), precision="fp32", workers=1
    )
    embed.run(config)
    with serving(store=str(tmp_path / "store")) as client:
        assert found(client, text="a")["searched"] == 12
        (copy / "new.jpg").write_bytes(encoded(99))
        embed.run(config)
        assert names(found(client, image=sent(encoded(99)), k=1)) == ["new.jpg"]


def test_a_store_of_another_model_ends_the_service(store, tmp_path):
    other = write_model(tmp_path / "other", seed=5)
    told = []
    service = Service(
        Here(partial(load, other)), ServeConfig(model=str(other), store=str(store)), on_error=told.append
    )
    with TestClient(create_app(service), base_url="http://localhost"):
        while not told:
            time.sleep(0.01)
    assert isinstance(told[0], StoreError)
    assert "holds vectors of the model" in str(told[0])


def test_an_empty_store_answers_with_nothing(serving, store, tmp_path):
    with Store.create(tmp_path / "empty", Store.open(store).metadata):
        pass
    with serving(store=str(tmp_path / "empty")) as client:
        answer = found(client, text="a horse")
        assert (answer["hits"], answer["more"], answer["searched"]) == ([], False, 0)
        assert client.get("/v1/about").json()["store"]["rows"] == 0
