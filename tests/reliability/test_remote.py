"""Scorecard row R24: an object store that fails, stalls, cuts short and lies about what it sends."""

import multiprocessing
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zebra.config.data import DataConfig
from zebra.data.remote import object_store, remote_blob, retry
from zebra.data.shard_writer import ShardWriter
from zebra.data.shards import ShardSource
from zebra.data.sources import open_source, read_many
from zebra.errors import DataError

from .object_store import FAULTS, ObjectStore, some_of

FOUND = 160
SHARDS = "bucket/{00000..00003}.tar"
NO_CACHE = DataConfig(shard_cache_bytes=0)


@pytest.fixture(autouse=True)
def _haste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "INITIAL_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(object_store, "STALL_TIMEOUT_SECONDS", 0.5)  # half of what the server is silent


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [rng.bytes(int(size)) for size in rng.integers(1, 30_000, FOUND)]


@pytest.fixture
def store(tmp_path: Path, pictures: list[bytes]) -> Iterator[ObjectStore]:
    """Four shards of samples that no two bytes would be mistaken in."""
    with ShardWriter(tmp_path / "shards", samples_per_shard=FOUND // 4) as writer:
        for number, picture in enumerate(pictures):
            writer.write(f"{number:03d}", {"jpg": picture, "txt": f"caption {number}".encode()})
    with ObjectStore().serve() as store:
        store.objects = {f"bucket/{path.name}": path.read_bytes() for path in writer.shards}
        yield store


def wrong(source: ShardSource, pictures: list[bytes], batch: int = 16) -> int:
    """Read everything in a shuffled order, a batch at a time, and count what is not as it was written."""
    order = np.random.default_rng(1).permutation(FOUND).tolist()
    records = [r for at in range(0, FOUND, batch) for r in read_many(source, order[at : at + batch])]
    found = [(r.image, r.captions) for r in records]
    return sum(pair != (pictures[i], (f"caption {i}",)) for pair, i in zip(found, order, strict=True))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30, 1 << 20])
