"""Batches depend on seed and position alone; bad samples are replaced and reported."""

import hashlib
import io
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.bad_samples import NoUsableSamples
from zebra.data.batches import iter_batches, require_full_batch
from zebra.data.sample_counter import SampleCounter
from zebra.data.sources import open_source
from zebra.errors import BadSample, ConfigError, DataError
from zebra.values import Batch, Record

DEFAULT = DataConfig()


@dataclass
class MemorySource:
    """A source in memory; the samples in `bad` cannot be used."""

    images: list[bytes]
    bad: set[int] = field(default_factory=set)
    name: str = "memory"
    digest: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def sample_id(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Record:
        if index in self.bad:
            raise BadSample("made bad", str(index), "on purpose")
        return Record(str(index), self.images[index], (f"one {index}", f"two {index}"))


@pytest.fixture
def memory(make_image):
    return lambda n, bad=(): MemorySource([make_image(i) for i in range(n)], set(bad))


def stream(source, steps: int, start: int = 0, workers: int = 0, **options) -> Iterator[Batch]:
    arguments = {"image_size": 16, "batch_size": 4, "seed": 0, "config": DEFAULT} | options
    return iter_batches(source, start_sample=start, num_steps=steps, num_workers=workers, **arguments)


def run(source, steps: int, start: int = 0, workers: int = 0, **options) -> list[Batch]:
    return list(stream(source, steps, start, workers, **options))


def content(batch: Batch) -> tuple[object, ...]:
    digest = hashlib.sha256(batch.images.numpy().tobytes()).hexdigest()
    return digest, batch.captions, batch.ids, batch.skips


def test_a_batch_holds_uint8_images_one_caption_each_and_ids(memory) -> None:
    (batch,) = run(memory(10), 1)
    assert batch.images.shape == (4, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert len(set(batch.ids)) == 4
    for caption, id in zip(batch.captions, batch.ids, strict=True):
        assert caption in (f"one {id}", f"two {id}")


def test_every_image_has_its_own_caption(memory, make_image) -> None:
    for batch in run(memory(10), 5):
        for image, id in zip(batch.images, batch.ids, strict=True):
            expected = torch.tensor([int(id), int(id) * 7, int(id) * 13])
            assert (image.float().mean(dim=(1, 2)) - expected).abs().max() < 4


def test_each_caption_of_a_sample_is_drawn_eventually(memory) -> None:
    captions = {caption for batch in run(memory(4), 30) for caption in batch.captions}
    assert captions == {f"{word} {i}" for word in ("one", "two") for i in range(4)}


def test_likely_captions_are_drawn_more_often(memory) -> None:
    source = memory(4)
    read = source.read
    source.read = lambda index: replace(read(index), caption_probabilities=(0.9, 0.1))
    first_words = [caption.split()[0] for batch in run(source, 100) for caption in batch.captions]
    assert 0.85 < first_words.count("one") / len(first_words) < 0.95


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bits(shards, workers: int) -> None:
    folder = shards(23)
    damaged = folder / "00000.tar"
    data = damaged.read_bytes()
    damaged.write_bytes(data.replace(b"\xff\xd8\xff", b"\xff\xd8\x00", 2))  # damage the header of two images
    source = open_source(folder, DEFAULT)
    expected, batches = run(source, 12), run(source, 12, workers=workers)
    assert list(map(content, batches)) == list(map(content, expected))
    assert sum(len(batch.skips) for batch in expected) >= 4


@pytest.mark.parametrize("start", [4, 6, 20, 44])
def test_a_resumed_run_equals_the_rest_of_the_full_run(memory, start: int) -> None:
    """Also from a position that no step of this batch size reaches: earlier batches may have had another size."""
    source = memory(11, bad={3})
    full = list(map(content, run(source, 12, start=start % 4)))
    assert list(map(content, run(source, 12 - start // 4, start, workers=1))) == full[start // 4 :]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_slices_of_all_ranks_make_up_the_global_batch(memory, workers: int) -> None:
    source = memory(11, bad={3})
    runs = [run(source, 6, 5, workers, batch_size=6, rank=rank, world_size=3) for rank in range(3)]
    for full, *parts in zip(run(source, 6, 5, batch_size=6), *runs, strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), full.images)
        assert sum((part.captions for part in parts), ()) == full.captions
        assert sum((part.ids for part in parts), ()) == full.ids
        assert sum((part.skips for part in parts), ()) == full.skips


def test_a_batch_that_ranks_cannot_share_is_refused_at_once(memory) -> None:
    with pytest.raises(ConfigError, match="batch_size 4 is not divisible by 3 processes"):
        stream(memory(4), 1, rank=0, world_size=3)


def test_another_seed_gives_other_batches(memory) -> None:
    source = memory(11)
    assert content(run(source, 1, seed=1)[0]) != content(run(source, 1, seed=2)[0])


def test_crops_of_a_sample_differ_from_epoch_to_epoch() -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(buffer, "PNG")
    seen = {content(batch)[0] for batch in run(MemorySource([buffer.getvalue()] * 2), 5, batch_size=2)}
    assert len(seen) == 5


def test_the_global_random_state_is_unchanged(memory) -> None:
    before = torch.random.get_rng_state()
    run(memory(8), 3)
    run(memory(8), 3, workers=1)
    assert torch.equal(torch.random.get_rng_state(), before)


@given(
    num_samples=st.integers(2, 30),
    batch_size=st.integers(1, 30),
    steps=st.integers(1, 20),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_consumed_and_skipped_samples_add_up_in_every_complete_epoch(
    make_image, num_samples: int, batch_size: int, steps: int, seed: int, data: st.DataObject
) -> None:
    """Distinct consumed + skipped = num_samples, counted from the batches and by SampleCounter."""
    batch_size = min(num_samples, batch_size)
    unusable = data.draw(st.sets(st.integers(0, num_samples - 1), max_size=num_samples // 2))
    source = MemorySource([make_image(size=(8, 8))] * num_samples, unusable)
    counter = SampleCounter(num_samples, 1, None)
    delivered: dict[int, set[str]] = {}
    skipped: dict[int, list[str]] = {}
    for step, batch in enumerate(run(source, steps, batch_size=batch_size, seed=seed)):
        counter.add(step * batch_size, batch)
        assert len(batch.ids) == batch_size
        for offset, id in enumerate(batch.ids):
            delivered.setdefault((step * batch_size + offset) // num_samples, set()).add(id)
        for skip in batch.skips:
            skipped.setdefault(skip.epoch, []).append(skip.id)
    for epoch in counter.summary()["epochs"]:
        if epoch["complete"]:
            number = epoch["epoch"]
            assert len(delivered[number]) == epoch["consumed"] == num_samples - len(unusable)
            assert sorted(skipped.get(number, [])) == sorted(map(str, unusable))
            assert epoch["consumed"] + sum(epoch["skipped"].values()) == num_samples


def test_a_skip_carries_reason_and_detail(memory) -> None:
    skips = [skip for batch in run(memory(4, bad={2}), 1) for skip in batch.skips]
    assert [(skip.epoch, skip.id, skip.reason, skip.detail) for skip in skips] == [(0, "2", "made bad", "on purpose")]


def test_images_that_cannot_be_decoded_are_skipped(memory) -> None:
    source = memory(4)
    source.images[1] = b"<html>"
    source.images[2] = b""
    reasons = {skip.reason for batch in run(source, 1) for skip in batch.skips}
    assert reasons == {"not an image", "empty file"}


def test_the_config_limits_pixels(memory) -> None:
    with pytest.raises(DataError, match="too many pixels"):
        run(memory(4), 1, config=DataConfig(max_image_pixels=10))


def test_a_sample_with_only_a_label_is_skipped(memory) -> None:
    source = memory(4)
    source.read = lambda index: Record(str(index), source.images[index], label=3)
    with pytest.raises(DataError, match="missing caption"):
        run(source, 1)


def test_a_single_sample_is_refused_without_an_advice_that_cannot_be_followed(memory) -> None:
    with pytest.raises(DataError, match=r"memory has 1 sample; a contrastive loss needs at least 2"):
        require_full_batch(memory(1), 2)


def test_fewer_samples_than_a_batch_are_refused_at_once(memory) -> None:
    with pytest.raises(DataError, match=r"memory has 3 samples, fewer than one batch of 4\. Use --batch-size 3"):
        stream(memory(3), 1)


def test_a_negative_seed_is_refused_at_once(memory) -> None:
    with pytest.raises(ConfigError, match="seed must not be negative; got -1"):
        stream(memory(4), 1, seed=-1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_without_a_usable_sample_is_an_error_with_counts_by_reason(memory, workers: int) -> None:
    with pytest.raises(
        NoUsableSamples, match=r"5 of 5 samples are unusable in memory: 5 made bad\. Examples:"
    ) as error:
        run(memory(5, bad=range(5)), 3, workers=workers)
    assert sorted(bad.location for bad in error.value.bad_samples) == ["0", "1", "2", "3", "4"]
    assert "`zebra doctor memory`" in str(error.value)


def test_an_error_in_a_worker_keeps_its_message(shards) -> None:
    folder = shards(8)
    source = open_source(folder, DEFAULT)
    (folder / "00000.tar").write_bytes(b"another file")
    with pytest.raises(DataError) as caught:
        run(source, 2, workers=1)
    assert str(caught.value) == f"{folder}/00000.tar has changed while it was in use. Start again to index it anew"


def test_no_worker_outlives_an_error(memory) -> None:
    with pytest.raises(DataError) as error:
        run(memory(5, bad=range(5)), 3, workers=2)
    assert error.value.__traceback__ is not None  # its frames must not keep a worker alive
    assert multiprocessing.active_children() == []


def test_no_worker_outlives_its_iterator(memory) -> None:
    batches = stream(memory(5), 99, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert multiprocessing.active_children() == []


def test_a_stuck_read_is_reported_with_its_sample(memory) -> None:
    source = memory(8)
    read = source.read
    source.read = lambda index: time.sleep(3600) if index == 5 else read(index)
    with pytest.raises(DataError, match=r"stuck.*, at 5\. "):
        run(source, 2, workers=1, timeout_seconds=0.5)


@pytest.fixture(params=["folder", "csv", "shards"])
def path(request, tmp_path: Path, make_image, shards) -> Path:
    """Six samples in one layout or another."""
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = ["path,caption"]
    for number in range(6):
        (photos / f"{number}.jpg").write_bytes(make_image(number))
        (photos / f"{number}.txt").write_text(f"color {number}")
        rows.append(f"photos/{number}.jpg,color {number}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return {"folder": photos, "csv": tmp_path / "t.csv", "shards": shards(6)}[request.param]


def test_every_layout_loads_with_workers(path: Path) -> None:
    (first, second) = run(open_source(path, DEFAULT), 2, workers=2, batch_size=3)
    assert sorted(first.captions + second.captions) == [f"color {i}" for i in range(6)]
    assert first.skips == second.skips == ()


def test_every_layout_gives_ids_without_reading(path: Path) -> None:
    source = open_source(path, DEFAULT)
    assert [source.sample_id(index) for index in range(6)] == [source.read(index).id for index in range(6)]
