"""Download files of a Hugging Face hub repository into huggingface_hub's cache.

huggingface_hub handles the cache folder (`HF_HOME`, `HF_HUB_CACHE`), tokens, `HF_HUB_OFFLINE` and `HF_ENDPOINT`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from zebra.errors import ConfigError, DownloadError

_NAME_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPO_NAME = re.compile(rf"hf:(?P<name>{_NAME_PART}/{_NAME_PART})(@(?P<revision>\w[\w./+-]*))?", re.ASCII)
_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")
EXAMPLE_NAMES = {"model": "hf:openai/clip-vit-base-patch32", "dataset": "hf:clip-benchmark/wds_vtab-pets"}


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A model or dataset repository on the hub."""

    repo_type: Literal["model", "dataset"]
    repo_id: str
    """The name, "org/name"."""
    revision: str | None = None
    """A branch, tag or commit; None for the main branch."""

    @classmethod
    def parse(cls, name: str, repo_type: Literal["model", "dataset"]) -> "HubRepo":
        """Parse "hf:org/name" or "hf:org/name@revision"; raise ConfigError for anything else."""
        match = _REPO_NAME.fullmatch(name)
        if match is None or ".." in name or "--" in match["name"] or match["name"].endswith(".git"):
            raise ConfigError(
                f'{name!r} is no valid hub {repo_type} name. Write "hf:org/name" or "hf:org/name@revision", for '
                f'example "{EXAMPLE_NAMES[repo_type]}"'
            )
        return cls(repo_type, match["name"], match["revision"])

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a full commit hash, so that cached files need no request."""
        return self.revision is not None and _COMMIT_HASH.fullmatch(self.revision) is not None

    def download_command(self, patterns: Sequence[str] = ()) -> str:
        """Return the shell command that downloads the repository."""
        type_option = " --repo-type dataset" if self.repo_type == "dataset" else ""
        revision_option = f" --revision {self.revision}" if self.revision else ""
        include_option = " --include " + " ".join(f"'{pattern}'" for pattern in patterns) if patterns else ""
        return f"hf download {self.repo_id}{type_option}{revision_option}{include_option}"


def find_cached_snapshot(
    repo: HubRepo, allow_patterns: Sequence[str], ignore_patterns: str | None = None
) -> Path | None:
    """Return a cached snapshot, or None, without a request, which takes half a minute of retries without a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repo.repo_id,
                repo_type=repo.repo_type,
                revision=repo.revision,
                allow_patterns=list(allow_patterns),
                ignore_patterns=ignore_patterns,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:  # missing or known to be incomplete
        return None


def list_repo_files(repo: HubRepo) -> list[str] | None:
    """Return the names of all files of a repository, or None if the hub cannot be reached."""
    from huggingface_hub import HfApi

    try:
        return list(HfApi().list_repo_files(repo.repo_id, repo_type=repo.repo_type, revision=repo.revision))
    except transfer_errors():
        return None


def download_snapshot(
    repo: HubRepo, allow_patterns: Sequence[str], ignore_patterns: str | None = None, *, command: str
) -> Path:
    """Download the files that match some patterns, or find them in the cache.

    Args:
        repo: The repository.
        allow_patterns: Patterns of files to download.
        ignore_patterns: A pattern of files to leave out.
        command: Shell command for the same download on a machine with a network, for the error message.

    Returns:
        The snapshot folder in the cache; do not write into it. Offline it may be incomplete, if another program
        downloaded only some files. The reader of the files must report what is missing.

    Raises:
        DownloadError: The hub cannot be reached and nothing is cached, the repository does not exist or requires
            access, or the download failed.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision = repo.repo_id, repo.revision
    kind = "model" if repo.repo_type == "model" else "dataset"
    try:
        return Path(
            snapshot_download(
                name,
                repo_type=repo.repo_type,
                revision=revision,
                allow_patterns=list(allow_patterns),
                ignore_patterns=ignore_patterns,
            )
        )
    except GatedRepoError as error:  # a kind of RepositoryNotFoundError: first
        raise DownloadError(
            f"{name} is gated. Request access on its page on the hub, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no {kind} {name}, or it is private. Check the spelling; for a private one, log in with "
            "`hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{name} has no revision {revision!r}. Give a branch, a tag or a full commit, or leave @{revision} out"
        ) from error
    except LocalEntryNotFoundError as error:
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            raise DownloadError(_not_cached_message(repo, command, error)) from error
        return Path(partial)
    except HfHubHTTPError as error:
        raise DownloadError(
            f"the hub refused {name} ({first_line(error)}). Check your token with `hf auth whoami`, or try again later"
        ) from error
    except transfer_errors() as error:
        raise DownloadError(f"the download of {name} failed ({first_line(error)}). Run it again to resume") from error


def is_unreachable(error: Exception) -> bool:
    """Return whether a download failed because the hub did not respond, so that the next one would fail, too."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error.__cause__, LocalEntryNotFoundError)


def transfer_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a failed request or download."""
    from huggingface_hub.errors import HfHubHTTPError

    # Releases of huggingface_hub use different HTTP libraries, whose errors are bases of HfHubHTTPError.
    http_errors = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    return OSError, RuntimeError, ValueError, *http_errors


def _not_cached_message(repo: HubRepo, command: str, error: Exception) -> str:
    from huggingface_hub import constants

    name, revision = repo.repo_id, repo.revision
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set. Unset it to download, or"
    else:
        reason = f"the hub cannot be reached ({first_line(error.__cause__ or error)}). Try again with a network, or"
    cache_dir = f"{repo.repo_type}s--{name.replace('/', '--')}"
    return (
        f"{name}{f'@{revision}' if revision else ''} is not in the hub cache {constants.HF_HUB_CACHE}, and "
        f"{reason} run `{command}` on a machine with a network and copy the folder {cache_dir} from its hub cache "
        "(~/.cache/huggingface/hub) into this one"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
