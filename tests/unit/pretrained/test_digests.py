"""Digests are cached while size and time of a file stay the same; passed checks are not repeated."""

import hashlib
import os

import pytest

from zebra.pretrained import digests
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed


@pytest.fixture
def old_file(tmp_path, monkeypatch):
    """A file that is an hour old, and an empty cache."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 1000)
    age(path)
    return path


def age(path):
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))


def reads(monkeypatch):
    seen = []
    real = digests.sha256
    monkeypatch.setattr(digests, "sha256", lambda path: (seen.append(path), real(path))[1])
    return seen


def test_the_digest_is_sha256(old_file):
    assert cached_sha256(old_file) == hashlib.sha256(b"a" * 1000).hexdigest()


def test_an_unchanged_file_is_read_once(old_file, monkeypatch):
    seen = reads(monkeypatch)
    assert cached_sha256(old_file) == cached_sha256(old_file)
    assert len(seen) == 1


def test_a_changed_file_is_read_again(old_file, monkeypatch):
    before = cached_sha256(old_file)
    old_file.write_bytes(b"b" * 1000)
    assert cached_sha256(old_file) == hashlib.sha256(b"b" * 1000).hexdigest() != before


def test_the_digest_of_a_new_file_is_not_cached(old_file, monkeypatch):
    """Two changes within one tick of the file system's clock look the same."""
    old_file.write_bytes(b"b" * 1000)
    seen = reads(monkeypatch)
    cached_sha256(old_file)
    cached_sha256(old_file)
    assert len(seen) == 2


def test_a_damaged_cache_file_is_ignored(old_file, tmp_path):
    digest = cached_sha256(old_file)
    for note in (tmp_path / "cache" / "digests").iterdir():
        note.write_text("{")
    assert cached_sha256(old_file) == digest


def test_without_a_writable_cache_the_digest_is_still_right(old_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "file"))
    assert cached_sha256(old_file) == hashlib.sha256(b"a" * 1000).hexdigest()
    record_passed("golden")
    assert not has_passed("golden")


def test_a_passed_check_is_recorded_by_its_description(old_file):
    record_passed("golden abc torch 2.13.0 cpu")
    assert has_passed("golden abc torch 2.13.0 cpu")
    assert not has_passed("golden abc torch 2.14.0 cpu")
