"""Orders in, the arrays that worker processes filled for them out, in turn; a worker that dies or is stuck is named.

torch's own loader raises the death of a worker from a signal handler, wherever the main process then is, knows neither
the sample nor, for up to its time limit, that anything happened, and waits at exit for a worker that does not answer.
Here each worker has a line of its own and memory of its own, shared with the main process: no lock that a killed worker
could keep, and nothing large that would have to travel.
"""

import atexit
import ctypes
import math
import os
import signal
import time
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

from zebra.errors import DataError, ZebraError

PREFETCH_FACTOR = 2
"""Orders that each worker has at a time: one that is awaited, and one that it goes on with meanwhile."""
POLL_SECONDS = 1.0
"""How often the main process looks whether the worker it waits for gets on."""

BatchIndices = NDArray[np.int64]
"""[B, 2]: epoch and index of the sample that stands at each place."""
Heartbeat = Callable[[int, int], None]
"""Told the index of the sample that comes next, and how many are read with it."""
TaskOutput = TypeVar("TaskOutput")
TaskOutput_co = TypeVar("TaskOutput_co", covariant=True)


class WorkerTask(Protocol[TaskOutput_co]):
    """What a worker does; it travels to the worker, and its answer back."""

    def __call__(
        self, indices_B2: BatchIndices, out: NDArray[np.uint8], heartbeat: Heartbeat
    ) -> TaskOutput_co:
        """Fill `out` [B, …] and return what there is to say about it."""


def run_workers(
    task: WorkerTask[TaskOutput],
    batch_indices: Iterable[BatchIndices],
    shape: tuple[int, ...],
    *,
    num_workers: int,
    timeout_seconds: float,
    sample_id: Callable[[int], str],
) -> Iterator[tuple[NDArray[np.uint8], TaskOutput]]:
    """Yield the array and the answer of every order, in the sequence of the orders.

    The workers end with the iterator, and with the main process, however that ends.

    Args:
        shape: Of every array, [B, …].
        num_workers: At least 1.
        timeout_seconds: Seconds without one further sample after which a worker counts as stuck.
        sample_id: Index → the name of a sample, for errors.

    Raises:
        DataError: A worker died or is stuck, or `task` raised an error of this package.
    """
    crew: list[_Worker] = []
    # At exit this goes before multiprocessing's own, which asks workers to end and waits for them.
    end = atexit.register(partial(_kill_workers, crew))
    try:
        crew.extend(_Worker(number, task, shape) for number in range(num_workers))
        given = zip(cycle(crew), batch_indices, strict=False)
        due: deque[_Worker] = deque()
        for worker, order in islice(given, num_workers * PREFETCH_FACTOR):
            worker.send(order)
            due.append(worker)
        while due:
            worker = due.popleft()
            answer = _wait_for_output(worker, crew, timeout_seconds, sample_id)
            images = worker.copy_images()
            for next_worker, order in islice(given, 1):
                next_worker.send(order)
                due.append(next_worker)
            yield images, answer
    finally:
        if crew:  # otherwise the program has come to its end, and little of this module may be left
            end()
            atexit.unregister(end)


