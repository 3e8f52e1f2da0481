"""The batcher gives each its own answer, computes nothing for who has left, and refuses what it cannot hold."""

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
async def batching(run, **settings):
    passes = []
    with ThreadPoolExecutor(1) as executor:

        async def run_there(items):
            return await asyncio.get_running_loop().run_in_executor(executor, run, items)

        batcher = Batcher(run_there, BatchingConfig(**settings), passes.append)
        batcher.batches = passes
        worker = asyncio.create_task(batcher.run_forever())
        yield batcher
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker


def doubled(items):
    return [2 * item for item in items]


def test_items_that_come_together_pass_together():
    async def scenario():
        async with batching(doubled, max_batch_size=8, max_delay_seconds=0.05) as batcher:
            assert await asyncio.gather(*(batcher([n]) for n in range(8))) == [[2 * n] for n in range(8)]
            assert [passed.num_items for passed in batcher.batches] == [8]

    asyncio.run(scenario())


def test_one_alone_waits_no_longer_than_the_delay():
    async def scenario():
        async with batching(doubled, max_batch_size=8, max_delay_seconds=0.02) as batcher:
            began = time.monotonic()
            assert await batcher([5]) == [10]
            assert 0.015 < time.monotonic() - began < 1

    asyncio.run(scenario())


def test_what_the_queue_cannot_hold_is_refused_with_when_to_come_again():
    async def scenario():
        go = threading.Event()

        def slow(items):
            go.wait(10)
            return items

        async with batching(slow, max_batch_size=2, max_queue_size=4, max_delay_seconds=0) as batcher:
            first = [asyncio.create_task(batcher([n])) for n in range(2)]
            await asyncio.sleep(0.05)  # these two are with the model now
            waiting = [asyncio.create_task(batcher([n])) for n in range(4)]
            await asyncio.sleep(0.05)
            with pytest.raises(HTTPError) as refused:
                await batcher([9])
            assert refused.value.status_code == 429
            assert refused.value.retry_after_seconds >= 1
            waiting[0].cancel()
            await asyncio.sleep(0)
            last = asyncio.create_task(batcher([7]))  # who left has made room
            await asyncio.sleep(0.01)
            go.set()
            assert await last == [7]
            await asyncio.gather(*first, *waiting, return_exceptions=True)

    asyncio.run(scenario())


def test_what_waited_beyond_the_deadline_is_given_up():
    async def scenario():
        seen = []

        def slow(items):
            seen.extend(items)
            time.sleep(0.3)
            return items

        async with batching(slow, max_batch_size=1, max_delay_seconds=0, timeout_seconds=0.1) as batcher:
            tasks = [asyncio.create_task(batcher([n])) for n in range(2)]
            await asyncio.sleep(0.2)
            assert batcher.is_stuck
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[0] == [0]
            assert isinstance(results[1], HTTPError)
            assert results[1].status_code == 503
            assert not batcher.is_stuck
        assert seen == [0]

    asyncio.run(scenario())


def test_a_bad_item_fails_alone():
    async def scenario():
        def fragile(items):
            if 3 in items:
                raise ValueError("three")
            return items

        async with batching(fragile, max_batch_size=8, max_delay_seconds=0.02) as batcher:
            results = await asyncio.gather(*(batcher([n]) for n in range(6)), return_exceptions=True)
            assert [result for result in results if isinstance(result, list)] == [[0], [1], [2], [4], [5]]
            assert isinstance(results[3], ValueError)

    asyncio.run(scenario())


def test_who_has_left_is_not_computed_for():
    async def scenario():
        seen = []

        def slow(items):
            seen.extend(items)
            time.sleep(0.05)
            return items

        async with batching(slow, max_batch_size=1, max_delay_seconds=0) as batcher:
            tasks = [asyncio.create_task(batcher([n])) for n in range(10)]
            await asyncio.sleep(0.02)
            for task in tasks[1:9]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert seen == [0, 9]

    asyncio.run(scenario())


def test_v3_ten_thousand_distinct_inputs_are_never_mixed_up():
    """Each gets its own answer, whatever the batches and whoever leaves; who left in time is not computed for."""
    draw = random.Random(0)
    computed = []

    def square(items):
        computed.extend(items)
        time.sleep(draw.random() * 0.002)
        return [item * item for item in items]

    async def ask(batcher, number):
        await asyncio.sleep(draw.random() * 0.5)
        items = [10 * number + extra for extra in range(draw.randrange(1, 4))]
        return items, await batcher(items)

    async def scenario():
        async with batching(
            square, max_batch_size=32, max_delay_seconds=0.002, max_queue_size=40_000
        ) as batcher:
            tasks = [asyncio.create_task(ask(batcher, number)) for number in range(10_000)]
            await asyncio.sleep(0.2)
            gone = draw.sample(tasks, 1000)
            for task in gone:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(scenario())
    answered = [result for result in results if not isinstance(result, BaseException)]
    assert len(answered) >= 9000
    assert all(found == [item * item for item in items] for items, found in answered)
    assert all(
        isinstance(result, asyncio.CancelledError) for result in results if isinstance(result, BaseException)
    )
    assert len(computed) == len(set(computed))
    asked_and_answered = {item for items, _ in answered for item in items}
    assert len(set(computed) - asked_and_answered) < 2000
