"""Remote shards give the same records as local ones, with few concurrent requests."""

import io
import os
import pickle
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.remote import retry
from zebra.data.remote.block_cache import BLOCK_BYTES
from zebra.data.remote.object_store import BadResponse, FsspecStore, ObjectVersion, open_object_store
from zebra.data.remote.remote_blob import MAX_GAP_BYTES, MAX_REQUEST_BYTES, _coalesce_ranges
from zebra.data.remote.retry import MAX_CONCURRENT_REQUESTS
from zebra.data.shards import ShardSource
from zebra.data.sources import open_source, read_many
from zebra.errors import BadSample, DataError, MissingExtra

DEFAULT = DataConfig()
NO_CACHE = DataConfig(shard_cache_bytes=0)


@pytest.fixture
def bucket() -> Iterator[Callable[[Path], str]]:
    """A function that copies a folder's files into fsspec's memory file system and returns its URL."""
    fs = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        for path in folder.iterdir():
            fs.pipe(f"/bucket/{path.name}", path.read_bytes())
        return "memory://bucket"

    yield put
    if fs.exists("/bucket"):
        fs.rm("/bucket", recursive=True)


class CountingStore(FsspecStore):
    """A store that records the requested ranges."""

    def __init__(self) -> None:
        super().__init__(fsspec.filesystem("memory"))
        self.ranges: list[tuple[int, int]] = []
        self.num_version_requests = 0

    def get_version(self, url: str) -> ObjectVersion:
        self.num_version_requests += 1
        return super().get_version(url)

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        self.ranges.append((offset, size))
        return super().get_range(url, offset, size)

    @property
    def num_bytes(self) -> int:
        return sum(size for _, size in self.ranges)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    store = CountingStore()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    return store


# --- same records as local shards ---


@pytest.mark.parametrize("options", [DEFAULT, NO_CACHE])
def test_a_bucket_gives_the_records_of_the_folder(shards, bucket, options: DataConfig) -> None:
    folder = shards(25, samples_per_shard=10)
    local, remote = open_source(folder, options), open_source(bucket(folder), options)
    order = [24, 0, 13, 12, 13]
    assert remote.digest == local.digest
    assert read_many(remote, order) == read_many(local, order) == [local.read(index) for index in order]
    assert [remote.read(index) for index in order] == read_many(local, order)
    assert remote.sample_id(13) == local.read(13).id


def test_a_url_may_be_a_folder_a_shard_or_a_pattern(shards, bucket) -> None:
    url = bucket(shards(4, samples_per_shard=2))
    for name, num_samples in ((url, 4), (f"{url}/", 4), (f"{url}/00001.tar", 2), (f"{url}/{{00000..00001}}.tar", 4)):
        source = open_source(name, DEFAULT)
        assert isinstance(source, ShardSource)
        assert (len(source), source.name) == (num_samples, name)


def test_a_folder_of_several_splits_is_refused_with_a_pattern_that_opens_one(shards, bucket, tmp_path: Path) -> None:
    for name in ("cc3m-train-0.tar", "cc3m-train-1.tar", "cc3m-val-0.tar"):
        (shards(2) / "00000.tar").rename(tmp_path / name)
    folder = tmp_path / "all"
    folder.mkdir()
    for path in tmp_path.glob("cc3m*.tar"):
        path.rename(folder / path.name)
    url = bucket(folder)
    with pytest.raises(
        DataError, match=r"2 splits: train, validation\. .* such as memory://bucket/cc3m-train-\{0\.\.1\}"
    ):
        open_source(url, DEFAULT)
    assert len(open_source(f"{url}/cc3m-train-{{0..1}}.tar", DEFAULT)) == 4


def test_a_file_url_is_a_path(shards) -> None:
    assert len(open_source(f"file://{shards(3)}", DEFAULT)) == 3


def test_batches_of_a_bucket_equal_those_of_the_folder_with_forked_workers(shards, bucket) -> None:
    folder = shards(30, samples_per_shard=10)
    runs = []
    for path, workers in ((folder, 0), (bucket(folder), 2)):
        source = open_source(path, DEFAULT)
        source.read(0)  # creates threads and connections before the fork
        arguments = {"image_size": 16, "batch_size": 8, "seed": 1, "start_sample": 0, "num_steps": 6, "config": DEFAULT}
        runs.append(list(iter_batches(source, num_workers=workers, **arguments)))
    for local, remote in zip(*runs, strict=True):
        assert (local.ids, local.captions) == (remote.ids, remote.captions)
        assert (local.images == remote.images).all()


def test_a_source_can_be_pickled(shards, bucket) -> None:
    source = open_source(bucket(shards(3)), DEFAULT)
    record = source.read(2)
    assert pickle.loads(pickle.dumps(source)).read(2) == record


