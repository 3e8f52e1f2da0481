"""A name on the Hugging Face hub in, a local folder with the files of a model out (huggingface_hub's own cache).

The cache, its place (`HF_HOME`, `HF_HUB_CACHE`), tokens, `HF_HUB_OFFLINE` and `HF_ENDPOINT` are huggingface_hub's.
"""

import re
from pathlib import Path
from typing import cast

from zebra.errors import ConfigError, DownloadError

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_NAME = re.compile(rf"hf:(?P<repo>{_PART}/{_PART})(@(?P<revision>\w[\w./+-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

FILES = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "preprocess.json",
    "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "spiece.model",
    "*.safetensors", "*.safetensors.index.json", "MANIFEST.json", "README.md",
)  # fmt: skip
"""What describes a model, in every layout that zebra reads."""
PICKLES = ("*pytorch_model*.bin", "*pytorch_model.bin.index.json")
"""Weights of a repository without safetensors; zebra reads the tensors in them and runs nothing."""


def fetch(name: str) -> Path:
    """Bring the files of a model to this machine, or find them in the cache.

    Args:
        name: "hf:org/name", or with a branch, tag or commit "hf:org/name@revision". A full commit that is in the
            cache costs no request.

    Returns:
        The snapshot folder in the cache; do not write into it.

    Raises:
        ConfigError: The name is malformed.
        DownloadError: The hub cannot be reached and the cache holds no such model; the hub does not know it or does
            not give it away; the download broke off; or the repository holds no weights that zebra reads.
    """
    parts = _NAME.fullmatch(name)
    if parts is None or ".." in name or "--" in parts["repo"] or parts["repo"].endswith(".git"):
        raise ConfigError(
            f'{name!r} names no model of the hub; write "hf:org/name" or "hf:org/name@revision", for instance '
            '"hf:openai/clip-vit-base-patch32"'
        )
    repo, revision = parts["repo"], parts["revision"]
    folder = _snapshot(repo, revision, FILES)
    if not any(folder.glob("*.safetensors")):
        # By its commit, so that both requests see one state of the repository.
        folder = _snapshot(repo, folder.name, PICKLES)
    if not _has_weights(folder):
        raise DownloadError(
            f"{name} in the cache ({folder}) holds no weights that zebra reads: *.safetensors or pytorch_model.bin. If "
            f"the repository has such files, run this with a network: {_command(repo, revision)}"
        )
    return folder


def blob_digest(path: Path) -> str | None:
    """Return the sha256 that a file of a hub cache was downloaded under; None for any other file.

    The cache keeps large files as `blobs/<sha256>` and links to them. Small files carry a git hash, which is of
    another kind and gives None.
    """
    blob = path.resolve()
    is_blob = path.is_symlink() and blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name)
    return blob.name if is_blob else None


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*pytorch_model*.bin"))


def _cached(repo: str, commit: str) -> Path | None:
    """Find a commit without asking the hub, which would retry for half a minute where there is no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo,
            revision=commit,
            allow_patterns=[*FILES, *PICKLES],
            ignore_patterns="*/*",
            local_files_only=True,
        )
    except LocalEntryNotFoundError:  # not there, or known to be incomplete
        return None
    return Path(folder) if _has_weights(Path(folder)) else None


def _snapshot(repo: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
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
        if revision is not None and _COMMIT.fullmatch(revision) and (found := _cached(repo, revision)):
            return found
        # Files in subfolders belong to other programs (onnx/, checkpoints/).
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=list(patterns), ignore_patterns="*/*"
        )
    except GatedRepoError as error:  # a kind of RepositoryNotFoundError: first
        raise DownloadError(
            f"{repo} is gated: its owner decides who may download it. Ask for access on its page of the hub, then log "
            "in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no model {repo}, or it is private. Check the spelling; for a private one log in with "
            "`hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{repo} has no revision {revision!r}. Name a branch, a tag or a full commit, or leave @{revision} out"
        ) from error
    except LocalEntryNotFoundError as error:
        # Offline, with files that another program left out when it filled the cache: a reader names what it misses.
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            raise DownloadError(_absent(repo, revision, error)) from error
        folder = partial
    except HfHubHTTPError as error:
        raise DownloadError(
            f"the hub refuses {repo} ({_reason(error)}). Check your token with `hf auth whoami`, or try again later"
        ) from error
    except broken as error:
        raise DownloadError(
            f"the download of {repo} broke off ({_reason(error)}). Run it again: it goes on where it stopped"
        ) from error
    return Path(folder)


def _absent(repo: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants

    copy = f"models--{repo.replace('/', '--')}"
    if constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE is set. Unset it to download, or"
    else:
        why = f"the hub cannot be reached ({_reason(error.__cause__ or error)}). Try again with a network, or"
    return (
        f"{repo}{f'@{revision}' if revision else ''} is not in the hub cache {constants.HF_HUB_CACHE}, and {why} run "
        f"`{_command(repo, revision)}` on a machine with a network and copy the folder {copy} from its hub cache "
        "(~/.cache/huggingface/hub) into this one"
    )


def _command(repo: str, revision: str | None) -> str:
    return f"hf download {repo}" + (f" --revision {revision}" if revision else "")


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
