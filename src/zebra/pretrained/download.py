"""Download of models from the Hugging Face hub."""

import re
from dataclasses import replace
from pathlib import Path

from zebra.data.hub import HubRepo, download_snapshot, find_cached_snapshot
from zebra.errors import DownloadError

_SHA256 = re.compile(r"[0-9a-f]{64}")

ALLOW_PATTERNS = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "preprocess.json",
    "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "spiece.model",
    "*.safetensors", "*.safetensors.index.json", "MANIFEST.json", "README.md",
)  # fmt: skip
"""Files of a model in any layout that zebra reads."""
PICKLE_PATTERNS = ("*pytorch_model*.bin", "*pytorch_model.bin.index.json")
"""Pickled weights, downloaded only if there is no safetensors file. Reading them executes no code."""
IGNORE_PATTERN = "*/*"
"""Files in subfolders belong to other programs (onnx/, checkpoints/)."""


def download_model(name: str) -> Path:
    """Download the files of a model, or find them in the cache.

    Args:
        name: "hf:org/name", or "hf:org/name@revision" with a branch, tag or commit. A full commit hash that is in the
            cache needs no request.

    Returns:
        The snapshot folder in the cache. Do not write to it.

    Raises:
        ConfigError: The name is invalid.
        DownloadError: As `zebra.data.hub.download_snapshot`, or the repository has no weights that zebra reads.
    """
    repository = HubRepo.parse(name, "model")
    if repository.is_commit:
        cached = find_cached_snapshot(repository, [*ALLOW_PATTERNS, *PICKLE_PATTERNS], IGNORE_PATTERN)
        if cached is not None and _has_weights(cached):
            return cached
    folder = download_snapshot(repository, ALLOW_PATTERNS, IGNORE_PATTERN, command=repository.download_command())
    # A cached file of this commit needs no second request, which costs 23 s of retries without a network.
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*pytorch_model.bin")):
        # By commit, so that both requests see the same state of the repository.
        commit = replace(repository, revision=folder.name)
        folder = download_snapshot(commit, PICKLE_PATTERNS, IGNORE_PATTERN, command=repository.download_command())
    if not _has_weights(folder):
        raise DownloadError(
            f"{name} has no weights that zebra reads (*.safetensors, pytorch_model.bin) in the cache, {folder}. If the "
            f"repository has such files, run this with a network: {repository.download_command()}"
        )
    return folder


def blob_sha256(path: Path) -> str | None:
    """Return the SHA-256 in the name of a file of the hub's cache; None for any other file.

    The cache stores large files as `blobs/<sha256>` and links to them. Small files are named by a git hash instead.
    """
    blob = path.resolve()
    is_blob = path.is_symlink() and blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name)
    return blob.name if is_blob else None


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*pytorch_model*.bin"))
