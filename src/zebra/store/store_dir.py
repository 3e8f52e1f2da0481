"""Files of a store, and the write-ahead record that makes its commits durable.

    STORE/images.lance/    the table; LanceDB writes it without fsync
    STORE/commit.json      the last durable commit, and the pending operation after it
    STORE/lock             held by the writer
    STORE/staged.arrow     rows of a run on a Ray cluster that are not committed yet
    STORE/damaged/         quarantined manifests (one per table version); nothing reads them

Commits are write-ahead: record the intent in commit.json, write, fsync, mark complete. On open, an incomplete commit is
rolled back even if it looks complete, because its files may be on disk only in part. Without a pending operation, a
latest version that cannot be read is quarantined, and the version before it is used.
"""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from zebra.atomic_io import atomic_write, fsync_path
from zebra.errors import StoreError

MAX_ROLLBACK_VERSIONS = 8
"""Limit of versions to step back. A disk that ignores fsync loses the last seconds; more damage than that has another
cause, and stepping over it would hide most of the store."""
MAX_VERSION = 2**64 - 1
"""LanceDB names the manifest of version v by MAX_VERSION − v, so that the latest sorts first."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of the table, as recorded in commit.json."""

    version: int
    num_rows: int
    pending_operation: str = ""
    """Operation in progress after this state; empty if there is none."""
    last_rewrite_version: int = MAX_VERSION
    """Last version that did more than append rows. A reader of that version or a later one needs only the new rows."""


class CorruptVersionError(Exception):
    """The latest version of the table cannot be read."""


