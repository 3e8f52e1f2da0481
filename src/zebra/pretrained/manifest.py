"""MANIFEST.json: size and SHA-256 of the files of a folder."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from zebra.atomic_io import fsync_path
from zebra.errors import WeightsError
from zebra.pretrained.digests import sha256
from zebra.text.files import read_json_object

MANIFEST_FILE = "MANIFEST.json"
CARD_FILE = "README.md"
"""The model card, which people edit: it is neither recorded nor verified."""


def write_manifest(
    folder: Path, digest: Callable[[Path], str] = sha256, *, subfolders: Iterable[str] = ()
) -> dict[str, str]:
    """Record and fsync every file of `folder` but README.md; return the SHA-256 of each file by name.

    Args:
        digest: Returns the SHA-256 of a file.
        subfolders: Names of subfolders whose files are recorded as well, as "subfolder/name".
    """
    folders = [folder, *(folder / name for name in subfolders)]
    paths = sorted(path for parent in folders for path in parent.iterdir() if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    files = {name: path for name, path in files.items() if name not in (MANIFEST_FILE, CARD_FILE)}
    entries = {name: {"bytes": path.stat().st_size, "sha256": digest(path)} for name, path in files.items()}
    manifest = folder / MANIFEST_FILE
    manifest.write_text(json.dumps({"files": entries}, indent=1) + "\n", encoding="utf-8")
    for path in [*files.values(), manifest, *reversed(folders)]:
        fsync_path(path)
    return {name: str(entry["sha256"]) for name, entry in entries.items()}


def verify_manifest(
    folder: Path,
    digest: Callable[[Path], str] = sha256,
    *,
    required: Iterable[str],
    only: Collection[str] | None = None,
) -> dict[str, str]:
    """Verify every recorded file; return the SHA-256 of each file by name.

    Args:
        digest: Returns the SHA-256 of a file.
        required: Names of the files that the caller reads. A manifest that does not list one verifies nothing.
        only: Names of the files to verify; None: all that are recorded.

    Raises:
        WeightsError: The manifest is missing or damaged, or a file is missing, truncated, changed or not listed.
    """
    recorded = _read_manifest(folder, required)
    for name, (size, expected) in recorded.items():
        if name == CARD_FILE or (only is not None and name not in only):
            continue
        file = folder / name
        if not file.is_file():
            raise WeightsError(f"{folder} lacks {name}, which its {MANIFEST_FILE} lists. Copy the folder again.")
        if file.stat().st_size != size:
            raise WeightsError(f"{file} has {file.stat().st_size} bytes instead of {size}. Copy it again.")
        if digest(file) != expected:
            raise WeightsError(f"{file} differs from its recorded sha256. Copy it again.")
    return {name: expected for name, (_, expected) in recorded.items()}


def read_manifest_digests(folder: Path, *, required: Iterable[str]) -> dict[str, str]:
    """Return the recorded SHA-256 of each file by name, without reading the files; see `verify_manifest`."""
    return {name: digest for name, (_, digest) in _read_manifest(folder, required).items()}


def _read_manifest(folder: Path, required: Iterable[str]) -> dict[str, tuple[int, str]]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise WeightsError(f"{folder} has no {MANIFEST_FILE}, so it is incomplete. Copy the folder again.")
    try:
        entries = read_json_object(path)["files"]
        recorded = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged ({error!r}). Copy the folder again.") from error
    for name in recorded:
        parts = name.split("/")  # a file of a subfolder has two
        if len(parts) > 2 or any(part in ("", "..") or Path(part).name != part for part in parts):
            raise WeightsError(f"{path} lists a file outside its folder: {name[:80]!r}. Do not trust this folder.")
    unlisted = [name for name in required if name not in recorded]
    if unlisted:
        raise WeightsError(
            f"{path} does not list {', '.join(unlisted)}, so that a change would not be noticed. Copy the folder again."
        )
    return recorded
