"""MANIFEST.json: size and SHA-256 of every file of a folder."""

import json
from collections.abc import Callable
from pathlib import Path

from zebra.atomic_io import fsync_path
from zebra.errors import WeightsError
from zebra.pretrained.digests import sha256

MANIFEST_FILE = "MANIFEST.json"


def write_manifest(folder: Path, digest: Callable[[Path], str] = sha256) -> dict[str, str]:
    """Record and fsync every file of `folder`; return the SHA-256 of each file by name.

    Args:
        digest: Returns the SHA-256 of a file.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_FILE)
    entries = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in files}
    manifest = folder / MANIFEST_FILE
    manifest.write_text(json.dumps({"files": entries}, indent=1) + "\n", encoding="utf-8")
    for path in [*files, manifest]:
        path.chmod(0o644)  # safetensors creates files with 0600
        fsync_path(path)
    fsync_path(folder)
    return {name: str(entry["sha256"]) for name, entry in entries.items()}


def verify_manifest(folder: Path, digest: Callable[[Path], str] = sha256) -> dict[str, str]:
    """Verify every recorded file; return the SHA-256 of each file by name.

    Args:
        digest: Returns the SHA-256 of a file.

    Raises:
        WeightsError: The manifest is missing or damaged, or a file is missing, truncated or changed.
    """
    recorded = _read_manifest(folder)
    for name, (size, expected) in recorded.items():
        file = folder / name
        if not file.is_file():
            raise WeightsError(f"{folder} lacks {name}, which its {MANIFEST_FILE} lists. Copy the folder again.")
        if file.stat().st_size != size:
            raise WeightsError(f"{file} has {file.stat().st_size} bytes instead of {size}. Copy it again.")
        if digest(file) != expected:
            raise WeightsError(f"{file} differs from its recorded sha256. Copy it again.")
    return {name: expected for name, (_, expected) in recorded.items()}


def read_manifest_digests(folder: Path) -> dict[str, str]:
    """Return the recorded SHA-256 of each file by name, without reading the files."""
    return {name: digest for name, (_, digest) in _read_manifest(folder).items()}


def _read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise WeightsError(f"{folder} has no {MANIFEST_FILE}, so it is incomplete. Copy the folder again.")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged ({error}). Copy the folder again.") from error
