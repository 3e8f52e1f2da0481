"""The server below a path of a proxy: page, scripts, reference, OpenAPI document and the URLs in responses."""

import json
import re
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

import pytest

import zebra
from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError
from zebra.serve.app import create_app
from zebra.serve.service import Service

from ...proxy import serve_below
from .conftest import error_message, serve_in_thread

PREFIX = "/apps/zebra"
STATIC = Path(zebra.__file__).parent / "serve"
PAGE_FILES = [path for name in ("page", "reference") for path in sorted((STATIC / name).iterdir())]


@pytest.fixture(scope="module")
def upstream(model, store):
    with serve_in_thread(ServeConfig(model=str(model), store=str(store), root_path=PREFIX)) as url:
        yield url


@pytest.fixture(scope="module", params=[True, False], ids=["stripped", "forwarded"])
def url(request, upstream):
    with serve_below(upstream, PREFIX, strip=request.param) as url:
        yield f"{url}/"


def get(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read().decode("utf-8", "replace")


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.parametrize("page", ["", "docs"])
def test_everything_that_a_page_loads_comes_from_below_the_path(url, page):
    html = get(url + page)
    pending = {urljoin(url + page, link) for link in re.findall(r'(?:src|href)="([^"#]+)"', html)}
    pending |= {urljoin(url, f"page/{path.name}") for path in (STATIC / "page").glob("*.js")}
    loaded = set()
    while pending:
        link = pending.pop()
        assert link.startswith(url), link
        loaded.add(link)
        text = get(link)
        if link.endswith(".js"):
            pending |= {urljoin(link, path) for path in re.findall(r'from "([^"]+)"', text)} - loaded
    assert any(link.endswith(".css") for link in loaded)
    assert not page or f"{url}openapi.json" in loaded


@pytest.mark.parametrize("path", PAGE_FILES, ids=lambda path: path.name)
def test_no_file_of_the_page_names_a_path_from_the_root_of_the_host(path):
    assert not re.findall(
        r"""["'`(=](/(?:v1|page|docs|openapi|reference)\b[^"'`]*)""", path.read_text(encoding="utf-8")
    )


def test_the_openapi_document_and_the_hits_name_addresses_below_the_path(url):
    api = json.loads(get(f"{url}openapi.json"))
    assert api["servers"] == [{"url": PREFIX}]
    assert "/v1/search" in api["paths"]
    hit = post(f"{url}v1/search", {"text": "a horse", "k": 1})["hits"][0]
    assert hit["image"].startswith(f"{PREFIX}/v1/images/")
    for path in (hit["image"], hit["thumbnail"]):
        assert get(urljoin(url, path))
    assert json.loads(get(f"{url}v1/rows/{hit['id']}"))["image"] == hit["image"]


def test_the_path_without_its_slash_leads_to_the_page(upstream, url):
    assert get(f"{upstream}{PREFIX}") == get(url)


def test_public_routes_and_limits_are_the_same_below_the_path(serving):
    with serving(root_path=PREFIX, api_key="secret") as client:
        assert client.get(f"{PREFIX}/").status_code == client.get(f"{PREFIX}/healthz").status_code == 200
        assert client.get(f"{PREFIX}/page/main.js").status_code == 200
        for path in (f"{PREFIX}/v1/about", f"{PREFIX}/metrics", f"{PREFIX}x/healthz", f"{PREFIX}/../metrics"):
            error_message(client.get(path), 401)
        key = {"Authorization": "Bearer secret"}
        assert client.get(f"{PREFIX}/v1/about", headers=key).headers["Cache-Control"] == "no-store"
        assert 'route="/v1/about",status="200"' in client.get("/metrics", headers=key).text


@pytest.mark.parametrize(
    "path", ["zebra", "/zebra/", "/", "//", "/a//b", "/a/../b", "/..", "/.", "/a/.", "/a b", "/a?b", "/ü", "http://a/b"]
)
def test_a_path_that_a_browser_would_change_is_refused(path):
    with pytest.raises(ConfigError, match="such as /zebra"):
        ServeConfig(root_path=path)


@pytest.mark.parametrize("path", ["/v1", "/page/zebra", "/docs", "/healthz"])
def test_a_path_that_begins_like_a_route_is_refused(path):
    with pytest.raises(ConfigError, match="Choose another path"):
        create_app(Service(None, ServeConfig(model="x", root_path=path)))


@pytest.mark.parametrize("path", ["/zebra", "/a/b", "/v1x", "/a.b/~me/..."])
def test_other_paths_are_accepted(path):
    create_app(Service(None, ServeConfig(model="x", root_path=path)))