def test_read_many_returns_bad_samples_in_order(shards, bucket, tmp_path: Path) -> None:
    folder = shards(3)
    with tarfile.open(folder / "00001.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("lonely.txt"), io.BytesIO())
    records = read_many(open_source(bucket(folder), DEFAULT), [3, 0, 3])
    assert [type(record) for record in records] == [BadSample, type(records[1]), BadSample]
    assert records[0].reason == "missing image"


def test_empty_files_need_no_request(bucket, counting: CountingStore, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.jpg", "a.txt"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    source = open_source(bucket(tmp_path) + "/0.tar", NO_CACHE)
    counting.ranges.clear()
    (record,) = read_many(source, [0])
    assert record.reason == "empty caption"
    assert counting.ranges == []


# --- few requests ---


def test_close_ranges_are_one_request_and_distant_ones_are_not() -> None:
    near, far = (1000, 50), (1050 + MAX_GAP_BYTES + 1, 9)
    requests = _coalesce_ranges([far, near, (0, 10)], 1, 1 << 30)
    assert [(request.start, request.end, request.byte_ranges) for request in requests] == [
        (0, 1050, [(0, 10), near]),
        (far[0], sum(far), [far]),
    ]


@given(
    byte_ranges=st.lists(st.tuples(st.integers(0, 40 << 20), st.integers(1, 12 << 20)), max_size=30),
    alignment=st.sampled_from([1, BLOCK_BYTES]),
)
def test_every_range_is_inside_its_request(byte_ranges: list[tuple[int, int]], alignment: int) -> None:
    num_bytes = 52 << 20
    requests = _coalesce_ranges(byte_ranges, alignment, num_bytes)
    assert sorted(pair for request in requests for pair in request.byte_ranges) == sorted(byte_ranges)
    for request in requests:
        assert request.start % alignment == 0
        assert request.end % alignment == 0 or request.end == num_bytes
        for offset, size in request.byte_ranges:
            assert request.start <= offset and offset + size <= request.end
        longest = max(size for _, size in request.byte_ranges) + 2 * alignment
        assert request.end - request.start <= max(MAX_REQUEST_BYTES, longest)


def test_all_requests_of_a_batch_are_sent_before_the_first_response(shards, bucket, monkeypatch) -> None:
    barrier = threading.Barrier(4, timeout=20)

    class BarrierStore(CountingStore):
        def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
            if threading.current_thread().name.startswith("shards"):
                barrier.wait()
            return super().get_range(url, offset, size)

    store = BarrierStore()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    source = open_source(bucket(shards(8, samples_per_shard=2)), NO_CACHE)
    assert len(read_many(source, [6, 4, 2, 0])) == 4  # the barrier times out unless all four run concurrently


def test_shards_are_indexed_concurrently(shards, bucket, monkeypatch) -> None:
    barrier = threading.Barrier(4, timeout=20)

    class BarrierStore(CountingStore):
        def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
            barrier.wait()
            return super().get_range(url, offset, size)

    store = BarrierStore()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    assert len(open_source(bucket(shards(4, samples_per_shard=1)), NO_CACHE)) == 4


def test_the_number_of_concurrent_requests_is_limited(shards, bucket, monkeypatch) -> None:
    num_running, max_running, lock = 0, 0, threading.Lock()

    class SlowStore(CountingStore):
        def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
            nonlocal num_running, max_running
            with lock:
                num_running += 1
                max_running = max(max_running, num_running)
            threading.Event().wait(0.01)
            with lock:
                num_running -= 1
            return super().get_range(url, offset, size)

    store = SlowStore()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    source = open_source(bucket(shards(40, samples_per_shard=1)), NO_CACHE)
    read_many(source, range(40))
    assert MAX_CONCURRENT_REQUESTS / 2 < max_running <= MAX_CONCURRENT_REQUESTS


def test_image_and_caption_are_one_exact_request(shards, bucket, counting: CountingStore) -> None:
    source = open_source(bucket(shards(40)), NO_CACHE)
    counting.ranges.clear()
    source.read(7)
    image, caption = source.shards[0].sample(7).fields.values()
    assert counting.ranges == [(image[0], sum(caption) - image[0])]


def write_shard(folder: Path, samples: int, size: int) -> Path:
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(samples):
            for name, content in ((f"{number}.jpg", bytes([number]) * size), (f"{number}.txt", b"a caption")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("options", [DEFAULT, NO_CACHE])
def test_large_payloads_are_skipped_when_headers_are_read(
    bucket, counting: CountingStore, tmp_path: Path, options: DataConfig
) -> None:
    url = bucket(write_shard(tmp_path, 10, 2 << 20))
    assert len(open_source(f"{url}/0.tar", options)) == 10
    assert counting.num_bytes <= 10 * 3 * BLOCK_BYTES


def test_small_payloads_are_read_in_few_large_requests(bucket, counting: CountingStore, tmp_path: Path) -> None:
    url = bucket(write_shard(tmp_path, 100, 200_000))
    assert len(open_source(f"{url}/0.tar", NO_CACHE)) == 100
    assert len(counting.ranges) <= 9


# --- block cache ---


def test_with_a_cache_each_byte_is_downloaded_once(bucket, counting, tmp_path: Path) -> None:
    url = f"{bucket(write_shard(tmp_path, 40, 50_000))}/0.tar"
    for _run in range(2):
        source = open_source(url, DEFAULT)
        for _epoch in range(2):
            for index in np.random.default_rng(0).permutation(40):
                assert source.read(int(index)).image == bytes([index]) * 50_000
    assert counting.num_bytes == source.shards[0].blob.size


def test_shards_that_do_not_fit_are_read_exactly_without_the_cache(bucket, counting, cache, shards) -> None:
    folder = shards(40, samples_per_shard=20)
    size = (folder / "00000.tar").stat().st_size
    source = open_source(bucket(folder), DataConfig(shard_cache_bytes=size * 3 // 2))
    counting.ranges.clear()
    read_many(source, range(40))
    assert {path.parent.name for path in cache.glob("blocks/*/*")} == {source.shards[0].blob._key[:2]}
    second = source.shards[1]
    first, *_, last = [byte_range for i in range(20) for byte_range in second.sample(i).fields.values()]
    assert counting.ranges == [(first[0], sum(last) - first[0])]


def test_a_damaged_block_is_fetched_again(bucket, counting: CountingStore, cache: Path, shards) -> None:
    source = open_source(bucket(shards(3)), DEFAULT)
    expected = source.read(1)
    (block,) = cache.glob("blocks/*/*")
    block.write_bytes(block.read_bytes()[:-9] + bytes(9))
    counting.ranges.clear()
    assert source.read(1) == expected
    assert len(counting.ranges) == 1


def test_a_shard_version_is_verified_once_per_process(bucket, counting: CountingStore, shards) -> None:
    source = open_source(bucket(shards(6, samples_per_shard=3)), DEFAULT)
    counting.num_version_requests = 0
    for index in (0, 1, 2, 3, 0):
        source.read(index)
    assert counting.num_version_requests == 2


# --- missing shards and stores ---


def test_missing_shards_are_counted_and_named(shards, bucket) -> None:
    url = bucket(shards(1))
    with pytest.raises(DataError, match=rf"2 of the 3 shards of .* first {url}/00001\.tar"):
        open_source(f"{url}/{{00000..00002}}.tar", DEFAULT)


def test_a_folder_without_shards_is_an_error(bucket, tmp_path: Path) -> None:
    (tmp_path / "read.me").write_text("x")
    with pytest.raises(DataError, match=r"memory://bucket has no \.tar shards"):
        open_source(bucket(tmp_path), DEFAULT)


def test_a_missing_package_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gs", raising=False)
    with pytest.raises(MissingExtra, match=r"reading gs:// needs the package 'gcsfs'; run: pip install gcsfs"):
        open_source("gs://bucket/0.tar", DEFAULT)


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(DataError, match="unknown protocol floppy://"):
        open_source("floppy://a/0.tar", DEFAULT)


def test_file_systems_are_not_shared_and_cache_no_listings() -> None:
    first, second = open_object_store("memory://x"), open_object_store("memory://x")
    assert first.fs is not second.fs
    assert not first.fs.dircache.use_listings_cache


def test_counts_of_img2dataset_are_compared_in_a_bucket(shards, bucket) -> None:
    folder = shards(3)
    (folder / "00000_stats.json").write_text('{"successes": 4}')
    with pytest.raises(DataError, match=r"has 3 samples, but 00000_stats\.json beside it counts 4"):
        open_source(bucket(folder), DEFAULT)


def test_a_fork_does_not_use_the_store_of_its_parent(shards, bucket) -> None:
    source = open_source(bucket(shards(2)), DEFAULT)
    source.read(0)
    parent_state = source.shards[0].blob.client._process_state()
    child = os.fork()
    if not child:
        is_ok = (
            source.shards[0].blob.client._process_state().store is not parent_state.store and source.read(1).captions
        )
        os._exit(0 if is_ok else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_incomplete_read_of_a_file_system_is_an_error() -> None:
    class TruncatingFileSystem:
        async_impl = True

        def cat_file(self, url: str, start: int, end: int) -> bytes:
            return bytes(end - start - 1)

    with pytest.raises(BadResponse, match="received 9 bytes instead of 10"):
        FsspecStore(TruncatingFileSystem()).get_range("x://y", 0, 10)
