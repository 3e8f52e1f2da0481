"""Requests in the formats of OpenAI, infinity, vLLM, Immich and Weaviate, as their clients send them."""

import base64
import json

import numpy as np
import pytest

from zebra.serve import limits

from .conftest import error_message, noise_image, request_image

IMAGES = [noise_image(1), noise_image(2, format="PNG")]
URIS = [f"data:image/jpeg;base64,{request_image(image)['data']}" for image in IMAGES]


def embeddings(client, **body):
    response = client.post("/v1/embeddings", json=body)
    assert response.status_code == 200, response.text
    rows = response.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return [row["embedding"] for row in rows]


def test_images_are_embedded_as_infinitys_client_sends_them(client, clip):
    body = {"input": URIS, "model": "default/not-specified", "dimensions": 0, "modality": "image"}
    np.testing.assert_allclose(embeddings(client, **body), clip.encode_images(IMAGES), atol=1e-6)
    packed = embeddings(client, **body, encoding_format="base64")
    vectors = [np.frombuffer(base64.b64decode(vector), "<f4") for vector in packed]
    np.testing.assert_allclose(vectors, clip.encode_images(IMAGES), atol=1e-6)
    assert embeddings(client, input=URIS[0], modality="image") == embeddings(client, input=URIS[:1], modality="image")
    assert embeddings(client, input=["a horse"], modality="text") == embeddings(client, input="a horse")


def test_a_chat_of_one_image_or_text_is_embedded_as_vllm_does(client, clip):
    def chat(part):
        return embeddings(client, model="tiny", messages=[{"role": "user", "content": [part]}])[0]

    image = chat({"type": "image_url", "image_url": {"url": URIS[0], "detail": "auto"}})
    np.testing.assert_allclose(image, clip.encode_images(IMAGES[:1])[0], atol=1e-6)
    np.testing.assert_allclose(chat({"type": "text", "text": "a horse"}), clip.encode_texts(["a horse"])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"input": URIS[0]}, 422, '"modality": "image"'),
        ({"input": "a horse!", "modality": "image"}, 400, "image 0: data is not base64"),
        ({"input": ["https://example.org/a.jpg"], "modality": "image"}, 400, "cannot fetch"),
        ({"input": ["http://127.0.0.1/a.jpg"], "modality": "image"}, 400, "cannot fetch"),
        ({"input": ["https://a.org/" + "a" * 2000], "modality": "image"}, 422, "a URL has 2,014 characters"),
        ({"input": [URIS[0]] * (limits.MAX_INPUTS + 1), "modality": "image"}, 422, "65 images"),
        ({"input": [], "modality": "image"}, 422, "input"),
        ({"input": [""], "modality": "image"}, 422, "item 0 is empty"),
        ({"input": ["a", "b" * 2001]}, 422, "text 1 has 2,001 characters"),
        ({"input": "a", "modality": "audio"}, 422, "modality"),
        ({"input": "a", "modality": ["image"]}, 422, "modality"),
        ({}, 422, "input or messages"),
        ({"input": "a", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, 422, "either"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, 422, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]}, 422, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 422, "needs the field text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 422, "needs the field image_url"),
        ({"messages": [{"role": "system", "content": [{"type": "text", "text": "a"}]}]}, 422, "role"),
        ({"messages": "a"}, 422, "messages"),
    ],
)
def test_an_embeddings_request_that_cannot_be_answered_is_explained(client, body, status, message):
    assert message in error_message(client.post("/v1/embeddings", json=body), status)


def test_the_served_model_is_listed_and_another_one_is_refused(client, model):
    assert client.get("/v1/health").json() == {"status": "ready"}  # infinity's client asks before each request
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    [card] = listed["data"]
    assert (card["id"], card["object"], card["owned_by"]) == ("tiny", "model", "zebra")
    assert card["created"] > 1_700_000_000
    assert client.get("/v1/models/tiny").json() == card
    for name in ("text-embedding-3-small", "Tiny", "x/y", "x" * 1000):
        for response in (
            client.get(f"/v1/models/{name}"),
            client.post("/v1/embeddings", json={"input": "a", "model": name}),
        ):
            assert "the served model is 'tiny'" in error_message(response, 404)
    for name in ("tiny", str(model), "", "default/not-specified"):
        assert client.post("/v1/embeddings", json={"input": "a", "model": name}).status_code == 200


def test_hugging_faces_client_gets_vectors_of_texts(client, clip):
    for inputs in ("a horse", ["a horse", "a cat"]):
        response = client.post("/v1/embed", json={"inputs": inputs}).json()
        expected = clip.encode_texts([inputs] if isinstance(inputs, str) else inputs)
        np.testing.assert_allclose(response, expected, atol=1e-6)
    assert "unknown fields: normalize" in error_message(
        client.post("/v1/embed", json={"inputs": "a", "normalize": False}), 422
    )


# Immich: server/src/repositories/machine-learning.repository.ts sends forms, and reads vectors as text.


def predict(client, entries, *, image=None, text=None):
    files = {"entries": (None, entries if isinstance(entries, str) else json.dumps(entries))}
    files |= {} if image is None else {"image": ("blob", image, "application/octet-stream")}
    return client.post("/predict", files=files | ({} if text is None else {"text": (None, text)}))


def entry(kind, **options):
    return {"clip": {kind: {"modelName": "ViT-B-32__openai", **options}}}


