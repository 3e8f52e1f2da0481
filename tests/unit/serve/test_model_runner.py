"""Passes settle on their threads, decode what requests bring, and know a picture again."""

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from zebra.errors import BadSample
from zebra.serve import model_runner
from zebra.serve.model_runner import DecodedImage, ModelRunner

from .conftest import encoded


@pytest.mark.parametrize(("quick_seconds", "threads"), [(60.0, 1), (0.0, 2)])
def test_a_quick_model_is_left_to_one_thread_and_a_slow_one_is_not(clip, monkeypatch, quick_seconds, threads):
    monkeypatch.setattr(model_runner, "SINGLE_THREAD_MAX_SECONDS", quick_seconds)

    def settled():
        torch.set_num_threads(2)
        ModelRunner(clip).warm_up(4)
        return torch.get_num_threads()

    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as model:
        assert model.submit(settled).result() == threads
    torch.set_num_threads(before)


def test_a_picture_in_base64_is_the_picture(clip):
    data = encoded(1)
    ours = ModelRunner(clip)
    plain, packed = ours.decode_image(data, "one"), ours.decode_image(base64.b64encode(data).decode(), "one")
    assert isinstance(plain, DecodedImage)
    assert isinstance(packed, DecodedImage)
    assert plain.digest == packed.digest
    assert (plain.pixels_3HW == packed.pixels_3HW).all()
    with pytest.raises(BadSample, match=r"two: data is not base64 .*without a data: prefix"):
        ours.decode_image("data:image/png;base64,AAAA", "two")


def test_a_picture_that_was_embedded_is_known_by_its_bytes(clip):
    data = encoded(1)
    ours = ModelRunner(clip)
    [vector_E] = ours.encode_images([ours.decode_image(data, "one")])
    assert ours.decode_image(data, "again") is vector_E
    assert torch.allclose(vector_E, clip.encode_images([data])[0], atol=1e-6)
    assert isinstance(ours.decode_image(encoded(2), "another"), DecodedImage)
