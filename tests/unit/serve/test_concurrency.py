"""Weights and unsent bytes: order, bounds, and nothing lost when a holder is canceled."""

import asyncio

import pytest

from zebra.serve.concurrency import ConcurrencyLimit, WeightLimit


def test_weights_are_admitted_in_order_up_to_the_maximum():
    async def scenario():
        limit, running, peak = WeightLimit(10), 0, 0
        order = []

        async def hold(number, weight):
            nonlocal running, peak
            async with limit.hold(weight):
                order.append(number)
                running += weight
                peak = max(peak, running)
                await asyncio.sleep(0)
                running -= weight

        await asyncio.gather(*(hold(number, weight) for number, weight in enumerate([6, 4, 5, 5, 1, 10, 1, 3])))
        return order, peak

    assert asyncio.run(scenario()) == (list(range(8)), 10)


def test_a_weight_above_the_maximum_is_admitted_alone():
    async def scenario():
        limit = WeightLimit(10)
        async with limit.hold(25):
            other = asyncio.create_task(enter(limit, 1))
            await asyncio.sleep(0)
            assert not other.done()
        await asyncio.wait_for(other, 5)

    asyncio.run(scenario())


async def enter(limit, weight):
    async with limit.hold(weight):
        pass


@pytest.mark.parametrize("is_admitted", [False, True])
def test_a_canceled_holder_leaves_its_place_to_others(is_admitted):
    async def scenario():
        limit = WeightLimit(10)
        async with limit.hold(10):
            canceled, other = (asyncio.create_task(enter(limit, weight)) for weight in (10, 5))
            await asyncio.sleep(0)
            if not is_admitted:
                canceled.cancel()
        canceled.cancel()  # after it was admitted, before it runs
        await asyncio.wait_for(other, 5)
        await asyncio.wait_for(enter(limit, 10), 5)
        assert (await asyncio.gather(canceled, return_exceptions=True))[0].__class__ is asyncio.CancelledError

    asyncio.run(scenario())


def test_responses_wait_until_clients_have_read_enough():
    async def scenario():
        limit = ConcurrencyLimit(10, 100)
        limit.add_unsent_bytes(99)
        assert not limit.is_full
        limit.add_unsent_bytes(1)
        assert limit.is_full
        waiting = asyncio.create_task(limit.wait_for_readers())
        await asyncio.sleep(0)
        assert not waiting.done()
        limit.add_unsent_bytes(-1)
        await asyncio.wait_for(waiting, 5)
        assert not limit.is_full

    asyncio.run(scenario())