class StoreDir:
    """Paths of a store and the operations on its commit record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table_path = path / "images.lance"
        self.commit_path = path / "commit.json"
        self.lock_path = path / "lock"
        self.damaged_path = path / "damaged"

    def read_commit(self) -> Commit | None:
        """Read commit.json; return None if it is missing or unreadable."""
        try:
            return Commit(**json.loads(self.commit_path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # the write is atomic: a crash leaves no partial file
            return None

    def is_creation_incomplete(self) -> bool:
        """Return whether the creation of the store was interrupted."""
        commit = self.read_commit()
        return commit is not None and commit.version == 0

    def begin_commit(self, current: Commit, operation: str) -> set[Path]:
        """Record durably which operation is about to change the current state.

        Returns:
            The current files of the table, for `finish_commit`.
        """
        self._write_commit(replace(current, pending_operation=operation))
        return set(self._iter_files())

    def finish_commit(self, commit: Commit, old_files: set[Path]) -> None:
        """Fsync every file that is not in `old_files` and its directories, then record the new state."""
        new_files = [path for path in self._iter_files() if path not in old_files]
        directories = {
            parent for path in new_files for parent in path.parents if parent.is_relative_to(self.table_path)
        }
        for path in [*new_files, *directories]:
            fsync_path(path)
        self._write_commit(commit)

    def needs_recovery(self) -> bool:
        """Return whether a commit is in progress or incomplete, or the latest version is missing."""
        commit = self.read_commit()  # read before the manifests, which a writer creates first
        latest = self.latest_version()
        return commit is not None and (
            latest < commit.version or (bool(commit.pending_operation) and latest > commit.version)
        )

    def roll_back(self, commit: Commit) -> bool:
        """Return to the state before the pending operation; return False if the operation had changed nothing.

        Needs no disk space, because the disk may be full.
        """
        versions = list(self._iter_versions())
        newer = [version for version in versions if version > commit.version]
        if commit.version not in versions:  # no version to return to
            return False
        for version in newer:
            self._manifest_path(version).unlink()
        with suppress(OSError):  # optional: a pending operation without new versions is harmless
            fsync_path(self.table_path / "_versions")
            self._write_commit(replace(commit, pending_operation=""))
        return bool(newer)

    def remove_versions(self, versions: range, older_than: timedelta) -> None:
        """Remove the manifests of versions that were written longer ago than `older_than`; their files stay."""
        newest_time = time.time() - older_than.total_seconds()
        for version in list(self._iter_versions()):
            path = self._manifest_path(version)
            if version in versions and path.stat().st_mtime <= newest_time:
                path.unlink()

    def latest_version(self) -> int:
        """Return the latest version that has a manifest; 0 if there is none."""
        return max(self._iter_versions(), default=0)

    def recover(self, verify_latest: Callable[[], Commit]) -> None:
        """Roll back an incomplete commit, and step back to the latest readable version.

        Only the writer may call this. Every step is reported as a warning.

        Args:
            verify_latest: Reads a part of every file of the latest version, or raises CorruptVersionError.

        Raises:
            StoreError: No version within MAX_ROLLBACK_VERSIONS can be read. Nothing has been moved then.
        """
        for partial in self.path.glob(f".{self.commit_path.name}.*.partial"):  # of a writer that was killed
            partial.unlink(missing_ok=True)
        recorded = self.read_commit()
        if recorded is not None and recorded.pending_operation and self.roll_back(recorded):
            warnings.warn(
                f"{self.path}: rolled back an incomplete commit ({recorded.pending_operation}); the "
                f"{recorded.num_rows:,} rows committed before are intact",
                stacklevel=2,
            )
        quarantined: list[tuple[Path, Path]] = []
        problems: list[str] = []
        while True:
            try:
                readable = verify_latest()
                break
            except CorruptVersionError as problem:
                problems.append(str(problem))
                if len(quarantined) < MAX_ROLLBACK_VERSIONS and len(list(self._iter_versions())) > 1:
                    quarantined.append(self._quarantine_manifest(self.latest_version()))
                    continue
                for moved, original in reversed(quarantined):
                    moved.rename(original)
                others = f" (as are the {len(quarantined)} versions before it)" if quarantined else ""
                raise StoreError(
                    f"{self.path} is damaged beyond repair{others}: {problems[0]}. Restore its files from a backup, or "
                    "embed into a new store"
                ) from problem
        lost = recorded if recorded is not None and recorded.version > readable.version else None
        if not quarantined and lost is None:
            return
        version = f"version {lost.version} ({lost.num_rows:,} rows)" if lost else "the latest version"
        reason = problems[0] if problems else "its manifest is missing"
        kept_in = f"; its manifest was moved to {self.damaged_path}" if quarantined else ""
        warnings.warn(
            f"{self.path}: {version} cannot be read: {reason}{kept_in}. Using version {readable.version} "
            f"({readable.num_rows:,} rows). Embed again to restore the missing rows",
            stacklevel=2,
        )
        with suppress(OSError):  # without the record, the warning is repeated
            # a reader may have seen the lost version, and the next version gets its number
            self._write_commit(
                replace(readable, last_rewrite_version=max(readable.version, lost.version if lost else 0) + 1)
            )

    def _write_commit(self, commit: Commit) -> None:
        with atomic_write(self.commit_path, fsync=True) as partial:
            partial.write_text(json.dumps(asdict(commit)) + "\n", encoding="utf-8")

    def _iter_files(self) -> Iterator[Path]:
        for directory, _, names in os.walk(self.table_path):
            for name in names:
                if not name.startswith(".tmp") and "#" not in name:  # partial files of LanceDB
                    yield Path(directory, name)

    def _iter_versions(self) -> Iterator[int]:
        for path in (self.table_path / "_versions").glob("*.manifest"):
            if path.stem.isdecimal():
                yield MAX_VERSION - int(path.stem)

    def _manifest_path(self, version: int) -> Path:
        return self.table_path / "_versions" / f"{MAX_VERSION - version:020}.manifest"

    def _quarantine_manifest(self, version: int) -> tuple[Path, Path]:
        """Move a manifest into STORE/damaged, and return its new and its old path."""
        manifest = self._manifest_path(version)
        self.damaged_path.mkdir(exist_ok=True)
        target = self.damaged_path / f"version-{version}.manifest"
        number = 1
        while target.exists():
            number += 1
            target = self.damaged_path / f"version-{version}.{number}.manifest"
        manifest.rename(target)
        for directory in (self.damaged_path, manifest.parent):
            fsync_path(directory)
        return target, manifest
