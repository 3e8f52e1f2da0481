"""Scorecard rows about tar shards: damaged, changed, and short of what was counted."""

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
"""A picture of 600 bytes and a caption, each behind its header."""
FOUND = 5
KEEP = DataConfig(damaged_shards="keep-complete-samples")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


def image(number: int) -> bytes:
    return bytes([65 + number]) * 600


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Five samples, 0 to 4."""
    with ShardWriter(tmp_path / "data") as writer:
        for number in range(FOUND):
            writer.write(str(number), {"jpg": image(number), "txt": b"a caption"})
    return writer.shards[0]


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


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
    "something behind the end mark": (lambda tar: tar + b"hello", 4),
    "the end mark missing": (lambda tar: tar[: FOUND * SAMPLE], 4),
    "a size larger than the file": (lambda tar: with_size(tar, 4 * SAMPLE, 1 << 20), 3),
}
"""What happens to the bytes, and how many samples are certainly whole."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_r18_a_damaged_tar_stops_the_run_with_its_name_and_what_is_whole(shard: Path, damage: str) -> None:
    harm, whole = DAMAGES[damage]
    shard.write_bytes(harm(shard.read_bytes()))
    for _ in range(2):  # the second time from the index of the first
        with pytest.raises(
            DataError, match=rf"00000\.tar is damaged at byte [\d,]+, behind {whole} whole samples"
        ):
            open_source(shard, DataConfig())


@pytest.mark.parametrize("damage", DAMAGES)
def test_r18_the_whole_samples_of_a_damaged_tar_can_be_kept_and_are_counted(shard: Path, damage: str) -> None:
    harm, whole = DAMAGES[damage]
    good = shard.with_name("00001.tar")
    good.write_bytes(shard.read_bytes())
    shard.write_bytes(harm(shard.read_bytes()))
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=rf"1 of the 2 shards of .* the {whole} whole samples .*00000\.tar is"
        ):
            source = open_source(shard.parent, KEEP)
        assert len(source.damage_messages) == 1
        assert len(source) == whole + FOUND
        images = [source.read(index).image for index in range(len(source))]
        assert images == [image(number) for number in (*range(whole), *range(FOUND))]


def checksum(shard: Path) -> None:
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    shard.with_name(f"{shard.name}.sha256").write_text(f"{digest}  {shard.name}\n")


def test_r18_a_flipped_bit_of_a_picture_is_found_if_there_is_a_checksum(shard: Path) -> None:
    checksum(shard)
    assert len(open_source(shard, DataConfig())) == FOUND
    data = shard.read_bytes()
    shard.write_bytes(patched(data, 2 * SAMPLE + BLOCK + 77, bytes([data[2 * SAMPLE + BLOCK + 77] ^ 1])))
    with pytest.raises(DataError, match=r"00000\.tar is damaged .* behind 0 whole samples: its sha256 is"):
        open_source(shard, DataConfig())
    shard.with_name("00001.tar").write_bytes(data)
    with pytest.warns(UserWarning, match="1 of the 2 shards"):
        source = open_source(shard.parent, KEEP)
    assert [source.read(index).image for index in range(len(source))] == [image(i) for i in range(FOUND)]


def test_r18_a_checksum_that_comes_later_is_looked_at(shard: Path) -> None:
    assert len(open_source(shard, DataConfig())) == FOUND
    shard.with_name("00000.tar.sha256").write_text("0" * 64)
    with pytest.raises(DataError, match="its sha256 is"):
        open_source(shard, DataConfig())


def test_r18_a_data_set_of_nothing_but_damage_is_refused(shard: Path) -> None:
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.warns(UserWarning, match="compressed"), pytest.raises(DataError, match="holds no samples"):
        open_source(shard, KEEP)


def longer(shard: Path) -> None:
    with shard.open("ab") as file:
        file.write(bytes(1024))


def touched(shard: Path) -> None:
    """Other samples under the same size."""
    shard.write_bytes(shard.read_bytes().replace(image(0), image(7)))
    os.utime(shard, ns=(1, 1))


@pytest.mark.parametrize("change", [longer, touched])
@pytest.mark.parametrize("read_before", [False, True])
def test_r19_a_tar_that_changed_after_indexing_is_found_before_a_wrong_sample(
    shard: Path, change, read_before: bool
) -> None:
    source = open_source(shard, DataConfig())
    if read_before:
        source.read(1)
    change(shard)
    with pytest.raises(DataError, match=r"00000\.tar changed while it was in use") as caught:
        source.read(0)
    assert not isinstance(caught.value, BadSample)


@pytest.mark.parametrize("change", [longer, touched])
def test_r19_a_tar_that_changed_between_two_runs_is_indexed_anew(shard: Path, change) -> None:
    first = open_source(shard, DataConfig()).read(0)
    change(shard)
    second = open_source(shard, DataConfig()).read(0)
    assert (first.image, second.image) == (image(0), image(7) if change is touched else image(0))


def test_r19_an_object_that_was_replaced_after_indexing_is_found_before_a_wrong_sample(shard: Path) -> None:
    files = fsspec.filesystem("memory")
    data = shard.read_bytes()
    files.pipe("/r19/0.tar", data)
    try:
        source = open_source("memory://r19/0.tar", DataConfig())
        files.pipe("/r19/0.tar", data.replace(image(0), image(7)))
        with pytest.raises(DataError, match=r"memory://r19/0\.tar changed or was removed"):
            source.read(0)
        assert open_source("memory://r19/0.tar", DataConfig()).read(0).image == image(7)
    finally:
        files.rm("/r19", recursive=True)


def test_r20_a_count_of_img2dataset_that_differs_is_refused_with_both_numbers(shard: Path) -> None:
    stats = shard.with_name("00000_stats.json")
    stats.write_text(json.dumps({"count": 9, "successes": FOUND, "failed_to_download": 4}))
    assert len(open_source(shard, DataConfig())) == FOUND
    stats.write_text(json.dumps({"count": 9, "successes": FOUND + 1, "failed_to_download": 3}))
    for options in (DataConfig(), KEEP):
        with pytest.raises(DataError, match=r"holds 5 samples, but 00000_stats\.json beside it counts 6"):
            open_source(shard, options)


def test_r20_a_damaged_tar_is_not_blamed_for_its_count(shard: Path) -> None:
    shard.with_name("00000_stats.json").write_text(json.dumps({"successes": FOUND}))
    shard.write_bytes(shard.read_bytes()[: 3 * SAMPLE])
    with pytest.warns(UserWarning, match="damaged"):
        assert len(ShardSource([shard], "x", "keep-complete-samples")) == 2
