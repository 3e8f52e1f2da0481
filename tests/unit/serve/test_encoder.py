"""Tests of batched encoding: results equal those of the model without batching."""

import asyncio
import random

import numpy as np
import pytest
import torch

from zebra.config.serve import BatchingConfig
from zebra.errors import BadSample
from zebra.serve.encoder import BatchedEncoder
from zebra.serve.metrics import Metrics
from zebra.serve.request_images import ImageFile, open_image_file

from .conftest import InProcessClient, noise_image


def run_with_encoder(clip, scenario, **settings):
    """Run a scenario with an encoder."""

    async def run():
        async with (
            InProcessClient(lambda: clip) as model,
            BatchedEncoder(model, BatchingConfig(**settings), Metrics()) as encoder,
        ):
            return await scenario(encoder)

    return asyncio.run(run())


def test_v3_ten_thousand_concurrent_texts_get_the_vector_that_each_gets_alone(clip):
    """Cosine of 1 − 1e-6 or more to the vector without other requests; a tenth of the clients disconnect."""
    rng = random.Random(0)
    texts = [f"horse {number} {'is here ' * (number % 2)}" for number in range(10_000)]

    async def encode(encoder, text):
        await asyncio.sleep(rng.random())
        [embedding] = await encoder.encode_texts([text])
        return embedding.vector_E

    async def scenario(encoder):
        tasks = [asyncio.create_task(encode(encoder, text)) for text in texts]
        await asyncio.sleep(0.5)
        for task in rng.sample(tasks, 1000):
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run_with_encoder(clip, scenario, max_queue_size=10_000)
    answered = [index for index, vector in enumerate(results) if isinstance(vector, np.ndarray)]
    assert len(answered) >= 9000
    vectors = torch.from_numpy(np.stack([results[index] for index in answered]))
    expected = clip.encode_texts([texts[index] for index in answered])
    assert float((vectors * expected).sum(1).min()) >= 1 - 1e-6
    for index in rng.sample(answered, 500):
        assert float(results[index] @ clip.encode_texts([texts[index]])[0].numpy()) >= 1 - 1e-6
    nearest = (vectors[:500] @ expected.T).argmax(1)
    assert torch.allclose(expected[nearest], expected[:500], atol=1e-6)  # no vector belongs to another text


def test_v3_concurrent_images_get_the_vector_that_each_gets_alone(clip):
    images = [noise_image(number, (40 + number % 7, 40)) for number in range(100)]

    async def scenario(encoder):
        return await asyncio.gather(*(encoder.encode_image_files([open_image_file(data, "one")]) for data in images))

    vectors = torch.from_numpy(np.stack([vector_E for [vector_E] in run_with_encoder(clip, scenario)]))
    expected = torch.cat([clip.encode_images([data]) for data in images])
    assert float((vectors * expected).sum(1).min()) >= 1 - 1e-6


def test_a_bad_image_is_named_and_does_not_affect_others(clip):
    async def scenario(encoder):
        files = [ImageFile(noise_image(1), "one", 1200), ImageFile(b"\xff\xd8\xff nothing", "two", 1200)]
        return await asyncio.gather(*(encoder.encode_image_files([file]) for file in files), return_exceptions=True)

    [good], bad = run_with_encoder(clip, scenario)
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, BadSample)
    assert str(bad).startswith("two: ")


@pytest.mark.parametrize("batch_size", [1, 7])
def test_heads_equal_those_of_the_model_and_are_cached(clip, batch_size):
    labels = [f"animal {number}" for number in range(300)]

    async def scenario(encoder):
        return [await encoder.build_head(labels, ["a {}.", "one {}."]) for _ in range(2)]

    first, second = run_with_encoder(clip, scenario, max_batch_size=batch_size)
    assert second is first
    assert np.allclose(first.vectors_CE, clip.class_vectors(labels, ["a {}.", "one {}."]), atol=1e-6)
    assert first.num_truncated == 0