def test_r24_a_store_that_fails_one_request_in_ten_gives_every_byte_right(
    store: ObjectStore,
    pictures: list[bytes],
    cache_bytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a cache, with a large one, and with one that has room for one of the four shards."""
    monkeypatch.setattr(remote_blob, "BLOCK_BYTES", 16 << 10)
    store.fault = some_of(0.1)
    source = open_source(store.url + "/" + SHARDS, DataConfig(shard_cache_bytes=cache_bytes))
    assert len(source) == FOUND
    shutil.rmtree(tmp_path / "cache" / "blocks", ignore_errors=True)  # indexing has filled it
    assert wrong(source, pictures) == 0
    retries = source.shards[0].blob.client.num_retries
    assert 0 < store.faults.total() - store.faults["reset"] <= retries <= store.faults.total()


@pytest.mark.parametrize("kind", FAULTS)
def test_r24_every_kind_of_failure_is_noticed_and_asked_again(
    store: ObjectStore, pictures: list[bytes], kind: str
) -> None:
    source = open_source(store.url + "/" + SHARDS, NO_CACHE)
    store.fault = lambda path, place, before: kind if before < 2 else None
    store.asked.clear()
    assert wrong(source, pictures, batch=FOUND) == 0
    retries = source.shards[0].blob.client.num_retries
    assert 0 < retries <= store.faults.total()
    if kind != "reset":  # of a connection kept from another request: aiohttp takes a new one by itself
        assert retries == store.faults.total()


def test_r24_workers_forked_after_reading_read_right_through_a_failing_store(
    store: ObjectStore, pictures: list[bytes]
) -> None:
    store.fault = some_of(0.1)
    source = open_source(store.url + "/" + SHARDS, DataConfig())
    source.read(0)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=lambda: os._exit(wrong(source, pictures))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_r24_a_store_that_always_fails_ends_with_url_and_tries(store: ObjectStore) -> None:
    source = open_source(store.url + "/" + SHARDS, NO_CACHE)
    store.fault = lambda path, place, before: "503"
    with (
        pytest.warns(UserWarning, match="failed 4 times"),
        pytest.raises(
            DataError, match=rf"{store.url}/bucket/0000\d\.tar could not be read in 8 tries.*HTTP 503"
        ),
    ):
        source.read(0)


def test_r24_a_store_that_fails_while_a_shard_is_indexed_is_not_taken_for_damage(store: ObjectStore) -> None:
    store.fault = lambda path, place, before: None if place in ("", "bytes=0-0") else "503"
    with (
        pytest.warns(UserWarning, match="failed 4 times") as caught,
        pytest.raises(DataError, match=r"00000\.tar could not be read in 8 tries"),
    ):
        open_source(store.url + "/bucket/00000.tar", DataConfig(damaged_shards="keep-complete-samples"))
    assert len(caught) == 1


def test_r24_a_store_that_cannot_be_reached_ends_with_url_and_tries() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/0.tar"
    with (
        pytest.warns(UserWarning, match="failed 4 times"),
        pytest.raises(DataError, match=rf"{url} could not be read in 8 tries.*Cannot connect"),
    ):
        open_source(url, DataConfig())


def test_r24_a_server_without_ranges_is_recognised_at_once(store: ObjectStore) -> None:
    store.fault = lambda path, place, before: "whole" if place else None
    with pytest.raises(DataError, match=r"00000\.tar cannot be read in parts.*answers Range requests"):
        open_source(store.url + "/bucket/00000.tar", DataConfig())
    assert store.asked.total() == 3


@pytest.mark.parametrize(("status", "message"), [("404", "missing"), ("403", "access is denied")])
def test_r24_what_will_not_change_is_not_asked_again(store: ObjectStore, status: str, message: str) -> None:
    store.fault = lambda path, place, before: status
    with pytest.raises(DataError, match=message):
        open_source(store.url + "/bucket/00000.tar", DataConfig())
    assert store.asked.total() == 1


@pytest.mark.parametrize("options", [NO_CACHE, DataConfig()])
def test_r24_an_object_replaced_while_it_is_read_is_noticed_by_its_etag(
    store: ObjectStore, pictures: list[bytes], options: DataConfig
) -> None:
    source = open_source(store.url + "/bucket/00000.tar", options)
    source.read(0)
    store.objects["bucket/00000.tar"] = store.objects["bucket/00000.tar"].replace(
        pictures[1], bytes(len(pictures[1]))
    )
    if options is NO_CACHE:
        with pytest.raises(DataError, match=r"00000\.tar changed or was removed"):
            source.read(1)
    else:
        assert source.read(1).image == pictures[1]


def test_r24_a_checksum_beside_a_remote_shard_is_checked(store: ObjectStore) -> None:
    store.objects["bucket/00000.tar.sha256"] = b"0" * 64 + b"  00000.tar\n"
    with pytest.raises(DataError, match=r"bucket/00000\.tar is damaged .* its sha256 is"):
        open_source(store.url + "/" + SHARDS, DataConfig())


def test_r24_a_bucket_that_denies_what_is_not_there_is_read(
    store: ObjectStore, pictures: list[bytes]
) -> None:
    store.fault = lambda path, place, before: None if path.endswith(".tar") else "403"
    assert wrong(open_source(store.url + "/" + SHARDS, DataConfig()), pictures) == 0


def test_r24_nothing_is_looked_for_beside_a_signed_url(store: ObjectStore, pictures: list[bytes]) -> None:
    signed = "bucket/00000.tar?signature=1"
    store.objects[signed] = store.objects["bucket/00000.tar"]
    assert open_source(f"{store.url}/{signed}", DataConfig()).read(3).image == pictures[3]
    assert {path for path, _ in store.asked} == {signed}
