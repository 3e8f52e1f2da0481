"""Images are added over HTTP, kept beside the store, and found by the next search."""

import io
import shutil

import pytest
from PIL import Image

from zebra.config.embed import EmbedConfig
from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError
from zebra.serve import added_images
from zebra.serve.add_routes import require_safe_to_add
from zebra.serve.added_images import safe_stem
from zebra.store import Store
from zebra.workflows import embed

from .conftest import error_message, noise_image, request_image


@pytest.fixture
def store_copy(store, tmp_path):
    return shutil.copytree(store, tmp_path / "store")


@pytest.fixture
def adding(serving, store_copy):
    with serving(store=str(store_copy), allow_add=True) as client:
        yield client


def add(client, *images):
    response = client.post("/v1/add", json={"images": list(images)})
    assert response.status_code == 200, response.text
    return response.json()


def test_an_added_image_is_kept_embedded_and_found(adding, store_copy, clip):
    data = noise_image(77, (60, 40))
    image = request_image(data) | {"name": "../my holiday.jpg", "caption": " a noisy beach \n"}
    added = add(adding, image)
    assert (len(added["ids"]), added["num_new"], added["skipped"]) == (1, 1, [])
    (path,) = store_copy.with_name("store-added").glob("*.jpg")
    assert path.name.startswith("my holiday-")
    assert path.read_bytes() == data
    assert path.with_suffix(".txt").read_text() == "a noisy beach"
    hit = adding.post("/v1/search", json={"image": request_image(data), "k": 1}).json()["hits"][0]
    assert (hit["id"], hit["path"], hit["caption"]) == (added["ids"][0], path.name, "a noisy beach")
    assert (hit["width"], hit["height"]) == (60, 40)
    assert hit["score"] == pytest.approx(1, abs=1e-3)
    assert adding.get(f"/v1/images/{hit['id']}").content == data
    assert adding.get("/v1/about").json()["store"]["rows"] == 13


def test_an_image_that_was_added_before_is_not_added_again(adding):
    image = request_image(noise_image(78)) | {"name": "a.jpg"}
    first, second = add(adding, image), add(adding, image, image)
    assert second["ids"] == first["ids"] * 2
    assert (first["num_new"], second["num_new"]) == (1, 0)


def test_images_that_cannot_be_decoded_are_skipped_and_leave_no_file(adding, store_copy):
    whole = noise_image(79)
    added = add(
        adding,
        {"data": "bm8gaW1hZ2U="},
        request_image(whole[:200]) | {"name": "cut.jpg"},
        {"data": "!"},
        request_image(whole),
    )
    assert added["num_new"] == 1
    assert [item["index"] for item in added["skipped"]] == [0, 1, 2]
    assert "cut.jpg" in added["skipped"][1]["reason"]
    assert len(list(store_copy.with_name("store-added").iterdir())) == 1


def test_the_size_of_a_turned_image_is_that_of_the_upright_one(adding):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(buffer, "JPEG", exif=exif)
    (id,) = add(adding, request_image(buffer.getvalue()))["ids"]
    row = adding.get(f"/v1/rows/{id}").json()
    assert (row["width"], row["height"]) == (40, 60)


def test_the_folder_of_added_images_can_be_embedded_again(adding, store_copy, model):
    (id,) = add(adding, request_image(noise_image(80)) | {"caption": "a caption"})["ids"]
    folder = store_copy.with_name("store-added")
    embed.run(EmbedConfig(model=str(model), data=str(folder), out=str(store_copy), precision="fp32", workers=1))
    row = adding.get(f"/v1/rows/{id}").json()
    assert row["caption"] == "a caption"
    assert adding.get("/v1/about").json()["store"]["rows"] == 13


def test_while_another_process_writes_the_client_may_retry(adding, store_copy):
    other = Store.open(store_copy)
    other.delete([next(other.scan(["id"]))["id"][0].as_py()])  # takes the lock
    try:
        response = adding.post("/v1/add", json={"images": [request_image(noise_image(81))]})
        assert "locked by the writer process" in error_message(response, 503)
        assert response.headers["Retry-After"]
    finally:
        other.close()
    assert add(adding, request_image(noise_image(81)))["num_new"] == 1


def test_a_full_disk_is_reported(adding, monkeypatch):
    monkeypatch.setattr(added_images, "MIN_FREE_BYTES", 2**60)
    response = adding.post("/v1/add", json={"images": [request_image(noise_image(82))]})
    assert "disk is nearly full" in error_message(response, 503)


def test_without_the_option_nothing_can_be_added(store_client):
    error_message(store_client.post("/v1/add", json={"images": [request_image(noise_image(1))]}), 404)
    assert store_client.get("/v1/about").json()["add"] is False


def test_a_server_that_others_reach_needs_a_key_and_any_needs_a_store():
    require_safe_to_add(ServeConfig(store="store", allow_add=True))
    require_safe_to_add(ServeConfig(store="store", allow_add=True, host="0.0.0.0", api_key="secret"))
    with pytest.raises(ConfigError, match="Set a key"):
        require_safe_to_add(ServeConfig(store="store", allow_add=True, host="0.0.0.0"))
    with pytest.raises(ConfigError, match="needs a store"):
        require_safe_to_add(ServeConfig(allow_add=True))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.b.png", "a.b"),
        ("..\\..\\x.png", "x"),
        ("/etc/", "image"),
        (".png", "png"),
        ("con:aux?.png", "con_aux_"),
        ("\udc80.png", "image"),
        ("a\0b\n.png", "ab"),
        ("ö" * 300, "ö" * 80),
    ],
)
def test_names_of_clients_are_made_safe(name, stem):
    assert safe_stem(name) == stem
