"""Tests of the routes: responses equal the model's results, and every error has one shape."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from zebra.config.serve import BatchingConfig, ServeConfig
from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.serve import limits

from ...tiny_model import save_tiny_model
from .conftest import error_message, noise_image, request_image


def test_about_describes_the_model_and_the_limits(client, clip):
    info = client.get("/v1/about").json()
    assert info["model"]["fingerprint"] == clip.fingerprint
    assert info["model"]["name"] == "tiny"
    assert (info["model"]["embed_dim"], info["model"]["image_size"]) == (32, 64)
    assert info["limits"]["pixels"] == limits.MAX_PIXELS
    assert (info["store"], info["quiz"], info["map"], info["urls"]) == (None, [], False, False)


def test_classify_ranks_labels_as_the_model_does(client, clip):
    images = [noise_image(number) for number in range(3)]
    labels = ["horse", "zebra", "cow"]
    response = client.post(
        "/v1/classify",
        json={"images": [request_image(data) for data in images], "labels": labels, "templates": ["one {}.", "a {}"]},
    )
    predictions = clip.classify(images, labels, ["one {}.", "a {}"])
    for result, expected in zip(response.json()["results"], predictions, strict=True):
        assert [score["label"] for score in result["scores"]] == [prediction.label for prediction in expected]
        np.testing.assert_allclose(
            [score["score"] for score in result["scores"]], [p.score for p in expected], atol=1e-5
        )
    assert response.json()["warnings"] == []


def test_a_request_in_hugging_faces_format_gets_a_response_in_that_format(client, clip):
    data = base64.b64encode(noise_image(1)).decode()
    parameters = {"candidate_labels": ["horse", "zebra"], "hypothesis_template": "This is {}."}
    one = client.post("/v1/classify", json={"inputs": data, "parameters": parameters}).json()
    expected = clip.classify([noise_image(1)], ["horse", "zebra"], ["This is {}."])[0]
    assert [score["label"] for score in one] == [prediction.label for prediction in expected]
    assert one[0]["score"] == pytest.approx(expected[0].score, abs=1e-5)
    assert client.post("/v1/classify", json={"inputs": [data], "parameters": parameters}).json() == [one]


def test_embed_returns_the_vectors_of_texts_and_images(client, clip):
    texts = ["a horse", "a zebra"]
    response = client.post("/v1/embed", json={"texts": texts}).json()
    np.testing.assert_allclose(response["vectors"], clip.encode_texts(texts), atol=1e-6)
    assert response["fingerprint"] == clip.fingerprint
    response = client.post("/v1/embed", json={"images": [request_image(noise_image(3))]}).json()
    np.testing.assert_allclose(response["vectors"], clip.encode_images([noise_image(3)]), atol=1e-6)


def test_images_of_various_shapes_are_embedded_by_a_naflex_model(serving, tmp_path):
    folder = save_tiny_model(tmp_path / "model", kind="naflex")
    images = [noise_image(1, (90, 30)), noise_image(2, (30, 90)), noise_image(3, (64, 64))]
    with serving(model=str(folder)) as naflex_client:
        response = naflex_client.post("/v1/embed", json={"images": list(map(request_image, images))}).json()
    np.testing.assert_allclose(response["vectors"], load(folder).encode_images(images), atol=1e-6)


def test_a_text_longer_than_the_context_gets_a_warning(client):
    response = client.post("/v1/embed", json={"texts": ["short", "a horse " * 40]}).json()
    assert len(response["vectors"]) == 2
    assert len(response["warnings"]) == 1
    assert "16 tokens" in response["warnings"][0]
    request = {"images": [request_image(noise_image(1))], "labels": ["horse " * 40, "cow"]}
    assert "1 of 2 prompts were cut to 16 tokens" in client.post("/v1/classify", json=request).json()["warnings"]


def test_a_request_in_openais_format_gets_a_response_in_that_format(client, clip):
    response = client.post("/v1/embeddings", json={"input": "a horse", "model": "tiny", "user": "x"}).json()
    assert (response["object"], response["model"]) == ("list", "tiny")
    assert response["usage"]["prompt_tokens"] == response["usage"]["total_tokens"] > 2
    [one] = response["data"]
    assert (one["object"], one["index"]) == ("embedding", 0)
    packed = client.post("/v1/embeddings", json={"input": ["a horse"], "encoding_format": "base64"}).json()
    numbers = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(numbers, one["embedding"])
    np.testing.assert_allclose(numbers, clip.encode_texts(["a horse"])[0], atol=1e-6)
    assert "32 dimensions" in error_message(client.post("/v1/embeddings", json={"input": "a", "dimensions": 8}), 400)


def test_an_image_is_encoded_once(client):
    def num_batches():
        lines = client.get("/metrics").text.splitlines()
        [line] = [line for line in lines if line.startswith('zebra_batch_items_count{queue="images"}')]
        return float(line.split()[-1])

    before = num_batches()
    for labels in (["horse", "cow"], ["red", "blue"]):
        client.post("/v1/classify", json={"images": [request_image(noise_image(77))], "labels": labels})
    assert num_batches() == before + 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"images": [{}], "labels": ["a"]}, "one of data, id and url"),
        ({"images": [{"data": "QQ==", "id": "x"}], "labels": ["a"]}, "one of data, id and url"),
        ({"images": [{"data": "QQ=="}], "labels": ["a"] * (limits.MAX_LABELS + 1)}, "labels"),
        ({"images": [{"data": "QQ=="}] * (limits.MAX_INPUTS + 1), "labels": ["a"]}, "images"),
        ({"images": [{"data": "QQ=="}], "labels": ["a" * (limits.MAX_TEXT_LENGTH + 1)]}, "labels"),
        ({"images": [{"data": "QQ=="}], "labels": ["a"], "lables": []}, "lables"),
        ({"images": [{"data": "QQ=="}], "labels": "a"}, "labels"),
        ({"images": [{"data": 5}], "labels": ["a"]}, "data"),
    ],
)
def test_an_invalid_request_is_rejected_with_the_field(client, body, message):
    assert message in error_message(client.post("/v1/classify", json=body), 422)


def test_requests_without_templates_use_those_of_the_model(client, clip):
    image, labels = noise_image(3), ["horse", "zebra"]
    about = client.get("/v1/about").json()
    assert about["model"]["templates"] == list(clip.templates)
    expected = {p.label: pytest.approx(p.score, abs=1e-4) for p in clip.classify([image], labels, clip.templates)[0]}
    ours = client.post("/v1/classify", json={"images": [request_image(image)], "labels": labels}).json()
    assert {score["label"]: score["score"] for score in ours["results"][0]["scores"]} == expected
    theirs = client.post(
        "/v1/classify", json={"inputs": request_image(image)["data"], "parameters": {"candidate_labels": labels}}
    ).json()
    assert {score["label"]: score["score"] for score in theirs} == expected


def test_labels_times_templates_are_capped(client):
    many = {"labels": [f"l{n}" for n in range(900)], "templates": [f"{n} {{}}" for n in range(50)]}
    assert "45,000 prompts" in error_message(
        client.post("/v1/classify", json={"images": [request_image(noise_image(1))], **many}), 422
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"images": [{"data": "not base64!"}], "labels": ["a"]}, "image 0: data is not base64"),
        (
            {"images": [request_image(noise_image(1)), request_image(b"GIF89a")], "labels": ["a"]},
            "image 1: damaged image",
        ),
        ({"images": [request_image(noise_image(1))], "labels": ["a", "a"]}, "labels are repeated: 'a'"),
        ({"images": [request_image(noise_image(1))], "labels": [" "]}, "empty label"),
        ({"images": [request_image(noise_image(1))], "labels": ["a"], "templates": ["no place"]}, "no place"),
        ({"images": [{"url": "https://example.org/a.jpg"}], "labels": ["a"]}, "cannot fetch"),
    ],
)
def test_a_request_that_cannot_be_answered_is_explained(client, body, message):
    assert message in error_message(client.post("/v1/classify", json=body), 400)


@pytest.mark.parametrize("num_labels", [0, 600])
def test_labels_that_are_one_text_to_the_model_are_refused_also_in_a_large_head(client, num_labels):
    labels = ["Cat", *(f"animal {number}" for number in range(num_labels)), "cat"]
    request = {"images": [request_image(noise_image(1))], "labels": labels}
    assert "'Cat' and 'cat' are one text" in error_message(client.post("/v1/classify", json=request), 400)


def test_a_request_that_takes_too_long_gets_503(serving, monkeypatch):
    monkeypatch.setattr(Bundle, "encode_texts", lambda self, texts, **_: time.sleep(0.5))
    with serving(batching=BatchingConfig(timeout_seconds=0.05)) as client:
        response = client.post("/v1/embed", json={"texts": ["a"]})
    assert "no answer within 0.05 s" in error_message(response, 503)
    assert response.headers["Retry-After"] == "5"


def test_errors_of_the_framework_have_the_same_shape(client):
    error_message(client.get("/v1/nothing"), 404)
    error_message(client.get("/v1/classify"), 405)
    error_message(client.post("/v1/classify", content=b"{", headers={"Content-Type": "application/json"}), 422)
    error_message(client.post("/v1/embed", content=b'{"texts": ["a"]}', headers={"Content-Type": "text/plain"}), 415)
    error_message(client.get("/page/nothing.js"), 404)


def test_without_a_store_search_explains_how_to_create_one(client):
    assert "zebra embed" in error_message(client.post("/v1/search", json={"text": "a zebra"}), 404)
    assert "zebra embed" in error_message(client.get("/v1/images/abc"), 404)
    request = {"images": [{"id": "abc"}], "labels": ["a"]}
    assert "zebra embed" in error_message(client.post("/v1/classify", json=request), 404)


def test_an_exception_inside_the_model_appears_only_in_the_log(serving, monkeypatch, caplog):
    with serving() as client:
        with monkeypatch.context() as patch:
            patch.setattr("zebra.pretrained.bundle.Bundle.encode_texts", lambda *_: 1 / 0)
            message = error_message(client.post("/v1/embed", json={"texts": ["a"]}), 500)
        assert "division" not in message
        assert "ZeroDivisionError" in caplog.text
        assert client.post("/v1/embed", json={"texts": ["a"]}).status_code == 200


def test_a_text_that_breaks_the_model_fails_alone(serving, monkeypatch):
    encode = Bundle.encode_texts

    def fragile(self, texts, **options):
        if "bad" in texts:
            raise RuntimeError("bad")
        return encode(self, texts, **options)

    monkeypatch.setattr(Bundle, "encode_texts", fragile)
    with serving(batching=BatchingConfig(max_delay_seconds=0.05)) as client:

        def embed(text):
            return client.post("/v1/embed", json={"texts": [text]}).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(embed, ["good", "bad", "fine", "well"]))
    assert statuses == [200, 500, 200, 200]


def test_metrics_count_requests_by_route_and_never_by_path(client):
    client.get("/v1/about")
    client.get("/v1/a-secret-somebody-typed")
    text = client.get("/metrics").text
    assert 'zebra_requests_total{route="/v1/about",status="200"}' in text
    assert 'zebra_requests_total{route="other",status="404"}' in text
    assert "secret" not in text
    for name in ("zebra_queue_items", "zebra_batch_items", "zebra_stage_seconds", "zebra_request_seconds"):
        assert name in text


def test_the_reference_needs_nothing_from_outside(client):
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for path in ("reference/reference.js", "reference/reference.css", "openapi.json"):
        assert f'"{path}"' in page
        assert client.get(f"/{path}").status_code == 200


def test_invalid_settings_are_rejected():
    for settings in ({"port": 70_000}, {"api_key": " "}, {"allow_url_hosts": ("https://a.org",)}):
        with pytest.raises(ConfigError):
            ServeConfig(**settings)
    with pytest.raises(ConfigError, match="queue at least as large"):
        BatchingConfig(max_batch_size=32, max_queue_size=8)
    with pytest.raises(ConfigError, match="time-out must be longer"):
        BatchingConfig(max_delay_seconds=1.0, timeout_seconds=0.5)


def test_a_large_head_is_the_same_in_chunks(client, clip):
    labels = [f"animal {number}" for number in range(150)]
    templates = ["a {}.", "the {}.", "one {}."]
    request = {"images": [request_image(noise_image(5))], "labels": labels, "templates": templates}
    scores = client.post("/v1/classify", json=request).json()["results"][0]["scores"]
    expected = clip.classify([noise_image(5)], labels, templates)[0]
    assert torch.allclose(
        torch.tensor([score["score"] for score in scores]), torch.tensor([p.score for p in expected]), atol=1e-5
    )
