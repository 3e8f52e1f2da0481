"""Checkpoints written beside the training: snapshots in, whole folders on disk out, from one background thread."""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import CheckpointError
from zebra.train.checkpoint import memoize_digest, prune_checkpoints, save_checkpoint
from zebra.train.snapshot import TrainSnapshot, copy_to_cpu


class CheckpointWriter:
    """Writes one checkpoint at a time while the run goes on, and then purges old ones.

    A save that failed raises its `CheckpointError` in whatever is called next.
    """

    def __init__(self, checkpoints_dir: Path, num_to_keep: int, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Prepare to write.

        Args:
            num_to_keep: Newest checkpoints that are not purged.
            group: The processes whose snapshots it is; the first one writes, the others give it their shares.
        """
        self.checkpoints_dir = checkpoints_dir
        self.num_to_keep = num_to_keep
        self.group = group
        self._digest = memoize_digest()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._buffers: TrainSnapshot | None = None

    def __enter__(self) -> "CheckpointWriter":
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the last save."""
        try:
            self.close()
        except CheckpointError as failure:
            if exc_value is None:
                raise
            warnings.warn(str(failure), stacklevel=2)  # beside the error that ended the run, not in its place

    def save(self, snapshot: TrainSnapshot) -> None:
        """Copy a snapshot and return; it is on disk some time later.

        Waits for the save before it, in whose memory the copy goes.
        """
        self.wait()
        self._buffers = copy_to_cpu(snapshot, buffers=self._buffers)
        if not self.group.is_main_process:
            self._buffers = None
            return
        self._pending = self._executor.submit(self._save_and_prune, self._buffers)

    def raise_if_failed(self) -> None:
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
            self._executor.shutdown()

    def _save_and_prune(self, snapshot: TrainSnapshot) -> None:
        save_checkpoint(self.checkpoints_dir, snapshot)
        prune_checkpoints(self.checkpoints_dir, self.num_to_keep, self._digest)
