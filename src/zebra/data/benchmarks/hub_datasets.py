"""Download one split of a benchmark from the Hugging Face hub."""

import contextlib
from pathlib import Path
from typing import cast

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS_FILENAME
from zebra.data.hub import HubRepo, download_snapshot, find_cached_snapshot
from zebra.errors import DownloadError, MissingSplit

METADATA_PATTERN = "*.txt"
"""Class names, templates and dataset type."""


def download_dataset(name: str, split: str = "test") -> tuple[Path, str]:
    """Download one split of a dataset in CLIP_benchmark's layout, or find it in the cache.

    Args:
        name: "hf:org/name" or "hf:org/name@revision" with a branch, tag or commit. A full commit hash needs no request
            if the split is cached.
        split: The split to download.

    Returns:
        The snapshot folder in the cache, which must not be written to, and the name with the commit.

    Raises:
        ConfigError: The name is malformed.
        MissingSplit: The repository has no such split.
        DownloadError: As for `zebra.data.hub.download_snapshot`, or the repository has another layout.
    """
    repo = HubRepo.parse(name, "dataset")
    patterns = (METADATA_PATTERN, f"{split}/*")
    command = repo.download_command(patterns)
    snapshot = find_cached_snapshot(repo, (METADATA_PATTERN,)) if repo.is_commit else None
    if snapshot is None or not _is_complete(snapshot / split):
        snapshot = download_snapshot(repo, patterns, command=command)
    if not (snapshot / split / NUM_SHARDS_FILENAME).is_file():
        if _is_known_missing(repo, f"{split}/{NUM_SHARDS_FILENAME}"):
            raise MissingSplit(f"{name} has no split {split!r}: the repository has no {split}/{NUM_SHARDS_FILENAME}")
        raise DownloadError(
            f"{name} has no {split}/{NUM_SHARDS_FILENAME} ({snapshot}). It has another layout or no split "
            f"{split!r}, or the split is not cached. With a network, run `{command}`"
        )
    return snapshot, f"hf:{repo.repo_id}@{snapshot.name}"


def find_cached_dataset(name: str, split: str) -> str | None:
    """Return "hf:org/name@commit" if the split is in the cache, without a request, or None."""
    snapshot = find_cached_snapshot(HubRepo.parse(name, "dataset"), (METADATA_PATTERN,))
    return f"{name}@{snapshot.name}" if snapshot is not None and _is_complete(snapshot / split) else None


def _is_known_missing(repo: HubRepo, filename: str) -> bool:
    """Return whether the hub says that a repository lacks a file; the hub's cache remembers the answer."""
    from huggingface_hub import _CACHED_NO_EXIST, file_exists, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    http_errors = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    transfer_errors: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *http_errors)
    file_args = (repo.repo_id, filename)
    if try_to_load_from_cache(*file_args, repo_type=repo.repo_type, revision=repo.revision) is _CACHED_NO_EXIST:
        return True
    try:  # one attempt: the download before has tried for long enough
        is_missing = not file_exists(*file_args, repo_type=repo.repo_type, revision=repo.revision)
    except transfer_errors:  # the hub cannot be reached
        return False
    if is_missing:
        with contextlib.suppress(EntryNotFoundError):  # the cache records the answer
            hf_hub_download(*file_args, repo_type=repo.repo_type, revision=repo.revision)
    return is_missing


def _is_complete(folder: Path) -> bool:
    count_file = folder / NUM_SHARDS_FILENAME
    num_shards = str(len(list(folder.glob("*.tar"))))
    return count_file.is_file() and count_file.read_text(encoding="utf-8").strip() == num_shards
