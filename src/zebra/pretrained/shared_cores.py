"""Threads of a computation that shares its cores with other processes.

PyTorch's wheels for Linux contain libgomp. Its threads wait for each other by spinning, for up to 300,000 rounds (about
20 ms). On an idle machine this is fastest. Beside other work a thread spins its time slice away and is suspended in the
middle of its next computation, for which all others spin in turn: 50 times slower (docs/training.md).

libgomp reads its limits once, when it is loaded. But while there are more OpenMP threads than cores, it spins for 100
rounds only and then sleeps. So a second team of threads, which does nothing, ends the spinning of the first one. The
number of threads that compute stays the same, and so does every bit of the results.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from zebra.config.cores import usable_cores, usable_cpus

POLL_SECONDS = 0.25
"""Interval at which the waiting of the threads is measured."""
MAX_WAITING = 0.3
"""Largest fraction of the time in which a spinning thread may be ready to run without a core."""
POLLS_UNTIL_LIMIT = 2
"""Number of consecutive polls above MAX_WAITING after which spinning ends."""
MIN_PAUSE_POLLS, MAX_PAUSE_POLLS = 8, 128
"""Number of polls until spinning is tried again; it doubles whenever the trial fails."""
WAIT_POLICY_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Environment variables by which a user chooses how threads wait."""
_limiter_lock = threading.Lock()
"""Held while spinning is limited: all threads of a process spin or sleep, so one limiter is enough."""


@contextmanager
def share_cores() -> Iterator[None]:
    """Compute with as many threads as there are cores, and do not spin while other processes need them.

    Torch counts the cores of the machine, not the limit of CPU time of a container; threads beyond it are not used.
    OMP_NUM_THREADS, OMP_WAIT_POLICY and GOMP_SPINCOUNT win. Does nothing on systems other than Linux. Calls may be
    nested.
    """
    num_threads = torch.get_num_threads()
    try:
        if sys.platform != "linux":
            yield
            return
        if not os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(min(num_threads, usable_cores()))
        with _limit_spinning(torch.get_num_threads()):
            yield
    finally:
        torch.set_num_threads(num_threads)


@contextmanager
def _limit_spinning(num_threads: int) -> Iterator[None]:
    can_exceed_cores = num_threads > 1 and 2 * num_threads - 1 > len(usable_cpus())
    has_policy = any(os.environ.get(name) for name in WAIT_POLICY_VARIABLES)
    if not can_exceed_cores or has_policy or not _limiter_lock.acquire(blocking=False):
        yield
        return
    stop = threading.Event()
    limiter = threading.Thread(target=_limit_until, args=(stop, SpinLimiter(num_threads)), daemon=True)
    limiter.start()
    try:
        yield
    finally:
        stop.set()
        limiter.join()
        _limiter_lock.release()


def _limit_until(stop: threading.Event, limiter: "SpinLimiter") -> None:
    waiting = ThreadWaiting()
    while not stop.wait(POLL_SECONDS):
        limiter.update(waiting.largest_fraction())
    limiter.close()


class SpinLimiter:
    """Ends spinning when a thread waits for a core, and tries it again after a pause."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._team: IdleTeam | None = None
        self._pause = MIN_PAUSE_POLLS
        self._num_polls = MAX_PAUSE_POLLS
        """Number of polls since spinning was last ended or allowed."""
        self._num_waiting_polls = 0

    @property
    def is_limiting(self) -> bool:
        """Return whether threads sleep instead of spinning."""
        return self._team is not None

    def update(self, waiting: float) -> None:
        """Take the largest fraction of the time since the last poll in which a thread waited for a core."""
        self._num_polls += 1
        if self._team is not None:
            if self._num_polls >= self._pause:
                self.close()
            return
        self._num_waiting_polls = self._num_waiting_polls + 1 if waiting > MAX_WAITING else 0
        if self._num_waiting_polls >= POLLS_UNTIL_LIMIT:
            is_failed_trial = self._num_polls <= self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE_POLLS) if is_failed_trial else MIN_PAUSE_POLLS
            self._team, self._num_polls, self._num_waiting_polls = IdleTeam(self._num_threads), 0, 0

    def close(self) -> None:
        """Let threads spin."""
        if self._team is not None:
            self._team.close()
            self._team, self._num_polls = None, 0


class ThreadWaiting:
    """Measures how long the threads of this process are ready to run without a core."""

    def __init__(self, tasks_dir: Path = Path("/proc/self/task")) -> None:
        self._tasks_dir = tasks_dir
        self._last_time, self._last = time.monotonic(), self._read()

    def largest_fraction(self) -> float:
        """Return the largest fraction of the time since the last call in which one thread waited."""
        last_time, last = self._last_time, self._last
        self._last_time, self._last = time.monotonic(), self._read()
        waited = (seconds - last[thread] for thread, seconds in self._last.items() if thread in last)
        return max(waited, default=0.0) / max(self._last_time - last_time, 1e-9)

    def _read(self) -> dict[str, float]:
        """Return the seconds that each thread has waited; empty if the kernel does not count them."""
        seconds = {}
        for path in self._tasks_dir.glob("*/schedstat"):
            try:
                seconds[path.parent.name] = int(path.read_text(encoding="ascii").split()[1]) / 1e9
            except (OSError, IndexError, ValueError):  # the thread has ended
                continue
        return seconds


class IdleTeam:
    """A second team of OpenMP threads, which sleeps until it is closed."""

    def __init__(self, num_threads: int) -> None:
        self._closed, started = threading.Event(), threading.Event()
        self._leader = threading.Thread(target=self._lead, args=(num_threads, started), daemon=True)
        self._leader.start()
        started.wait()

    def close(self) -> None:
        """End the team."""
        self._closed.set()
        self._leader.join()

    def _lead(self, num_threads: int, started: threading.Event) -> None:
        # OpenMP has a team for each thread that runs a parallel loop; torch splits an addition by 32,768 elements.
        torch.ones(num_threads * 2**16).add_(1)
        started.set()
        self._closed.wait()
