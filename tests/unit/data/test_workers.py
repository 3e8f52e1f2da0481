"""Workers fill batches in order; a dead or stuck worker is named, and no process is left over."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from zebra.data.workers import run_workers
from zebra.errors import ConfigError, DataError

BATCH = 3


def make_indices(number: int) -> np.ndarray:
    return np.array([[number, BATCH * number + position] for position in range(BATCH)])


def double(indices_B2, out, heartbeat) -> int:
    for position, (_, index) in enumerate(indices_B2):
        heartbeat(index, 1)
        out[position] = 2 * index
    return int(indices_B2[0, 0])


def start(task=double, batches=10, workers=2, timeout=20.0) -> Iterator[tuple[np.ndarray, object]]:
    numbers = range(batches) if isinstance(batches, int) else batches
    return run_workers(
        task,
        map(make_indices, numbers),
        (BATCH, 4),
        num_workers=workers,
        timeout_seconds=timeout,
        sample_id=lambda index: f"sample {index}",
    )


def act_at(index: int, action: Callable[[], object], num_samples: int = 1):
    """Return a task that runs an action before a sample."""

    def task(indices_B2, out, heartbeat) -> None:
        for _, current in indices_B2:
            heartbeat(current, num_samples)
            if current == index:
                action()

    return task


def die(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def sleep_forever() -> None:
    time.sleep(3600)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batches", [0, 1, 4, 13])
def test_batches_are_yielded_in_order(batches: int, workers: int) -> None:
    outputs = []
    for images, output in start(batches=batches, workers=workers):
        outputs.append(output)
        assert images[:, 0].tolist() == [2 * index for _, index in make_indices(output)]
    assert outputs == list(range(batches))


def test_a_yielded_array_is_not_overwritten() -> None:
    results = list(start(batches=12, workers=1))
    assert [int(images[0, 0]) for images, _ in results] == [2 * BATCH * number for number in range(12)]


def test_batches_are_requested_only_as_needed() -> None:
    requested = []

    def numbers() -> Iterator[int]:
        for number in count():
            requested.append(number)
            yield number

    results = start(batches=numbers(), workers=2)
    next(results)
    assert len(requested) <= 5


def test_outputs_may_be_larger_than_a_pipe_buffer() -> None:
    outputs = [output for _, output in start(lambda indices_B2, out, heartbeat: "x" * 3_000_000, batches=6)]
    assert [len(output) for output in outputs] == [3_000_000] * 6


def test_a_slow_worker_with_heartbeats_is_not_stuck() -> None:
    def slow(indices_B2, out, heartbeat) -> None:
        for _, index in indices_B2:
            heartbeat(index, 1)
            time.sleep(0.4)

    assert len(list(start(slow, batches=2, workers=1, timeout=0.6))) == 2


def test_a_stuck_worker_is_named_with_its_sample() -> None:
    pattern = r"loader worker 1 \(process \d+\) is stuck: no new sample in 0.5 s, at sample 4\. Check"
    with pytest.raises(DataError, match=pattern):
        list(start(act_at(4, sleep_forever), timeout=0.5))


def test_a_stuck_worker_is_killed() -> None:
    with pytest.raises(DataError):
        list(start(act_at(4, sleep_forever), timeout=0.5))
    assert multiprocessing.active_children() == []


def test_a_stuck_read_of_many_samples_names_the_first() -> None:
    with pytest.raises(DataError, match=r"reading 64 samples, the first one sample 3\. "):
        list(start(act_at(3, sleep_forever, num_samples=64), timeout=0.5))


def test_a_killed_worker_is_named_with_its_sample_and_the_likely_cause() -> None:
    pattern = (
        r"loader worker 0 \(process \d+\) was killed by signal 9 \(Killed\), at sample 7\. "
        r"The system may be out of memory: use fewer --workers or a smaller --batch-size"
    )
    with pytest.raises(DataError, match=pattern):
        list(start(act_at(7, die(signal.SIGKILL))))


def test_a_worker_killed_by_another_signal_is_named_with_it() -> None:
    with pytest.raises(
        DataError, match=r"killed by signal 24 \(CPU time limit exceeded\), at sample 7\. Use --workers 0"
    ):
        list(start(act_at(7, die(signal.SIGXCPU))))


def test_the_death_of_any_worker_is_detected_at_once() -> None:
    """The main process waits for worker 0, which is stuck; worker 1 is killed."""

    def task(indices_B2, out, heartbeat) -> None:
        heartbeat(indices_B2[0, 1], 1)
        time.sleep(3600) if indices_B2[0, 0] == 0 else die(signal.SIGKILL)()

    with pytest.raises(DataError, match="worker 1"):
        list(start(task))


def test_a_worker_killed_while_it_waits_for_work_is_named() -> None:
    results = start(batches=50, workers=1)
    next(results)
    time.sleep(0.3)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"killed by signal 9.*, waiting for work\. "):
        list(results)


def test_batches_finished_before_a_death_are_still_yielded() -> None:
    def numbers() -> Iterator[int]:
        yield from (0, 1)
        time.sleep(0.5)  # the worker dies in the second batch meanwhile
        yield 2

    results = start(act_at(BATCH, die(signal.SIGKILL)), batches=numbers(), workers=1)
    assert next(results)[1] is None
    with pytest.raises(DataError, match=f"sample {BATCH}"):
        next(results)


def test_an_unexpected_error_ends_the_run_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    with pytest.raises(DataError, match=r"ended with status 1, at sample 2\. Its stack trace is above"):
        list(start(act_at(2, fail)))
    assert "KeyError: 'a bug'" in capfd.readouterr().err


def test_a_zebra_error_keeps_its_message() -> None:
    def fail() -> None:
        raise ConfigError("a message")

    with pytest.raises(DataError, match=r"^a message$"):
        list(start(act_at(2, fail)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_ignore_signals_to_the_process_group(number: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the main process decides when to stop."""
    results = start(batches=40, workers=1)
    next(results)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, number)
    assert len(list(results)) == 39


