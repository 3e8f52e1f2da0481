"""Multipart forms on the routes that take images: the same responses as to JSON, and what is wrong with others."""

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from zebra.serve import limits
from zebra.serve.errors import HTTPError
from zebra.serve.forms import read_form

from .conftest import error_message, noise_image, request_image

pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")

PHOTO = ("photo.jpg", noise_image(1), "image/jpeg")
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def part(name, value, filename=None):
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"--x\r\n{disposition}\r\n\r\n".encode() + value + b"\r\n"


def test_an_uploaded_image_is_classified_as_one_in_json(client):
    labels, templates = ["a horse", "a zebra, striped"], ["one {}.", "{}"]
    files = [("image", PHOTO), ("image", ("b.png", noise_image(2, format="PNG"), "application/octet-stream"))]
    form = client.post("/v1/classify", files=files, data={"labels": labels, "templates": templates})
    images = [request_image(noise_image(1)), request_image(noise_image(2, format="PNG"))]
    body = {"images": images, "labels": labels, "templates": templates}
    assert form.json() == client.post("/v1/classify", json=body).json()
    assert len(form.json()["results"]) == 2


def test_images_and_texts_of_a_form_are_embedded(client, clip):
    response = client.post("/v1/embed", files=[("images", PHOTO)])
    np.testing.assert_allclose(response.json()["vectors"], clip.encode_images([noise_image(1)]), atol=1e-6)
    response = client.post("/v1/embed", files={"texts": (None, "a horse: 5, [{")})
    np.testing.assert_allclose(response.json()["vectors"], clip.encode_texts(["a horse: 5, [{"]), atol=1e-6)


def test_a_search_by_upload_takes_numbers_and_repeated_fields(store_client, photos):
    upload = {"image": ("a.jpg", (photos / "007.jpg").read_bytes())}
    fields = {"k": "3", "offset": "0", "min_score": "-1", "not": ["a cow", "a car"], "where": "width >= 40"}
    form = store_client.post("/v1/search", files=upload, data=fields).json()
    body = {"image": request_image(upload["image"][1]), "k": 3, "min_score": -1, "not": ["a cow", "a car"]}
    body |= {"where": "width >= 40"}
    expected = store_client.post("/v1/search", json=body).json()
    assert form["hits"] == expected["hits"]
    assert len(form["hits"]) == 3


def test_a_large_photo_is_not_taken_for_a_body_of_many_values(client):
    data, comment = noise_image(3), b"\xff\xfe\xff\xff" + b":" * 65_533  # a JPEG segment
    response = client.post("/v1/embed", files={"image": ("a.jpg", data[:2] + 3 * comment + data[2:])})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("files", "data", "status", "message"),
    [
        ({}, {"labels": ["a"]}, 415, "send JSON"),
        ({"other": PHOTO}, {"labels": ["a"]}, 422, "other: send a text, not a file"),
        ({"labels": PHOTO}, {}, 422, "labels: send a text, not a file"),
        ({"image": (None, "photo.jpg")}, {"labels": ["a"]}, 422, "curl -F image=@photo.jpg"),
        ({"image": PHOTO}, {"labels": ["a"], "lables": "b"}, 422, "unknown fields: lables"),
        ({"image": PHOTO}, {}, 422, "labels"),
        ({"image": ("a.jpg", b"no image")}, {"labels": ["a"]}, 400, "image 0: not an allowed format"),
        ({"image": ("a.jpg", b"")}, {"labels": ["a"]}, 400, "image 0: "),
        ({"image": PHOTO}, {"labels": ["a"] * 1001}, 422, "at most 1000 items"),
        ({"image": PHOTO}, {"labels": ["a", "a"]}, 400, "labels are repeated"),
        ({"image": PHOTO}, {"labels": ["a" * 70_000]}, 400, "Part exceeded maximum size of 64KB"),
    ],
)
def test_an_invalid_form_is_refused_with_the_field(client, files, data, status, message):
    assert message in error_message(client.post("/v1/classify", files=files, data=data), status)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": "many"}, "k: Input should be a valid integer"),
        ({"k": ["3", "4"]}, "k: given 2 times"),
        ({"k": "100000"}, "k: "),
        ({"min_score": "high"}, "min_score: "),
        ({"text": ["a", "b"]}, "text: given 2 times"),
    ],
)
def test_a_field_that_is_no_number_or_is_repeated_is_named(store_client, fields, message):
    files = {"like": (None, "x")}
    assert message in error_message(store_client.post("/v1/search", files=files, data=fields), 422)


def test_two_images_in_a_search_are_refused(store_client):
    response = store_client.post("/v1/search", files=[("image", PHOTO), ("image", PHOTO)])
    assert error_message(response, 422) == "image: given 2 times; send one"


