"""A hub on localhost that stores what huggingface_hub uploads: models, commits and large files."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


@dataclass
class Repo:
    """A model repository."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    num_commits: int = 0

    @property
    def commit(self) -> str:
        """The hash of the last commit."""
        return hashlib.sha1(str(self.num_commits).encode()).hexdigest()


class FakeHub:
    """The hub's answers to requests of huggingface_hub."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        """Part of a path → status and error code of the answer."""
        self.url = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers."""
        for part, (status, code) in self.refusals.items():
            if part in path:
                return status, b'{"error": "refused"}', {"X-Error-Code": code} if code else {}
        if path == "/api/repos/create":
            return self._create(json.loads(body), token)
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/blobs/(\w+)", path):
            self.blobs[match[1]] = body
            return _json({})
        if match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            upload = {
                oid: {"href": f"{self.url}/blobs/{oid}"} for oid in (o["oid"] for o in json.loads(body)["objects"])
            }
            objects = [o | {"actions": {"upload": upload[o["oid"]]}} for o in json.loads(body)["objects"]]
            return _json({"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(\w+/[\w.-]+)(/.*)?", path):
            return self._answer_api(match[1], match[2] or "", body, token)
        if match := re.fullmatch(r"/(\w+/[\w.-]+)/resolve/\w+/(.+)", path):
            return self._resolve(self.repos[match[1]], match[2])
        return 404, b"{}", {}

    def _create(self, request: dict[str, Any], token: str) -> tuple[int, bytes, dict[str, str]]:
        if token != TOKEN:
            return 401, b'{"error": "Invalid credentials in Authorization header"}', {}
        name = f"{request['organization']}/{request['name']}"
        self.repos.setdefault(
            name, Repo(private=request.get("visibility") == "private" or request.get("private", False))
        )
        return _json({"url": f"{self.url}/{name}"})

    def _answer_api(self, name: str, route: str, body: bytes, token: str) -> tuple[int, bytes, dict[str, str]]:
        repo = self.repos.get(name)
        if repo is None or (repo.private and token != TOKEN):
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if route.startswith("/preupload/"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
            return _json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        if route.startswith("/commit/"):
            for entry in map(json.loads, body.splitlines()):
                value = entry["value"]
                if entry["key"] == "file":
                    repo.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    repo.files[value["path"]] = self.blobs[value["oid"]]
                elif entry["key"] == "deletedFile":
                    del repo.files[value["path"]]
            repo.num_commits += 1
            return _json({"commitOid": repo.commit, "commitUrl": f"{self.url}/{name}/commit/{repo.commit}"})
        rows = [_describe(path, data) for path, data in repo.files.items()]
        if route.startswith("/tree/"):
            return _json(rows)
        siblings = [{"rfilename": row["path"], "size": row["size"], "blobId": row["oid"]} | _lfs(row) for row in rows]
        return _json({"id": name, "sha": repo.commit, "private": repo.private, "siblings": siblings})

    def _resolve(self, repo: Repo, path: str) -> tuple[int, bytes, dict[str, str]]:
        if path not in repo.files:
            return 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        row = _describe(path, repo.files[path])
        etag = row["lfs"]["oid"] if "lfs" in row else row["oid"]
        return 200, repo.files[path], {"ETag": f'"{etag}"', "X-Repo-Commit": repo.commit}


def _describe(path: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    row: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if path.endswith(".safetensors"):
        row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return row


def _lfs(row: dict[str, Any]) -> dict[str, Any]:
    if "lfs" not in row:
        return {}
    return {"lfs": {"sha256": row["lfs"]["oid"], "size": row["size"], "pointerSize": 130}}


def _json(document: object) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps(document).encode(), {"Content-Type": "application/json"}


@contextmanager
def serve_hub() -> Iterator[FakeHub]:
    """Serve a hub on localhost."""
    hub = FakeHub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, content, headers = hub.answer(self.command, unquote(urlsplit(self.path).path), body, token)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
