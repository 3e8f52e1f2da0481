"""Scorecard rows on the loader: deterministic batches, every sample once per epoch, failed workers named."""

import io
import multiprocessing
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.shard_writer import ShardWriter
from zebra.data.shards import ShardSource
from zebra.data.sources import Source
from zebra.errors import DataError
from zebra.values import Batch


def write(folder: Path, samples: int, per_shard: int) -> list[Path]:
    """Write noise images, so that no two crops are alike; one in nine cannot be decoded."""
    with ShardWriter(folder, samples_per_shard=per_shard) as writer:
        for number in range(samples):
            buffer = io.BytesIO()
            Image.effect_noise((24, 20), 90).convert("RGB").save(buffer, "JPEG")
            image = b"not one" if number % 9 == 5 else buffer.getvalue()
            writer.write(f"{number:06d}", {"jpg": image, "txt": f"caption {number}".encode()})
    return writer.shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """67 samples, a prime number, in shards of 8."""
    return write(tmp_path_factory.mktemp("data"), 67, 8)


def run(source: Source, steps: int, start: int = 0, **options) -> list[Batch]:
    settings = {"image_size": 16, "batch_size": 12, "seed": 3, "num_workers": 0, "config": DataConfig()} | options
    return list(iter_batches(source, start_sample=start, num_steps=steps, **settings))


def are_equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and (a.captions, a.ids, a.skips) == (b.captions, b.ids, b.skips)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_r4_the_batches_do_not_depend_on_the_number_of_workers(shards: list[Path], workers: int) -> None:
    source = ShardSource(shards, "data")
    assert are_equal(run(source, 17, num_workers=workers), run(source, 17))


@pytest.mark.parametrize("numbers", [(0, 1, 4), (4, 1, 0)])
def test_r4_a_run_resumed_with_other_workers_has_the_same_batches(shards: list[Path], numbers: tuple[int, ...]) -> None:
    source = ShardSource(shards, "data")
    parts = [run(source, 5, 60 * part, num_workers=workers) for part, workers in enumerate(numbers)]
    assert are_equal(list(chain.from_iterable(parts)), run(source, 15))


def concatenate(slices: list[Batch]) -> Batch:
    return Batch(
        torch.cat([share.images for share in slices]),
        *(sum((getattr(share, name) for share in slices), ()) for name in ("captions", "ids", "groups", "skips")),
    )


def test_the_global_batches_do_not_depend_on_the_number_of_ranks(shards: list[Path]) -> None:
    """R5 without processes: the loss follows from the batches."""
    source = ShardSource(shards, "data")
    batches = []
    for part, ranks in enumerate((1, 2, 4, 1)):
        slices = [run(source, 5, 60 * part, rank=rank, world_size=ranks) for rank in range(ranks)]
        batches += [concatenate(step) for step in zip(*slices, strict=True)]
    assert are_equal(batches, run(source, 20))


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("samples", "per_shard", "batch_size"), [(67, 8, 12), (67, 8, 66), (67, 5, 2), (30, 10, 30), (31, 10, 30)]
)
def test_r6_every_sample_comes_exactly_once_in_each_of_three_epochs(
    tmp_path: Path, samples: int, per_shard: int, batch_size: int, ranks: int
) -> None:
    """Epochs may end inside a batch, and shards may be smaller than a batch."""
    source = ShardSource(write(tmp_path, samples, per_shard), "data")
    steps = -(-3 * samples // batch_size)
    runs = [run(source, steps, batch_size=batch_size, rank=rank, world_size=ranks) for rank in range(ranks)]
    global_batches = [concatenate(slices) for slices in zip(*runs, strict=True)]
    visits: Counter[tuple[int, str]] = Counter()
    for step, batch in enumerate(global_batches):
        skipped = {(skip.epoch, skip.id) for skip in batch.skips}
        visits.update(skipped)
        for position, id in enumerate(batch.ids):
            visits[(step * batch_size + position) // samples, id] += 1
    names = {source.sample_id(index) for index in range(samples)}
    bad = {name for name in names if int(name[-6:]) % 9 == 5}
    for epoch in range(3):
        # A substitute is a second visit of a sample, in the place of a bad one.
        assert sum(visits[epoch, name] for name in names) == samples + len(bad)
        assert all(visits[epoch, name] == 1 for name in bad)
        assert all(visits[epoch, name] >= 1 for name in names)


class FailingShards(ShardSource):
    """Shards with one sample that triggers an action when it is read."""

    def __init__(self, shards: list[Path], index: int, act: Callable[[], object]) -> None:
        super().__init__(shards, "data")
        self.index = index
        self.act = act

    def read_many(self, indices):
        if self.index in indices:
            self.act()
        return super().read_many(indices)


def fail(source: FailingShards, **options) -> tuple[str, float, set[int]]:
    """Return the error message of a run, the seconds until it was raised, and the process ids of its workers."""
    start_time = time.monotonic()
    stream = iter_batches(
        source,
        image_size=16,
        batch_size=12,
        seed=3,
        start_sample=0,
        num_steps=50,
        num_workers=2,
        config=DataConfig(),
        **options,
    )
    workers: set[int] = set()
    start = BaseProcess.start

    def recording_start(process: BaseProcess) -> None:
        start(process)
        assert process.pid
        workers.add(process.pid)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError) as caught:
        patch.setattr(BaseProcess, "start", recording_start)
        list(stream)
    return str(caught.value), time.monotonic() - start_time, workers


def test_r17_a_killed_worker_is_named_with_its_shard_and_sample(shards: list[Path]) -> None:
    """The kernel sends this signal when memory runs out."""
    source = FailingShards(shards, 40, lambda: os.kill(os.getpid(), signal.SIGKILL))
    message, seconds, workers = fail(source)
    match = re.fullmatch(
        r"loader worker [01] \(process (\d+)\) was killed by signal 9 \(Killed\), reading 12 samples, the first "
        r"one 0000\d\.tar/0000\d\d\. The system may be out of memory.*",
        message,
    )
    assert match
    assert int(match[1]) in workers
    assert seconds < 10


def test_r17_a_stuck_worker_is_named_with_its_shard_and_sample(shards: list[Path]) -> None:
    message, seconds, workers = fail(FailingShards(shards, 40, lambda: time.sleep(3600)), timeout_seconds=1)
    match = re.fullmatch(
        r"loader worker [01] \(process (\d+)\) is stuck: no new sample in 1 s, reading 12 samples, the "
        r"first one 0000\d\.tar/0000\d\d\. .*",
        message,
    )
    assert match
    assert int(match[1]) in workers
    assert seconds < 10


@pytest.mark.parametrize("act", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: time.sleep(3600)])
def test_r17_no_worker_process_remains(shards: list[Path], act: Callable[[], object]) -> None:
    fail(FailingShards(shards, 40, act), timeout_seconds=1)
    assert multiprocessing.active_children() == []
