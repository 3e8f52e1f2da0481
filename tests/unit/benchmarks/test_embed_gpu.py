"""The GPU benchmark of embedding at toy size, which also runs without a GPU."""

import argparse

import pytest
import torch

ARGS = {"device": "cpu", "quick": True, "images": 4, "batch_size": 2, "rounds": 1}


@pytest.fixture
def embed_gpu(script):
    return script("embed_gpu")


def test_a_run_on_the_cpu_says_that_nothing_was_measured(embed_gpu, monkeypatch):
    monkeypatch.setattr(embed_gpu.importlib.util, "find_spec", lambda name: object() if name == "zebra" else None)
    row = embed_gpu.measure(argparse.Namespace(**ARGS, libraries=["zebra", "open_clip"]))
    assert "not measured" in row["device"]
    assert row["open_clip"] == "not installed"
    assert row["zebra"]["min_cosine"] == pytest.approx(1)
    assert all(row["zebra"][f"{work}_per_second"] > 0 for work in ("tower", "images", "texts"))


def test_the_faster_setting_counts_in_each_kind_of_work(embed_gpu):
    eager = {"settings": ["eager"], "images_per_second": 5, "texts_per_second": 9, "min_cosine": 0.99, "peak_mb": 7}
    compiled = {"settings": ["compiled"], "images_per_second": 6, "texts_per_second": 8, "min_cosine": 1, "peak_mb": 8}
    assert embed_gpu.combine(embed_gpu.combine(None, eager), compiled) == {
        "settings": ["eager", "compiled"],
        "images_per_second": 6,
        "texts_per_second": 9,
        "min_cosine": 0.99,
        "peak_mb": 7,
    }


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_gpus_without_bf16_compute_in_fp16(embed_gpu, monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert embed_gpu.best_dtype(torch.device("cuda")) is dtype
