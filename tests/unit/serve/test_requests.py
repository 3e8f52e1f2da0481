"""Requests as clients of other services send them, and requests that are made to cost much."""

import base64
import gzip
import json

import numpy as np
import pytest

from zebra.serve import limits
from zebra.serve.middleware.body_limit import require_few_values

from .conftest import error_message, noise_image, request_image

JSON_HEADERS = {"Content-Type": "application/json"}
DATA_URI = "data:image/jpeg;base64," + base64.b64encode(noise_image(1, (200, 200))).decode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": DATA_URI}),
        ("/v1/embeddings", {"input": ["a horse", DATA_URI]}),
        ("/v1/embed", {"texts": [DATA_URI]}),
        ("/v1/embed", {"texts": ["DATA:image/png;base64,AAAA"]}),
        ("/v1/classify", {"images": [request_image(noise_image(1))], "labels": [DATA_URI]}),
    ],
)
def test_an_image_in_the_place_of_a_text_is_refused_with_where_to_send_it(client, path, body):
    message = error_message(client.post(path, json=body), 422)
    assert "send it to /v1/embed" in message
    assert "base64" not in message  # the image is not echoed


@pytest.mark.parametrize("tokens", [[57668, 53901], [[57668, 53901]], [[1], [2, 3]]])
def test_token_ids_are_refused_with_the_setting_of_the_client(client, tokens):
    message = error_message(client.post("/v1/embeddings", json={"input": tokens}), 422)
    assert message == "input: send texts, not token ids (LangChain: check_embedding_ctx_length=False)"


@pytest.mark.parametrize("value", [[], {}, 5, None, [None], ["a", 5], ""])
def test_other_inputs_get_one_reason(client, value):
    message = error_message(client.post("/v1/embeddings", json={"input": value}), 422)
    assert message.startswith("input")
    assert ";" not in message


def test_embeddings_take_as_many_texts_as_openais_client_sends(client, clip):
    texts = [f"horse {number}" for number in range(limits.MAX_EMBEDDING_INPUTS)]
    response = client.post("/v1/embeddings", json={"input": texts, "encoding_format": "base64"}).json()
    vectors = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in response["data"]]
    np.testing.assert_allclose(vectors, clip.encode_texts(texts), atol=1e-6)
    assert "2048" in error_message(client.post("/v1/embeddings", json={"input": [*texts, "one more"]}), 422)


