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

AHEAD = 2
"""Orders that each worker has at a time: one that is awaited, and one that it goes on with meanwhile."""
GLANCE_SECONDS = 1.0
"""How often the main process looks whether the worker it waits for gets on."""

Order = NDArray[np.int64]
"""[B, 2]: epoch and index of the sample that stands at each place."""
Note = Callable[[int, int], None]
"""Told the index of the sample that comes next, and how many are read with it."""
Filled = TypeVar("Filled")
Filled_co = TypeVar("Filled_co", covariant=True)


class Fill(Protocol[Filled_co]):
    """What a worker does; it travels to the worker, and its answer back."""

    def __call__(self, order: Order, into: NDArray[np.uint8], note: Note) -> Filled_co:
        """Fill `into` [B, …] and return what there is to say about it."""


def filled(
    fill: Fill[Filled],
    orders: Iterable[Order],
    shape: tuple[int, ...],
    *,
    workers: int,
    timeout: float,
    name: Callable[[int], str],
) -> Iterator[tuple[NDArray[np.uint8], Filled]]:
    """Yield the array and the answer of every order, in the sequence of the orders.

    The workers end with the iterator, and with the main process, however that ends.

    Args:
        shape: Of every array, [B, …].
        workers: At least 1.
        timeout: Seconds without one further sample after which a worker counts as stuck.
        name: Index → the name of a sample, for errors.

    Raises:
        DataError: A worker died or is stuck, or `fill` raised an error of this package.
    """
    crew: list[_Worker] = []
    # At exit this goes before multiprocessing's own, which asks workers to end and waits for them.
    end = atexit.register(partial(_end, crew))
    try:
        crew.extend(_Worker(number, fill, shape) for number in range(workers))
        given = zip(cycle(crew), orders, strict=False)
        due: deque[_Worker] = deque()
        for worker, order in islice(given, workers * AHEAD):
            worker.give(order)
            due.append(worker)
        while due:
            worker = due.popleft()
            answer = _answer(worker, crew, timeout, name)
            images = worker.take()
            for next_worker, order in islice(given, 1):
                next_worker.give(order)
                due.append(next_worker)
            yield images, answer
    finally:
        if crew:  # otherwise the program has come to its end, and little of this module may be left
            end()
            atexit.unregister(end)


class _Desk:
    """What a worker shares with the main process; raw memory, since numpy's arrays would be copied on their way."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = (AHEAD, *shape)
        self._orders = RawArray(ctypes.c_int64, AHEAD * shape[0] * 2)
        self._images = RawArray(ctypes.c_uint8, math.prod(self._shape))
        self._notes = RawArray(ctypes.c_int64, 3)

    @property
    def orders(self) -> NDArray[np.int64]:
        """[AHEAD, B, 2]."""
        return np.ctypeslib.as_array(self._orders).reshape(*self._shape[:2], 2)

    @property
    def images(self) -> NDArray[np.uint8]:
        """[AHEAD, B, …]."""
        return np.ctypeslib.as_array(self._images).reshape(self._shape)

    def note(self, index: int, together: int) -> None:
        """Note what the worker is at."""
        self._notes[1:] = [index, together]
        self._notes[0] += 1

    @property
    def notes(self) -> tuple[int, int, int]:
        """How many notes there were, and the last: index, and how many samples are read with it (0: it waits)."""
        total, index, together = self._notes
        return total, index, together


class _Worker:
    """A process, seen from the main one."""

    def __init__(self, number: int, fill: Fill[Any], shape: tuple[int, ...]) -> None:
        self.number = number
        self.desk = _Desk(shape)
        self.line, its_end = Pipe()
        self._given = self._taken = 0
        self.process = Process(target=_work, args=(fill, self.desk, its_end), daemon=True)
        self.process.start()
        its_end.close()  # so that the line ends when the worker does

    def give(self, order: Order) -> None:
        self.desk.orders[self._given % AHEAD] = order
        self._given += 1
        with suppress(ConnectionError):  # it died, which is noticed when its answer is due
            self.line.send(None)  # short, and never more of them than AHEAD: it cannot block

    def take(self) -> NDArray[np.uint8]:
        """Copy the images of the next order, whose place is then used again."""
        images: NDArray[np.uint8] = self.desk.images[self._taken % AHEAD].copy()
        self._taken += 1
        return images


def _answer(worker: _Worker, crew: Sequence[_Worker], timeout: float, name: Callable[[int], str]) -> Any:
    """Wait for what a worker says about its next order, and look after all of them meanwhile."""
    sentinels = [other.process.sentinel for other in crew]
    notes, since = worker.desk.notes, time.monotonic()
    while True:
        ready = wait([worker.line, *sentinels], min(GLANCE_SECONDS, timeout))
        if worker.line in ready:
            try:
                answer = worker.line.recv()
            except (EOFError, OSError):
                raise _died(worker, name) from None
            if isinstance(answer, DataError):
                raise answer
            return answer
        if ready:
            raise _died(next(other for other in crew if other.process.sentinel in ready), name)
        if worker.desk.notes != notes:
            notes, since = worker.desk.notes, time.monotonic()
        elif time.monotonic() - since >= timeout:
            raise DataError(
                f"{_who(worker)} is stuck: not one sample further in {timeout:g} s, {_at(worker, name)}; "
                "look at the disk or the server it lies on, or allow more time with --worker-timeout"
            )


def _died(worker: _Worker, name: Callable[[int], str]) -> DataError:
    worker.process.join()
    status = worker.process.exitcode
    assert status is not None
    if status >= 0:
        return DataError(
            f"{_who(worker)} ended with status {status}, {_at(worker, name)}; what it said stands above"
        )
    advice = "with --workers 0 it would happen in the main process, where more is seen of it"
    if status == -signal.SIGKILL:
        advice = "the system does so when memory runs out: use fewer --workers or a smaller --batch-size"
    return DataError(
        f"{_who(worker)} was killed by signal {-status} ({signal.strsignal(-status)}), {_at(worker, name)}; {advice}"
    )


def _who(worker: _Worker) -> str:
    return f"loader worker {worker.number} (process {worker.process.pid})"


def _at(worker: _Worker, name: Callable[[int], str]) -> str:
    _, index, together = worker.desk.notes
    if not together:
        return "waiting for work"
    return (
        f"at {name(index)}" if together == 1 else f"reading {together} samples, the first being {name(index)}"
    )


def _end(crew: list[_Worker]) -> None:
    """End all workers without asking: they hold nothing that could be left half done, and one may be deaf."""
    for worker in crew:
        worker.process.kill()
    for worker in crew:
        worker.process.join()
        worker.line.close()
    crew.clear()


def _work(fill: Fill[Any], desk: _Desk, line: Connection) -> None:
    """Fill what is ordered until the main process is gone."""
    Thread(target=_leave_with_parent, daemon=True).start()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # these reach a whole group; when to stop is not for a worker to say
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    for turn in count():
        try:
            line.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = fill(desk.orders[turn % AHEAD], desk.images[turn % AHEAD], desk.note)
        except ZebraError as error:  # sent as words, since not every error can be pickled
            answer = DataError(str(error))
        desk.note(0, 0)
        try:
            line.send(answer)
        except ConnectionError:
            return


def _leave_with_parent() -> None:
    """End this process when the main one does, even if a read never returns."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
