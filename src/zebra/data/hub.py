"""A data set's name on the Hugging Face hub in, a local folder with one split of it out (huggingface_hub's own cache).

The cache, its place (`HF_HOME`, `HF_HUB_CACHE`), tokens, `HF_HUB_OFFLINE` and `HF_ENDPOINT` are huggingface_hub's.
"""

import re
from pathlib import Path
from typing import cast

from zebra.data.benchmarks import NUM_SHARDS
from zebra.errors import ConfigError, DownloadError

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"hf:(?P<repo>{_PART}/(?P<name>{_PART}))(@(?P<revision>\w[\w./+-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
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
        DownloadError: The hub cannot be reached and the cache has no such split; the hub does not know the set or does
            not give it away; the download broke off; or the repository is of another layout.
    """
    parts = _NAME.fullmatch(name)
    if parts is None or ".." in name or "--" in parts["repo"]:
        raise ConfigError(
            f'{name!r} names no data set of the hub; write "hf:org/name" or "hf:org/name@revision", for instance '
            '"hf:clip-benchmark/wds_vtab-pets"'
        )
    repo, revision = parts["repo"], parts["revision"]
    cached = _cached(repo, revision, split) if revision and _COMMIT.fullmatch(revision) else None
    folder = cached or _snapshot(repo, revision, split)
    if not (folder / split / NUM_SHARDS).is_file():
        raise DownloadError(
            f"{name} has no {split}/{NUM_SHARDS} ({folder}): it is not in CLIP_benchmark's layout, it has no split "
            f"{split!r}, or the cache does not hold it. With a network: {_command(repo, revision, split)}"
        )
    return folder, f"hf:{repo}@{folder.name}"


def _snapshot(repo: str, revision: str | None, split: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # Releases of huggingface_hub differ in the HTTP library they use; its errors are a base of their own.
    http = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    broken: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *http)
    try:
        folder = snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=[METADATA, f"{split}/*"]
        )
    except GatedRepoError as error:  # a kind of RepositoryNotFoundError: first
        raise DownloadError(
            f"the data set {repo} is gated: its owner decides who may download it. Ask for access on its page of the "
            "hub, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no data set {repo}, or it is private. Check the spelling; for a private one log in with "
            "`hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"the data set {repo} has no revision {revision!r}. Name a branch, a tag or a full commit"
        ) from error
    except LocalEntryNotFoundError as error:
        # Offline, with splits that were left out when the cache was filled: the shards are counted when they are read.
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            raise DownloadError(_absent(repo, revision, split)) from error
        folder = partial
    except HfHubHTTPError as error:
        raise DownloadError(
            f"the hub refuses the data set {repo} ({error}). Check your token with `hf auth whoami`, or try again later"
        ) from error
    except broken as error:
        raise DownloadError(
            f"the download of {repo} broke off ({error}). Run it again: it goes on where it stopped"
        ) from error
    return Path(folder)


def _cached(repo: str, commit: str, split: str) -> Path | None:
    """Find a split whole without asking the hub, which would retry for half a minute where there is no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repo, repo_type="dataset", revision=commit, allow_patterns=METADATA, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:  # not there, or known to be incomplete
        return None
    count = folder / split / NUM_SHARDS
    found = str(len(list(count.parent.glob("*.tar"))))
    whole = count.is_file() and count.read_text(encoding="utf-8").strip() == found
    return folder if whole else None


def _absent(repo: str, revision: str | None, split: str) -> str:
    from huggingface_hub import constants

    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
    return (
        f"the data set {repo}{f'@{revision}' if revision else ''} is not in the hub cache {constants.HF_HUB_CACHE}, "
        f"and {why}. With a network, here or on a machine whose cache you copy: {_command(repo, revision, split)}"
    )


def _command(repo: str, revision: str | None, split: str) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"`hf download {repo} --repo-type dataset{at} --include '{METADATA}' '{split}/*'`"
