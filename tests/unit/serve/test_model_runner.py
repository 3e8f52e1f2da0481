"""Tests of the model runner: number of threads, decoding, cached vectors."""

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from zebra.errors import BadSample
from zebra.serve import model_runner
from zebra.serve.model_runner import DecodedImage, ModelRunner

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


def test_an_image_in_base64_is_decoded_as_the_file(clip):
    data = noise_image(1)
    runner = ModelRunner(clip)
    plain, packed = (runner.decode_image(data, "one"), runner.decode_image(base64.b64encode(data).decode(), "one"))
    assert isinstance(plain, DecodedImage)
    assert isinstance(packed, DecodedImage)
    assert plain.digest == packed.digest
    assert (plain.pixels_3HW == packed.pixels_3HW).all()
    with pytest.raises(BadSample, match=r"two: data is not base64 .*without a data: prefix"):
        runner.decode_image("data:image/png;base64,AAAA", "two")


def test_the_vector_of_an_image_is_cached_by_its_bytes(clip):
    data = noise_image(1)
    runner = ModelRunner(clip)
    [vector_E] = runner.encode_images([runner.decode_image(data, "one")])
    assert runner.decode_image(data, "again") is vector_E
    assert torch.allclose(vector_E, clip.encode_images([data])[0], atol=1e-6)
    assert isinstance(runner.decode_image(noise_image(2), "another"), DecodedImage)
