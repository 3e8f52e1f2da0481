"""Models of the hub, from the cache no_hub a network and from a hub that the tests serve on localhost."""

import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, snapshot_download

import zebra
from zebra.errors import ConfigError, DownloadError, WeightsError
from zebra.pretrained.download import blob_sha256, download_model
from zebra.pretrained.weight_files import OPEN_CLIP_WEIGHTS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
TRANSFORMERS = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}
ZEBRA = TRANSFORMERS | {
    name: name.encode() for name in ("preprocess.json", "MANIFEST.json", "golden.safetensors", "README.md")
}


def put(cache, repo, files, *, commit=COMMIT, ref="main"):
    """Write a repository to a hub cache, in the standard layout."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for name, content in files.items():
        large = name.endswith((".safetensors", ".bin"))
        digest = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / digest).write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(folder / "blobs" / digest, link.parent))
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a hub URL at a closed port."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    _serve_at(monkeypatch, "http://127.0.0.1:9")
    return tmp_path / "hub"


def _serve_at(monkeypatch, endpoint):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def no_network(cache, monkeypatch):
    def refuse(self, address):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return cache


@pytest.fixture(params=["unreachable", "offline"])
def no_hub(request, no_network, monkeypatch):
    """No hub: no network, or HF_HUB_OFFLINE."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "offline")
    return no_network


# --- cache ---


def test_a_model_in_the_cache_needs_no_network_and_prints_nothing(no_hub, capfd):
    snapshot = put(no_hub, "zoo/horse", ZEBRA)
    assert download_model("hf:zoo/horse") == snapshot
    assert capfd.readouterr() == ("", "")


def test_a_revision_in_the_cache_is_found_by_branch_tag_and_commit(no_hub):
    first = put(no_hub, "zoo/horse", TRANSFORMERS)
    second = put(no_hub, "zoo/horse", TRANSFORMERS | {"config.json": b"[]"}, commit=OTHER, ref="v2.0")
    assert (
        download_model("hf:zoo/horse")
        == download_model("hf:zoo/horse@main")
        == download_model(f"hf:zoo/horse@{COMMIT}")
        == first
    )
    assert download_model("hf:zoo/horse@v2.0") == download_model(f"hf:zoo/horse@{OTHER}") == second


def test_a_cached_model_with_pickled_weights_alone_is_found(no_hub):
    snapshot = put(no_hub, "zoo/horse", {"config.json": b"{}", "pytorch_model.bin": b"weights"})
    assert download_model("hf:zoo/horse") == snapshot


def test_the_environment_decides_where_the_cache_is_and_whether_to_stay_offline(tmp_path):
    snapshot = put(tmp_path / "hub", "zoo/horse", TRANSFORMERS)
    code = "from zebra.pretrained.download import download_model; print(download_model('hf:zoo/horse'))"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(snapshot), "")


def test_huggingface_hub_is_imported_only_when_something_is_fetched():
    code = "import sys, zebra.pretrained.download; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- no network and no cache ---


def test_without_network_and_cache_the_message_names_the_command_and_the_place(no_network):
    with pytest.raises(DownloadError) as caught:
        download_model("hf:zoo/horse")
    message = str(caught.value)
    assert "the hub cannot be reached ([Errno 101] Network is unreachable)" in message
    assert "`hf download zoo/horse` on a machine with a network" in message
    assert "models--zoo--horse" in message
    assert str(no_network) in message


