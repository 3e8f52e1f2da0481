"""Files in, sha256 out; what was read or checked once is remembered until it changes."""

import hashlib
import json
import time
from pathlib import Path

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir

MIN_AGE_SECONDS = 2.0
"""A file younger than this may still change within one tick of its clock: its digest is not remembered."""


def sha256(path: Path) -> str:
    """Read a file and return its digest, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """Return the digest of a file, read again only if its size or modification time changed."""
    path = path.resolve()
    state = path.stat()
    known = cache_dir() / "digests" / f"{_cache_key(str(path))}.json"
    stamp = [state.st_size, state.st_mtime_ns]
    try:
        size, mtime, digest = json.loads(known.read_text(encoding="utf-8"))
        if [size, mtime] == stamp:
            return str(digest)
    except (OSError, ValueError, TypeError):
        pass  # never seen, or a damaged note: read the file
    digest = sha256(path)
    if time.time() - state.st_mtime > MIN_AGE_SECONDS:
        _write_cache_file(known, json.dumps([*stamp, digest]))
    return digest


def has_passed(check: str) -> bool:
    """Say whether a check of this description passed on this machine."""
    return (cache_dir() / "passed" / _cache_key(check)).exists()


def record_passed(check: str) -> None:
    """Remember that a check of this description passed."""
    _write_cache_file(cache_dir() / "passed" / _cache_key(check), check)


def _cache_key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write_cache_file(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError:
        return  # a cache that cannot be written costs time alone
