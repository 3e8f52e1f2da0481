"""Tests of the model runner: number of threads, decoding, cached vectors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from zebra.errors import BadSample
from zebra.serve import model_runner
from zebra.serve.limits import MAX_PIXELS
from zebra.serve.model_client import DecodedImage
from zebra.serve.model_runner import ModelRunner

from .conftest import noise_image


@pytest.mark.parametrize(("max_seconds", "threads"), [(60.0, 1), (0.0, 2)])
def test_a_fast_model_gets_one_thread_and_a_slow_one_keeps_its_threads(clip, monkeypatch, max_seconds, threads):
    monkeypatch.setattr(model_runner, "SINGLE_THREAD_MAX_SECONDS", max_seconds)

    def threads_after_warm_up():
        torch.set_num_threads(2)
        ModelRunner(clip).warm_up(4)
        return torch.get_num_threads()

    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(threads_after_warm_up).result() == threads
    torch.set_num_threads(before)


def test_an_image_that_is_larger_than_its_header_says_is_refused(clip):
    with pytest.raises(BadSample, match=r"one: too many pixels \(40 × 30, more than 1,199\)"):
        ModelRunner(clip).decode_image(noise_image(1), "one", 1199)


def test_the_vector_of_an_image_is_cached_by_its_bytes(clip):
    data = noise_image(1)
    runner = ModelRunner(clip)
    [vector_E] = runner.encode_images([runner.decode_image(data, "one", MAX_PIXELS)])
    assert runner.decode_image(data, "again", MAX_PIXELS) is vector_E
    assert np.allclose(vector_E, clip.encode_images([data])[0], atol=1e-6)
    assert isinstance(runner.decode_image(noise_image(2), "another", MAX_PIXELS), DecodedImage)
