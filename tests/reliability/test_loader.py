"""Scorecard rows about the loader: the same batches whoever makes them, every sample once, no worker lost unnamed."""

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
    """Write pictures of noise, so that no crop is like another, and one in nine that cannot be read."""
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
    chosen = {
        "image_size": 16,
        "batch_size": 12,
        "seed": 3,
        "num_workers": 0,
        "config": DataConfig(),
    } | options
    return list(iter_batches(source, start_sample=start, num_steps=steps, **chosen))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and (a.captions, a.ids, a.skips) == (b.captions, b.ids, b.skips)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_r4_any_number_of_workers_makes_the_same_batches(shards: list[Path], workers: int) -> None:
    source = ShardSource(shards, "data")
    assert same(run(source, 17, num_workers=workers), run(source, 17))


@pytest.mark.parametrize("numbers", [(0, 1, 4), (4, 1, 0)])
def test_r4_a_run_that_resumes_with_other_workers_goes_on_with_the_same_batches(
    shards: list[Path], numbers: tuple[int, ...]
) -> None:
    source = ShardSource(shards, "data")
    parts = [run(source, 5, 60 * turn, num_workers=workers) for turn, workers in enumerate(numbers)]
    assert same(list(chain.from_iterable(parts)), run(source, 15))


def concatenate(shares: list[Batch]) -> Batch:
    return Batch(
        torch.cat([share.images for share in shares]),
        *(sum((getattr(share, name) for share in shares), ()) for name in ("captions", "ids", "skips")),
    )


def test_one_two_four_and_again_one_rank_see_the_same_global_batches(shards: list[Path]) -> None:
    """R5, the half that needs no processes: the loss follows from the batches."""
    source = ShardSource(shards, "data")
    seen = []
    for turn, ranks in enumerate((1, 2, 4, 1)):
        shares = [run(source, 5, 60 * turn, rank=rank, world_size=ranks) for rank in range(ranks)]
        seen += [concatenate(step) for step in zip(*shares, strict=True)]
    assert same(seen, run(source, 20))


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("samples", "per_shard", "batch_size"), [(67, 8, 12), (67, 8, 66), (67, 5, 2), (30, 10, 30), (31, 10, 30)]
)
def test_r6_in_three_epochs_every_sample_comes_exactly_once_in_each(
    tmp_path: Path, samples: int, per_shard: int, batch_size: int, ranks: int
) -> None:
    """Whatever the sizes: epochs end inside of batches, shards are smaller than a batch."""
    source = ShardSource(write(tmp_path, samples, per_shard), "data")
    steps = -(-3 * samples // batch_size)
    runs = [run(source, steps, batch_size=batch_size, rank=rank, world_size=ranks) for rank in range(ranks)]
    whole = [concatenate(shares) for shares in zip(*runs, strict=True)]
    visits: Counter[tuple[int, str]] = Counter()
    for step, batch in enumerate(whole):
        skipped = {(skip.epoch, skip.id) for skip in batch.skips}
        visits.update(skipped)
        for place, id in enumerate(batch.ids):
            visits[(step * batch_size + place) // samples, id] += 1
    names = {source.sample_id(index) for index in range(samples)}
    bad = {name for name in names if int(name[-6:]) % 9 == 5}
    for epoch in range(3):
        # A substitute is a second visit of a sample; it stands where a bad one was skipped.
        assert sum(visits[epoch, name] for name in names) == samples + len(bad)
        assert all(visits[epoch, name] == 1 for name in bad)
        assert all(visits[epoch, name] >= 1 for name in names)


class Doomed(ShardSource):
    """Shards of which one sample does something to who reads it."""

    def __init__(self, shards: list[Path], index: int, act: Callable[[], object]) -> None:
        super().__init__(shards, "data")
        self.index = index
        self.act = act

    def read_many(self, indices):
        if self.index in indices:
            self.act()
        return super().read_many(indices)


def fail(source: Doomed, **options) -> tuple[str, float, set[int]]:
    """Return the error of a run, the seconds until it came, and the process ids of the workers it had."""
    began = time.monotonic()
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

    def noted(process: BaseProcess) -> None:
        start(process)
        assert process.pid
        workers.add(process.pid)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError) as caught:
        patch.setattr(BaseProcess, "start", noted)
        list(stream)
    return str(caught.value), time.monotonic() - began, workers


def test_r17_a_worker_that_is_killed_is_named_with_the_shard_and_sample_it_was_reading(
    shards: list[Path],
) -> None:
    """As the kernel kills it when memory runs out."""
    source = Doomed(shards, 40, lambda: os.kill(os.getpid(), signal.SIGKILL))
    message, seconds, workers = fail(source)
    named = re.fullmatch(
        r"loader worker [01] \(process (\d+)\) was killed by signal 9 \(Killed\), reading 12 samples, the first "
        r"one 0000\d\.tar/0000\d\d\. The system may be out of memory.*",
        message,
    )
    assert named
    assert int(named[1]) in workers
    assert seconds < 10


def test_r17_a_worker_whose_read_never_returns_is_named_with_the_shard_and_sample(
    shards: list[Path],
) -> None:
    message, seconds, workers = fail(Doomed(shards, 40, lambda: time.sleep(3600)), timeout_seconds=1)
    named = re.fullmatch(
        r"loader worker [01] \(process (\d+)\) is stuck: no new sample in 1 s, reading 12 samples, the "
        r"first one 0000\d\.tar/0000\d\d\. .*",
        message,
    )
    assert named
    assert int(named[1]) in workers
    assert seconds < 10


@pytest.mark.parametrize("act", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: time.sleep(3600)])
def test_r17_no_worker_is_left_behind(shards: list[Path], act: Callable[[], object]) -> None:
    fail(Doomed(shards, 40, act), timeout_seconds=1)
    assert multiprocessing.active_children() == []
