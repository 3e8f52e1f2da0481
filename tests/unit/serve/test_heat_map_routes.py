"""Heat maps of images over HTTP."""

import numpy as np
import pytest

from .conftest import error_message, noise_image, request_image


def heat_map(client, image, text="a horse"):
    response = client.post("/v1/heat_map", json={"image": image, "text": text})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_map_is_that_of_the_model_and_has_its_place_in_the_image(store_client, clip, photos):
    body = heat_map(store_client, request_image((photos / "000.jpg").read_bytes()))
    expected_HW = clip.heat_map((photos / "000.jpg").read_bytes(), ["a horse"])[0].numpy()
    assert np.allclose(body["values"], expected_HW, atol=1e-5)
    box = np.array(clip.preprocess.visible_box(80, 40)) / [80, 40, 80, 40]
    assert body["box"] == pytest.approx(box.tolist())
    assert body["box"] == pytest.approx([0.25, 0, 0.75, 1])  # the crop of an image of 2:1


def test_a_row_of_the_store_has_a_heat_map(store_client, photos):
    row = store_client.post("/v1/rows", json={"k": 1, "order": "oldest"}).json()["rows"][0]
    by_id = heat_map(store_client, {"id": row["id"]})
    assert by_id == heat_map(store_client, request_image((photos / row["name"]).read_bytes()))


@pytest.mark.parametrize(
    ("image", "status"),
    [({"data": "bm8gaW1hZ2U="}, 400), ({"id": "gone"}, 410), (request_image(noise_image(1)[:300]), 400)],
)
def test_an_image_that_cannot_be_read_is_refused(store_client, image, status):
    error_message(store_client.post("/v1/heat_map", json={"image": image, "text": "a horse"}), status)
    error_message(store_client.post("/v1/heat_map", json={"image": image, "text": ""}), 422)
