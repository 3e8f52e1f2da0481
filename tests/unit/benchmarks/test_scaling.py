"""The scaling estimate: docs/scaling.md contains its output, and its lines depend on the cluster."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.models import CLIP

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"
TEXT = TextConfig(width=64, layers=3, heads=1, vocab_size=100, context_length=20)


@pytest.fixture
def scaling(script):
    return script("scaling")


def lines(scaling, name="ViT-B/32", **changes):
    cluster = replace(scaling.Cluster(), **changes)
    return dict(scaling.estimate(name, cluster, scaling.read_measurements()))


def number(text):
    return float(text.strip("*%").replace(",", ""))


def test_the_page_contains_the_output_of_the_script(scaling):
    _, _, output = PAGE.read_text(encoding="utf-8").partition("<!-- benchmarks/scaling.py -->\n\n")
    output, _, _ = output.partition("\n\n<!-- end -->")
    assert output == scaling.report(scaling.Cluster()), "put the output of benchmarks/scaling.py into docs/scaling.md"


def test_gpu_hours_do_not_depend_on_the_number_of_gpus_but_hours_do(scaling):
    few, many = lines(scaling, gpus=64), lines(scaling, gpus=128)
    assert number(many["**GPU-hours**"]) == pytest.approx(number(few["**GPU-hours**"]), rel=0.02)
    assert number(many["**hours, matrix products only**"]) == pytest.approx(
        number(few["**hours, matrix products only**"]) / 2, rel=0.03
    )


def test_one_gpu_sends_nothing(scaling):
    estimate = lines(scaling, gpus=1, gpus_per_node=1, batch=1024)
    assert [estimate[line] for line in ("texts gathered, MB", "gradients of weights reduced, MB")] == ["0", "0"]
    assert estimate["share of a step without overlap"] == "0%"


def test_less_memory_requires_recomputation(scaling):
    assert lines(scaling, gpu_memory_gb=80)["recompute blocks?"] == "no"
    assert lines(scaling, gpu_memory_gb=10)["recompute blocks?"] == "yes"


@pytest.mark.parametrize(
    "vision",
    [
        VisionTransformerConfig(width=64, layers=6, heads=1, patch_size=16),
        ResNetConfig(width=16, layers=(2, 2, 3, 2), heads=8),
    ],
    ids=lambda vision: vision.kind,
)
def test_activations_are_about_what_autograd_keeps(scaling, vision):
    """In fp32, where every element has four bytes; the estimate ignores small tensors."""
    config = ModelConfig(embed_dim=64, image_size=128, vision=vision, text=TEXT)
    images = torch.randn(8, 3, 128, 128)
    saved = {}

    def save(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    visual = CLIP(config).train().visual
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        visual(images)
    saved_bytes = (
        sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) - images.untyped_storage().nbytes()
    )
    if vision.kind == "vit":
        tokens = 8 * 65
        estimated = tokens * vision.layers * scaling.block_bytes(vision, number=4)
    else:
        estimated = 2 * scaling.activation_bytes(
            replace(config, text=replace(TEXT, layers=1)), scaling.text_layout(config, 1), 8, recomputed=True
        )
    assert estimated == pytest.approx(saved_bytes, rel=0.15)