@pytest.mark.parametrize("encode", [base64.encodebytes, base64.urlsafe_b64encode])
def test_base64_in_lines_or_in_the_url_alphabet_is_an_image(client, encode):
    data = noise_image(9)
    expected = client.post("/v1/embed", json={"images": [request_image(data)]}).json()
    response = client.post("/v1/embed", json={"images": [{"data": encode(data).decode()}]})
    assert response.json()["vectors"] == expected["vectors"]
    assert client.post("/v1/embed", json={"images": [{"data": DATA_URI}]}).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=a",
        "application/xml",
        "application/json; charset=utf-16",
        "application/jsonlines",
        "x" * 8000,
    ],
)
def test_a_body_that_is_not_json_is_refused_with_the_header_to_send(client, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    message = error_message(client.post("/v1/embed", content=b'{"texts": ["a"]}', headers=headers), 415)
    assert "Content-Type: application/json" in message


@pytest.mark.parametrize(
    "content_type", ["application/json;charset=UTF-8", "Application/JSON", "application/vnd.api+json"]
)
def test_json_is_accepted_under_its_names(client, content_type):
    response = client.post("/v1/embed", content=b'{"texts": ["a"]}', headers={"Content-Type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_refused(client, encoding):
    body, headers = gzip.compress(b'{"texts": ["a"]}'), JSON_HEADERS | {"Content-Encoding": encoding}
    assert "without Content-Encoding" in error_message(client.post("/v1/embed", content=body, headers=headers), 415)


def test_many_unknown_fields_give_one_short_error(client):
    body = {"texts": ["a"]} | {f"field {number}": 0 for number in range(40_000)}
    message = error_message(client.post("/v1/embed", json=body), 422)
    assert message == "unknown fields: field 0, field 1, field 2 and 39,997 more; the fields are images, texts"
    image = request_image(noise_image(1)) | {"x" * 100_000: 0}
    assert len(error_message(client.post("/v1/embed", json={"images": [image]}), 422)) < 300
    assert "lables" in error_message(client.post("/v1/search", json={"lables": ["a"], "text": "a"}), 422)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (limits.MAX_JSON_FIELDS + 1),
        b'{"a":[' + b"{}," * limits.MAX_JSON_VALUES + b"{}]}",
        b"{" + b'"a":0,' * limits.MAX_JSON_FIELDS + b'"b":0}',
        b"[" + b"0," * (limits.MAX_JSON_VALUES + 1) + b"0]",
    ],
)
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(client, body):
    assert "too many" in error_message(client.post("/v1/embed", content=body, headers=JSON_HEADERS), 413)


def test_the_largest_requests_have_few_enough_values():
    vectors = [[0.5] * 1024] * limits.MAX_LABELS
    require_few_values(json.dumps({"vectors": vectors}).encode(), "/v1/map/nearest")
    answer = {"image": "a", "answer": "b", "shots": 0, "person": "c"}
    require_few_values(json.dumps({"person": "c", "answers": [answer] * 100_000}).encode(), "/v1/quiz/a/score")
    texts = ["one, two, three: four [five], " * 33] * 1000
    require_few_values(json.dumps({"input": texts}).encode(), "/v1/embeddings")


@pytest.mark.parametrize(
    "body",
    [
        {"images": [request_image(noise_image(1))], "labels": ["a"], "templates": ["no place" * 200]},
        {"images": [request_image(noise_image(1))], "labels": ["a" * 2000] * 2},
        {"images": [request_image(noise_image(1))], "labels": ["a"], "templates": ["{}" * 1000]},
        {"images": [{"data": "é" * 100_000}], "labels": ["a"]},
        {"images": [{"url": "x" * 2000}], "labels": ["a"]},
    ],
)
def test_an_error_never_echoes_the_request_at_length(client, body):
    assert len(client.post("/v1/classify", json=body).content) < 2 * limits.MAX_ERROR_LENGTH


def test_half_a_surrogate_pair_is_no_internal_error(client):
    for body in (b'{"\\ud800": 1}', b'{"texts": ["\\ud800"]}', b'{"texts": ["a"], "\\udfff": "\\udfff"}'):
        error_message(client.post("/v1/embed", content=body, headers=JSON_HEADERS), 422)


def test_the_pixels_of_a_request_are_bounded_before_any_image_is_decoded(client):
    large = request_image(
        b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (5999).to_bytes(3, "little") + (4999).to_bytes(3, "little")
    )
    message = error_message(client.post("/v1/classify", json={"images": [large] * 4, "labels": ["a"]}), 400)
    assert message.startswith("too many pixels: the 4 images have 120,000,000 pixels")


def test_a_response_that_would_be_huge_is_refused_before_any_work(client):
    labels = [f"{number}" + "\x01" * 900 for number in range(1000)]
    body = {"images": [request_image(noise_image(1))] * 64, "labels": labels, "templates": ["{}"]}
    assert "the response would be too large" in error_message(client.post("/v1/classify", json=body), 422)


@pytest.mark.parametrize(
    "host",
    [
        "localhost:80@evil.test",
        "evil.test@localhost",
        "localhost:",
        "localhost:x",
        "localhost/evil",
        "[::1]evil:1",
        "a:1:80",
    ],
)
def test_a_host_header_that_only_begins_like_a_local_name_is_refused(client, host):
    error_message(client.get("/healthz", headers={"Host": host}), 403)
