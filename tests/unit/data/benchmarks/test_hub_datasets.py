"""Datasets of the hub are read from its cache, without a network."""

import hashlib
import os
import socket
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError

import zebra.data.benchmarks.hub_datasets as hub_module
from zebra.data.benchmarks.clip_benchmark import read_clip_benchmark
from zebra.data.benchmarks.hub_datasets import download_dataset
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import ConfigError, DataError, DownloadError, MissingSplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(params=["unreachable", "offline"])
def hub(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with an unreachable network or in offline mode."""

    def refuse(self, address):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "offline")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "hub"


def put(hub: Path, repo: str, folder: Path, *, leave_out: str = "", ref: str = "main") -> Path:
    """Write a dataset into a hub cache, in huggingface_hub's layout."""
    base = hub / f"datasets--{repo.replace('/', '--')}"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != leave_out:
            blob = base / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(path.read_bytes())
            link = base / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (base / "refs").mkdir(parents=True, exist_ok=True)
    (base / "refs" / ref).write_text(COMMIT)
    return base / "snapshots" / COMMIT


@pytest.fixture
def wds_pets(tmp_path: Path) -> Path:
    samples = [(bytes([number]), "webp", number % 2) for number in range(3)]
    write_classification(tmp_path / "wds_pets", samples, ["cat", "dog"], ["a {c}"], samples_per_shard=2)
    return tmp_path / "wds_pets"


def test_a_dataset_in_the_cache_needs_no_network(hub: Path, wds_pets: Path) -> None:
    snapshot = put(hub, "clip-benchmark/wds_pets", wds_pets)
    folder, origin = download_dataset("hf:clip-benchmark/wds_pets")
    assert (folder, origin) == (snapshot, f"hf:clip-benchmark/wds_pets@{COMMIT}")
    assert [read_clip_benchmark(folder).source.read(i).label for i in range(3)] == [0, 1, 0]


@pytest.mark.parametrize("revision", ["v2", COMMIT])
def test_a_revision_is_found_by_its_name_and_by_its_commit(hub: Path, wds_pets: Path, revision: str) -> None:
    put(hub, "clip-benchmark/wds_pets", wds_pets, ref="v2")
    assert download_dataset(f"hf:clip-benchmark/wds_pets@{revision}")[0].name == COMMIT


def test_a_cached_commit_needs_no_request(hub: Path, wds_pets: Path, monkeypatch) -> None:
    put(hub, "clip-benchmark/wds_pets", wds_pets)
    requests = []
    monkeypatch.setattr(hub_module, "download_snapshot", lambda *arguments, **_: requests.append(arguments))
    assert download_dataset(f"hf:clip-benchmark/wds_pets@{COMMIT}")[0].name == COMMIT
    assert requests == []


def test_a_missing_dataset_is_an_error_with_the_download_command(hub: Path) -> None:
    with pytest.raises(DownloadError, match=r"hf download clip-benchmark/wds_pets --repo-type dataset"):
        download_dataset("hf:clip-benchmark/wds_pets")


def test_a_missing_split_is_an_error(hub: Path, wds_pets: Path) -> None:
    put(hub, "clip-benchmark/wds_pets", wds_pets)
    with pytest.raises(DownloadError, match=r"has no train/nshards\.txt.*'train/\*'"):
        download_dataset("hf:clip-benchmark/wds_pets", "train")


def test_a_missing_shard_is_an_error(hub: Path, wds_pets: Path) -> None:
    put(hub, "clip-benchmark/wds_pets", wds_pets, leave_out="test/1.tar")
    folder, _ = download_dataset("hf:clip-benchmark/wds_pets")
    with pytest.raises(DataError, match=r"lacks 1 of the 2 shards .*1\.tar"):
        read_clip_benchmark(folder)


@pytest.mark.parametrize("name", ["hf:", "hf:pets", "hf:a/b/c", "hf:a/b@", "hf:../b", "hf:a/b@../../x", "hf:a--b/c"])
def test_malformed_names_are_refused_without_a_request(name: str) -> None:
    with pytest.raises(ConfigError, match="hf:org/name"):
        download_dataset(name)


def test_a_split_that_the_hub_does_not_have_is_missing_and_not_damaged(hub: Path, wds_pets: Path) -> None:
    snapshot = put(hub, "clip-benchmark/wds_pets", wds_pets)
    marker = snapshot.parents[1] / ".no_exist" / COMMIT / "train" / "nshards.txt"  # huggingface_hub's own record
    marker.parent.mkdir(parents=True)
    marker.touch()
    with pytest.raises(MissingSplit, match=r"has no split 'train': the repository has no train/nshards\.txt"):
        download_dataset("hf:clip-benchmark/wds_pets", "train")
    with pytest.raises(DownloadError, match=r"has no val/nshards\.txt"):
        download_dataset("hf:clip-benchmark/wds_pets", "val")


def test_the_hub_is_asked_whether_it_has_a_split(hub: Path, wds_pets: Path, monkeypatch) -> None:
    snapshot = put(hub, "clip-benchmark/wds_pets", wds_pets)

    def refuse(*_arguments: object, **_options: object) -> str:
        raise EntryNotFoundError("404")

    monkeypatch.setattr(hub_module, "download_snapshot", lambda *_arguments, **_options: snapshot)
    monkeypatch.setattr(huggingface_hub, "file_exists", lambda *_arguments, **_options: False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(MissingSplit):
        download_dataset("hf:clip-benchmark/wds_pets", "train")
