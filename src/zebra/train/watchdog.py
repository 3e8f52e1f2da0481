"""Rank watchdog: name the ranks that did not take part in a failed collective.

Torch reports that a collective failed, but not because of which process. So each process writes its activity to the
store that connects the processes, and a process that fails writes that too. The ones that report nothing are the
unresponsive ones. A process that makes no progress prints its own stack trace and exits.
"""

import faulthandler
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed import distributed_c10d

from zebra.distributed import ProcessGroup
from zebra.errors import RankError

GRACE_SECONDS = 3.0
"""Time for the other processes to report that they failed too."""
GLOO_ERROR_PATTERN = re.compile(r"gloo|pair closure|by peer|broken pipe|time-?out|timed out", re.IGNORECASE)
"""Messages of failed collectives in gloo, whose errors have no class of their own."""


class RankWatchdog:
    """Reports the activity of this process, and names the unresponsive ranks when a collective fails."""

    def __init__(self, group: ProcessGroup, timeout_seconds: float) -> None:
        self._group = group
        self._timeout_seconds = timeout_seconds
        self._activity = "startup"
        self._store: Store | None = None
        if group.world_size > 1:
            # The store that connects the processes; torch has no public name for it.
            self._store = PrefixStore("zebra", distributed_c10d._get_default_store())

    def heartbeat(self, activity: str) -> None:
        """Report progress; without another heartbeat in time, the process prints its stack trace and exits.

        Args:
            activity: What the process does now, such as "step 12".
        """
        if self._store is None:
            return
        self._activity = activity
        self._store.set(f"activity/{self._group.rank}", activity)
        faulthandler.dump_traceback_later(self._timeout_seconds + GRACE_SECONDS, exit=True)

    def stop(self) -> None:
        """Stop watching this process; from now on, no other process waits for it."""
        if self._store is not None:
            faulthandler.cancel_dump_traceback_later()

    @contextmanager
    def guard(self) -> Iterator["RankWatchdog"]:
        """Turn a failed collective inside the block into an error that names the unresponsive ranks.

        Raises:
            RankError: Other processes did not respond; it replaces torch's RuntimeError.
        """
        try:
            yield self
        except RuntimeError as error:
            if self._store is None or not _is_collective_error(error):
                raise
            self.stop()
            try:
                unresponsive = self._unresponsive_ranks(self._store)
            except RuntimeError:
                unresponsive = ["rank 0 (which holds the store of all ranks)"]
            if not unresponsive:
                raise
            raise RankError(
                f"{', '.join(unresponsive)} did not respond within {self._timeout_seconds:g} s, while rank "
                f"{self._group.rank} was at {self._activity}. If it was alive, its stack trace is above. Run the same "
                "command again to resume from the last checkpoint."
            ) from error
        finally:
            self.stop()

    def _unresponsive_ranks(self, store: Store) -> list[str]:
        store.set_timeout(timedelta(seconds=GRACE_SECONDS))
        store.set(f"failed/{self._group.rank}", "1")
        deadline = time.monotonic() + GRACE_SECONDS
        others = [rank for rank in range(self._group.world_size) if rank != self._group.rank]
        while others and time.monotonic() < deadline:
            others = [rank for rank in others if not store.check([f"failed/{rank}"])]
            time.sleep(0.1)
        return [f"rank {rank} (last seen at {self._last_activity(store, rank)})" for rank in others]

    @staticmethod
    def _last_activity(store: Store, rank: int) -> str:
        key = f"activity/{rank}"
        return store.get(key).decode() if store.check([key]) else "startup"


def _is_collective_error(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or GLOO_ERROR_PATTERN.search(str(error)) is not None
