"""Upload a model folder to the Hugging Face hub."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.data.hub import first_line, transfer_errors
from zebra.errors import UploadError, list_names
from zebra.pretrained.digests import cached_sha256
from zebra.pretrained.download import SETTINGS_FILES
from zebra.pretrained.manifest import CARD_FILE

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoSibling

_MODEL_FILE = re.compile(
    rf"(?:\d+_\w+/)?(?:{'|'.join(map(re.escape, SETTINGS_FILES))}|[^/]+\.(?:safetensors|bin|pth?))"
)
"""A file that libraries read as part of a model, also in a module of sentence-transformers."""


def require_token() -> None:
    """Raise UploadError unless a token of the hub is stored and the hub may be used."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UploadError("HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it.")
    if not get_token():
        raise UploadError(
            "no token of the hub is stored. Log in with `hf auth login` and a token that may write, or set HF_TOKEN."
        )


def upload_model(folder: Path, repo: str, *, private: bool, replace: bool) -> bool:
    """Upload a folder; create the repository if it does not exist.

    An interrupted upload continues when it is repeated: files that the repository has are not sent again.

    Args:
        folder: Only files of the model.
        repo: "org/name".
        private: Create a private repository.
        replace: Replace another model; files of it that the new one lacks are deleted.

    Returns:
        Whether anything was uploaded.

    Raises:
        UploadError: There is no token, it does not permit this, the hub cannot be reached, the repository has another
            model, or it exists and is public although `private` is set.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    require_token()
    api = HfApi()
    with _translate_errors(repo):
        remote: Mapping[str, RepoSibling] = {}
        try:
            info = api.model_info(repo, files_metadata=True)
        except RepositoryNotFoundError:
            api.create_repo(repo, private=private or None, exist_ok=True)
        else:
            remote = {sibling.rfilename: sibling for sibling in info.siblings or ()}
            if private and not info.private:
                raise UploadError(
                    f"{repo} exists and is public, which an upload does not change. Make it private with "
                    f"`hf repos settings {repo} --private`, or leave --private out."
                )
        local = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        changed = [name for name, path in local.items() if name not in remote or not _is_equal(path, remote[name])]
        obsolete = [name for name in remote if name not in local and _MODEL_FILE.fullmatch(name)]
        other = sorted({name for name in changed if name in remote and name != CARD_FILE} | set(obsolete))
        if other and not replace:
            raise UploadError(
                f"{repo} has another model: {list_names(other)} differ. Name another repository, or replace that model "
                "with --replace; the history of the repository keeps it."
            )
        if changed or obsolete:
            _upload(api, folder, repo, obsolete)
        return bool(changed or obsolete)


def _upload(api: "HfApi", folder: Path, repo: str, obsolete: Sequence[str]) -> None:
    patterns = [re.sub(r"([*?[])", r"[\1]", name) for name in obsolete]
    api.upload_folder(
        repo_id=repo, folder_path=folder, delete_patterns=patterns or None, commit_message="Upload model with zebra"
    )


def _is_equal(path: Path, sibling: "RepoSibling") -> bool:
    """Return whether a file has the digest of one in a repository: SHA-256 of a large file, git's of a small one."""
    if sibling.lfs is not None:
        return cached_sha256(path) == sibling.lfs.sha256
    data = path.read_bytes() if path.stat().st_size == sibling.size else None
    if data is None:
        return False
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == sibling.blob_id


@contextmanager
def _translate_errors(repo: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except UploadError:
        raise
    except transfer_errors() as error:
        # A refused upload of a large file is the cause of a RuntimeError.
        refusals = [cause for cause in (error, error.__cause__) if isinstance(cause, HfHubHTTPError)]
        if refusals:
            raise UploadError(_describe_refusal(repo, refusals[0])) from error
        reason = first_line(error.__cause__ or error)
        raise UploadError(f"the upload to {repo} failed ({reason}). Run it again to continue.") from error


def _describe_refusal(repo: str, error: "HfHubHTTPError") -> str:
    status = error.response.status_code if error.response is not None else None
    if status == HTTPStatus.UNAUTHORIZED:
        return "the hub does not accept the token. Log in again with `hf auth login`"
    if status == HTTPStatus.FORBIDDEN:
        return (
            f"the token may not write to {repo}. `hf auth whoami` shows whose it is; create one with write access to "
            "this organization and log in with `hf auth login`"
        )
    return f"the hub refused {repo} ({first_line(error)}). Try again later"
