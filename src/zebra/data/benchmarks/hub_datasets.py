"""A data set's name on the Hugging Face hub in, a local folder with one split of it out."""

from pathlib import Path

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS
from zebra.data.hub import Repository, cached, snapshot
from zebra.errors import DownloadError

METADATA = "*.txt"
"""Class names, templates and the type of a set."""


def fetch_set(name: str, split: str = "test") -> tuple[Path, str]:
    """Bring one split of a data set in CLIP_benchmark's layout to this machine, or find it in the cache.

    Args:
        name: "hf:org/name", or with a branch, tag or commit "hf:org/name@revision".
            A full commit of which the cache has the split costs no request.
        split: Only this one is downloaded.

    Returns:
        The snapshot folder in the cache, which is not to be written into; and the name with the commit it is of.

    Raises:
        ConfigError: The name is malformed.
        DownloadError: As `zebra.data.hub.snapshot`, or the repository is of another layout.
    """
    repository = Repository.parse(name, "dataset")
    patterns = (METADATA, f"{split}/*")
    command = repository.command(patterns)
    found = cached(repository, (METADATA,)) if repository.is_commit else None
    if found is None or not _is_whole(found / split):
        found = snapshot(repository, patterns, command=command)
    if not (found / split / NUM_SHARDS).is_file():
        raise DownloadError(
            f"{name} has no {split}/{NUM_SHARDS} ({found}): it is not in CLIP_benchmark's layout, it has no split "
            f"{split!r}, or the cache does not hold it. With a network: `{command}`"
        )
    return found, f"hf:{repository.name}@{found.name}"


def _is_whole(folder: Path) -> bool:
    count = folder / NUM_SHARDS
    found = str(len(list(folder.glob("*.tar"))))
    return count.is_file() and count.read_text(encoding="utf-8").strip() == found
