"""Tests of holding samples out of training without reading all of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.splits import hold_out
from zebra.errors import BadSample
from zebra.values import Record


class ListSource:
    """Samples whose images are given by position; None is a bad sample."""

    name, ignored, digest = "list", (), "0" * 64

    def __init__(self, images: list[bytes | None]) -> None:
        self.images = images
        self.num_reads = 0

    def __len__(self) -> int:
        return len(self.images)

    def sample_id(self, index: int) -> str:
        return f"list:{index}"

    def read(self, index: int) -> Record:
        self.num_reads += 1
        image = self.images[index]
        if image is None:
            raise BadSample("unreadable file", self.sample_id(index))
        return Record(self.sample_id(index), image, (f"caption {index}",))


class BatchedListSource(ListSource):
    def read_many(self, indices: list[int]) -> list[Record]:
        return [self.read(index) for index in indices]


def distinct(count: int) -> list[bytes | None]:
    return [b"%d" % index for index in range(count)]


@given(num_samples=st.integers(0, 3000), fraction=st.floats(0, 0.49))
def test_every_sample_is_in_exactly_one_part(num_samples: int, fraction: float) -> None:
    train, val = hold_out(ListSource(distinct(num_samples)), fraction)
    ids = [part.sample_id(index) for part in (train, val) if part is not None for index in range(len(part))]
    assert sorted(ids) == sorted(f"list:{index}" for index in range(num_samples))
    size = min(round(fraction * num_samples), 1000)
    assert (val is None) == (size < 10)
    assert val is None or len(val) == size


def test_rows_of_one_image_are_held_out_together() -> None:
    source = ListSource([b"%d" % (index // 5) for index in range(1000)])
    train, val = hold_out(source, 0.02)
    assert val is not None
    images = [{part.read(index).image for index in range(len(part))} for part in (train, val)]
    assert not images[0] & images[1]
    assert len(val) == 5 * len(images[1]) == 100


def test_only_the_held_out_samples_and_their_neighbors_are_read() -> None:
    source = ListSource(distinct(100_000))
    _, val = hold_out(source, 0.05)
    assert val is not None and len(val) == 1000
    assert source.num_reads == 3000


def test_a_bad_sample_is_held_out_alone() -> None:
    _, val = hold_out(ListSource([None] * 200), 0.05)
    assert val is not None and len(val) == 10
    with pytest.raises(BadSample):
        val.read(0)


@pytest.mark.parametrize("source_class", [ListSource, BatchedListSource])
def test_a_part_reads_many_samples_together_if_its_source_does(source_class: type[ListSource]) -> None:
    train, _ = hold_out(source_class(distinct(400)), 0.05)
    assert hasattr(train, "read_many") == hasattr(source_class, "read_many")
    if source_class is BatchedListSource:
        assert [record.id for record in train.read_many([3, 0])] == [train.read(3).id, train.read(0).id]  # type: ignore[attr-defined]


def test_the_digest_depends_on_the_held_out_share(tmp_path: Path) -> None:
    source = ListSource(distinct(1000))
    assert len({hold_out(source, fraction)[0].digest for fraction in (0, 0.02, 0.05)}) == 3
