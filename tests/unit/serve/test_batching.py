"""Tests of dynamic batching: every item gets its own result, canceled items are skipped, full queues reject."""

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import pytest

from zebra.config.serve import BatchingConfig
from zebra.serve.batching import Batcher
from zebra.serve.errors import HTTPError


@asynccontextmanager
async def running_batcher(run, **settings):
    """Yield a batcher that runs a function in a thread; its attribute `batches` lists the statistics."""
    batches = []
    with ThreadPoolExecutor(1) as executor:

        async def run_in_thread(items):
            return await asyncio.get_running_loop().run_in_executor(executor, run, items)

        batcher = Batcher(run_in_thread, BatchingConfig(**settings), batches.append)
        batcher.batches = batches
        task = asyncio.create_task(batcher.run_forever())
        yield batcher
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def double(items):
    return [2 * item for item in items]


def test_items_that_arrive_together_form_one_batch():
    async def scenario():
        async with running_batcher(double, max_batch_size=8, max_delay_seconds=0.05) as batcher:
            assert await asyncio.gather(*(batcher([n]) for n in range(8))) == [[2 * n] for n in range(8)]
            assert [stats.num_items for stats in batcher.batches] == [8]

    asyncio.run(scenario())


def test_a_single_item_waits_no_longer_than_the_delay():
    async def scenario():
        async with running_batcher(double, max_batch_size=8, max_delay_seconds=0.02) as batcher:
            started_at = time.monotonic()
            assert await batcher([5]) == [10]
            assert 0.015 < time.monotonic() - started_at < 1

    asyncio.run(scenario())


def test_a_full_queue_rejects_with_a_time_to_retry():
    async def scenario():
        gate = threading.Event()

        def slow(items):
            gate.wait(10)
            return items

        async with running_batcher(slow, max_batch_size=2, max_queue_size=4, max_delay_seconds=0) as batcher:
            first = [asyncio.create_task(batcher([n])) for n in range(2)]
            await asyncio.sleep(0.05)  # these two are in the running batch now
            waiting = [asyncio.create_task(batcher([n])) for n in range(4)]
            await asyncio.sleep(0.05)
            with pytest.raises(HTTPError) as rejected:
                await batcher([9])
            assert rejected.value.status_code == 429
            assert rejected.value.retry_after_seconds >= 1
            waiting[0].cancel()
            await asyncio.sleep(0)
            last = asyncio.create_task(batcher([7]))  # the canceled item has made room
            await asyncio.sleep(0.01)
            gate.set()
            assert await last == [7]
            await asyncio.gather(*first, *waiting, return_exceptions=True)

    asyncio.run(scenario())


def test_items_beyond_the_time_out_are_dropped():
    async def scenario():
        computed = []

        def slow(items):
            computed.extend(items)
            time.sleep(0.3)
            return items

        async with running_batcher(slow, max_batch_size=1, max_delay_seconds=0, timeout_seconds=0.1) as batcher:
            tasks = [asyncio.create_task(batcher([n])) for n in range(2)]
            await asyncio.sleep(0.2)
            assert batcher.is_stuck
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[0] == [0]
            assert isinstance(results[1], HTTPError)
            assert results[1].status_code == 503
            assert not batcher.is_stuck
        assert computed == [0]

    asyncio.run(scenario())


def test_a_bad_item_fails_alone():
    async def scenario():
        def fragile(items):
            if 3 in items:
                raise ValueError("three")
            return items

        async with running_batcher(fragile, max_batch_size=8, max_delay_seconds=0.02) as batcher:
            results = await asyncio.gather(*(batcher([n]) for n in range(6)), return_exceptions=True)
            assert [result for result in results if isinstance(result, list)] == [[0], [1], [2], [4], [5]]
            assert isinstance(results[3], ValueError)

    asyncio.run(scenario())


def test_items_of_canceled_requests_are_not_computed():
    async def scenario():
        computed = []

        def slow(items):
            computed.extend(items)
            time.sleep(0.05)
            return items

        async with running_batcher(slow, max_batch_size=1, max_delay_seconds=0) as batcher:
            tasks = [asyncio.create_task(batcher([n])) for n in range(10)]
            await asyncio.sleep(0.02)
            for task in tasks[1:9]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert computed == [0, 9]

    asyncio.run(scenario())


def test_v3_ten_thousand_distinct_inputs_are_never_mixed_up():
    """Every request gets its own results, whatever the batches and cancellations; most canceled items are skipped."""
    rng = random.Random(0)
    computed = []

    def square(items):
        computed.extend(items)
        time.sleep(rng.random() * 0.002)
        return [item * item for item in items]

    async def call(batcher, number):
        await asyncio.sleep(rng.random() * 0.5)
        items = [10 * number + extra for extra in range(rng.randrange(1, 4))]
        return items, await batcher(items)

    async def scenario():
        async with running_batcher(
            square, max_batch_size=32, max_delay_seconds=0.002, max_queue_size=40_000
        ) as batcher:
            tasks = [asyncio.create_task(call(batcher, number)) for number in range(10_000)]
            await asyncio.sleep(0.2)
            for task in rng.sample(tasks, 1000):
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(scenario())
    answered = [result for result in results if not isinstance(result, BaseException)]
    assert len(answered) >= 9000
    assert all(squares == [item * item for item in items] for items, squares in answered)
    assert all(isinstance(result, asyncio.CancelledError) for result in results if isinstance(result, BaseException))
    assert len(computed) == len(set(computed))
    answered_items = {item for items, _ in answered for item in items}
    assert len(set(computed) - answered_items) < 2000


def test_as_many_batches_run_at_once_as_there_are_tasks():
    running, most = 0, 0

    async def run(items):
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert len(items) == 4  # a task that waits takes no rest of a batch of another one
        await asyncio.sleep(0.01)
        running -= 1
        return items

    async def scenario():
        batcher = Batcher(run, BatchingConfig(max_batch_size=4, max_delay_seconds=1.0))
        tasks = [asyncio.create_task(batcher.run_forever()) for _ in range(3)]
        results = await asyncio.gather(*(batcher([number]) for number in range(24)))
        for task in tasks:
            task.cancel()
        return results

    assert asyncio.run(scenario()) == [[number] for number in range(24)]
    assert most == 3
