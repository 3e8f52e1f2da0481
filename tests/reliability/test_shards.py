"""Scorecard rows on tar shards that are damaged, changed or incomplete."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import fsspec
import pytest

from zebra.config.data import DataConfig
from zebra.data.shard_writer import ShardWriter
from zebra.data.shards import ShardSource
from zebra.data.sources import open_source
from zebra.errors import BadSample, DataError

BLOCK = 512
SAMPLE = 5 * BLOCK
"""Size of a sample: an image of 600 bytes and a caption, each after its header."""
NUM_SAMPLES = 5
KEEP_INTACT = DataConfig(damaged_shards="keep-complete-samples")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


def image(number: int) -> bytes:
    return bytes([65 + number]) * 600


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Five samples, 0 to 4."""
    with ShardWriter(tmp_path / "data") as writer:
        for number in range(NUM_SAMPLES):
            writer.write(str(number), {"jpg": image(number), "txt": b"a caption"})
    return writer.shards[0]


def patched(data: bytes, position: int, new: bytes) -> bytes:
    return data[:position] + new + data[position + len(new) :]


def with_size(data: bytes, header: int, size: int) -> bytes:
    """Change the size in a header, and its checksum to match."""
    block = bytearray(data[header : header + BLOCK])
    block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return patched(data, header, bytes(block))


