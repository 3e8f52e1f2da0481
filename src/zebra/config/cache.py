"""Where zebra keeps what it can compute again: indexes of data, digests of files, checks that passed."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return $ZEBRA_CACHE, else $XDG_CACHE_HOME/zebra, else ~/.cache/zebra."""
    own = os.environ.get("ZEBRA_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "zebra"
