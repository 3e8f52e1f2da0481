"""Cache of zero-shot heads on disk, by model, labels and templates."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir

MAX_HEAD_CACHE_BYTES = 256 * 2**20
"""Limit of all cached heads on disk; the least recently used are evicted first."""


@dataclass(frozen=True, slots=True)
class Head:
    """A zero-shot head."""

    vectors_CE: Tensor
    """float32 [C, E]."""
    num_truncated: int = 0
    """Number of prompts that were truncated to the context length."""


def head_cache_key(fingerprint: str, tower: nn.Module, labels: Sequence[str], templates: Sequence[str]) -> str:
    """Return the cache key of a head.

    It includes the weights in memory, because the fingerprint identifies only the files that were loaded: training
    changes the weights, not the fingerprint.
    """
    inputs = json.dumps([fingerprint, hash_weights(tower), list(labels), list(templates)])
    return hashlib.sha256(inputs.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def hash_weights(tower: nn.Module) -> str:
    """Return the BLAKE2b digest of name, dtype, shape and bytes of every parameter and buffer, 64 hex digits."""
    digest = hashlib.blake2b(digest_size=32)
    for name, weight in tower.state_dict().items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_cached_head(key: str) -> Head | None:
    """Return a cached head; None if it is missing or damaged."""
    path = _cache_path(key)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            head = Head(file.get_tensor("head"), int(metadata["num_truncated"]))
            if metadata["sha256"] != _digest(head):
                return None
        os.utime(path)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return head


def cache_head(key: str, head: Head) -> None:
    """Cache a head and evict old ones; do nothing if the cache cannot be written."""
    with contextlib.suppress(OSError):
        _write_and_evict(_cache_path(key), head)


def _cache_path(key: str) -> Path:
    return cache_dir() / "heads" / f"{key}.safetensors"


def _write_and_evict(path: Path, head: Head) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        metadata = {"sha256": _digest(head), "num_truncated": str(head.num_truncated)}
        save_file({"head": head.vectors_CE}, partial, metadata=metadata)
    files = [(file, file.stat()) for file in path.parent.iterdir()]
    total_bytes = 0
    for file, stat in sorted(files, key=lambda item: item[1].st_mtime, reverse=True):
        total_bytes += stat.st_size
        if total_bytes > MAX_HEAD_CACHE_BYTES and file != path:
            file.unlink(missing_ok=True)


def _digest(head: Head) -> str:
    return hashlib.sha256(head.vectors_CE.numpy().tobytes() + str(head.num_truncated).encode()).hexdigest()