class _SharedBuffers:
    """What a worker shares with the main process; raw memory, since numpy's arrays would be copied on their way."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = (PREFETCH_FACTOR, *shape)
        self._indices = RawArray(ctypes.c_int64, PREFETCH_FACTOR * shape[0] * 2)
        self._images = RawArray(ctypes.c_uint8, math.prod(self._shape))
        self._heartbeat = RawArray(ctypes.c_int64, 3)

    @property
    def indices(self) -> NDArray[np.int64]:
        """[AHEAD, B, 2]."""
        return np.ctypeslib.as_array(self._indices).reshape(*self._shape[:2], 2)

    @property
    def images(self) -> NDArray[np.uint8]:
        """[AHEAD, B, …]."""
        return np.ctypeslib.as_array(self._images).reshape(self._shape)

    def heartbeat(self, index: int, num_samples: int) -> None:
        """Note what the worker is at."""
        self._heartbeat[1:] = [index, num_samples]
        self._heartbeat[0] += 1

    @property
    def last_heartbeat(self) -> tuple[int, int, int]:
        """How many notes there were, and the last: index, and how many samples are read with it (0: it waits)."""
        total, index, together = self._heartbeat
        return total, index, together


class _Worker:
    """A process, seen from the main one."""

    def __init__(self, worker_id: int, task: WorkerTask[Any], shape: tuple[int, ...]) -> None:
        self.worker_id = worker_id
        self.buffers = _SharedBuffers(shape)
        self.connection, its_end = Pipe()
        self._num_sent = self._num_received = 0
        self.process = Process(target=_worker_main, args=(task, self.buffers, its_end), daemon=True)
        self.process.start()
        its_end.close()  # so that the line ends when the worker does

    def send(self, indices_B2: BatchIndices) -> None:
        self.buffers.indices[self._num_sent % PREFETCH_FACTOR] = indices_B2
        self._num_sent += 1
        with suppress(ConnectionError):  # it died, which is noticed when its answer is due
            self.connection.send(None)  # short, and never more of them than AHEAD: it cannot block

    def copy_images(self) -> NDArray[np.uint8]:
        """Copy the images of the next order, whose place is then used again."""
        images: NDArray[np.uint8] = self.buffers.images[self._num_received % PREFETCH_FACTOR].copy()
        self._num_received += 1
        return images


def _wait_for_output(
    worker: _Worker, workers: Sequence[_Worker], timeout_seconds: float, sample_id: Callable[[int], str]
) -> Any:
    """Wait for what a worker says about its next order, and look after all of them meanwhile."""
    sentinels = [other.process.sentinel for other in workers]
    notes, since = worker.buffers.last_heartbeat, time.monotonic()
    while True:
        ready = wait([worker.connection, *sentinels], min(POLL_SECONDS, timeout_seconds))
        if worker.connection in ready:
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                raise _death_error(worker, sample_id) from None
            if isinstance(answer, DataError):
                raise answer
            return answer
        if ready:
            raise _death_error(next(other for other in workers if other.process.sentinel in ready), sample_id)
        if worker.buffers.last_heartbeat != notes:
            notes, since = worker.buffers.last_heartbeat, time.monotonic()
        elif time.monotonic() - since >= timeout_seconds:
            raise DataError(
                f"{_describe_worker(worker)} is stuck: not one sample further in {timeout_seconds:g} s, {_describe_progress(worker, sample_id)}; "
                "look at the disk or the server it lies on, or allow more time with --worker-timeout"
            )


def _death_error(worker: _Worker, sample_id: Callable[[int], str]) -> DataError:
    worker.process.join()
    status = worker.process.exitcode
    assert status is not None
    if status >= 0:
        return DataError(
            f"{_describe_worker(worker)} ended with status {status}, {_describe_progress(worker, sample_id)}; what it said stands above"
        )
    advice = "with --workers 0 it would happen in the main process, where more is seen of it"
    if status == -signal.SIGKILL:
        advice = "the system does so when memory runs out: use fewer --workers or a smaller --batch-size"
    return DataError(
        f"{_describe_worker(worker)} was killed by signal {-status} ({signal.strsignal(-status)}), {_describe_progress(worker, sample_id)}; {advice}"
    )


def _describe_worker(worker: _Worker) -> str:
    return f"loader worker {worker.worker_id} (process {worker.process.pid})"


def _describe_progress(worker: _Worker, sample_id: Callable[[int], str]) -> str:
    _, index, together = worker.buffers.last_heartbeat
    if not together:
        return "waiting for work"
    return (
        f"at {sample_id(index)}"
        if together == 1
        else f"reading {together} samples, the first being {sample_id(index)}"
    )


def _kill_workers(workers: list[_Worker]) -> None:
    """End all workers without asking: they hold nothing that could be left half done, and one may be deaf."""
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.connection.close()
    workers.clear()


def _worker_main(task: WorkerTask[Any], buffers: _SharedBuffers, connection: Connection) -> None:
    """Fill what is ordered until the main process is gone."""
    Thread(target=_exit_with_parent, daemon=True).start()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # these reach a whole group; when to stop is not for a worker to say
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    for turn in count():
        try:
            connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = task(
                buffers.indices[turn % PREFETCH_FACTOR],
                buffers.images[turn % PREFETCH_FACTOR],
                buffers.heartbeat,
            )
        except ZebraError as error:  # sent as words, since not every error can be pickled
            answer = DataError(str(error))
        buffers.heartbeat(0, 0)
        try:
            connection.send(answer)
        except ConnectionError:
            return


def _exit_with_parent() -> None:
    """End this process when the main one does, even if a read never returns."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
