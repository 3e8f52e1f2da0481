"""Only intact blocks are read from the cache, and the cache stays within its limit."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from zebra.data.remote import block_cache
from zebra.data.remote.block_cache import BlockCache

KEY = "a" * 32


def list_blocks(cache: BlockCache) -> list[Path]:
    return sorted(path for path in cache.cache_dir.rglob("*") if path.is_file())


def size_of(cache: BlockCache) -> int:
    return sum(path.stat().st_size for path in list_blocks(cache))


def test_a_block_is_read_back(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 3, b"twelve bytes")
    assert cache.read(KEY, 3, 12) == b"twelve bytes"
    assert cache.read(KEY, 4, 12) is None
    assert cache.read("b" * 32, 3, 12) is None


@pytest.mark.parametrize("length", range(16))
def test_a_truncated_block_is_ignored(tmp_path: Path, length: int) -> None:
    """A crash after the rename and before the data is on disk may leave any part of it, or nothing."""
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 0, b"twelve bytes")
    (path,) = list_blocks(cache)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.read(KEY, 0, 12) is None
    cache.write(KEY, 0, b"twelve bytes")
    assert cache.read(KEY, 0, 12) == b"twelve bytes"


@pytest.mark.parametrize("position", range(16))
def test_a_block_with_a_flipped_bit_is_ignored(tmp_path: Path, position: int) -> None:
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 0, b"twelve bytes")
    (path,) = list_blocks(cache)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert cache.read(KEY, 0, 12) is None


@pytest.mark.parametrize("length", [4, 16])
def test_a_block_of_zeros_is_ignored(tmp_path: Path, length: int) -> None:
    """Four zeros are the checksum of no bytes."""
    cache = BlockCache(tmp_path, 1000)
    cache.write(KEY, 0, b"twelve bytes")
    (path,) = list_blocks(cache)
    path.write_bytes(bytes(length))
    assert cache.read(KEY, 0, 12) is None


def test_the_least_recently_used_blocks_are_evicted(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10_000)
    for number in range(6):
        BlockCache(tmp_path, 1 << 30).write(KEY, number, bytes([number]) * 2000)
        (tmp_path / KEY[:2] / f"{KEY}-{number}").touch()
        os.utime(tmp_path / KEY[:2] / f"{KEY}-{number}", ns=(number, number))
    assert cache.read(KEY, 0, 2000)
    cache.evict()
    assert [number for number in range(6) if cache.read(KEY, number, 2000)] == [0, 4, 5]
    assert size_of(cache) <= cache.target_bytes


def test_temporary_files_of_a_killed_writer_are_evicted(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 100)
    cache.write(KEY, 0, b"x")
    (tmp_path / KEY[:2] / "tmp.partial").write_bytes(bytes(200))
    os.utime(tmp_path / KEY[:2] / "tmp.partial", ns=(1, 1))
    cache.evict()
    assert cache.read(KEY, 0, 1) == b"x"
    assert len(list_blocks(cache)) == 1


def write_many(folder: Path, key: str) -> None:
    cache = BlockCache(folder, 100_000)
    for number in range(150):
        cache.write(key, number, os.urandom(1000))
    os._exit(0)


def test_eight_writing_processes_stay_within_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path, str(i) * 32)) for i in range(8)]
    cache, max_size = BlockCache(tmp_path, 100_000), 0
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        sizes = []
        for path in tmp_path.glob("*/*"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue
        max_size = max(max_size, sum(sizes))
    assert [writer.exitcode for writer in writers] == [0] * 8
    assert cache.target_bytes / 2 < max_size <= 100_000


def test_a_temporary_file_that_another_process_evicts_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evicted(path: Path, content: bytes) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(block_cache, "_write_atomic", evicted)
    BlockCache(tmp_path, 1000).write(KEY, 0, b"x")  # a warning would be an error


def test_a_full_disk_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(block_cache, "_write_atomic", full)
    cache = BlockCache(tmp_path, 1000)
    with pytest.warns(UserWarning, match="No space left .* Free disk space, set ZEBRA_CACHE") as warnings:
        cache.write(KEY, 0, b"x")
        cache.write(KEY, 1, b"x")
    assert len(warnings) == 1
    assert cache.read(KEY, 0, 1) is None
