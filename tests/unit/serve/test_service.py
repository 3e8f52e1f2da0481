"""Tests of the service: readiness, draining, API key, Host header, security headers."""

import threading
import time
from functools import partial

import pytest
from starlette.testclient import TestClient

from zebra.config.serve import ServeConfig
from zebra.errors import WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.serve.app import create_app
from zebra.serve.middleware.security_headers import SECURITY_HEADERS
from zebra.serve.service import Service

from .conftest import InProcessClient, error_message, noise_image, request_image, running


def test_v4_a_service_is_alive_at_once_and_ready_when_the_model_is_warm(model):
    gate = threading.Event()

    def load_slowly():
        gate.wait(30)
        return load(model)

    app = create_app(Service(InProcessClient(load_slowly), ServeConfig(model=str(model))))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        response = client.post("/v1/embed", json={"texts": ["a"]})
        assert "still loading" in error_message(response, 503)
        assert int(response.headers["Retry-After"]) >= 1
        assert "still loading" in error_message(client.get("/v1/about"), 503)
        gate.set()
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        assert client.post("/v1/embed", json={"texts": ["a"]}).status_code == 200


def test_v4_a_draining_service_rejects_new_requests(model):
    service = Service(InProcessClient(partial(load, model)), ServeConfig(model=str(model)))
    with TestClient(create_app(service), base_url="http://localhost") as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        service.drain()
        assert client.get("/readyz").status_code == 503
        response = client.post("/v1/embed", json={"texts": ["a"]})
        assert "shutting down" in error_message(response, 503)
        assert "Retry-After" in response.headers
        assert client.get("/healthz").status_code == 200


def test_a_model_that_cannot_be_loaded_is_reported():
    def fail():
        raise WeightsError("cut short")

    errors = []
    app = create_app(Service(InProcessClient(fail), ServeConfig(model="x"), on_error=errors.append))
    with TestClient(app, base_url="http://localhost") as client:
        while not errors:
            time.sleep(0.01)
        assert client.get("/readyz").status_code == 503
    assert [str(error) for error in errors] == ["cut short"]


def test_a_model_without_a_tokenizer_embeds_images_and_rejects_texts(clip):
    def load_without_tokenizer():
        return Bundle(clip.model, None, clip.preprocess)

    with running(Service(InProcessClient(load_without_tokenizer), ServeConfig(model="x"))) as client:
        assert "no tokenizer" in error_message(client.post("/v1/embed", json={"texts": ["a"]}), 400)
        request = {"images": [request_image(noise_image(1))]}
        assert "no tokenizer" in error_message(client.post("/v1/classify", json=request | {"labels": ["a"]}), 400)
        assert client.post("/v1/embed", json=request).status_code == 200


def test_with_a_key_every_route_but_health_and_the_page_requires_it(serving):
    with serving(api_key="secret") as client:
        for path in ("/v1/about", "/metrics", "/v1/images/a/thumbnail", "/v1/nothing", "/nothing"):
            response = client.get(path)
            assert "Authorization" in error_message(response, 401)
            assert response.headers["WWW-Authenticate"] == "Bearer"
        for key in ("Bearer wrong", "secret", "Bearer secret2", "Bearer sécret"):
            assert client.get("/v1/about", headers={"Authorization": key.encode()}).status_code == 401
        assert client.get("/v1/about", headers={"Authorization": "Bearer secret"}).status_code == 200
        for path in ("/healthz", "/readyz", "/docs", "/reference/reference.js", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_a_local_service_accepts_only_local_host_names(serving):
    with serving() as client:
        for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200
        for host in ("evil.test", "evil.test:8000", "localhost.evil.test", "", "127.0.0.1.evil.test"):
            error_message(client.get("/healthz", headers={"Host": host}), 403)
    with serving(host="0.0.0.0") as client:
        assert client.get("/healthz", headers={"Host": "zebra.example.org"}).status_code == 200


def test_every_response_has_the_security_headers(client):
    for path in ("/healthz", "/docs", "/v1/about", "/v1/nothing", "/nothing", "/metrics"):
        headers = client.get(path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value, path
    assert "'unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]
    assert client.get("/v1/about").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("origin", ["https://evil.test", "null"])
def test_no_other_origin_is_allowed(client, origin):
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    responses = [client.options("/v1/embed", headers=headers), client.get("/v1/about", headers={"Origin": origin})]
    assert not any(name.startswith("access-control") for response in responses for name in response.headers)