def test_offline_mode_is_named_as_the_reason_with_the_revision_in_the_command(no_network, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE is set\. .*`hf download zoo/horse --revision v2`"):
        download_model("hf:zoo/horse@v2")


def test_another_revision_in_the_cache_is_not_used(no_hub):
    put(no_hub, "zoo/horse", TRANSFORMERS)
    with pytest.raises(DownloadError, match="zoo/horse@v2 is not in the hub cache"):
        download_model("hf:zoo/horse@v2")


def test_a_cached_folder_without_weights_has_its_own_message(no_network, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    put(no_network, "zoo/horse", {"config.json": b"{}", "flax_model.msgpack": b"weights"})
    with pytest.raises(DownloadError, match=r"has no weights .*hf download zoo/horse"):
        download_model("hf:zoo/horse")


# --- names ---


@pytest.mark.parametrize(
    "name",
    [
        "hf:",
        "hf:horse",
        "hf:zoo/horse/foal",
        "hf:zoo/",
        "hf:zoo/horse@",
        "hf:zoo/ho rse",
        "hf:../horse",
        "hf:zoo/horse@../../x",
        "hf:zoo/horse@/etc/passwd",
        "hf:zoo--x/horse",
        "hf:zoo/horse.",
        "hf:zoo/horse.git",
        "hf:zoo/" + 97 * "h",
        "hf:zoo/horse\n",
        "zoo/horse",
        "hf://zoo/horse",
    ],
)
def test_invalid_names_are_refused_before_any_request(name, no_network):
    with pytest.raises(ConfigError, match="hf:org/name"):
        download_model(name)


# --- hub ---


class Hub(http.server.BaseHTTPRequestHandler):
    """The requests of huggingface_hub: a repository's commit, its tree, and its files."""

    files: ClassVar[dict[str, bytes]] = {}
    refusal: ClassVar[tuple[int, dict[str, str]] | None] = None
    """Status and headers of the answer to every request, when it is not to be served."""
    refused_paths = "/"
    requests: ClassVar[list[str]] = []

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.requests.append(path)
        if self.refusal is not None and path.startswith(self.refused_paths):
            self._answer(b"{}", *self.refusal)
        elif path.startswith("/api/models/zoo/horse/tree/"):
            rows = [self._row(name, content) for name, content in self.files.items()]
            self._answer(json.dumps(rows).encode(), 200, {"Content-Type": "application/json"})
        elif path.startswith("/api/models/zoo/horse"):
            self._answer(json.dumps({"id": "zoo/horse", "sha": COMMIT}).encode(), 200, {})
        else:
            content = self.files[path.removeprefix(f"/zoo/horse/resolve/{COMMIT}/")]
            digest = hashlib.sha256(content).hexdigest()
            self._answer(content, 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def _row(self, name, content):
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _answer(self, content, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def served(cache, monkeypatch):
    """A hub on localhost; tests set its contents as attributes of the returned class."""
    handler = type("Served", (Hub,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        _serve_at(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        yield handler
        server.shutdown()
        thread.join()


def test_only_what_zebra_reads_is_downloaded(served):
    served.files = ZEBRA | dict.fromkeys(
        ("pytorch_model.bin", "ViT-B-32.pt", "model.onnx", "tf_model.h5", "flax_model.msgpack"), b"x"
    )
    served.files |= {"onnx/model.safetensors": b"x", "onnx/config.json": b"x"}
    folder = download_model("hf:zoo/horse")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == set(ZEBRA)
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_pickled_weights_are_downloaded_if_there_are_no_others(served):
    served.files = {
        "config.json": b"{}", "pytorch_model.bin": b"weights", "training_args.bin": b"x", "optimizer.bin": b"x",
    }  # fmt: skip
    folder = download_model("hf:zoo/horse")
    assert {path.name for path in folder.iterdir()} == {"config.json", "pytorch_model.bin"}


def downloaded(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
SHARDS = {f"model-0000{i}-of-00002.safetensors": b"shard" for i in (1, 2)}
CLIP_MODULES = json.dumps([{"type": "sentence_transformers.models.CLIPModel", "path": "0_CLIPModel"}]).encode()


@pytest.mark.parametrize(
    ("config", "files", "weights"),
    [
        ("config.json", ["pytorch_model.bin", "model.safetensors", "Other-TE-only.safetensors"], {"model.safetensors"}),
        ("config.json", ["pytorch_model.bin", "open_clip_model.safetensors"], {"pytorch_model.bin"}),
        (
            "open_clip_config.json",
            ["config.json", "model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"],
            {"open_clip_pytorch_model.bin"},
        ),
        (
            "open_clip_config.json",
            ["config.json", "model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"],
            {"open_clip_model.safetensors"},
        ),
        ("open_clip_config.json", ["pytorch_model.bin", "model.safetensors"], {"model.safetensors"}),
        ("open_clip_config.json", ["config.json", "model.safetensors"], {"model.safetensors"}),
    ],
)
def test_of_several_weight_files_only_the_one_that_is_read_is_downloaded(served, config, files, weights):
    served.files = dict.fromkeys([config, *files], b"{}")
    folder = download_model("hf:zoo/horse")
    assert downloaded(folder) == {config, *weights} | ({"config.json"} & set(files))
    requested = [path.rpartition("/")[2] for path in served.requests if "/resolve/" in path]
    assert set(requested) == downloaded(folder)


def test_the_weights_of_an_open_clip_tag_are_downloaded_from_a_repository_without_its_config(served):
    served.files = TRANSFORMERS | {"open_clip_pytorch_model.bin": b"open_clip"}
    folder = download_model("hf:zoo/horse", OPEN_CLIP_WEIGHTS)
    assert downloaded(folder) == {"config.json", "tokenizer.json", "open_clip_pytorch_model.bin"}
    served.requests.clear()
    assert download_model(f"hf:zoo/horse@{COMMIT}", OPEN_CLIP_WEIGHTS) == folder
    assert served.requests == []


def test_the_file_that_a_tag_names_is_downloaded_and_found_again(served):
    """A name of transformers is certain if it is the only one."""
    served.files = TRANSFORMERS | {"pytorch_model.bin": b"open_clip"}
    folder = download_model("hf:zoo/horse", ["pytorch_model.bin"])
    assert downloaded(folder) == {"config.json", "tokenizer.json", "pytorch_model.bin"}
    served.requests.clear()
    assert download_model(f"hf:zoo/horse@{COMMIT}", ["pytorch_model.bin"]) == folder
    assert served.requests == []


def test_all_shards_are_downloaded_but_no_other_format(served):
    served.files = {"config.json": b"{}", "model.safetensors.index.json": INDEX.encode(), **SHARDS}
    served.files |= {"pytorch_model.bin.index.json": b"{}", "pytorch_model-00001-of-00001.bin": b"x"}
    folder = download_model("hf:zoo/horse")
    assert downloaded(folder) == {"config.json", "model.safetensors.index.json", *SHARDS}
    served.requests.clear()
    assert download_model(f"hf:zoo/horse@{COMMIT}") == folder
    assert served.requests == []
    (folder / "model-00002-of-00002.safetensors").unlink()  # an interrupted download
    assert set(SHARDS) < downloaded(download_model("hf:zoo/horse"))


def test_settings_and_tokenizers_of_every_family_are_downloaded(served):
    names = {"processor_config.json", "vocab.txt", "sentencepiece.bpe.model", "added_tokens.json", "templates.json"}
    served.files = TRANSFORMERS | dict.fromkeys(names, b"{}")
    assert names < downloaded(download_model("hf:zoo/horse"))


def test_of_a_sentence_transformer_the_subfolders_of_its_modules_are_downloaded(served):
    module = {f"0_CLIPModel/{name}": content for name, content in TRANSFORMERS.items()}
    served.files = {"modules.json": CLIP_MODULES, "config_sentence_transformers.json": b"{}", **module}
    wanted = set(served.files)
    served.files |= {
        "0_CLIPModel/pytorch_model.bin": b"x",
        "onnx/model.safetensors": b"x",
        "openvino/config.json": b"x",
    }
    assert downloaded(download_model("hf:zoo/horse")) == wanted
    served.requests.clear()
    assert downloaded(download_model(f"hf:zoo/horse@{COMMIT}")) == wanted
    assert served.requests == []


def test_the_poolings_and_projections_of_a_text_model_are_downloaded(served):
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    served.files = {"modules.json": json.dumps(modules).encode(), **TRANSFORMERS}
    served.files |= {f"{path}/config.json": b"{}" for path in kinds if path} | {"2_Dense/pytorch_model.bin": b"dense"}
    assert downloaded(download_model("hf:zoo/horse")) == set(served.files)


def test_a_module_with_code_is_refused_before_its_weights_are_downloaded(served):
    modules = json.dumps([{"type": "custom_st.Transformer", "path": ""}]).encode()
    served.files = TRANSFORMERS | {"modules.json": modules, "custom_st.py": b"raise SystemExit"}
    with pytest.raises(WeightsError, match=r"custom_st\.Transformer is code in the repository"):
        download_model("hf:zoo/horse")
    assert not any(path.endswith((".safetensors", ".py")) for path in served.requests)


@pytest.mark.parametrize(
    ("file", "config", "message"),
    [
        ("config.json", {"model_type": "jina_clip"}, "model_type 'jina_clip' is not supported"),
        ("open_clip_config.json", {"model_cfg": {"embed_dim": 8}}, "model_cfg needs embed_dim"),
    ],
)
def test_a_model_that_zebra_cannot_read_is_refused_before_its_weights_are_downloaded(served, file, config, message):
    served.files = {file: json.dumps(config).encode(), "model.safetensors": b"weights"}
    with pytest.raises(WeightsError, match=message):
        zebra.load("hf:zoo/horse")
    assert not any(path.endswith(".safetensors") for path in served.requests)


def test_weights_of_another_layout_in_the_cache_are_not_mistaken_for_those_of_the_layout_that_is_read(served):
    """transformers caches model.safetensors of a repository whose open_clip weights zebra reads."""
    both = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"open_clip"}
    served.files = TRANSFORMERS | both
    snapshot_download("zoo/horse", allow_patterns=["config.json", "model.safetensors"])
    assert set(both) < downloaded(download_model("hf:zoo/horse"))


def test_a_downloaded_model_is_found_without_the_hub(served, monkeypatch):
    served.files = TRANSFORMERS
    folder = download_model("hf:zoo/horse")
    served.requests.clear()
    assert download_model(f"hf:zoo/horse@{COMMIT}") == folder
    _serve_at(monkeypatch, "http://127.0.0.1:9")
    assert download_model("hf:zoo/horse") == folder
    assert served.requests == []


def test_a_cache_that_another_program_filled_in_part_is_used_offline(served, monkeypatch):
    """transformers downloads no README; huggingface_hub then treats the snapshot as incomplete."""
    served.files = ZEBRA
    part = Path(snapshot_download("zoo/horse", allow_patterns=["config.json", "model.safetensors"]))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download_model("hf:zoo/horse") == part


def test_a_repository_without_readable_weights_is_refused(served):
    served.files = {"config.json": b"{}", "ViT-B-32.pt": b"x"}
    with pytest.raises(DownloadError, match="has no weights that zebra reads"):
        download_model("hf:zoo/horse")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "RepoNotFound", r"the hub has no model zoo/horse, or it is private.*`hf auth login`"),
        (401, "", r"the hub refused zoo/horse \(.*401.*`hf auth whoami`"),
        (404, "RevisionNotFound", r"zoo/horse has no revision 'v2'"),
        (403, "GatedRepo", r"zoo/horse is gated.*`hf auth login`"),
        (503, "", r"the hub cannot be reached \(.*503"),
    ],
)
def test_every_refusal_of_the_hub_has_its_own_message(status, code, message, served):
    served.refusal = (status, {"X-Error-Code": code} if code else {})
    with pytest.raises(DownloadError, match=message):
        download_model("hf:zoo/horse@v2")


def test_a_gated_repository_that_lists_its_files_is_named_too(served):
    served.files = TRANSFORMERS
    served.refusal, served.refused_paths = (403, {"X-Error-Code": "GatedRepo"}), "/zoo/horse/resolve"
    with pytest.raises(DownloadError, match="zoo/horse is gated"):
        download_model("hf:zoo/horse")


def test_a_full_disk_is_reported_as_a_broken_download(served, monkeypatch):
    """Any error inside huggingface_hub gives one message."""
    served.files = TRANSFORMERS

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.move", full)
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DownloadError, match=r"failed \(\[Errno 28\] No space left on device\)"):
        download_model("hf:zoo/horse")


# --- digests ---


def test_the_digest_of_a_large_file_is_the_name_of_its_blob(tmp_path):
    snapshot = put(tmp_path, "zoo/horse", TRANSFORMERS)
    assert blob_sha256(snapshot / "model.safetensors") == hashlib.sha256(b"weights").hexdigest()


def test_files_without_a_digest_in_their_name_have_none(tmp_path):
    snapshot = put(tmp_path, "zoo/horse", TRANSFORMERS)
    assert blob_sha256(snapshot / "config.json") is None  # a git hash
    named_so = tmp_path / ("a" * 64)
    named_so.write_bytes(b"x")
    assert blob_sha256(named_so) is None
    (tmp_path / "link").symlink_to(named_so)
    assert blob_sha256(tmp_path / "link") is None  # not in a cache
    assert blob_sha256(tmp_path / "nothing here") is None


def test_the_digest_of_a_downloaded_file_is_right(served):
    served.files = TRANSFORMERS
    weights = download_model("hf:zoo/horse") / "model.safetensors"
    assert blob_sha256(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()
