"""Low-rank additions: the same function at first, few numbers that learn, and one ordinary model in the end."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from zebra.config.model import (
    ModelConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionTransformerConfig,
)
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.lora import apply_lora, get_adapters, merge_adapters

BOTH = ("visual", "text")
BLOCK = ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj")
SIZES = {"width": 32, "layers": 2, "heads": 2}
TEXT = TextConfig(**SIZES, vocab_size=60, context_length=8)
MODELS = {
    "vit": ModelConfig(
        embed_dim=16, image_size=16, vision=VisionTransformerConfig(**SIZES, patch_size=8), text=TEXT
    ),
    "resnet": ModelConfig(
        embed_dim=16, image_size=32, vision=ResNetConfig(width=4, layers=(1, 1, 1, 1), heads=4), text=TEXT
    ),
    "siglip": ModelConfig(
        embed_dim=32,
        image_size=16,
        vision=SiglipVisionConfig(**SIZES, patch_size=8),
        text=SiglipTextConfig(**SIZES, vocab_size=60, context_length=8),
        logit_bias=True,
    ),
}


def make(kind):
    torch.manual_seed(0)
    return CLIP(MODELS[kind]).eval()


def inputs(model):
    generator = torch.Generator().manual_seed(1)
    size = model.config.image_size
    return torch.randn(4, 3, size, size, generator=generator), torch.randint(
        1, 60, (4, 8), generator=generator
    )


def learned(model, scale=0.3):
    """Give every B numbers, as if it had learned."""
    with torch.no_grad():
        for low_rank in get_adapters(model).values():
            low_rank.B.normal_(std=scale)
    return model


def far(one, other):
    return max(float((a - b).abs().max().detach()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_an_adapted_model_starts_as_the_function_it_was(kind):
    model = make(kind)
    before = model(*inputs(model))
    apply_lora(model, BOTH, rank=4, alpha=16, target_modules=BLOCK)
    assert all(torch.equal(a, b) for a, b in zip(before, model(*inputs(model)), strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_a_merged_model_is_an_ordinary_one_and_the_same_function(kind):
    model = make(kind)
    ordinary = make(kind)
    apply_lora(model, BOTH, rank=4, alpha=16, target_modules=BLOCK)
    learned(model)
    plain = merge_adapters(model)
    assert list(plain.state_dict()) == list(ordinary.state_dict())
    assert [type(module) for module in plain.modules()] == [type(module) for module in ordinary.modules()]
    assert far(plain(*inputs(model)), model(*inputs(model))) < 1e-6
    assert far(plain(*inputs(model)), ordinary(*inputs(model))) > 1e-2
    assert get_adapters(model)  # the adapted one stays what it is


@pytest.mark.parametrize("layer", BLOCK)
def test_each_layer_moves_the_model_and_merges(layer):
    model, before = make("vit"), make("vit")
    apply_lora(model, BOTH, rank=2, alpha=4, target_modules=(layer,))
    learned(model)
    assert len(get_adapters(model)) == 4
    assert far(model(*inputs(model)), before(*inputs(model))) > 1e-4
    assert far(merge_adapters(model)(*inputs(model)), model(*inputs(model))) < 1e-6


def test_gradients_are_those_of_weights_with_the_product_added():
    """The definition, W' = W + alpha/rank · B A, put through torch's own gradients."""
    model = make("vit").double()
    plain = copy.deepcopy(model)
    apply_lora(model, BOTH, rank=3, alpha=6, target_modules=BLOCK)
    learned(model.double())
    pixels, tokens = inputs(model)

    def value(vectors):
        return (vectors[0] @ vectors[1].T).diagonal().sum()

    value(model(pixels.double(), tokens)).backward()
    pairs = {
        name: (low_rank.A.detach().requires_grad_(), low_rank.B.detach().requires_grad_())
        for name, low_rank in get_adapters(model).items()
    }
    weights = dict(plain.named_parameters())
    for name in {name.rpartition(".")[0] for name in pairs if name.endswith("q_proj")}:
        stacked = torch.cat([pairs[f"{name}.{part}"][1] @ pairs[f"{name}.{part}"][0] for part in BLOCK[:3]])
        weights[f"{name}.in_proj_weight"] = weights[f"{name}.in_proj_weight"] + 2 * stacked
        weights[f"{name}.out_proj.weight"] = weights[f"{name}.out_proj.weight"] + 2 * (
            pairs[f"{name}.out_proj"][1] @ pairs[f"{name}.out_proj"][0]
        )
    for name, (A, B) in pairs.items():
        if ".mlp." in name:
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + 2 * B @ A
    value(functional_call(plain, weights, (pixels.double(), tokens))).backward()
    for name, low_rank in get_adapters(model).items():
        for mine, wanted in zip((low_rank.A, low_rank.B), pairs[name], strict=True):
            assert wanted.grad.abs().max() > 1e-6
            assert torch.allclose(mine.grad, wanted.grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("towers", [BOTH, ("text",), ("visual",)])
def test_only_additions_and_the_temperature_learn(towers):
    model = make("vit")
    names = list(model.state_dict())
    apply_lora(model, towers, rank=4, alpha=16, target_modules=("q_proj", "c_fc"))
    assert [name for name in model.state_dict() if name in names] == names
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {"logit_scale"} | {name for name, _ in model.named_parameters() if ".lora." in name}
    assert {name.partition(".")[0] for name in get_adapters(model)} == set(towers)
    assert "text.transformer.resblocks.1.mlp.c_fc.lora.A" in learns or "text" not in towers
    assert "visual.transformer.resblocks.0.attn.lora.q_proj.B" in learns or "visual" not in towers


def test_single_layers_are_chosen_by_name():
    model = make("resnet")
    apply_lora(
        model,
        BOTH,
        rank=2,
        alpha=1,
        target_modules=("attnpool.c_proj", "text.transformer.resblocks.1.attn.v_proj"),
    )
    assert list(get_adapters(model)) == ["visual.attnpool.c_proj", "text.transformer.resblocks.1.attn.v_proj"]


@pytest.mark.parametrize(
    ("towers", "layer", "nearest"),
    [
        (BOTH, "qproj", "q_proj"),
        (BOTH, "fc1", "c_fc"),
        (BOTH, "proj", "q_proj|v_proj|k_proj|c_proj"),  # a part of a word is no name
        (BOTH, "text.transformer.resblocks.2.attn.q_proj", r"text.transformer.resblocks.[01].attn.q_proj"),
        (("text",), "attnpool.q_proj", ".*q_proj"),
    ],
)
def test_a_layer_that_is_not_there_is_said_with_the_nearest_that_is(towers, layer, nearest):
    model = make("resnet")
    with pytest.raises(
        ConfigError, match=f"names '{layer}'.*the nearest is '({nearest})'.*There are c_fc, c_proj, k_proj"
    ):
        apply_lora(model, towers, rank=2, alpha=1, target_modules=("q_proj", layer))
    assert not get_adapters(model)
    assert all(
        parameter.requires_grad for parameter in model.parameters()
    )  # refused before anything is touched


def test_a_rank_that_saves_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"lora_rank is 33, but .* is a matrix of 32 × 32"):
        apply_lora(make("vit"), BOTH, rank=33, alpha=1, target_modules=("q_proj",))


def test_an_addition_is_that_of_the_paper():
    model = make("vit")
    apply_lora(model, BOTH, rank=4, alpha=8, target_modules=("c_fc",))
    layer = learned(model).visual.transformer.resblocks[0].mlp.c_fc
    x = torch.randn(5, 32)
    expected = (
        nn.functional.linear(x, layer.weight, layer.bias) + 8 / 4 * (layer.lora.B @ (layer.lora.A @ x.T)).T
    )
    assert torch.allclose(layer(x), expected, atol=1e-6)
