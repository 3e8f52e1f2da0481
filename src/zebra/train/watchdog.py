"""How far every process of a run has come; a failed exchange in, the ranks that did not come out.

Torch says that an exchange failed, but not because of whom. Here each process notes its progress in the store through
which they found each other. Who fails notes that too, so the ones that say nothing are the silent ones. A silent
process prints by itself where it stands, and ends.
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
"""For the others to note that they failed as well."""
GLOO_ERROR_PATTERN = re.compile(r"gloo|pair closure|by peer|broken pipe|time-?out|timed out", re.IGNORECASE)
"""What gloo says of a failed exchange; its errors have no class of their own."""


class RankWatchdog:
    """Notes where this process is, and says who is missing when an exchange fails."""

    def __init__(self, group: ProcessGroup, timeout_seconds: float) -> None:
        self._group = group
        self._timeout_seconds = timeout_seconds
        self._activity = "the start"
        self._store: Store | None = None
        if group.world_size > 1:
            # The store by which the processes found each other; torch has no public name for it.
            self._store = PrefixStore("zebra", distributed_c10d._get_default_store())

    def heartbeat(self, activity: str) -> None:
        """Say where this process has come, and that it is alive; it prints its stack and ends if it never does again.

        Args:
            activity: Such as "step 12".
        """
        if self._store is None:
            return
        self._activity = activity
        self._store.set(f"place/{self._group.rank}", activity)
        faulthandler.dump_traceback_later(self._timeout_seconds + GRACE_SECONDS, exit=True)

    def stop(self) -> None:
        """Watch this process no more: what it does from now on, nobody waits for."""
        if self._store is not None:
            faulthandler.cancel_dump_traceback_later()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn a failed exchange inside the block into an error that names the ranks that did not take part.

        Raises:
            RankError: In place of the RuntimeError of torch, if others are missing.
        """
        try:
            yield
        except RuntimeError as error:
            if self._store is None or not _is_collective_error(error):
                raise
            self.stop()
            try:
                silent = self._unresponsive_ranks(self._store)
            except RuntimeError:
                silent = ["rank 0, and with it the store of all notes"]
            if not silent:
                raise
            raise RankError(
                f"{'; '.join(silent)}: no word within {self._timeout_seconds:g} s, or gone, while rank "
                f"{self._group.rank} was at {self._activity}. What it was doing stands above if it was alive. Run the "
                "same command again: it goes on from the last checkpoint"
            ) from error
        finally:
            self.stop()

    def _unresponsive_ranks(self, store: Store) -> list[str]:
        store.set_timeout(timedelta(seconds=GRACE_SECONDS))
        store.set(f"failed/{self._group.rank}", "1")
        until = time.monotonic() + GRACE_SECONDS
        others = [rank for rank in range(self._group.world_size) if rank != self._group.rank]
        while others and time.monotonic() < until:
            others = [rank for rank in others if not store.check([f"failed/{rank}"])]
            time.sleep(0.1)
        return [f"rank {rank}, last seen at {self._last_activity(store, rank)}" for rank in others]

    @staticmethod
    def _last_activity(store: Store, rank: int) -> str:
        key = f"place/{rank}"
        return store.get(key).decode() if store.check([key]) else "no step"


def _is_collective_error(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or GLOO_ERROR_PATTERN.search(str(error)) is not None
