"""Batches are prefetched up to a limit, results keep their order, and an error ends the run."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from zebra.data.locations import ImageRef, Location
from zebra.embed.in_flight import InFlight
from zebra.embed.pipeline import BatchEmbedder, EmbedPipeline, _map_in_order
from zebra.embed.preprocessing import ImagePreprocessor
from zebra.embed.values import PreprocessedImage
from zebra.errors import BadSample
from zebra.images.preprocess import Preprocess
from zebra.values import Record

from .conftest import encoded


def never() -> bool:
    return False


@pytest.fixture
def executor():
    with ThreadPoolExecutor(3) as executor:
        yield executor


def test_results_keep_the_order_of_the_items(executor):
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item

    assert list(_map_in_order(executor, work, range(40), 6, never)) == list(range(40))


def test_the_number_of_items_in_flight_is_limited(executor):
    taken = []
    results = _map_in_order(executor, lambda item: item, (taken.append(n) or n for n in range(100)), 5, never)
    for received, _ in enumerate(results, 1):
        assert len(taken) <= received + 4
    assert len(taken) == 100


def test_a_stop_finishes_running_items_and_starts_no_more():
    stopped = threading.Event()

    def work(item):
        stopped.set()
        time.sleep(0.05)
        return item

    with ThreadPoolExecutor(1) as executor:
        received = list(_map_in_order(executor, work, range(100), 20, stopped.is_set))
    assert received == list(range(len(received)))
    assert 1 <= len(received) < 10


def make_ref(name: str, data: bytes) -> ImageRef:
    return ImageRef(Location(name, "", name), lambda: Record(name, data))


def make_embedder(encode_pixels, find_existing=lambda _digest: None) -> BatchEmbedder:
    return BatchEmbedder(ImagePreprocessor(Preprocess(32), thumbnail_size=0), encode_pixels, InFlight(find_existing))


def test_an_error_of_the_model_reaches_all_that_wait_for_its_result():
    """Otherwise the run would hang."""

    def fail(_pixels):
        raise RuntimeError("no memory")

    embed_batch = make_embedder(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        embed_batch([make_ref("a", encoded(1))])
    future, is_new = embed_batch.in_flight.reserve(sha256(encoded(1)).hexdigest())
    assert not is_new
    with pytest.raises(RuntimeError, match="no memory"):
        future.result(timeout=1)


def test_a_batch_without_usable_images_does_not_call_the_model():
    def fail(_pixels):
        raise AssertionError("called without images")

    results = make_embedder(fail)([make_ref("a", b""), make_ref("b", b"?")])
    assert [result.reason for result in results if isinstance(result, BadSample)] == ["empty file", "not an image"]


def test_a_pending_row_does_not_keep_the_image_bytes():
    (row,) = make_embedder(lambda pixels: torch.zeros(len(pixels), 4))([make_ref("a", encoded(1))])
    assert row.record.image == b""


class NoExistingRows:
    """An empty store that records the locations of written rows."""

    store, dataset_name = SimpleNamespace(schema=pa.schema([])), "few"

    def __init__(self):
        self.written = []

    def find_features(self, _digest):
        return None

    def mark_seen(self, locations):
        return [False] * len(locations)

    def write(self, rows, _table):
        self.written += [row.location.key for row in rows]


@pytest.fixture
def run_pipeline(monkeypatch):
    """Return a function that runs a pipeline with two workers and returns it with the unusable images."""
    monkeypatch.setattr("zebra.embed.pipeline.rows_to_table", lambda *_: None)

    def run(image_refs, preprocess):
        class Source(list):
            num_images, scan = list.__len__, list.__iter__

        skipped = []
        pipeline = EmbedPipeline(
            Source(image_refs),
            NoExistingRows(),
            preprocess,
            lambda pixels: torch.zeros(len(pixels), 4),
            batch_size=1,
            num_workers=2,
            max_skip_rate=1.0,
            on_skip=skipped.append,
            callback=lambda _progress: None,
            should_stop=never,
        )
        assert pipeline()
        return pipeline, skipped

    return run


def preprocess_slowly(data, location):
    """Take long enough for the other worker to reach the same bytes."""
    time.sleep(0.1)
    if data == b"bad":
        raise BadSample("not an image", location, "test")
    return PreprocessedImage(np.zeros((3, 2, 2), np.uint8), 2, 2, None)


def test_each_image_with_equal_bad_bytes_is_reported_by_its_own_location(run_pipeline):
    pipeline, skipped = run_pipeline([make_ref(name, b"bad") for name in "abcd"], preprocess_slowly)
    assert sorted(error.location for error in skipped) == ["a", "b", "c", "d"]
    assert pipeline.progress.skipped == {"not an image": 4}


def test_images_with_equal_bytes_reuse_the_vector(run_pipeline):
    pipeline, _ = run_pipeline([make_ref(name, b"good") for name in "abcd"], preprocess_slowly)
    assert (pipeline.progress.embedded, pipeline.progress.reused) == (1, 3)
    assert pipeline.existing_rows.written == ["a", "b", "c", "d"]


def test_finished_images_are_not_kept_in_flight(run_pipeline):
    """Otherwise memory would grow with the dataset."""
    pipeline, _ = run_pipeline(
        [make_ref(f"{i}", b"bad" if i % 3 == 0 else b"%d" % i) for i in range(9)], preprocess_slowly
    )
    assert len(pipeline.in_flight) == 0