def test_immich_gets_vectors_of_images_and_texts(client, clip):
    pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")
    response = predict(client, entry("visual"), image=IMAGES[0]).json()
    assert set(response) == {"clip", "imageHeight", "imageWidth"}
    assert (response["imageWidth"], response["imageHeight"]) == (40, 30)
    assert isinstance(response["clip"], str)
    np.testing.assert_allclose(json.loads(response["clip"]), clip.encode_images(IMAGES[:1])[0], atol=1e-6)
    response = predict(client, entry("textual", options={"language": "de"}), text="a horse").json()
    assert set(response) == {"clip"}
    np.testing.assert_allclose(json.loads(response["clip"]), clip.encode_texts(["a horse"])[0], atol=1e-6)
    assert client.get("/ping").text == "pong"


FACES = {"facial-recognition": {"detection": {"modelName": "x"}, "recognition": {"modelName": "x"}}}


@pytest.mark.parametrize(
    ("entries", "payload", "status", "message"),
    [
        (FACES, {"image": IMAGES[0]}, 400, "not facial-recognition.detection, facial-recognition.recognition"),
        (entry("visual") | FACES, {"image": IMAGES[0]}, 400, "one in a request"),
        ({"clip": entry("visual")["clip"] | entry("textual")["clip"]}, {"image": IMAGES[0]}, 400, "one in a request"),
        ({"clip": {}}, {"text": "a"}, 400, "not none"),
        (entry("visual"), {"text": "a"}, 422, "image: the task clip.visual needs one file"),
        (entry("textual"), {"image": IMAGES[0]}, 422, "text: the task clip.textual needs one text"),
        (entry("textual"), {"text": ""}, 422, "text: it has 0 characters"),
        (entry("textual"), {"text": "a" * 2001}, 422, "text: it has 2,001 characters"),
        (entry("visual"), {"image": b"no image"}, 400, "not an allowed format"),
        ({"clip": {"visual": {}}}, {"image": IMAGES[0]}, 422, "modelName is missing"),
        ({"clip": {"visual": "x"}}, {"image": IMAGES[0]}, 422, "modelName is missing"),
        ({"clip": ["visual"]}, {"image": IMAGES[0]}, 422, "not tasks"),
        ([], {"image": IMAGES[0]}, 422, "not tasks"),
        ({}, {"image": IMAGES[0]}, 422, "not tasks"),
        ("{", {"image": IMAGES[0]}, 422, "not JSON"),
        ("[" * 60_000, {"image": IMAGES[0]}, 422, "not JSON"),
        ("", {"image": IMAGES[0]}, 422, "not JSON"),
    ],
)
def test_a_request_that_immich_does_not_send_is_explained(client, entries, payload, status, message):
    pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")
    assert message in error_message(predict(client, entries, **payload), status)


def test_immichs_route_takes_forms_only(client):
    pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")
    assert "multipart/form-data" in error_message(client.post("/predict", json=entry("visual")), 415)
    assert "entries" in error_message(client.post("/predict", files={"image": ("blob", IMAGES[0])}), 422)


# Weaviate: modules/multi2vec-clip/clients/vectorizer.go sends JSON and reads `error` as a string.


def test_weaviate_gets_vectors_of_texts_and_images(client, clip):
    images = [request_image(image)["data"] for image in IMAGES]
    response = client.post("/vectorize", json={"texts": ["a horse"], "images": images}).json()
    assert set(response) == {"textVectors", "imageVectors"}
    np.testing.assert_allclose(response["textVectors"], clip.encode_texts(["a horse"]), atol=1e-6)
    np.testing.assert_allclose(response["imageVectors"], clip.encode_images(IMAGES), atol=1e-6)
    for body in ({"texts": [], "images": None}, {}):
        assert client.post("/vectorize", json=body).json() == {"textVectors": [], "imageVectors": []}
    assert client.get("/meta").json() == client.get("/v1/about").json()["model"]
    for name in ("live", "ready"):
        assert client.get(f"/.well-known/{name}").status_code == 204


def test_weaviates_properties_may_be_empty_or_long(client, clip):
    texts = ["", "a horse " * 1000]
    response = client.post("/vectorize", json={"texts": texts, "images": []}).json()
    with pytest.warns(UserWarning, match="truncated"):
        np.testing.assert_allclose(response["textVectors"], clip.encode_texts(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"json": {"images": ["no image"]}}, 400, "image 0: "),
        ({"json": {"texts": "a"}}, 422, "texts"),
        ({"json": {"texts": ["a"] * 65}}, 422, "texts"),
        ({"content": b"x"}, 415, "application/json"),
        (
            {"content": b"x", "headers": {"Content-Type": "application/json", "Content-Length": "99999999"}},
            413,
            "large",
        ),
    ],
)
def test_weaviate_gets_errors_as_a_text(client, options, status, message):
    response = client.post("/vectorize", **options)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]
    assert int(response.headers["Content-Length"]) == len(response.content)


def test_the_other_formats_need_the_key_too(serving):
    with serving(api_key="secret") as client:
        for path in ("/v1/models", "/ping", "/meta", "/.well-known/ready"):
            error_message(client.get(path), 401)
        assert client.post("/vectorize", json={}).json() == {"error": "send the key as Authorization: Bearer KEY"}
        error_message(client.post("/predict", files={"text": (None, "a")}), 401)
