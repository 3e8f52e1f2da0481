"""Compute beside other processes on the same cores."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch

from zebra.pretrained import shared_cores
from zebra.pretrained.shared_cores import (
    MAX_PAUSE_POLLS,
    MIN_PAUSE_POLLS,
    IdleTeam,
    SpinLimiter,
    ThreadWaiting,
    share_cores,
)
from zebra.pretrained.torch_threads import limit_torch_threads


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)


def thread_ids_of_process() -> set[str]:
    return {path.name for path in Path("/proc/self/task").iterdir()}


def test_an_idle_team_has_threads_until_it_is_closed(two_threads: None) -> None:
    torch.ones(2**18).add_(1)  # the team of this thread
    before = thread_ids_of_process()
    team = IdleTeam(2)
    started = thread_ids_of_process() - before
    team.close()
    assert len(started) >= 2  # other threads of the process may start or end at any time
    deadline = time.monotonic() + 10
    while len(started & thread_ids_of_process()) > len(started) - 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # they end a moment later
    assert len(started & thread_ids_of_process()) <= len(started) - 2


def test_an_idle_team_changes_no_bit_of_a_computation(two_threads: None) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(300, 2000), torch.randn(2000, 300)
    expected = (a @ b).sum()
    team = IdleTeam(2)
    assert torch.equal((a @ b).sum(), expected)
    assert torch.get_num_threads() == 2
    team.close()


def limiter_and_history(*polls: float) -> tuple[SpinLimiter, list[bool]]:
    limiter = SpinLimiter(1)
    history = []
    for waiting in polls:
        limiter.update(waiting)
        history.append(limiter.is_limiting)
    return limiter, history


def test_spinning_goes_on_while_threads_have_their_cores() -> None:
    assert not any(limiter_and_history(*[0.1] * 300)[1])


def test_a_single_interruption_does_not_end_spinning() -> None:
    assert not any(limiter_and_history(*[0.1, 0.9, 0.1] * 20)[1])


def test_spinning_ends_when_a_thread_keeps_waiting_and_is_tried_again_after_a_pause() -> None:
    limiter, history = limiter_and_history(0.5, 0.5, *[0.5] * MIN_PAUSE_POLLS)
    assert history == [False, True, *[True] * (MIN_PAUSE_POLLS - 1), False]
    limiter.close()


def lengths_of_pauses(history: list[bool]) -> list[int]:
    lengths = [0]
    for is_limiting in history:
        if is_limiting:
            lengths[-1] += 1
        elif lengths[-1]:
            lengths.append(0)
    return lengths[:-1]


def test_the_pause_doubles_while_the_other_work_lasts_up_to_a_limit() -> None:
    limiter, history = limiter_and_history(*[0.6] * 800)
    limiter.close()
    assert lengths_of_pauses(history)[:6] == [8, 16, 32, 64, 128, 128]
    assert MAX_PAUSE_POLLS == 128


def test_the_pause_is_short_again_after_a_time_without_other_work() -> None:
    limiter, history = limiter_and_history(*[0.6] * 40, *[0.0] * 200, *[0.6] * 20)
    limiter.close()
    assert lengths_of_pauses(history)[-1] == MIN_PAUSE_POLLS


def write_schedstat(tasks_dir: Path, thread: int, waited_seconds: float) -> None:
    (tasks_dir / str(thread)).mkdir(parents=True, exist_ok=True)
    (tasks_dir / str(thread) / "schedstat").write_text(f"123 {int(waited_seconds * 1e9)} 4\n", encoding="ascii")


def test_waiting_is_that_of_the_thread_that_waits_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(shared_cores.time, "monotonic", lambda: next(times))
    write_schedstat(tmp_path, 1, 5.0)
    write_schedstat(tmp_path, 2, 7.0)
    waiting = ThreadWaiting(tmp_path)
    write_schedstat(tmp_path, 1, 5.5)
    write_schedstat(tmp_path, 2, 8.0)
    write_schedstat(tmp_path, 3, 100.0)  # a new thread; when it began to wait is unknown
    assert waiting.largest_fraction() == pytest.approx(0.5)
    (tmp_path / "2" / "schedstat").unlink()  # a thread that has ended
    assert waiting.largest_fraction() == 0.0


@pytest.mark.parametrize("content", [None, "", "no numbers here"])
def test_a_kernel_that_does_not_count_waiting_never_ends_spinning(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "schedstat").write_text(content, encoding="ascii")
    assert ThreadWaiting(tmp_path).largest_fraction() == 0.0


def limits_inside(
    monkeypatch: pytest.MonkeyPatch, context: Callable[[], AbstractContextManager[None]] = share_cores
) -> bool:
    """Return whether spinning is limited inside the context when threads wait all the time."""
    monkeypatch.setattr(shared_cores, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(ThreadWaiting, "largest_fraction", lambda _self: 1.0)
    started = shared_cores.threading.Event()
    monkeypatch.setattr(shared_cores, "IdleTeam", lambda _num_threads: (started.set(), IdleTeam(1))[1])
    with context():
        return started.wait(0.1)


def test_a_run_beside_other_work_stops_spinning(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cpus", lambda: frozenset({0, 1}))
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: 2)
    assert limits_inside(monkeypatch)


def test_images_are_classified_beside_other_work_without_spinning(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cpus", lambda: frozenset({0, 1}))
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: 2)
    assert limits_inside(monkeypatch, partial(limit_torch_threads, 1))


def test_one_limiter_is_enough_for_nested_blocks(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cpus", lambda: frozenset({0, 1}))
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: 2)
    started: list[SpinLimiter] = []
    monkeypatch.setattr(shared_cores, "_limit_until", lambda _stop, limiter: started.append(limiter))
    with share_cores(), share_cores(), limit_torch_threads(1):
        pass
    assert len(started) == 1
    with share_cores():
        pass
    assert len(started) == 2


@pytest.mark.parametrize(("num_cores", "num_workers", "num_threads"), [(4, 2, 2), (2, 2, 1), (2, 1, 2), (1, 4, 1)])
def test_workers_divide_the_cores_of_a_container_and_not_those_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, no_settings: None, num_cores: int, num_workers: int, num_threads: int
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: num_cores)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with limit_torch_threads(num_workers):
            assert torch.get_num_threads() == num_threads
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_a_wait_policy_of_the_user_wins(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None, name: str
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cpus", lambda: frozenset({0, 1}))
    monkeypatch.setenv(name, "ACTIVE" if name == "OMP_WAIT_POLICY" else "1000")
    assert not limits_inside(monkeypatch)


def test_a_second_team_that_would_not_exceed_the_cores_is_not_started(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cpus", lambda: frozenset(range(8)))
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: 8)
    assert not limits_inside(monkeypatch)


def test_threads_beyond_the_limit_of_a_container_are_not_used_and_are_restored(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: 1)
    with share_cores():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_that_the_user_sets_wins(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, no_settings: None
) -> None:
    monkeypatch.setattr(shared_cores, "usable_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with share_cores():
        assert torch.get_num_threads() == 2
