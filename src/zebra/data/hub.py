"""A repository of the Hugging Face hub in, a local folder with some of its files out (huggingface_hub's own cache).

The cache, its place (`HF_HOME`, `HF_HUB_CACHE`), tokens, `HF_HUB_OFFLINE` and `HF_ENDPOINT` are huggingface_hub's.
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
    """A model or a data set on the hub."""

    repo_type: Literal["model", "dataset"]
    repo_id: str
    """org/name."""
    revision: str | None = None
    """A branch, a tag or a commit; None: the main branch."""

    @classmethod
    def parse(cls, name: str, repo_type: Literal["model", "dataset"]) -> "HubRepo":
        """Read "hf:org/name" or "hf:org/name@revision"; ConfigError if it is neither."""
        parts = _REPO_NAME.fullmatch(name)
        if parts is None or ".." in name or "--" in parts["name"] or parts["name"].endswith(".git"):
            raise ConfigError(
                f'{name!r} names no {repo_type} of the hub; write "hf:org/name" or "hf:org/name@revision", for instance '
                f'"{EXAMPLE_NAMES[repo_type]}"'
            )
        return cls(repo_type, parts["name"], parts["revision"])

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a full commit: what is in the cache of it needs no request."""
        return self.revision is not None and _COMMIT_HASH.fullmatch(self.revision) is not None

    def download_command(self, patterns: Sequence[str] = ()) -> str:
        """Return the command that downloads it."""
        kind = " --repo-type dataset" if self.repo_type == "dataset" else ""
        at = f" --revision {self.revision}" if self.revision else ""
        only = " --include " + " ".join(f"'{pattern}'" for pattern in patterns) if patterns else ""
        return f"hf download {self.repo_id}{kind}{at}{only}"


def find_cached_snapshot(
    repo: HubRepo, allow_patterns: Sequence[str], ignore_patterns: str | None = None
) -> Path | None:
    """Find a snapshot without asking the hub, which would retry for half a minute where there is no network."""
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
    except LocalEntryNotFoundError:  # not there, or known to be incomplete
        return None


def download_snapshot(
    repo: HubRepo, allow_patterns: Sequence[str], ignore_patterns: str | None = None, *, command: str
) -> Path:
    """Bring the files of some patterns to this machine, or find them in the cache.

    Args:
        ignore_patterns: A pattern of files to leave.
        command: What downloads the same on a machine with a network.

    Returns:
        The snapshot folder in the cache, which is not to be written into. Offline it may hold a part only, as another
        program left it: who reads it names what is missing.

    Raises:
        DownloadError: The hub cannot be reached and the cache has nothing; the hub does not know the repository or does
            not give it away; or the download broke off.
    """
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
    name, revision = repo.repo_id, repo.revision
    what = "model" if repo.repo_type == "model" else "data set"
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
            f"{name} is gated: its owner decides who may download it. Ask for access on its page of the hub, then log "
            "in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no {what} {name}, or it is private. Check the spelling; for a private one log in with "
            "`hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{name} has no revision {revision!r}. Name a branch, a tag or a full commit, or leave @{revision} out"
        ) from error
    except LocalEntryNotFoundError as error:
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            raise DownloadError(_not_cached_message(repo, command, error)) from error
        return Path(partial)
    except HfHubHTTPError as error:
        raise DownloadError(
            f"the hub refuses {name} ({_first_line(error)}). Check your token with `hf auth whoami`, or try again later"
        ) from error
    except broken as error:
        raise DownloadError(
            f"the download of {name} broke off ({_first_line(error)}). Run it again: it goes on where it stopped"
        ) from error


def _not_cached_message(repo: HubRepo, command: str, error: Exception) -> str:
    from huggingface_hub import constants

    name, revision = repo.repo_id, repo.revision
    if constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE is set. Unset it to download, or"
    else:
        why = f"the hub cannot be reached ({_first_line(error.__cause__ or error)}). Try again with a network, or"
    copy = f"{repo.repo_type}s--{name.replace('/', '--')}"
    return (
        f"{name}{f'@{revision}' if revision else ''} is not in the hub cache {constants.HF_HUB_CACHE}, and {why} run "
        f"`{command}` on a machine with a network and copy the folder {copy} from its hub cache "
        "(~/.cache/huggingface/hub) into this one"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
