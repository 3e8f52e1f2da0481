"""A service is ready when its model is warm, lets in who may, and gives nothing away."""

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

from .conftest import Here, encoded, running, sent
from .test_app import problem


def test_v4_a_service_is_alive_at_once_and_ready_when_the_model_is_warm(model):
    go = threading.Event()

    def slowly():
        go.wait(30)
        return load(model)

    app = create_app(Service(Here(slowly), ServeConfig(model=str(model))))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        answer = client.post("/v1/embed", json={"texts": ["a"]})
        assert "still loading" in problem(answer, 503)
        assert int(answer.headers["Retry-After"]) >= 1
        assert "still loading" in problem(client.get("/v1/about"), 503)
        go.set()
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        assert client.post("/v1/embed", json={"texts": ["a"]}).status_code == 200


def test_v4_a_service_that_drains_takes_no_new_work(model):
    draining = Service(Here(partial(load, model)), ServeConfig(model=str(model)))
    with TestClient(create_app(draining), base_url="http://localhost") as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        draining.drain()
        assert client.get("/readyz").status_code == 503
        answer = client.post("/v1/embed", json={"texts": ["a"]})
        assert "shutting down" in problem(answer, 503)
        assert "Retry-After" in answer.headers
        assert client.get("/healthz").status_code == 200


def test_a_model_that_cannot_be_opened_is_told_to_who_runs_it():
    def broken():
        raise WeightsError("cut short")

    told = []
    app = create_app(Service(Here(broken), ServeConfig(model="x"), on_error=told.append))
    with TestClient(app, base_url="http://localhost") as client:
        while not told:
            time.sleep(0.01)
        assert client.get("/readyz").status_code == 503
    assert [str(error) for error in told] == ["cut short"]


def test_a_model_without_a_tokenizer_says_so_to_who_sends_texts_and_embeds_pictures(clip):
    def without():
        return Bundle(clip.model, None, clip.preprocess)

    with running(Service(Here(without), ServeConfig(model="x"))) as client:
        assert "no tokenizer" in problem(client.post("/v1/embed", json={"texts": ["a"]}), 400)
        picture = {"images": [sent(encoded(1))]}
        assert "no tokenizer" in problem(client.post("/v1/classify", json=picture | {"labels": ["a"]}), 400)
        assert client.post("/v1/embed", json=picture).status_code == 200


def test_with_a_key_everything_but_health_and_the_page_needs_it(serving):
    with serving(api_key="secret") as client:
        for path in ("/v1/about", "/metrics", "/v1/images/a/thumbnail", "/v1/nothing", "/nothing"):
            answer = client.get(path)
            assert "Authorization" in problem(answer, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for key in ("Bearer wrong", "secret", "Bearer secret2", "Bearer sécret"):
            assert client.get("/v1/about", headers={"Authorization": key.encode()}).status_code == 401
        assert client.get("/v1/about", headers={"Authorization": "Bearer secret"}).status_code == 200
        for path in ("/healthz", "/readyz", "/docs", "/reference/reference.js", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_a_local_service_answers_to_local_names_alone(serving):
    with serving() as client:
        for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200
        for host in ("evil.test", "evil.test:8000", "localhost.evil.test", "", "127.0.0.1.evil.test"):
            problem(client.get("/healthz", headers={"Host": host}), 403)
    with serving(host="0.0.0.0") as client:
        assert client.get("/healthz", headers={"Host": "zebra.example.org"}).status_code == 200


def test_every_answer_has_the_headers_of_security(client):
    for path in ("/healthz", "/docs", "/v1/about", "/v1/nothing", "/nothing", "/metrics"):
        headers = client.get(path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value, path
    assert "'unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]
    assert client.get("/v1/about").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("origin", ["https://evil.test", "null"])
def test_no_other_origin_is_let_in(client, origin):
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answers = [
        client.options("/v1/embed", headers=asked),
        client.get("/v1/about", headers={"Origin": origin}),
    ]
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)
