"""The model behind its queues answers as it does alone."""

import asyncio
import random

import pytest
import torch

from zebra.config.serve import BatchingConfig
from zebra.errors import BadSample
from zebra.serve.encoder import BatchedEncoder
from zebra.serve.metrics import Metrics

from .conftest import Here, encoded


def encoding(clip, scenario, **settings):
    """Run a scenario with an encoder."""

    async def run():
        async with (
            Here(lambda: clip) as model,
            BatchedEncoder(model, BatchingConfig(**settings), Metrics()) as encoder,
        ):
            return await scenario(encoder)

    return asyncio.run(run())


def test_v3_ten_thousand_texts_at_once_get_the_vector_each_has_alone(clip):
    """Cosine of 1 − 1e-6 or more to the answer without company; a tenth of the clients leave."""
    draw = random.Random(0)
    texts = [f"horse {number} {'is here ' * (number % 2)}" for number in range(10_000)]

    async def ask(encoder, text):
        await asyncio.sleep(draw.random())
        [found] = await encoder.encode_texts([text])
        return found.vector_E

    async def scenario(encoder):
        tasks = [asyncio.create_task(ask(encoder, text)) for text in texts]
        await asyncio.sleep(0.5)
        for task in draw.sample(tasks, 1000):
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = encoding(clip, scenario, max_queue_size=10_000)
    answered = [number for number, vector in enumerate(found) if isinstance(vector, torch.Tensor)]
    assert len(answered) >= 9000
    vectors = torch.stack([found[number] for number in answered])
    together = clip.encode_texts([texts[number] for number in answered])
    assert float((vectors * together).sum(1).min()) >= 1 - 1e-6
    for number in draw.sample(answered, 500):
        assert float(found[number] @ clip.encode_texts([texts[number]])[0]) >= 1 - 1e-6
    nearest = (vectors[:500] @ together.T).argmax(1)
    assert torch.allclose(together[nearest], together[:500], atol=1e-6)  # and is nobody else's


def test_v3_pictures_at_once_get_the_vector_each_has_alone(clip):
    pictures = [encoded(number, (40 + number % 7, 40)) for number in range(100)]

    async def scenario(encoder):
        return await asyncio.gather(*(encoder.encode_image(data, "one") for data in pictures))

    found = torch.stack(encoding(clip, scenario))
    alone = torch.cat([clip.encode_images([data]) for data in pictures])
    assert float((found * alone).sum(1).min()) >= 1 - 1e-6


def test_a_bad_picture_is_named_and_costs_nobody_else_anything(clip):
    async def scenario(encoder):
        calls = [
            encoder.encode_image(encoded(1), "one"),
            encoder.encode_image(b"\xff\xd8\xff nothing", "two"),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    good, bad = encoding(clip, scenario)
    assert isinstance(good, torch.Tensor)
    assert isinstance(bad, BadSample)
    assert str(bad).startswith("two: ")


@pytest.mark.parametrize("size", [1, 7])
def test_heads_are_those_of_the_model(clip, size):
    labels = [f"animal {number}" for number in range(300)]

    async def scenario(encoder):
        return [await encoder.build_head(labels, ["a {}.", "one {}."]) for _ in range(2)]

    first, again = encoding(clip, scenario, max_batch_size=size)
    assert again is first
    assert torch.allclose(first.vectors_CE, clip.class_vectors(labels, ["a {}.", "one {}."]), atol=1e-6)
    assert first.num_truncated == 0
