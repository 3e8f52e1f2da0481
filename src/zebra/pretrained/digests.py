"""SHA-256 of files and results of checks, cached on disk until a file changes."""

import hashlib
import json
import time
from pathlib import Path

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir

MIN_AGE_SECONDS = 2.0
"""Digests of younger files are not cached: such a file may change again without a new modification time."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; read it only if its size or modification time changed since the last call."""
    path = path.resolve()
    stat = path.stat()
    cache_file = cache_dir() / "digests" / f"{_cache_key(str(path))}.json"
    stamp = [stat.st_size, stat.st_mtime_ns]
    try:
        size, mtime, digest = json.loads(cache_file.read_text(encoding="utf-8"))
        if [size, mtime] == stamp:
            return str(digest)
    except (OSError, ValueError, TypeError):
        pass  # not cached, or a damaged cache file
    digest = sha256(path)
    if time.time() - stat.st_mtime > MIN_AGE_SECONDS:
        _write_cache_file(cache_file, json.dumps([*stamp, digest]))
    return digest


def has_passed(check: str) -> bool:
    """Return whether the check described by the text `check` passed on this machine."""
    return (cache_dir() / "passed" / _cache_key(check)).exists()


def record_passed(check: str) -> None:
    """Record that the check described by the text `check` passed."""
    _write_cache_file(cache_dir() / "passed" / _cache_key(check), check)


def _cache_key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write_cache_file(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError:
        return  # without a cache, only time is lost
