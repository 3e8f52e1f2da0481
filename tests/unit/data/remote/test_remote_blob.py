"""Shards are read alike wherever they lie: in few requests, many at a time, each byte once."""

import io
import os
import pickle
import random
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
from zebra.data.remote.object_store import (
    BadResponse,
    FsspecStore,
    NonRetryableError,
    ObjectVersion,
    RangeNotSupported,
    open_object_store,
)
from zebra.data.remote.remote_blob import MAX_GAP_BYTES, MAX_REQUEST_BYTES, _coalesce_ranges
from zebra.data.remote.retry import MAX_CONCURRENT_REQUESTS, RetryingClient
from zebra.data.shards import ShardSource
from zebra.data.sources import open_source, read_many
from zebra.errors import BadSample, DataError, MissingExtra

DEFAULT = DataConfig()
NO_CACHE = DataConfig(shard_cache_bytes=0)


@pytest.fixture
def bucket() -> Iterator[Callable[[Path], str]]:
    """A function that puts a folder's files into fsspec's memory and returns its URL."""
    files = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        for path in folder.iterdir():
            files.pipe(f"/bucket/{path.name}", path.read_bytes())
        return "memory://bucket"

    yield put
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


class Counting(FsspecStore):
    """A store that remembers the ranges it was asked for."""

    def __init__(self) -> None:
        super().__init__(fsspec.filesystem("memory"))
        self.fetched: list[tuple[int, int]] = []
        self.versions = 0

    def get_version(self, url: str) -> ObjectVersion:
        self.versions += 1
        return super().get_version(url)

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        self.fetched.append((offset, size))
        return super().get_range(url, offset, size)

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.fetched)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    store = Counting()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    return store


# --- the same data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [DEFAULT, NO_CACHE])
def test_a_bucket_gives_what_the_folder_gives(shards, bucket, options: DataConfig) -> None:
    folder = shards(25, samples_per_shard=10)
    local, there = open_source(folder, options), open_source(bucket(folder), options)
    order = [24, 0, 13, 12, 13]
    assert there.digest == local.digest
    assert read_many(there, order) == read_many(local, order) == [local.read(index) for index in order]
    assert [there.read(index) for index in order] == read_many(local, order)
    assert there.sample_id(13) == local.read(13).id


def test_a_folder_one_shard_and_a_pattern_are_named_by_url(shards, bucket) -> None:
    url = bucket(shards(4, samples_per_shard=2))
    for name, found in (
        (url, 4),
        (f"{url}/", 4),
        (f"{url}/00001.tar", 2),
        (f"{url}/{{00000..00001}}.tar", 4),
    ):
        source = open_source(name, DEFAULT)
        assert isinstance(source, ShardSource)
        assert (len(source), source.name) == (found, name)


def test_a_file_url_is_a_path(shards) -> None:
    assert len(open_source(f"file://{shards(3)}", DEFAULT)) == 3


def test_batches_of_a_bucket_are_those_of_the_folder_with_forked_workers(shards, bucket) -> None:
    folder = shards(30, samples_per_shard=10)
    taken = []
    for place, workers in ((folder, 0), (bucket(folder), 2)):
        source = open_source(place, DEFAULT)
        source.read(0)  # so that there is something a fork could trip over
        settings = {
            "image_size": 16,
            "batch_size": 8,
            "seed": 1,
            "start_sample": 0,
            "num_steps": 6,
            "config": DEFAULT,
        }
        taken.append(list(iter_batches(source, num_workers=workers, **settings)))
    for ours, theirs in zip(*taken, strict=True):
        assert (ours.ids, ours.captions) == (theirs.ids, theirs.captions)
        assert (ours.images == theirs.images).all()


def test_a_source_travels_to_another_process(shards, bucket) -> None:
    source = open_source(bucket(shards(3)), DEFAULT)
    record = source.read(2)
    assert pickle.loads(pickle.dumps(source)).read(2) == record


