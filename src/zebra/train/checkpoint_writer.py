"""Asynchronous checkpoint writer: a background thread that saves snapshots."""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import CheckpointError
from zebra.train.checkpoint import memoize_digest, prune_checkpoints, save_checkpoint
from zebra.train.snapshot import TrainSnapshot, copy_to_cpu


class CheckpointWriter:
    """Writes one checkpoint at a time in the background, then prunes old ones.

    The `CheckpointError` of a failed save is raised by the next method call.
    """

    def __init__(self, checkpoints_dir: Path, num_to_keep: int, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Create the writer; nothing is written yet.

        Args:
            num_to_keep: Number of latest checkpoints that pruning keeps, besides the best one.
            group: Processes of the run; the main process writes, the others contribute their shards.
        """
        self.checkpoints_dir = checkpoints_dir
        self.num_to_keep = num_to_keep
        self.group = group
        self._digest = memoize_digest()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._buffers: TrainSnapshot | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the last save, raise its error, and end the thread."""
        try:
            self.wait()
        except CheckpointError as failure:
            if exc_value is None:
                raise
            warnings.warn(str(failure), stacklevel=2)  # must not replace the error that ended the run
        finally:
            self._executor.shutdown()

    def save(self, snapshot: TrainSnapshot) -> None:
        """Copy a snapshot to CPU memory and start to write it; all processes must call it.

        This waits for the previous save, whose buffers it reuses.
        """
        self.wait()
        self._buffers = copy_to_cpu(snapshot, buffers=self._buffers)
        if not self.group.is_main_process:
            self._buffers = None
            return
        self._pending = self._executor.submit(self._save_and_prune, self._buffers)

    def raise_if_failed(self) -> None:
        """Raise the error of the last save if it has failed already."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the last save, and raise its error."""
        if self._pending is not None:
            error = self._pending.exception()
            self._pending = None
            if error is not None:
                raise error

    def _save_and_prune(self, snapshot: TrainSnapshot) -> None:
        save_checkpoint(self.checkpoints_dir, snapshot)
        prune_checkpoints(self.checkpoints_dir, self.num_to_keep, self._digest)
