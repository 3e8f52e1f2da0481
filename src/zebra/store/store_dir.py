"""What lies in a store's folder, kept so that neither a kill nor a power cut costs anything that was committed.

    STORE/images.lance/    the table; LanceDB writes it, but never flushes it to disk
    STORE/commit.json      the last commit that is safely on disk, and the one being made after it
    STORE/lock             held by the writer
    STORE/waiting.arrow    rows of a run over a Ray cluster that are not committed yet
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

from zebra.errors import StoreError

REACH = 8
"""Versions to go back at most. A disk that lies about flushing loses the last seconds; when more is damaged than that,
something else happened, and stepping over it would hide most of the store."""
LAST = 2**64 - 1
"""LanceDB names the manifest of version v LAST − v, so that the newest comes first in a listing."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of the table."""

    version: int
    rows: int
    in_flight: str = ""
    """The change being made to this state; empty at rest."""
    rewritten: int = LAST
    """The last version that did more than add rows behind the others: who has read it needs only what is new since."""


class Unreadable(Exception):
    """The newest version cannot be read."""


class Folder:
    """A store's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = path / "images.lance"
        self.record = path / "commit.json"
        self.lock = path / "lock"
        self.damaged = path / "damaged"

    def committed(self) -> Commit | None:
        """Read what was recorded last; None in a folder that zebra never wrote to."""
        try:
            return Commit(**json.loads(self.record.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # it is replaced whole: no crash damages it
            return None

    def unfinished(self) -> bool:
        """Say whether the making of the store itself was cut short."""
        state = self.committed()
        return state is not None and state.version == 0

    def announce(self, state: Commit, change: str) -> set[Path]:
        """Write down what is about to happen to a state, durably.

        Returns:
            The table's files before it, for `conclude`.
        """
        self._write(replace(state, in_flight=change))
        return set(self._files())

    def conclude(self, state: Commit, before: set[Path]) -> None:
        """Flush every file that is new since `before` with its folders, and record the state they make."""
        new = [path for path in self._files() if path not in before]
        folders = {folder for path in new for folder in path.parents if folder.is_relative_to(self.table)}
        for path in [*new, *folders]:
            sync(path)
        self._write(state)

    def unsettled(self) -> bool:
        """Say whether a commit is being made or was cut short, or the newest one is gone."""
        state = self.committed()  # before the manifests: a writer makes these first
        newest = self.newest()
        return state is not None and (
            newest < state.version or (bool(state.in_flight) and newest > state.version)
        )

    def undo(self, state: Commit) -> bool:
        """Go back to the state that a change was announced for; False if nothing had come of the change.

        It takes no room on the disk, which may be full.
        """
        versions = list(self._versions())
        newer = [version for version in versions if version > state.version]
        if state.version not in versions:  # there is nothing to go back to
            return False
        for version in newer:
            self._manifest(version).unlink()
        with suppress(OSError):  # announced, but nothing of it there, is as good as at rest
            sync(self.table / "_versions")
            self._write(replace(state, in_flight=""))
        return bool(newer)

    def newest(self) -> int:
        """Return the newest version that has a manifest; 0 without any."""
        return max(self._versions(), default=0)

    def mend(self, read: Callable[[], Commit]) -> None:
        """Undo what was cut short, and go back to the newest version that can be read. Only the writer may do it.

        Every step is said in a warning.

        Args:
            read: Reads a little of every file of the newest version, or raises Unreadable.

        Raises:
            StoreError: No version within reach can be read; then nothing has been moved.
        """
        known = self.committed()
        if known is not None and known.in_flight and self.undo(known):
            warnings.warn(
                f"{self.path}: {known.in_flight} was cut short, and is undone; the {known.rows:,} rows committed "
                "before are all there",
                stacklevel=2,
            )
        aside: list[tuple[Path, Path]] = []
        problems: list[str] = []
        while True:
            try:
                found = read()
                break
            except Unreadable as problem:
                problems.append(str(problem))
                if len(aside) < REACH and len(list(self._versions())) > 1:
                    aside.append(self._set_aside(self.newest()))
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
        what = f"version {lost.version} ({lost.rows:,} rows)" if lost else "the newest version"
        reason = problems[0] if problems else "its manifest is missing"
        where = f", and is kept in {self.damaged}" if aside else ""
        warnings.warn(
            f"{self.path}: {what} cannot be read{where}: {reason}. Version {found.version} ({found.rows:,} rows) is in "
            "its place; embed again to bring back the rest",
            stacklevel=2,
        )
        with suppress(OSError):  # then it is said once more
            # a reader may have seen the lost version, and the next one will have its number
            self._write(replace(found, rewritten=max(found.version, lost.version if lost else 0) + 1))

    def _write(self, state: Commit) -> None:
        partial = self.record.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
        sync(partial)
        partial.replace(self.record)
        sync(self.path)

    def _files(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.table):
            for name in names:
                if not name.startswith(".tmp") and "#" not in name:  # LanceDB's halves of files
                    yield Path(folder, name)

    def _versions(self) -> Iterator[int]:
        for path in (self.table / "_versions").glob("*.manifest"):
            if path.stem.isdecimal():
                yield LAST - int(path.stem)

    def _manifest(self, version: int) -> Path:
        return self.table / "_versions" / f"{LAST - version:020}.manifest"

    def _set_aside(self, version: int) -> tuple[Path, Path]:
        """Move a manifest away, and return where it is now and where it was."""
        manifest = self._manifest(version)
        self.damaged.mkdir(exist_ok=True)
        aside = self.damaged / f"version-{version}.manifest"
        number = 1
        while aside.exists():
            number += 1
            aside = self.damaged / f"version-{version}.{number}.manifest"
        manifest.rename(aside)
        for folder in (self.damaged, manifest.parent):
            sync(folder)
        return aside, manifest


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