DAMAGES = {
    "cut at a member's boundary": (lambda tar: tar[: 2 * SAMPLE], 1),
    "cut inside a header": (lambda tar: tar[: 2 * SAMPLE + 100], 1),
    "a header's checksum corrupted": (lambda tar: patched(tar, 2 * SAMPLE + 148, b"7"), 1),
    "a block zeroed": (lambda tar: patched(tar, 3 * SAMPLE, bytes(BLOCK)), 2),
    "cut inside a payload": (lambda tar: tar[: 3 * SAMPLE + 700], 2),
    "something after the end marker": (lambda tar: tar + b"hello", 4),
    "the end marker missing": (lambda tar: tar[: NUM_SAMPLES * SAMPLE], 4),
    "a size larger than the file": (lambda tar: with_size(tar, 4 * SAMPLE, 1 << 20), 3),
}
"""Damage → function that damages the bytes, and the number of samples that are certainly complete."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_r18_a_damaged_tar_is_an_error_with_its_name_and_number_of_samples(shard: Path, damage: str) -> None:
    damage_bytes, num_intact = DAMAGES[damage]
    shard.write_bytes(damage_bytes(shard.read_bytes()))
    for _ in range(2):  # the second time from the cached index
        with pytest.raises(
            DataError, match=rf"00000\.tar is damaged at byte [\d,]+, after {num_intact} complete samples"
        ):
            open_source(shard, DataConfig())


@pytest.mark.parametrize("damage", DAMAGES)
def test_r18_the_samples_before_the_damage_can_be_used(shard: Path, damage: str) -> None:
    damage_bytes, num_intact = DAMAGES[damage]
    good = shard.with_name("00001.tar")
    good.write_bytes(shard.read_bytes())
    shard.write_bytes(damage_bytes(shard.read_bytes()))
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=rf"1 of the 2 shards of .* Their {num_intact} complete samples .*00000\.tar is"
        ):
            source = open_source(shard.parent, KEEP_INTACT)
        assert len(source.damage_messages) == 1
        assert len(source) == num_intact + NUM_SAMPLES
        images = [source.read(index).image for index in range(len(source))]
        assert images == [image(number) for number in (*range(num_intact), *range(NUM_SAMPLES))]


def write_checksum(shard: Path) -> None:
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    shard.with_name(f"{shard.name}.sha256").write_text(f"{digest}  {shard.name}\n")


def test_r18_a_flipped_bit_of_an_image_is_detected_with_a_checksum(shard: Path) -> None:
    write_checksum(shard)
    assert len(open_source(shard, DataConfig())) == NUM_SAMPLES
    data = shard.read_bytes()
    shard.write_bytes(patched(data, 2 * SAMPLE + BLOCK + 77, bytes([data[2 * SAMPLE + BLOCK + 77] ^ 1])))
    with pytest.raises(DataError, match=r"00000\.tar is damaged .* after 0 complete samples: its sha256 is"):
        open_source(shard, DataConfig())
    shard.with_name("00001.tar").write_bytes(data)
    with pytest.warns(UserWarning, match="1 of the 2 shards"):
        source = open_source(shard.parent, KEEP_INTACT)
    assert [source.read(index).image for index in range(len(source))] == [image(i) for i in range(NUM_SAMPLES)]


def test_r18_a_checksum_that_is_added_later_is_verified(shard: Path) -> None:
    assert len(open_source(shard, DataConfig())) == NUM_SAMPLES
    shard.with_name("00000.tar.sha256").write_text("0" * 64)
    with pytest.raises(DataError, match="its sha256 is"):
        open_source(shard, DataConfig())


def test_r18_a_dataset_without_an_intact_sample_is_an_error(shard: Path) -> None:
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.warns(UserWarning, match="compressed"), pytest.raises(DataError, match="has no samples"):
        open_source(shard, KEEP_INTACT)


def append_zeros(shard: Path) -> None:
    with shard.open("ab") as file:
        file.write(bytes(1024))


def replace_samples(shard: Path) -> None:
    """Replace samples by others of the same size."""
    shard.write_bytes(shard.read_bytes().replace(image(0), image(7)))
    os.utime(shard, ns=(1, 1))


@pytest.mark.parametrize("change", [append_zeros, replace_samples])
@pytest.mark.parametrize("read_before", [False, True])
def test_r19_a_change_after_indexing_is_detected_before_a_wrong_sample(shard: Path, change, read_before: bool) -> None:
    source = open_source(shard, DataConfig())
    if read_before:
        source.read(1)
    change(shard)
    with pytest.raises(DataError, match=r"00000\.tar has changed while it was in use") as caught:
        source.read(0)
    assert not isinstance(caught.value, BadSample)


@pytest.mark.parametrize("change", [append_zeros, replace_samples])
def test_r19_a_tar_that_changed_between_two_runs_is_indexed_anew(shard: Path, change) -> None:
    first = open_source(shard, DataConfig()).read(0)
    change(shard)
    second = open_source(shard, DataConfig()).read(0)
    assert (first.image, second.image) == (image(0), image(7) if change is replace_samples else image(0))


def test_r19_a_replaced_object_is_detected_before_a_wrong_sample(shard: Path) -> None:
    fs = fsspec.filesystem("memory")
    data = shard.read_bytes()
    fs.pipe("/r19/0.tar", data)
    try:
        source = open_source("memory://r19/0.tar", DataConfig())
        fs.pipe("/r19/0.tar", data.replace(image(0), image(7)))
        with pytest.raises(DataError, match=r"memory://r19/0\.tar has changed or was removed"):
            source.read(0)
        assert open_source("memory://r19/0.tar", DataConfig()).read(0).image == image(7)
    finally:
        fs.rm("/r19", recursive=True)


def test_r20_another_count_of_img2dataset_is_an_error_with_both_numbers(shard: Path) -> None:
    stats = shard.with_name("00000_stats.json")
    stats.write_text(json.dumps({"count": 9, "successes": NUM_SAMPLES, "failed_to_download": 4}))
    assert len(open_source(shard, DataConfig())) == NUM_SAMPLES
    stats.write_text(json.dumps({"count": 9, "successes": NUM_SAMPLES + 1, "failed_to_download": 3}))
    for options in (DataConfig(), KEEP_INTACT):
        with pytest.raises(DataError, match=r"has 5 samples, but 00000_stats\.json beside it counts 6"):
            open_source(shard, options)


def test_r20_the_count_of_a_damaged_tar_is_not_checked(shard: Path) -> None:
    shard.with_name("00000_stats.json").write_text(json.dumps({"successes": NUM_SAMPLES}))
    shard.write_bytes(shard.read_bytes()[: 3 * SAMPLE])
    with pytest.warns(UserWarning, match="damaged"):
        assert len(ShardSource([shard], "x", KEEP_INTACT)) == 2
