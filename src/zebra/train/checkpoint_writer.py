"""Checkpoints written beside the training: snapshots in, whole folders on disk out, from one background thread."""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from zebra.distributed import ALONE, World
from zebra.errors import CheckpointError
from zebra.train.checkpoint import purge, remembering, write_checkpoint
from zebra.train.snapshot import Snapshot, take


class CheckpointWriter:
    """Writes one checkpoint at a time while the run goes on, and then purges old ones.

    A save that failed raises its `CheckpointError` in whatever is called next.
    """

    def __init__(self, folder: Path, keep: int, world: World = ALONE) -> None:
        """Prepare to write.

        Args:
            keep: Newest checkpoints that are not purged.
            world: The processes whose snapshots it is; the first one writes, the others give it their shares.
        """
        self.folder = folder
        self.keep = keep
        self.world = world
        self._digest = remembering()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._memory: Snapshot | None = None

    def __enter__(self) -> "CheckpointWriter":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the last save."""
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            warnings.warn(str(failure), stacklevel=2)  # beside the error that ended the run, not in its place

    def save(self, live: Snapshot) -> None:
        """Copy a snapshot and return; it is on disk some time later.

        Waits for the save before it, in whose memory the copy goes.
        """
        self.wait()
        self._memory = take(live, into=self._memory)
        if not self.world.leads:
            self._memory = None
            return
        self._pending = self._thread.submit(self._write, self._memory)

    def check(self) -> None:
        """Raise the error of the last save, if it has one by now."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the last save to end, and raise its error."""
        if self._pending is not None:
            error = self._pending.exception()
            self._pending = None
            if error is not None:
                raise error

    def close(self) -> None:
        """Wait for the last save to end, and let the thread go."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _write(self, snapshot: Snapshot) -> None:
        write_checkpoint(self.folder, snapshot)
        purge(self.folder, self.keep, self._digest)
