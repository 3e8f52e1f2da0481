"""Other origins: which pages may use the server, and that they can read its errors too."""

import pytest

from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError
from zebra.serve.http_protocol import overloaded_response

from .conftest import error_message, noise_image, request_image

ORIGIN = "https://photos.example.org"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def listed(serving):
    with serving(cors=(ORIGIN, "http://localhost:3000"), api_key="secret") as client:
        yield client


def test_a_listed_origin_may_send_the_key_and_json_and_cookies_are_never_allowed(listed):
    headers = PREFLIGHT | {"Access-Control-Request-Headers": "authorization, content-type"}
    response = listed.options("/v1/embed", headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    allowed = {name.strip().lower() for name in response.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "content-type"} <= allowed
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in response.headers["Vary"]
    response = listed.get("/v1/about", headers={"Origin": ORIGIN, "Authorization": "Bearer secret"})
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/v1/about", {}, 401),
        ("/v1/nothing", {"key": True}, 404),
        ("/v1/embed", {"key": True, "json": {}}, 422),
        ("/v1/embed", {"key": True, "json": {"images": [request_image(b"GIF89a")]}}, 400),
        ("/v1/embed", {"key": True, "content": b"x"}, 415),
        ("/v1/embed", {"key": True, "content": b"x", "headers": {"Content-Length": "99999999"}}, 413),
        ("/healthz", {"headers": {"Host": "evil.test"}}, 403),
    ],
)
def test_a_listed_origin_can_read_every_error(listed, path, options, status):
    options = dict(options)
    headers = {"Origin": ORIGIN} | options.pop("headers", {})
    if options.pop("key", False):
        headers["Authorization"] = "Bearer secret"
    if status == 413:
        headers["Content-Type"] = "application/json"
    response = listed.request("POST" if options else "GET", path, headers=headers, **options)
    error_message(response, status)
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_an_internal_error_and_a_rejection_under_load_can_be_read_too(serving, monkeypatch):
    with serving(cors=(ORIGIN,)) as client:
        monkeypatch.setattr("zebra.pretrained.bundle.Bundle.encode_texts", lambda *_: 1 / 0)
        response = client.post("/v1/embed", json={"texts": ["a"]}, headers={"Origin": ORIGIN})
        error_message(response, 500)
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    request = f"POST / HTTP/1.1\r\nOrigin: {ORIGIN}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    assert f"\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\n".encode() in overloaded_response(request, (ORIGIN,))
    assert f"\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\n".encode() in overloaded_response(request, ("*",))
    for origins in ((), ("https://other.test",), (ORIGIN + ".test",)):
        assert b"Access-Control-Allow" not in overloaded_response(request, origins)
    hidden = b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n\r\nOrigin: " + ORIGIN.encode() + b"\r\n"
    assert b"Access-Control-Allow" not in overloaded_response(hidden, (ORIGIN,))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.test", "null", "http://photos.example.org", ORIGIN + ":8443", ORIGIN + ".evil.test", "", "*"],
)
def test_another_origin_gets_nothing_to_read(listed, origin):
    preflight = listed.options("/v1/embed", headers=PREFLIGHT | {"Origin": origin})
    assert "origin" in error_message(preflight, 400)
    response = listed.get("/healthz", headers={"Origin": origin})
    for headers in (preflight.headers, response.headers):
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "headers", [{"Access-Control-Request-Method": "DELETE"}, {"Access-Control-Request-Headers": "x-other"}]
)
def test_a_preflight_for_other_methods_or_headers_is_refused(listed, headers):
    error_message(listed.options("/v1/embed", headers=PREFLIGHT | headers), 400)


def test_every_website_is_allowed_only_by_name_and_without_a_key(serving):
    with serving(cors=("*",)) as client:
        response = client.post(
            "/v1/embed", json={"images": [request_image(noise_image(1))]}, headers={"Origin": "null"}
        )
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert client.options("/v1/embed", headers=PREFLIGHT).headers["Access-Control-Allow-Origin"] == "*"
    with pytest.raises(ConfigError, match="every website that learns the key"):
        ServeConfig(cors=("*",), api_key="secret")
    with pytest.raises(ConfigError, match="every website that learns the key"):
        ServeConfig(cors=(ORIGIN, "*"), api_key="secret")


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.org/",
        "https://a.org/path",
        "https://a.org?x",
        "a.org",
        "//a.org",
        "https://*.a.org",
        "https://user@a.org",
        "https://a.org:0",
        "https://A.org",
        "https://zoë.org",
        "null",
        "",
        "https://a.org https://b.org",
        "https://a.org:443",
        "http://localhost:80",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(ConfigError, match="cors contains"):
        ServeConfig(cors=(origin,))


@pytest.mark.parametrize(
    "origin",
    ["https://a.org", "http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:5173", "tauri://localhost"],
)
def test_origins_of_pages_development_servers_and_apps_are_accepted(origin):
    assert ServeConfig(cors=(origin,)).cors == (origin,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cors", "*", "--api-key", "secret"], "List the origins that know the key"),
        (["--cors", "https://a.org/path"], "without a path"),
        (["--root-path", "zebra"], "such as /zebra"),
        (["--root-path", "/a/../b"], "such as /zebra"),
    ],
)
def test_the_command_line_explains_settings_that_are_refused(cli, arguments, message):
    output = cli("serve", "--model", "x", *arguments, code=2)
    assert message in " ".join(output.err.replace("│", " ").split())


def test_a_key_from_the_environment_counts_too(cli, monkeypatch):
    monkeypatch.setenv("ZEBRA_API_KEY", "secret")
    assert "every website that learns the key" in cli("serve", "--model", "x", "--cors", "*", code=1).err
