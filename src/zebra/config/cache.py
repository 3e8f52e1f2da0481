"""The cache directory: dataset indexes, file digests and verification results."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return $ZEBRA_CACHE, else $XDG_CACHE_HOME/zebra, else ~/.cache/zebra."""
    override = os.environ.get("ZEBRA_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(override) if override else Path(base) / "zebra"
