"""A data set's name on the Hugging Face hub in, a local folder with one split of it out."""

from pathlib import Path

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS_FILENAME
from zebra.data.hub import HubRepo, download_snapshot, find_cached_snapshot
from zebra.errors import DownloadError

METADATA_PATTERN = "*.txt"
"""Class names, templates and the type of a set."""


def download_dataset(name: str, split: str = "test") -> tuple[Path, str]:
    """Bring one split of a data set in CLIP_benchmark's layout to this machine, or find it in the cache.

    Args:
        name: "hf:org/name", or with a branch, tag or commit "hf:org/name@revision".
            A full commit of which the cache has the split costs no request.
        split: Only this one is downloaded.

    Returns:
        The snapshot folder in the cache, which is not to be written into; and the name with the commit it is of.

    Raises:
        ConfigError: The name is malformed.
        DownloadError: As `zebra.data.hub.download_snapshot`, or the repository is of another layout.
    """
    repository = HubRepo.parse(name, "dataset")
    patterns = (METADATA_PATTERN, f"{split}/*")
    command = repository.download_command(patterns)
    found = find_cached_snapshot(repository, (METADATA_PATTERN,)) if repository.is_commit else None
    if found is None or not _is_complete(found / split):
        found = download_snapshot(repository, patterns, command=command)
    if not (found / split / NUM_SHARDS_FILENAME).is_file():
        raise DownloadError(
            f"{name} has no {split}/{NUM_SHARDS_FILENAME} ({found}): it is not in CLIP_benchmark's layout, it has no split "
            f"{split!r}, or the cache does not hold it. With a network: `{command}`"
        )
    return found, f"hf:{repository.repo_id}@{found.name}"


def _is_complete(folder: Path) -> bool:
    count = folder / NUM_SHARDS_FILENAME
    found = str(len(list(folder.glob("*.tar"))))
    return count.is_file() and count.read_text(encoding="utf-8").strip() == found
