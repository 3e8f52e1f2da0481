"""Worker processes that fill batches in shared memory.

Errors name the sample at which a worker died or got stuck. `torch.utils.data.DataLoader` does not know the sample, and
it raises the death of a worker from a signal handler, at any point of the main process. It detects a stuck worker only
by its time-out, and waits for it at exit. Here each worker has its own pipe and its own memory, shared with the main
process. So a killed worker holds no lock, and no large data goes through a pipe.
"""

import atexit
import ctypes
import math
import os
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count, cycle, islice
from multiprocessing import Pipe, Process, RawArray, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.data.bad_samples import NoUsableSamples
from zebra.errors import DataError, ZebraError

PREFETCH_FACTOR = 2
"""Number of batches in flight per worker, as in torch.utils.data.DataLoader."""
POLL_SECONDS = 1.0
"""Interval at which the main process checks the heartbeat of the worker that it waits for."""

BatchIndices = NDArray[np.int64]
"""int64 [B, 2]: epoch and index of each sample."""
Heartbeat = Callable[[int, int], None]
"""Called with the index of the next sample and the number of samples that are read with it."""
TaskOutput = TypeVar("TaskOutput")
TaskOutput_co = TypeVar("TaskOutput_co", covariant=True)


class WorkerTask(Protocol[TaskOutput_co]):
    """The work on one batch. It is sent to the worker, and its output is sent back."""

    def __call__(self, indices_B2: BatchIndices, out: NDArray[np.uint8], heartbeat: Heartbeat) -> TaskOutput_co:
        """Fill `out` [B, …] and return a picklable output."""


def run_workers(
    task: WorkerTask[TaskOutput],
    batch_indices: Iterable[BatchIndices],
    shape: tuple[int, ...],
    *,
    num_workers: int,
    timeout_seconds: float,
    sample_id: Callable[[int], str],
) -> Iterator[tuple[NDArray[np.uint8], TaskOutput]]:
    """Yield the filled array and the output of every batch, in order.

    The workers end with the iterator and with the main process, also if it is killed.

    Args:
        task: The work on one batch.
        batch_indices: The samples of each batch; read only as needed.
        shape: Shape of every array, [B, …].
        num_workers: At least 1.
        timeout_seconds: Maximum time without a new sample before a worker counts as stuck.
        sample_id: Function from an index to the sample's ID, for errors.

    Raises:
        DataError: A worker died or is stuck, or `task` raised a ZebraError.
    """
    workers: list[_Worker] = []
    # Runs before the exit handler of multiprocessing, which waits for the workers.
    kill_all = atexit.register(partial(_kill_workers, workers))
    try:
        workers.extend(_Worker(number, task, shape) for number in range(num_workers))
        assignments = zip(cycle(workers), batch_indices, strict=False)
        pending: deque[_Worker] = deque()
        for worker, indices_B2 in islice(assignments, num_workers * PREFETCH_FACTOR):
            worker.send(indices_B2)
            pending.append(worker)
        while pending:
            worker = pending.popleft()
            output = _wait_for_output(worker, workers, timeout_seconds, sample_id)
            images = worker.copy_images()
            for next_worker, indices_B2 in islice(assignments, 1):
                next_worker.send(indices_B2)
                pending.append(next_worker)
            yield images, output
    finally:
        if workers:  # else the atexit handler ran, and the module may be partly torn down
            kill_all()
            atexit.unregister(kill_all)


class _SharedBuffers:
    """Memory that a worker shares with the main process; raw, because NumPy arrays would be pickled."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = (PREFETCH_FACTOR, *shape)
        self._indices = RawArray(ctypes.c_int64, PREFETCH_FACTOR * shape[0] * 2)
        self._images = RawArray(ctypes.c_uint8, math.prod(self._shape))
        self._heartbeat = RawArray(ctypes.c_int64, 3)

    @property
    def indices(self) -> NDArray[np.int64]:
        """int64 [PREFETCH_FACTOR, B, 2]."""
        return np.ctypeslib.as_array(self._indices).reshape(*self._shape[:2], 2)

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [PREFETCH_FACTOR, B, …]."""
        return np.ctypeslib.as_array(self._images).reshape(self._shape)

    def heartbeat(self, index: int, num_samples: int) -> None:
        """Record the samples that the worker reads next."""
        self._heartbeat[1:] = [index, num_samples]
        self._heartbeat[0] += 1

    @property
    def last_heartbeat(self) -> tuple[int, int, int]:
        """The number of heartbeats, and the last one: index and number of samples (0: waiting for work)."""
        num_heartbeats, index, num_samples = self._heartbeat
        return num_heartbeats, index, num_samples


