"""What is kept on disk is believed only when it is whole, and stays within its limit."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from zebra.data.remote import block_cache
from zebra.data.remote.block_cache import BlockCache

KEY = "a" * 32


def stored(cache: BlockCache) -> list[Path]:
    return sorted(path for path in cache.cache_dir.rglob("*") if path.is_file())


def taken(cache: BlockCache) -> int:
    return sum(path.stat().st_size for path in stored(cache))


def test_a_block_comes_back_as_it_was_written(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 3, b"twelve bytes")
    assert cache.read(KEY, 3, 12) == b"twelve bytes"
    assert cache.read(KEY, 4, 12) is None
    assert cache.read("b" * 32, 3, 12) is None


@pytest.mark.parametrize("length", range(16))
def test_a_block_that_is_cut_is_not_believed(tmp_path: Path, length: int) -> None:
    """A crash after the renaming and before the disk was written may leave any part, and nothing too."""
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 0, b"twelve bytes")
    (path,) = stored(cache)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.read(KEY, 0, 12) is None
    cache.write(KEY, 0, b"twelve bytes")
    assert cache.read(KEY, 0, 12) == b"twelve bytes"


@pytest.mark.parametrize("place", range(16))
def test_a_block_with_a_flipped_bit_is_not_believed(tmp_path: Path, place: int) -> None:
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 0, b"twelve bytes")
    (path,) = stored(cache)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert cache.read(KEY, 0, 12) is None


@pytest.mark.parametrize("length", [4, 16])
def test_a_block_of_zeros_where_the_disk_lost_it_is_not_believed(tmp_path: Path, length: int) -> None:
    """Four zeros are the checksum of nothing."""
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 0, b"twelve bytes")
    (path,) = stored(cache)
    path.write_bytes(bytes(length))
    assert cache.read(KEY, 0, 12) is None


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10_000)
    for number in range(6):
        BlockCache(tmp_path, 1 << 30).write(KEY, number, bytes([number]) * 2000)
        (tmp_path / KEY[:2] / f"{KEY}-{number}").touch()
        os.utime(tmp_path / KEY[:2] / f"{KEY}-{number}", ns=(number, number))
    assert cache.read(KEY, 0, 2000)
    cache.evict()
    assert [number for number in range(6) if cache.read(KEY, number, 2000)] == [0, 4, 5]
    assert taken(cache) <= cache.target_bytes


def test_leftovers_of_a_killed_writer_make_room_too(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 100)
    cache.write(KEY, 0, b"x")
    (tmp_path / KEY[:2] / "tmp.partial").write_bytes(bytes(200))
    os.utime(tmp_path / KEY[:2] / "tmp.partial", ns=(1, 1))
    cache.evict()
    assert cache.read(KEY, 0, 1) == b"x"
    assert len(stored(cache)) == 1


def write_many(folder: Path, key: str) -> None:
    cache = BlockCache(folder, 100_000)
    for number in range(150):
        cache.write(key, number, os.urandom(1000))
    os._exit(0)


def test_eight_processes_that_write_stay_within_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path, str(i) * 32)) for i in range(8)]
    cache, most = BlockCache(tmp_path, 100_000), 0
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        sizes = []
        for path in tmp_path.glob("*/*"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue
        most = max(most, sum(sizes))
    assert [writer.exitcode for writer in writers] == [0] * 8
    assert cache.target_bytes / 2 < most <= 100_000


def test_a_block_that_another_process_clears_away_unfinished_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cleared(path: Path, content: bytes) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(block_cache, "_write_atomic", cleared)
    BlockCache(tmp_path, 1000).write(KEY, 0, b"x")  # a warning would be an error here


def test_a_full_disk_is_warned_about_once_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(block_cache, "_write_atomic", full)
    cache = BlockCache(tmp_path, 1000)
    with pytest.warns(UserWarning, match="No space left .* set ZEBRA_CACHE") as caught:
        cache.write(KEY, 0, b"x")
        cache.write(KEY, 1, b"x")
    assert len(caught) == 1
    assert cache.read(KEY, 0, 1) is None
