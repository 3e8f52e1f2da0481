"""MANIFEST.json: size and sha256 of every file of a folder, written durably and verified before use."""

import hashlib
import json
import os
from pathlib import Path

from zebra.errors import WeightsError

NAME = "MANIFEST.json"


def write_manifest(folder: Path) -> dict[str, str]:
    """Flush every file of `folder` to disk, record it, and return name → sha256."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != NAME)
    entries = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}
    manifest = folder / NAME
    manifest.write_text(json.dumps({"files": entries}, indent=1) + "\n", encoding="utf-8")
    for path in [*files, manifest]:
        path.chmod(0o644)  # safetensors leaves 0600
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
    return {name: str(entry["sha256"]) for name, entry in entries.items()}


def verify_manifest(folder: Path) -> dict[str, str]:
    """Check every recorded file and return name → sha256.

    Raises:
        WeightsError: The manifest is missing or unreadable, or a file is missing, cut or changed.
    """
    path = folder / NAME
    if not path.is_file():
        raise WeightsError(f"{folder} has no {NAME}: it is not a whole zebra folder; copy it again")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        recorded = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged ({error}); copy the folder again") from error
    for name, (size, digest) in recorded.items():
        file = folder / name
        if not file.is_file():
            raise WeightsError(f"{folder} lacks {name}, which its {NAME} lists; copy the folder again")
        if file.stat().st_size != size:
            raise WeightsError(f"{file} has {file.stat().st_size} bytes instead of {size}; copy it again")
        if _sha256(file) != digest:
            raise WeightsError(f"{file} differs from its recorded sha256; it is damaged, copy it again")
    return {name: digest for name, (_, digest) in recorded.items()}


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
