"""Scorecard row R24: an object store that fails, stalls, truncates and returns wrong ranges."""

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

NUM_SAMPLES = 160
SHARDS = "bucket/{00000..00003}.tar"
NO_CACHE = DataConfig(shard_cache_bytes=0)


@pytest.fixture(autouse=True)
def fast_retries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "INITIAL_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(object_store, "STALL_TIMEOUT_SECONDS", 0.5)  # half of the server's stall time


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [rng.bytes(int(size)) for size in rng.integers(1, 30_000, NUM_SAMPLES)]


@pytest.fixture
def store(tmp_path: Path, images: list[bytes]) -> Iterator[ObjectStore]:
    """Four shards of random samples of different sizes."""
    with ShardWriter(tmp_path / "shards", samples_per_shard=NUM_SAMPLES // 4) as writer:
        for number, image in enumerate(images):
            writer.write(f"{number:03d}", {"jpg": image, "txt": f"caption {number}".encode()})
    with ObjectStore().serve() as store:
        store.objects = {f"bucket/{path.name}": path.read_bytes() for path in writer.shards}
        yield store


def count_wrong(source: ShardSource, images: list[bytes], batch: int = 16) -> int:
    """Read all samples in shuffled order, batch by batch, and return the number of wrong records."""
    order = np.random.default_rng(1).permutation(NUM_SAMPLES).tolist()
    records = [
        record for start in range(0, NUM_SAMPLES, batch) for record in read_many(source, order[start : start + batch])
    ]
    pairs = [(record.image, record.captions) for record in records]
    return sum(pair != (images[index], (f"caption {index}",)) for pair, index in zip(pairs, order, strict=True))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30, 1 << 20])
def test_r24_all_records_are_correct_if_one_request_in_ten_fails(
    store: ObjectStore, images: list[bytes], cache_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache, with a large one, and with one that fits one of the four shards."""
    monkeypatch.setattr(remote_blob, "BLOCK_BYTES", 16 << 10)
    store.fault = some_of(0.1)
    source = open_source(store.url + "/" + SHARDS, DataConfig(shard_cache_bytes=cache_bytes))
    assert len(source) == NUM_SAMPLES
    shutil.rmtree(tmp_path / "cache" / "blocks", ignore_errors=True)  # indexing filled it
    assert count_wrong(source, images) == 0
    retries = source.shards[0].blob.client.num_retries
    assert 0 < store.faults.total() - store.faults["reset"] <= retries <= store.faults.total()


@pytest.mark.parametrize("kind", FAULTS)
def test_r24_every_kind_of_failure_is_detected_and_retried(store: ObjectStore, images: list[bytes], kind: str) -> None:
    source = open_source(store.url + "/" + SHARDS, NO_CACHE)
    store.fault = lambda path, byte_range, num_before: kind if num_before < 2 else None
    store.requests.clear()
    assert count_wrong(source, images, batch=NUM_SAMPLES) == 0
    retries = source.shards[0].blob.client.num_retries
    assert 0 < retries <= store.faults.total()
    if kind != "reset":  # aiohttp itself retries on a reset keep-alive connection
        assert retries == store.faults.total()


def test_r24_workers_forked_after_a_read_retry_too(store: ObjectStore, images: list[bytes]) -> None:
    store.fault = some_of(0.1)
    source = open_source(store.url + "/" + SHARDS, DataConfig())
    source.read(0)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=lambda: os._exit(count_wrong(source, images))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_r24_a_store_that_always_fails_is_an_error_with_url_and_tries(store: ObjectStore) -> None:
    source = open_source(store.url + "/" + SHARDS, NO_CACHE)
    store.fault = lambda path, byte_range, num_before: "503"
    with (
        pytest.warns(UserWarning, match="failed 4 times"),
        pytest.raises(DataError, match=rf"{store.url}/bucket/0000\d\.tar could not be read in 8 tries.*HTTP 503"),
    ):
        source.read(0)


def test_r24_a_failing_store_is_not_mistaken_for_a_damaged_shard(store: ObjectStore) -> None:
    store.fault = lambda path, byte_range, num_before: None if byte_range in ("", "bytes=0-0") else "503"
    with (
        pytest.warns(UserWarning, match="failed 4 times") as warnings,
        pytest.raises(DataError, match=r"00000\.tar could not be read in 8 tries"),
    ):
        open_source(store.url + "/bucket/00000.tar", DataConfig(damaged_shards="keep-complete-samples"))
    assert len(warnings) == 1


def test_r24_an_unreachable_store_is_an_error_with_url_and_tries() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/0.tar"
    with (
        pytest.warns(UserWarning, match="failed 4 times"),
        pytest.raises(DataError, match=rf"{url} could not be read in 8 tries.*Cannot connect"),
    ):
        open_source(url, DataConfig())


def test_r24_a_server_without_ranges_is_detected_soon(store: ObjectStore) -> None:
    store.fault = lambda path, byte_range, num_before: "full" if byte_range else None
    with pytest.raises(DataError, match=r"00000\.tar cannot be read by byte ranges.*supports Range requests"):
        open_source(store.url + "/bucket/00000.tar", DataConfig())
    assert store.requests.total() == 3


@pytest.mark.parametrize(("status", "message"), [("404", "missing"), ("403", "access is denied")])
def test_r24_permanent_errors_are_not_retried(store: ObjectStore, status: str, message: str) -> None:
    store.fault = lambda path, byte_range, num_before: status
    with pytest.raises(DataError, match=message):
        open_source(store.url + "/bucket/00000.tar", DataConfig())
    assert store.requests.total() == 1


@pytest.mark.parametrize("options", [NO_CACHE, DataConfig()])
def test_r24_a_replaced_object_is_detected_by_its_etag(
    store: ObjectStore, images: list[bytes], options: DataConfig
) -> None:
    source = open_source(store.url + "/bucket/00000.tar", options)
    source.read(0)
    store.objects["bucket/00000.tar"] = store.objects["bucket/00000.tar"].replace(images[1], bytes(len(images[1])))
    if options is NO_CACHE:
        with pytest.raises(DataError, match=r"00000\.tar has changed or was removed"):
            source.read(1)
    else:
        assert source.read(1).image == images[1]


def test_r24_a_checksum_beside_a_remote_shard_is_verified(store: ObjectStore) -> None:
    store.objects["bucket/00000.tar.sha256"] = b"0" * 64 + b"  00000.tar\n"
    with pytest.raises(DataError, match=r"bucket/00000\.tar is damaged .* its sha256 is"):
        open_source(store.url + "/" + SHARDS, DataConfig())


def test_r24_a_bucket_that_denies_missing_objects_is_read(store: ObjectStore, images: list[bytes]) -> None:
    store.fault = lambda path, byte_range, num_before: None if path.endswith(".tar") else "403"
    assert count_wrong(open_source(store.url + "/" + SHARDS, DataConfig()), images) == 0


def test_r24_no_sidecar_of_a_signed_url_is_requested(store: ObjectStore, images: list[bytes]) -> None:
    signed = "bucket/00000.tar?signature=1"
    store.objects[signed] = store.objects["bucket/00000.tar"]
    assert open_source(f"{store.url}/{signed}", DataConfig()).read(3).image == images[3]
    assert {path for path, _ in store.requests} == {signed}
