"""Workers give what was ordered, in its sequence; none is lost without a name, and none is left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from zebra.data.workers import run_workers
from zebra.errors import ConfigError, DataError

BATCH = 3
Made = tuple[list[list[int]], int]


def order(number: int) -> np.ndarray:
    return np.array([[number, BATCH * number + place] for place in range(BATCH)])


def double(order, into, note) -> int:
    for place, (_, index) in enumerate(order):
        note(index, 1)
        into[place] = 2 * index
    return int(order[0, 0])


def start(fill=double, orders=10, workers=2, timeout=20.0, length=4) -> Iterator[tuple[np.ndarray, object]]:
    numbers = range(orders) if isinstance(orders, int) else orders
    shape = (BATCH, length)
    return run_workers(
        fill,
        map(order, numbers),
        shape,
        num_workers=workers,
        timeout_seconds=timeout,
        sample_id=lambda index: f"sample {index}",
    )


def at(index: int, act: Callable[[], object], note_together: int = 1):
    """A fill that does something when the turn of a sample has come."""

    def fill(order, into, note) -> None:
        for _, each in order:
            note(each, note_together)
            if each == index:
                act()

    return fill


def die(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def sleep_forever() -> None:
    time.sleep(3600)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("orders", [0, 1, 4, 13])
def test_what_was_ordered_comes_in_its_sequence(orders: int, workers: int) -> None:
    answers = []
    for images, answer in start(orders=orders, workers=workers):
        answers.append(answer)
        assert images[:, 0].tolist() == [2 * index for _, index in order(answer)]
    assert answers == list(range(orders))


def test_what_was_handed_out_is_not_written_to_again() -> None:
    kept = list(start(orders=12, workers=1))
    assert [int(images[0, 0]) for images, _ in kept] == [2 * BATCH * number for number in range(12)]


def test_orders_are_taken_only_as_they_are_needed() -> None:
    taken = []

    def orders() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    running = start(orders=orders(), workers=2)
    next(running)
    assert len(taken) <= 5


def test_answers_larger_than_any_pipe_arrive() -> None:
    answers = [answer for _, answer in start(lambda order, into, note: "x" * 3_000_000, orders=6)]
    assert [len(answer) for answer in answers] == [3_000_000] * 6


def test_a_slow_worker_that_gets_on_is_not_stuck() -> None:
    def slow(order, into, note) -> None:
        for _, index in order:
            note(index, 1)
            time.sleep(0.4)

    assert len(list(start(slow, orders=2, workers=1, timeout=0.6))) == 2


def test_a_stuck_worker_is_named_with_its_sample() -> None:
    pattern = (
        r"loader worker 1 \(process \d+\) is stuck: not one sample further in 0.5 s, at sample 4; look at"
    )
    with pytest.raises(DataError, match=pattern):
        list(start(at(4, sleep_forever), timeout=0.5))


def test_a_stuck_worker_does_not_stay() -> None:
    with pytest.raises(DataError):
        list(start(at(4, sleep_forever), timeout=0.5))
    assert multiprocessing.active_children() == []


def test_a_stuck_read_of_many_names_the_first() -> None:
    with pytest.raises(DataError, match="reading 64 samples, the first being sample 3; "):
        list(start(at(3, sleep_forever, note_together=64), timeout=0.5))


def test_a_killed_worker_is_named_with_its_sample_and_what_may_have_killed_it() -> None:
    pattern = (
        r"loader worker 0 \(process \d+\) was killed by signal 9 \(Killed\), at sample 7; "
        r"the system does so when memory runs out: use fewer --workers or a smaller --batch-size"
    )
    with pytest.raises(DataError, match=pattern):
        list(start(at(7, die(signal.SIGKILL))))


def test_a_worker_that_another_signal_ends_is_named_with_it() -> None:
    with pytest.raises(
        DataError, match=r"killed by signal 24 \(CPU time limit exceeded\), at sample 7; with"
    ):
        list(start(at(7, die(signal.SIGXCPU))))


def test_a_worker_that_dies_beside_the_one_awaited_is_noticed_at_once() -> None:
    """The main process waits for worker 0, which never answers; worker 1 is killed."""

    def fill(order, into, note) -> None:
        note(order[0, 1], 1)
        time.sleep(3600) if order[0, 0] == 0 else die(signal.SIGKILL)()

    with pytest.raises(DataError, match="worker 1"):
        list(start(fill))


def test_a_worker_killed_while_it_waits_for_work_is_named() -> None:
    running = start(orders=50, workers=1)
    next(running)
    time.sleep(0.3)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"killed by signal 9.*, waiting for work; "):
        list(running)


def test_what_a_worker_finished_before_it_died_is_still_delivered() -> None:
    def orders() -> Iterator[int]:
        yield from (0, 1)
        time.sleep(0.5)  # meanwhile it dies of the second
        yield 2

    running = start(at(BATCH, die(signal.SIGKILL)), orders=orders(), workers=1)
    assert next(running)[1] is None
    with pytest.raises(DataError, match=f"sample {BATCH}"):
        next(running)


def test_an_unforeseen_error_ends_the_run_and_its_traceback_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    with pytest.raises(DataError, match="ended with status 1, at sample 2; what it said stands above"):
        list(start(at(2, fail)))
    assert "KeyError: 'a bug'" in capfd.readouterr().err


def test_an_error_of_this_package_arrives_with_its_own_words() -> None:
    def fail() -> None:
        raise ConfigError("words")

    with pytest.raises(DataError, match=r"^words$"):
        list(start(at(2, fail)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_process_group_leave_workers_at_work(number: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the main one decides when to stop."""
    running = start(orders=40, workers=1)
    next(running)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, number)
    assert len(list(running)) == 39


SCRIPT = """
import multiprocessing, os, signal, time
import numpy as np
from zebra.data.workers import run_workers

def fill(order, into, note):
    if order[0, 0] == 4:
        time.sleep(3600)

orders = (np.full((2, 2), number) for number in range(100))
running = run_workers(fill, orders, (2, 4), num_workers=2, timeout_seconds=60, sample_id=str)
next(running)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


def run_script(ending: str) -> tuple[int, str, list[int]]:
    """Return status and complaints of a process that goes away with workers running, one deaf, and their ids."""
    script = subprocess.run(
        [sys.executable, "-c", SCRIPT + ending], capture_output=True, text=True, timeout=60, check=False
    )
    return script.returncode, script.stderr, [int(pid) for pid in script.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)"])
def test_a_program_can_end_with_workers_running(ending: str) -> None:
    status, complaints, workers = run_script(ending)
    assert (status, complaints) == (0, "")
    assert [pid for pid in workers if is_running(pid)] == []


def test_no_worker_outlives_a_main_process_that_is_killed() -> None:
    status, _, workers = run_script("time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)")
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert left == []


def test_workers_can_be_started_afresh_instead_of_forked() -> None:
    """As on macOS and Windows, and on Linux from Python 3.14 on."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        answers = [answer for _, answer in start(np.array_equal, orders=2, workers=1)]
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert answers == [False, False]
