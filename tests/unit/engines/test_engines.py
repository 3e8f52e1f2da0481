"""An engine runs jobs in order of the items, a few at a time."""

import threading
import time
from collections.abc import Iterator

import pytest

from zebra.engines import ThreadEngine, open_engine


@pytest.mark.parametrize("num_threads", [1, 3])
def test_results_come_in_the_order_of_the_items(num_threads: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.01 * (item % 3 == 0))
        return item * item

    assert list(ThreadEngine(num_threads).map(work, range(20))) == [item * item for item in range(20)]
    assert list(ThreadEngine(num_threads).map(work, [])) == []


def test_jobs_run_at_the_same_time() -> None:
    barrier = threading.Barrier(2)
    with open_engine("threads", 2) as engine:
        assert len(list(engine.map(lambda _: barrier.wait(10), range(2)))) == 2


@pytest.mark.parametrize("num_threads", [1, 2])
def test_items_are_taken_only_a_few_ahead(num_threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = ThreadEngine(num_threads).map(str, items())
    assert next(results) == "0"
    assert len(taken) < 10
    results.close()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_exception_of_a_job_is_raised_and_no_further_job_starts(num_threads: int) -> None:
    started: list[int] = []

    def work(item: int) -> None:
        started.append(item)
        if item == 3:
            raise KeyError(item)

    with pytest.raises(KeyError):
        list(ThreadEngine(num_threads).map(work, range(1000)))
    assert len(started) < 20
