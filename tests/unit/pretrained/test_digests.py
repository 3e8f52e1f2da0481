"""A digest is remembered while size and time of a file stay, and a check that passed is not repeated."""

import hashlib
import os

import pytest

from zebra.pretrained import digests
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """A file that is an hour old, and a cache of its own."""
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


def test_the_digest_is_sha256(settled):
    assert cached_sha256(settled) == hashlib.sha256(b"a" * 1000).hexdigest()


def test_an_unchanged_file_is_read_once(settled, monkeypatch):
    seen = reads(monkeypatch)
    assert cached_sha256(settled) == cached_sha256(settled)
    assert len(seen) == 1


def test_a_changed_file_is_read_again(settled, monkeypatch):
    before = cached_sha256(settled)
    settled.write_bytes(b"b" * 1000)
    assert cached_sha256(settled) == hashlib.sha256(b"b" * 1000).hexdigest() != before


def test_a_file_written_just_now_is_not_remembered(settled, monkeypatch):
    """Two changes within one tick of the clock would look the same."""
    settled.write_bytes(b"b" * 1000)
    seen = reads(monkeypatch)
    cached_sha256(settled)
    cached_sha256(settled)
    assert len(seen) == 2


def test_a_damaged_note_is_ignored(settled, tmp_path):
    digest = cached_sha256(settled)
    for note in (tmp_path / "cache" / "digests").iterdir():
        note.write_text("{")
    assert cached_sha256(settled) == digest


def test_without_a_writable_cache_the_digest_is_still_right(settled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "file"))
    assert cached_sha256(settled) == hashlib.sha256(b"a" * 1000).hexdigest()
    record_passed("golden")
    assert not has_passed("golden")


def test_what_passed_is_remembered_by_its_description(settled):
    record_passed("golden abc torch 2.13.0 cpu")
    assert has_passed("golden abc torch 2.13.0 cpu")
    assert not has_passed("golden abc torch 2.14.0 cpu")