SCRIPT = """
import multiprocessing, os, signal, time
import numpy as np
from zebra.data.workers import run_workers

def task(indices_B2, out, heartbeat):
    if indices_B2[0, 0] == 4:
        time.sleep(3600)

batches = (np.full((2, 2), number) for number in range(100))
results = run_workers(task, batches, (2, 4), num_workers=2, timeout_seconds=60, sample_id=str)
next(results)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


def run_script(ending: str) -> tuple[int, str, list[int]]:
    """Return status, stderr and worker process IDs of a program that ends while its workers run."""
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
    status, stderr, workers = run_script(ending)
    assert (status, stderr) == (0, "")
    assert [pid for pid in workers if is_running(pid)] == []


def test_no_worker_outlives_a_main_process_that_is_killed() -> None:
    status, _, workers = run_script("time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)")
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    remaining = [pid for pid in workers if is_running(pid)]
    for pid in remaining:
        os.kill(pid, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert remaining == []


def test_workers_can_be_spawned() -> None:
    """As on macOS and Windows, and on Linux from Python 3.14 on."""
    default = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        outputs = [output for _, output in start(np.array_equal, batches=2, workers=1)]
    finally:
        multiprocessing.set_start_method(default, force=True)
    assert outputs == [False, False]


def test_an_open_store_causes_no_warning_when_workers_start(monkeypatch, capfd) -> None:
    import lancedb.background_loop  # warns in each forked child

    monkeypatch.setattr(lancedb.background_loop, "_FORK_WARNED", False)
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_args: os.write(2, str(message).encode()))
    warnings.simplefilter("always")  # pytest restores the filters
    assert [output for _, output in start(np.array_equal, batches=2, workers=1)] == [False, False]
    assert "lancedb" not in capfd.readouterr().err