class _Worker:
    """A worker process and its buffers, as seen from the main process."""

    def __init__(self, worker_id: int, task: WorkerTask[Any], shape: tuple[int, ...]) -> None:
        self.worker_id = worker_id
        self.buffers = _SharedBuffers(shape)
        self.connection, child_connection = Pipe()
        self._num_sent = self._num_received = 0
        self.process = Process(target=_worker_main, args=(task, self.buffers, child_connection), daemon=True)
        with warnings.catch_warnings():
            # LanceDB warns in each forked child. The workers never use it, and it resets itself.
            warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
            self.process.start()
        child_connection.close()  # so that the pipe is closed when the worker ends

    def send(self, indices_B2: BatchIndices) -> None:
        self.buffers.indices[self._num_sent % PREFETCH_FACTOR] = indices_B2
        self._num_sent += 1
        with suppress(ConnectionError):  # the worker died; detected when its output is due
            self.connection.send(None)  # at most PREFETCH_FACTOR short messages: cannot block

    def copy_images(self) -> NDArray[np.uint8]:
        """Copy the next filled buffer, which is then reused."""
        images: NDArray[np.uint8] = self.buffers.images[self._num_received % PREFETCH_FACTOR].copy()
        self._num_received += 1
        return images


def _wait_for_output(
    worker: _Worker, workers: Sequence[_Worker], timeout_seconds: float, sample_id: Callable[[int], str]
) -> Any:
    """Wait for the next output of a worker, and raise DataError if any worker dies or this one is stuck."""
    sentinels = [other.process.sentinel for other in workers]
    last_heartbeat, last_change = worker.buffers.last_heartbeat, time.monotonic()
    while True:
        ready = wait([worker.connection, *sentinels], min(POLL_SECONDS, timeout_seconds))
        if worker.connection in ready:
            try:
                output = worker.connection.recv()
            except (EOFError, OSError):
                raise _death_error(worker, sample_id) from None
            if isinstance(output, DataError):
                raise output
            return output
        if ready:
            raise _death_error(next(other for other in workers if other.process.sentinel in ready), sample_id)
        if worker.buffers.last_heartbeat != last_heartbeat:
            last_heartbeat, last_change = worker.buffers.last_heartbeat, time.monotonic()
        elif time.monotonic() - last_change >= timeout_seconds:
            raise DataError(
                f"{_describe_worker(worker)} is stuck: no new sample in {timeout_seconds:g} s, "
                f"{_describe_progress(worker, sample_id)}. "
                "Check the disk or server of the data, or allow more time with --worker-timeout"
            )


def _death_error(worker: _Worker, sample_id: Callable[[int], str]) -> DataError:
    worker.process.join()
    status = worker.process.exitcode
    assert status is not None
    if status >= 0:
        return DataError(
            f"{_describe_worker(worker)} ended with status {status}, {_describe_progress(worker, sample_id)}. "
            "Its stack trace is above"
        )
    advice = "Use --workers 0 to reproduce it in the main process"
    if status == -signal.SIGKILL:
        advice = "The system may be out of memory: use fewer --workers or a smaller --batch-size"
    return DataError(
        f"{_describe_worker(worker)} was killed by signal {-status} ({signal.strsignal(-status)}), "
        f"{_describe_progress(worker, sample_id)}. {advice}"
    )


def _describe_worker(worker: _Worker) -> str:
    return f"loader worker {worker.worker_id} (process {worker.process.pid})"


def _describe_progress(worker: _Worker, sample_id: Callable[[int], str]) -> str:
    _, index, num_samples = worker.buffers.last_heartbeat
    if not num_samples:
        return "waiting for work"
    return (
        f"at {sample_id(index)}"
        if num_samples == 1
        else f"reading {num_samples} samples, the first one {sample_id(index)}"
    )


def _kill_workers(workers: list[_Worker]) -> None:
    """Kill all workers: they have no unfinished work to save, and a stuck one would ignore a request to end."""
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.connection.close()
    workers.clear()


def _worker_main(task: WorkerTask[Any], buffers: _SharedBuffers, connection: Connection) -> None:
    """Process batches until the main process closes the pipe."""
    Thread(target=_exit_with_parent, daemon=True).start()
    # These signals reach the entire process group, but only the main process decides when to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    for turn in count():
        try:
            connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            output = task(
                buffers.indices[turn % PREFETCH_FACTOR], buffers.images[turn % PREFETCH_FACTOR], buffers.heartbeat
            )
        except NoUsableSamples as error:
            output = error
        except ZebraError as error:  # not every error can be pickled
            output = DataError(str(error))
        buffers.heartbeat(0, 0)
        try:
            connection.send(output)
        except ConnectionError:
            return


def _exit_with_parent() -> None:
    """End this process when the main process ends, even if a read never returns."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
