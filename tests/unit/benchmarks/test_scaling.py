"""The plan on paper: the page shows what the script prints, and its lines follow from what is given."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zebra.config.model import ModelConfig, ResNetConfig, TextConfig, VisionTransformerConfig
from zebra.models import CLIP

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"
TEXT = TextConfig(width=64, layers=3, heads=1, vocab_size=100, context_length=20)


@pytest.fixture
def scaling(script):
    return script("scaling")


def lines(scaling, name="ViT-B/32", **changes):
    cluster = replace(scaling.Cluster(), **changes)
    return dict(scaling.plan(name, cluster, scaling.measured()))


def number(text):
    return float(text.strip("*%").replace(",", ""))


def test_the_page_shows_what_the_script_prints(scaling):
    _, _, shown = PAGE.read_text(encoding="utf-8").partition("<!-- benchmarks/scaling.py -->\n\n")
    shown, _, _ = shown.partition("\n\n<!-- end -->")
    assert shown == scaling.report(scaling.Cluster()), "put the output of benchmarks/scaling.py into docs/scaling.md"


def test_gpu_hours_do_not_depend_on_the_number_of_gpus_but_hours_do(scaling):
    few, many = lines(scaling, gpus=64), lines(scaling, gpus=128)
    assert number(many["**GPU-hours**"]) == pytest.approx(number(few["**GPU-hours**"]), rel=0.02)
    assert number(many["**hours, products alone**"]) == pytest.approx(
        number(few["**hours, products alone**"]) / 2, rel=0.03
    )


def test_one_gpu_sends_nothing(scaling):
    alone = lines(scaling, gpus=1, gpus_per_node=1, batch=1024)
    assert [alone[what] for what in ("texts gathered, MB", "weights' gradients reduced, MB")] == ["0", "0"]
    assert alone["share of a step, if nothing overlaps"] == "0%"


def test_less_memory_means_recomputing(scaling):
    assert lines(scaling, gpu_memory_gb=80)["must blocks be recomputed?"] == "no"
    assert lines(scaling, gpu_memory_gb=10)["must blocks be recomputed?"] == "yes"


@pytest.mark.parametrize(
    "vision",
    [
        VisionTransformerConfig(width=64, layers=6, heads=1, patch_size=16),
        ResNetConfig(width=16, layers=(2, 2, 3, 2), heads=8),
    ],
    ids=lambda vision: vision.kind,
)
def test_activations_are_about_what_autograd_keeps(scaling, vision):
    """In fp32, where every number has four bytes; the paper's arithmetic leaves out what is small."""
    config = ModelConfig(embed_dim=64, image_size=128, vision=vision, text=TEXT)
    images = torch.randn(8, 3, 128, 128)
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    visual = CLIP(config).train().visual
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        visual(images)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) - images.untyped_storage().nbytes()
    if vision.kind == "vit":
        tokens = 8 * 65
        told = tokens * vision.layers * scaling.block_bytes(vision, number=4)
    else:
        told = 2 * scaling.activation_bytes(
            replace(config, text=replace(TEXT, layers=1)), scaling.texts_of(config, 1), 8, recomputed=True
        )
    assert told == pytest.approx(held, rel=0.15)