def test_bad_samples_come_as_their_reasons_in_their_places(shards, bucket, tmp_path: Path) -> None:
    folder = shards(3)
    with tarfile.open(folder / "00001.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("lonely.txt"), io.BytesIO())
    records = read_many(open_source(bucket(folder), DEFAULT), [3, 0, 3])
    assert [type(record) for record in records] == [BadSample, type(records[1]), BadSample]
    assert records[0].reason == "missing image"


def test_files_of_no_bytes_cost_no_request(bucket, counting: Counting, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.jpg", "a.txt"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    source = open_source(bucket(tmp_path) + "/0.tar", NO_CACHE)
    counting.fetched.clear()
    (record,) = read_many(source, [0])
    assert record.reason == "empty caption"
    assert counting.fetched == []


# --- few requests ----------------------------------------------------------------------------------------------------


def test_neighbours_are_one_request_and_what_lies_apart_is_not() -> None:
    near, far = (1000, 50), (1050 + MAX_GAP_BYTES + 1, 9)
    spans = _coalesce_ranges([far, near, (0, 10)], 1, 1 << 30)
    assert [(span.start, span.end, span.byte_ranges) for span in spans] == [
        (0, 1050, [(0, 10), near]),
        (far[0], sum(far), [far]),
    ]


@given(
    places=st.lists(st.tuples(st.integers(0, 40 << 20), st.integers(1, 12 << 20)), max_size=30),
    unit=st.sampled_from([1, BLOCK_BYTES]),
)
def test_every_place_lies_in_its_request(places: list[tuple[int, int]], unit: int) -> None:
    length = 52 << 20
    spans = _coalesce_ranges(places, unit, length)
    assert sorted(place for span in spans for place in span.byte_ranges) == sorted(places)
    for span in spans:
        assert span.start % unit == 0
        assert span.end % unit == 0 or span.end == length
        assert all(span.start <= offset and offset + size <= span.end for offset, size in span.byte_ranges)
        longest = max(size for _, size in span.byte_ranges) + 2 * unit
        assert span.end - span.start <= max(MAX_REQUEST_BYTES, longest)


def test_a_batch_is_asked_for_before_the_first_answer_comes(shards, bucket, monkeypatch) -> None:
    together = threading.Barrier(4, timeout=20)

    class Meeting(Counting):
        def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
            if threading.current_thread().name.startswith("shards"):
                together.wait()
            return super().get_range(url, offset, size)

    store = Meeting()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    source = open_source(bucket(shards(8, samples_per_shard=2)), NO_CACHE)
    assert len(read_many(source, [6, 4, 2, 0])) == 4  # breaks the barrier unless all four are under way


def test_shards_are_indexed_several_at_a_time(shards, bucket, monkeypatch) -> None:
    together = threading.Barrier(4, timeout=20)

    class Meeting(Counting):
        def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
            together.wait()
            return super().get_range(url, offset, size)

    store = Meeting()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    assert len(open_source(bucket(shards(4, samples_per_shard=1)), NO_CACHE)) == 4


def test_no_more_requests_are_under_way_than_allowed(shards, bucket, monkeypatch) -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    class Slow(Counting):
        def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            threading.Event().wait(0.01)
            with lock:
                under_way -= 1
            return super().get_range(url, offset, size)

    store = Slow()
    monkeypatch.setattr(retry, "open_object_store", lambda url: store)
    source = open_source(bucket(shards(40, samples_per_shard=1)), NO_CACHE)
    read_many(source, range(40))
    assert MAX_CONCURRENT_REQUESTS / 2 < most <= MAX_CONCURRENT_REQUESTS


def test_picture_and_caption_are_one_request_and_no_byte_more(shards, bucket, counting: Counting) -> None:
    source = open_source(bucket(shards(40)), NO_CACHE)
    counting.fetched.clear()
    source.read(7)
    picture, caption = source.shards[0].sample(7).fields.values()
    assert counting.fetched == [(picture[0], sum(caption) - picture[0])]


def large(folder: Path, samples: int, size: int) -> Path:
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(samples):
            for name, content in ((f"{number}.jpg", bytes([number]) * size), (f"{number}.txt", b"a caption")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("options", [DEFAULT, NO_CACHE])
def test_large_payloads_are_skipped_when_headers_are_read(
    bucket, counting: Counting, tmp_path: Path, options: DataConfig
) -> None:
    url = bucket(large(tmp_path, 10, 2 << 20))
    assert len(open_source(f"{url}/0.tar", options)) == 10
    assert counting.bytes <= 10 * 3 * BLOCK_BYTES


def test_small_payloads_are_read_in_few_large_requests(bucket, counting: Counting, tmp_path: Path) -> None:
    url = bucket(large(tmp_path, 100, 200_000))
    assert len(open_source(f"{url}/0.tar", NO_CACHE)) == 100
    assert len(counting.fetched) <= 9


# --- each byte once --------------------------------------------------------------------------------------------------


def test_with_a_cache_indexing_and_all_epochs_fetch_each_byte_once(bucket, counting, tmp_path: Path) -> None:
    url = f"{bucket(large(tmp_path, 40, 50_000))}/0.tar"
    for _run in range(2):
        source = open_source(url, DEFAULT)
        for _epoch in range(2):
            for index in np.random.default_rng(0).permutation(40):
                assert source.read(int(index)).image == bytes([index]) * 50_000
    assert counting.bytes == source.shards[0].blob.size


def test_shards_that_do_not_fit_are_read_exactly_and_leave_the_cache_alone(
    bucket, counting, cache, shards
) -> None:
    folder = shards(40, samples_per_shard=20)
    size = (folder / "00000.tar").stat().st_size
    source = open_source(bucket(folder), DataConfig(shard_cache_bytes=size * 3 // 2))
    counting.fetched.clear()
    read_many(source, range(40))
    assert {path.parent.name for path in cache.glob("blocks/*/*")} == {source.shards[0].blob._key[:2]}
    second = source.shards[1]
    first_place, *_, last_place = [place for i in range(20) for place in second.sample(i).fields.values()]
    assert counting.fetched == [(first_place[0], sum(last_place) - first_place[0])]


def test_a_damaged_block_is_fetched_again(bucket, counting: Counting, cache: Path, shards) -> None:
    source = open_source(bucket(shards(3)), DEFAULT)
    truth = source.read(1)
    (block,) = cache.glob("blocks/*/*")
    block.write_bytes(block.read_bytes()[:-9] + bytes(9))
    counting.fetched.clear()
    assert source.read(1) == truth
    assert len(counting.fetched) == 1


def test_a_shard_is_recognised_once_in_each_process(bucket, counting: Counting, shards) -> None:
    source = open_source(bucket(shards(6, samples_per_shard=3)), DEFAULT)
    counting.versions = 0
    for index in (0, 1, 2, 3, 0):
        source.read(index)
    assert counting.versions == 2


# --- patience --------------------------------------------------------------------------------------------------------


class Failing:
    """A store that raises what it is given, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def get(self, url: str) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        return b"at last"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch):
    """A function from errors to (the remote, its answer), with the waits that were made kept as `ask.waits`."""
    waits: list[float] = []

    def ask(*errors: Exception) -> bytes:
        store = Failing(*errors)
        monkeypatch.setattr(retry, "open_object_store", lambda url: store)
        monkeypatch.setattr(retry.time, "sleep", waits.append)
        return RetryingClient("s3://b/x", None).call_with_retries(
            "s3://b/x", lambda store: store.get("s3://b/x")
        )

    ask.waits = waits
    return ask


class LibraryError(Exception):
    """As a store's own library may raise it."""


class NoCredentialsError(Exception):
    """botocore's is called so, and is no OSError."""


class StatusError(OSError):
    """As huggingface_hub raises it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = type("Response", (), {"status_code": status})


PASSING = [
    BadResponse("x"),
    TimeoutError(),
    ConnectionResetError(),
    EOFError(),
    LibraryError("x"),
    StatusError(503),
]
LASTING = [
    NonRetryableError("x"),
    StatusError(401),
    NoCredentialsError("x"),
    TypeError("x"),
    IsADirectoryError("x"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_asked_again(ask, error: Exception) -> None:
    assert ask(error, error) == b"at last"
    assert len(ask.waits) == 2


def test_the_whole_object_for_a_range_may_pass_unless_nothing_else_comes(ask) -> None:
    assert ask(BadResponse("x"), BadResponse("x"), RangeNotSupported("x")) == b"at last"
    with pytest.raises(DataError, match="cannot be read in parts"):
        ask(*[RangeNotSupported("x")] * 3)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_will_not_pass_is_said_at_once(ask, error: Exception) -> None:
    with pytest.raises(DataError, match=r"s3://b/x cannot be read: "):
        ask(error)
    assert ask.waits == []


def test_waits_double_spread_and_move_no_other_draws(ask) -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with pytest.warns(UserWarning, match="failed 4 times"):
        ask(*[BadResponse("x")] * 7)
    assert random.random() == expected
    ratios = [wait / (0.25 * 2**n) for n, wait in enumerate(ask.waits)]
    assert all(0.5 <= ratio <= 1.5 for ratio in ratios)
    assert len({round(ratio, 6) for ratio in ratios}) == 7


def test_short_answers_of_a_file_system_are_no_answers() -> None:
    class Short:
        async_impl = True

        def cat_file(self, url: str, start: int, end: int) -> bytes:
            return bytes(end - start - 1)

    with pytest.raises(BadResponse, match="9 bytes came instead of 10"):
        FsspecStore(Short()).get_range("x://y", 0, 10)


# --- what is not there -----------------------------------------------------------------------------------------------


def test_missing_shards_are_counted_and_named(shards, bucket) -> None:
    url = bucket(shards(1))
    with pytest.raises(DataError, match=rf"2 of the 3 shards of .* first {url}/00001\.tar"):
        open_source(f"{url}/{{00000..00002}}.tar", DEFAULT)


def test_a_folder_without_shards_says_so(bucket, tmp_path: Path) -> None:
    (tmp_path / "read.me").write_text("x")
    with pytest.raises(DataError, match=r"memory://bucket holds no \.tar shards"):
        open_source(bucket(tmp_path), DEFAULT)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gs", raising=False)
    with pytest.raises(
        MissingExtra, match=r"reading gs:// needs the package 'gcsfs'; run: pip install gcsfs"
    ):
        open_source("gs://bucket/0.tar", DEFAULT)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(DataError, match="nothing is known to read floppy://"):
        open_source("floppy://a/0.tar", DEFAULT)


def test_file_systems_are_neither_shared_nor_remember_listings() -> None:
    first, second = open_object_store("memory://x"), open_object_store("memory://x")
    assert first.fs is not second.fs
    assert not first.fs.dircache.use_listings_cache


def test_counts_of_img2dataset_are_compared_in_a_bucket(shards, bucket) -> None:
    folder = shards(3)
    (folder / "00000_stats.json").write_text('{"successes": 4}')
    with pytest.raises(DataError, match=r"holds 3 samples, but 00000_stats\.json beside it counts 4"):
        open_source(bucket(folder), DEFAULT)


def test_the_environment_of_a_fork_holds_no_store_of_its_parent(shards, bucket) -> None:
    source = open_source(bucket(shards(2)), DEFAULT)
    source.read(0)
    parents = source.shards[0].blob.client._process_state()
    child = os.fork()
    if not child:
        fine = (
            source.shards[0].blob.client._process_state().store is not parents.store
            and source.read(1).captions
        )
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