@pytest.mark.parametrize("cut", [1, 3, 60, 300])
def test_a_form_that_ends_early_is_refused_and_not_answered_in_part(client, cut):
    body = part("labels", b"a") + part("image", noise_image(1), "a.jpg") + b"--x--\r\n"
    assert client.post("/v1/classify", content=body, headers=FORM).status_code == 200
    cut_body = body[: len(body) - 2 - cut]  # the line break after the last boundary may be missing
    assert "cannot read the form" in error_message(client.post("/v1/classify", content=cut_body, headers=FORM), 400)


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("multipart/form-data", b"--x--\r\n", "Missing boundary"),
        (FORM["Content-Type"], b"no form", "cannot read the form"),
        (FORM["Content-Type"], b"--x\r\n\r\nnameless\r\n--x--\r\n", "name"),
        (FORM["Content-Type"], b"--y\r\n" + b"\r\n--y--\r\n", "cannot read the form"),
        (FORM["Content-Type"], part("labels", b"a") * 10_000 + b"--x--\r\n", "Too many fields"),
        (FORM["Content-Type"], part("image", b"", "a.jpg") * 10_000 + b"--x--\r\n", "Too many files"),
        (FORM["Content-Type"], b"--x\r\n" + b"X-A: 1\r\n" * 10_000 + b"\r\n\r\n--x--\r\n", "cannot read the form"),
    ],
)
def test_a_malformed_form_and_one_of_very_many_parts_are_refused(client, content_type, body, message):
    response = client.post("/v1/classify", content=body, headers={"Content-Type": content_type})
    assert message in error_message(response, 400)


def test_a_form_is_limited_in_size_as_json_is(client):
    body = part("image", bytes(limits.MAX_BODY_BYTES), "a.jpg") + b"--x--\r\n"
    error_message(client.post("/v1/embed", content=body, headers=FORM), 413)


def test_bytes_that_are_no_text_are_no_internal_error(client):
    body = part("texts", b"\xff\xfe \xed\xa0\x80") + b"--x--\r\n"
    assert client.post("/v1/embed", content=body, headers=FORM).status_code == 200  # read as Latin-1


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/map/nearest", "/v1/nothing", "/healthz"])
def test_other_paths_take_json_only(client, path):
    assert "application/json" in error_message(client.post(path, files={"image": PHOTO}), 415)


def test_a_json_body_cannot_pass_for_an_uploaded_file(client):
    for image in ({"file": "QQ=="}, request_image(noise_image(1)) | {"file": "QQ=="}):
        assert "unknown fields: file" in error_message(client.post("/v1/embed", json={"images": [image]}), 422)


def test_the_openapi_document_describes_the_forms(client):
    for path in ("/v1/classify", "/v1/embed", "/v1/search"):
        content = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
        form = content["multipart/form-data"]["schema"]
        assert form["properties"]["image"]["items"] == {"type": "string", "format": "binary"}
        assert "$ref" not in str(form)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://zebra.example.org", "Sec-Fetch-Site": "same-origin"}, 200),  # a proxy changes the Host
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8001"}, 403),
        ({"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost:8001", "Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_a_form_that_another_website_sends_is_refused(client, headers, status):
    response = client.post("/v1/embed", files={"image": PHOTO}, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert "--cors" in error_message(response, 403)


def test_a_listed_origin_may_send_forms(serving):
    with serving(cors=("https://photos.example.org",)) as client:
        headers = {"Origin": "https://photos.example.org", "Sec-Fetch-Site": "cross-site"}
        assert client.post("/v1/embed", files={"image": PHOTO}, headers=headers).status_code == 200
        error_message(client.post("/v1/embed", files={"image": PHOTO}, headers=headers | {"Origin": "null"}), 403)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\r\n\\%\0'), min_size=1, max_size=8)
PARTS = st.lists(
    st.tuples(NAMES, st.binary(max_size=60).filter(lambda value: b"\r\n--x" not in value), st.booleans()), max_size=6
)


def to_text(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def encode(parts):
    pieces = []
    for name, value, is_file in parts:
        disposition = f'Content-Disposition: form-data; name="{name}"' + ('; filename="f"' if is_file else "")
        pieces.append(f"--x\r\n{disposition}\r\n\r\n".encode() + value + b"\r\n")
    return b"".join(pieces) + b"--x--\r\n"


def parse(body, num_chunks=1):
    step = -(-len(body) // num_chunks) or 1
    chunks = [body[start : start + step] for start in range(0, len(body), step)] or [b""]

    async def receive():
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    scope = {"type": "http", "headers": [(b"content-type", FORM["Content-Type"].encode())]}
    return asyncio.run(read_form(Request(scope, receive)))


@given(PARTS, st.integers(1, 9))
def test_a_form_is_read_as_it_was_written_in_any_chunks(parts, num_chunks):
    expected = {}
    for name, value, is_file in parts:
        expected.setdefault(name, []).append(value if is_file else to_text(value))
    assert parse(encode(parts), num_chunks) == expected


@given(PARTS.filter(len), st.data())
def test_a_form_that_is_cut_or_changed_anywhere_is_read_or_refused(parts, data):
    body = encode(parts)
    end = data.draw(st.integers(0, len(body) - 5), "end")
    with pytest.raises(HTTPError) as error:
        parse(body[:end])
    assert error.value.status_code == 400
    position, byte = data.draw(st.integers(0, len(body) - 1)), data.draw(st.binary(max_size=2))
    with suppress(HTTPError):
        parse(body[:position] + byte + body[position + 1 :])
