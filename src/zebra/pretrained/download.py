"""A name on the Hugging Face hub in, a local folder with the files of a model out."""

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
"""What describes a model, in every layout that zebra reads."""
PICKLE_PATTERNS = ("*pytorch_model*.bin", "*pytorch_model.bin.index.json")
"""Weights of a repository without safetensors; zebra reads the tensors in them and runs nothing."""
IGNORE_PATTERN = "*/*"
"""Belong to other programs (onnx/, checkpoints/)."""


def download_model(name: str) -> Path:
    """Bring the files of a model to this machine, or find them in the cache.

    Args:
        name: "hf:org/name", or with a branch, tag or commit "hf:org/name@revision". A full commit that is in the
            cache costs no request.

    Returns:
        The snapshot folder in the cache; do not write into it.

    Raises:
        ConfigError: The name is malformed.
        DownloadError: As `zebra.data.hub.download_snapshot`, or the repository holds no weights that zebra reads.
    """
    repository = HubRepo.parse(name, "model")
    if repository.is_commit:
        known = find_cached_snapshot(repository, [*ALLOW_PATTERNS, *PICKLE_PATTERNS], IGNORE_PATTERN)
        if known is not None and _has_weights(known):
            return known
    folder = download_snapshot(
        repository, ALLOW_PATTERNS, IGNORE_PATTERN, command=repository.download_command()
    )
    # A cached file of this commit needs no second request, which costs 23 s of retries without a network.
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*pytorch_model.bin")):
        # By its commit, so that both requests see one state of the repository.
        commit = replace(repository, revision=folder.name)
        folder = download_snapshot(
            commit, PICKLE_PATTERNS, IGNORE_PATTERN, command=repository.download_command()
        )
    if not _has_weights(folder):
        raise DownloadError(
            f"{name} in the cache ({folder}) holds no weights that zebra reads: *.safetensors or pytorch_model.bin. If "
            f"the repository has such files, run this with a network: {repository.download_command()}"
        )
    return folder


def blob_sha256(path: Path) -> str | None:
    """Return the sha256 that a file of a hub cache was downloaded under; None for any other file.

    The cache keeps large files as `blobs/<sha256>` and links to them. Small files carry a git hash, which is of
    another kind and gives None.
    """
    blob = path.resolve()
    is_blob = path.is_symlink() and blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name)
    return blob.name if is_blob else None


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*pytorch_model*.bin"))
