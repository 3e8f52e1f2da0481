"""What lies in a store's folder, kept so that neither a kill nor a power cut costs anything that was committed.

    STORE/images.lance/    the table; LanceDB writes it, but never flushes it to disk
    STORE/commit.json      the last commit that is safely on disk, and the one being made after it
    STORE/lock             held by the writer
    STORE/staged.arrow     rows of a run over a Ray cluster that are not committed yet
    STORE/damaged/         manifests (one per version of the table) that were set aside; nothing reads them

A commit is announced in commit.json, made, flushed, and then recorded there. Who finds one that was announced and not
recorded undoes it, however whole it looks: its files may be on disk in part only. A table at rest whose newest version
cannot be read is taken one version back.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from zebra.atomic_io import atomic_write, fsync_path
from zebra.errors import StoreError

MAX_ROLLBACK_VERSIONS = 8
"""Versions to go back at most. A disk that lies about flushing loses the last seconds; when more is damaged than that,
something else happened, and stepping over it would hide most of the store."""
MAX_VERSION = 2**64 - 1
"""LanceDB names the manifest of version v LAST − v, so that the newest comes first in a listing."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of the table."""

    version: int
    num_rows: int
    pending_operation: str = ""
    """The change being made to this state; empty at rest."""
    last_rewrite_version: int = MAX_VERSION
    """The last version that did more than add rows behind the others: who has read it needs only what is new since."""


class CorruptVersionError(Exception):
    """The newest version cannot be read."""


class StoreDir:
    """A store's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table_path = path / "images.lance"
        self.commit_path = path / "commit.json"
        self.lock_path = path / "lock"
        self.damaged_path = path / "damaged"

    def read_commit(self) -> Commit | None:
        """Read what was recorded last; None in a folder that zebra never wrote to."""
        try:
            return Commit(**json.loads(self.commit_path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # it is replaced whole: no crash damages it
            return None

    def is_creation_incomplete(self) -> bool:
        """Say whether the making of the store itself was cut short."""
        state = self.read_commit()
        return state is not None and state.version == 0

    def begin_commit(self, current: Commit, operation: str) -> set[Path]:
        """Write down what is about to happen to a state, durably.

        Returns:
            The table's files before it, for `conclude`.
        """
        self._write_commit(replace(current, pending_operation=operation))
        return set(self._iter_files())

    def finish_commit(self, commit: Commit, old_files: set[Path]) -> None:
        """Flush every file that is new since `old_files` with its folders, and record the state they make."""
        new = [path for path in self._iter_files() if path not in old_files]
        folders = {
            folder for path in new for folder in path.parents if folder.is_relative_to(self.table_path)
        }
        for path in [*new, *folders]:
            fsync_path(path)
        self._write_commit(commit)

    def needs_recovery(self) -> bool:
        """Say whether a commit is being made or was cut short, or the newest one is gone."""
        state = self.read_commit()  # before the manifests: a writer makes these first
        newest = self.latest_version()
        return state is not None and (
            newest < state.version or (bool(state.pending_operation) and newest > state.version)
        )

    def roll_back(self, commit: Commit) -> bool:
        """Go back to the state that a change was announced for; False if nothing had come of the change.

        It takes no room on the disk, which may be full.
        """
        versions = list(self._iter_versions())
        newer = [version for version in versions if version > commit.version]
        if commit.version not in versions:  # there is nothing to go back to
            return False
        for version in newer:
            self._manifest_path(version).unlink()
        with suppress(OSError):  # announced, but nothing of it there, is as good as at rest
            fsync_path(self.table_path / "_versions")
            self._write_commit(replace(commit, pending_operation=""))
        return bool(newer)

    def latest_version(self) -> int:
        """Return the newest version that has a manifest; 0 without any."""
        return max(self._iter_versions(), default=0)

    def recover(self, verify_latest: Callable[[], Commit]) -> None:
        """Undo what was cut short, and go back to the newest version that can be read. Only the writer may do it.

        Every step is said in a warning.

        Args:
            verify_latest: Reads a little of every file of the newest version, or raises Unreadable.

        Raises:
            StoreError: No version within reach can be read; then nothing has been moved.
        """
        known = self.read_commit()
        if known is not None and known.pending_operation and self.roll_back(known):
            warnings.warn(
                f"{self.path}: {known.pending_operation} was cut short, and is undone; the {known.num_rows:,} rows committed "
                "before are all there",
                stacklevel=2,
            )
        aside: list[tuple[Path, Path]] = []
        problems: list[str] = []
        while True:
            try:
                found = verify_latest()
                break
            except CorruptVersionError as problem:
                problems.append(str(problem))
                if len(aside) < MAX_ROLLBACK_VERSIONS and len(list(self._iter_versions())) > 1:
                    aside.append(self._quarantine_manifest(self.latest_version()))
                    continue
                for moved, original in reversed(aside):
                    moved.rename(original)
                others = f" (and so are the {len(aside)} versions before it)" if aside else ""
                raise StoreError(
                    f"{self.path} is damaged beyond repair{others}: {problems[0]}. Bring its files back from a copy, "
                    "or embed into a new store"
                ) from problem
        lost = known if known is not None and known.version > found.version else None
        if not aside and lost is None:
            return
        what = f"version {lost.version} ({lost.num_rows:,} rows)" if lost else "the newest version"
        reason = problems[0] if problems else "its manifest is missing"
        where = f", and is kept in {self.damaged_path}" if aside else ""
        warnings.warn(
            f"{self.path}: {what} cannot be read{where}: {reason}. Version {found.version} ({found.num_rows:,} rows) is in "
            "its place; embed again to bring back the rest",
            stacklevel=2,
        )
        with suppress(OSError):  # then it is said once more
            # a reader may have seen the lost version, and the next one will have its number
            self._write_commit(
                replace(found, last_rewrite_version=max(found.version, lost.version if lost else 0) + 1)
            )

    def _write_commit(self, commit: Commit) -> None:
        with atomic_write(self.commit_path, fsync=True) as partial:
            partial.write_text(json.dumps(asdict(commit)) + "\n", encoding="utf-8")

    def _iter_files(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.table_path):
            for name in names:
                if not name.startswith(".tmp") and "#" not in name:  # LanceDB's halves of files
                    yield Path(folder, name)

    def _iter_versions(self) -> Iterator[int]:
        for path in (self.table_path / "_versions").glob("*.manifest"):
            if path.stem.isdecimal():
                yield MAX_VERSION - int(path.stem)

    def _manifest_path(self, version: int) -> Path:
        return self.table_path / "_versions" / f"{MAX_VERSION - version:020}.manifest"

    def _quarantine_manifest(self, version: int) -> tuple[Path, Path]:
        """Move a manifest away, and return where it is now and where it was."""
        manifest = self._manifest_path(version)
        self.damaged_path.mkdir(exist_ok=True)
        aside = self.damaged_path / f"version-{version}.manifest"
        number = 1
        while aside.exists():
            number += 1
            aside = self.damaged_path / f"version-{version}.{number}.manifest"
        manifest.rename(aside)
        for folder in (self.damaged_path, manifest.parent):
            fsync_path(folder)
        return aside, manifest
