"""Batches run ahead of the writer, but not far; what they answer comes in order; a fault ends the run."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from zebra.embed.in_flight import InFlight
from zebra.embed.pipeline import BatchEmbedder, EmbedPipeline, _map_in_order
from zebra.embed.stages import ImagePreprocessor
from zebra.embed.values import ImageContent, ImageRef, Location, PreprocessedImage
from zebra.errors import BadSample
from zebra.images.preprocess import Preprocess

from .conftest import encoded


def never() -> bool:
    return False


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as pool:
        yield pool


def test_answers_come_in_the_order_of_the_items(pool):
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item

    assert list(_map_in_order(pool, work, range(40), 6, never)) == list(range(40))


def test_no_more_items_are_taken_than_may_be_ahead(pool):
    taken = []
    answers = _map_in_order(pool, lambda item: item, (taken.append(n) or n for n in range(100)), 5, never)
    for received, _ in enumerate(answers, 1):
        assert len(taken) <= received + 4
    assert len(taken) == 100


def test_on_request_what_was_begun_is_finished_and_no_more():
    stopped = threading.Event()

    def work(item):
        stopped.set()
        time.sleep(0.05)
        return item

    with ThreadPoolExecutor(1) as pool:
        received = list(_map_in_order(pool, work, range(100), 20, stopped.is_set))
    assert received == list(range(len(received)))
    assert 1 <= len(received) < 10


def picture(name: str, data: bytes) -> ImageRef:
    return ImageRef(Location(name, "", name), lambda: ImageContent(data))


def make(run, written=lambda _digest: None) -> BatchEmbedder:
    return BatchEmbedder(ImagePreprocessor(Preprocess(32), thumbnail_size=0), run, InFlight(written))


def test_a_model_that_fails_is_reported_to_all_who_wait_for_its_answer():
    """Otherwise the run would hang instead of ending."""

    def fail(_pixels):
        raise RuntimeError("no memory")

    work = make(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        work([picture("a", encoded(1))])
    future, mine = work.in_flight.reserve(sha256(encoded(1)).hexdigest())
    assert not mine
    with pytest.raises(RuntimeError, match="no memory"):
        future.result(timeout=1)


def test_a_batch_of_bad_pictures_does_not_bother_the_model():
    def fail(_pixels):
        raise AssertionError("asked for nothing")

    answers = make(fail)([picture("a", b""), picture("b", b"?")])
    assert [answer.reason for answer in answers if isinstance(answer, BadSample)] == [
        "empty file",
        "not an image",
    ]


def test_an_answer_does_not_keep_the_encoded_picture():
    (seen,) = make(lambda pixels: torch.zeros(len(pixels), 4))([picture("a", encoded(1))])
    assert seen.content.image_bytes == b""


class Nothing:
    """Knows of no row, and takes any."""

    store = SimpleNamespace(schema=pa.schema([]))

    def __init__(self):
        self.written = []

    def find_features(self, _digest):
        return None

    def mark_seen(self, _location, _stamp):
        return False

    def write(self, rows, _table):
        self.written += [row.location.key for row in rows]


@pytest.fixture
def pipeline(monkeypatch):
    """A function that runs pictures through, two at a time, and gives the pipeline with what it left out."""
    monkeypatch.setattr("zebra.embed.pipeline.rows_to_table", lambda *_: None)

    def run(pictures, prepare):
        class Few(list):
            name, extra_columns = "few", pa.schema([])

        left_out = []
        line = EmbedPipeline(
            Few(pictures),
            Nothing(),
            prepare,
            lambda pixels: torch.zeros(len(pixels), 4),
            batch_size=1,
            num_workers=2,
            max_skip_rate=1.0,
            on_skip=left_out.append,
            callback=lambda _tally: None,
            should_stop=never,
        )
        assert line()
        return line, left_out

    return run


def slow(data, where):
    """Take long enough for the other worker to meet the same bytes."""
    time.sleep(0.1)
    if data == b"bad":
        raise BadSample("not an image", where, "made up")
    return PreprocessedImage(np.zeros((3, 2, 2), np.uint8), 2, 2, None)


def test_who_waits_for_equal_bytes_that_are_bad_is_named_itself(pipeline):
    line, left_out = pipeline([picture(name, b"bad") for name in "abcd"], slow)
    assert sorted(bad.location for bad in left_out) == ["a", "b", "c", "d"]
    assert line.progress.skipped == {"not an image": 4}


def test_who_waits_for_equal_bytes_takes_the_vector_over(pipeline):
    line, _ = pipeline([picture(name, b"good") for name in "abcd"], slow)
    assert (line.progress.embedded, line.progress.reused) == (1, 3)
    assert line.existing_rows.written == ["a", "b", "c", "d"]


def test_nothing_is_remembered_of_what_is_written_or_bad(pipeline):
    """Memory would grow with the data otherwise."""
    line, _ = pipeline([picture(f"{i}", b"bad" if i % 3 == 0 else b"%d" % i) for i in range(9)], slow)
    assert len(line.in_flight) == 0
