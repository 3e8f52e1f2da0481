"""LoRA adapters: no change at initialization, gradients, and merging."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from zebra.config.image_towers import ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig, TextConfig
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.lora import apply_lora, get_adapters, merge_adapters

BOTH = ("visual", "text")
BLOCK = ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj")
SIZES = {"width": 32, "layers": 2, "heads": 2}
TEXT = TextConfig(**SIZES, vocab_size=60, context_length=8)
MODELS = {
    "vit": ModelConfig(embed_dim=16, image_size=16, vision=VisionTransformerConfig(**SIZES, patch_size=8), text=TEXT),
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


def make_model(kind):
    torch.manual_seed(0)
    return CLIP(MODELS[kind]).eval()


def make_inputs(model):
    generator = torch.Generator().manual_seed(1)
    size = model.config.image_size
    return torch.randn(4, 3, size, size, generator=generator), torch.randint(1, 60, (4, 8), generator=generator)


def randomize_adapters(model, scale=0.3):
    """Set every B to random values, as after training."""
    with torch.no_grad():
        for adapter in get_adapters(model).values():
            adapter.B.normal_(std=scale)
    return model


def max_difference(first, second):
    return max(float((a - b).abs().max().detach()) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_adapters_do_not_change_the_function_at_initialization(kind):
    model = make_model(kind)
    before = model(*make_inputs(model))
    apply_lora(model, BOTH, rank=4, alpha=16, target_modules=BLOCK)
    assert all(torch.equal(a, b) for a, b in zip(before, model(*make_inputs(model)), strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_a_merged_model_is_a_plain_model_of_the_same_function(kind):
    model = make_model(kind)
    original = make_model(kind)
    apply_lora(model, BOTH, rank=4, alpha=16, target_modules=BLOCK)
    randomize_adapters(model)
    merged = merge_adapters(model)
    assert list(merged.state_dict()) == list(original.state_dict())
    assert [type(module) for module in merged.modules()] == [type(module) for module in original.modules()]
    assert max_difference(merged(*make_inputs(model)), model(*make_inputs(model))) < 1e-6
    assert max_difference(merged(*make_inputs(model)), original(*make_inputs(model))) > 1e-2
    assert get_adapters(model)  # the adapted model is unchanged


@pytest.mark.parametrize("layer", BLOCK)
def test_an_adapter_of_each_layer_changes_the_model_and_merges(layer):
    model, before = make_model("vit"), make_model("vit")
    apply_lora(model, BOTH, rank=2, alpha=4, target_modules=(layer,))
    randomize_adapters(model)
    assert len(get_adapters(model)) == 4
    assert max_difference(model(*make_inputs(model)), before(*make_inputs(model))) > 1e-4
    assert max_difference(merge_adapters(model)(*make_inputs(model)), model(*make_inputs(model))) < 1e-6


def test_gradients_are_those_of_the_definition():
    """Compare with the gradients of W' = W + alpha/rank · B A."""
    model = make_model("vit").double()
    plain = copy.deepcopy(model)
    apply_lora(model, BOTH, rank=3, alpha=6, target_modules=BLOCK)
    randomize_adapters(model.double())
    pixels, tokens = make_inputs(model)

    def objective(vectors):
        return (vectors[0] @ vectors[1].T).diagonal().sum()

    objective(model(pixels.double(), tokens)).backward()
    pairs = {
        name: (adapter.A.detach().requires_grad_(), adapter.B.detach().requires_grad_())
        for name, adapter in get_adapters(model).items()
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
    objective(functional_call(plain, weights, (pixels.double(), tokens))).backward()
    for name, adapter in get_adapters(model).items():
        for parameter, expected in zip((adapter.A, adapter.B), pairs[name], strict=True):
            assert expected.grad.abs().max() > 1e-6
            assert torch.allclose(parameter.grad, expected.grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("towers", [BOTH, ("text",), ("visual",)])
def test_only_adapters_and_the_logit_scale_are_trainable(towers):
    model = make_model("vit")
    names = list(model.state_dict())
    apply_lora(model, towers, rank=4, alpha=16, target_modules=("q_proj", "c_fc"))
    assert [name for name in model.state_dict() if name in names] == names
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {"logit_scale"} | {name for name, _ in model.named_parameters() if ".lora." in name}
    assert {name.partition(".")[0] for name in get_adapters(model)} == set(towers)
    assert "text.transformer.resblocks.1.mlp.c_fc.lora.A" in trainable or "text" not in towers
    assert "visual.transformer.resblocks.0.attn.lora.q_proj.B" in trainable or "visual" not in towers


def test_single_layers_are_selected_by_name():
    model = make_model("resnet")
    apply_lora(
        model, BOTH, rank=2, alpha=1, target_modules=("attnpool.c_proj", "text.transformer.resblocks.1.attn.v_proj")
    )
    assert list(get_adapters(model)) == ["visual.attnpool.c_proj", "text.transformer.resblocks.1.attn.v_proj"]


@pytest.mark.parametrize(
    ("towers", "layer", "closest"),
    [
        (BOTH, "qproj", "q_proj"),
        (BOTH, "fc1", "c_fc"),
        (BOTH, "proj", "q_proj|v_proj|k_proj|c_proj"),  # a part of a name is no match
        (BOTH, "text.transformer.resblocks.2.attn.q_proj", r"text.transformer.resblocks.[01].attn.q_proj"),
        (("text",), "attnpool.q_proj", ".*q_proj"),
    ],
)
def test_an_unknown_layer_is_refused_with_the_closest_name(towers, layer, closest):
    model = make_model("resnet")
    with pytest.raises(ConfigError, match=f"has '{layer}'.*closest: '({closest})'.*Use c_fc, c_proj, k_proj"):
        apply_lora(model, towers, rank=2, alpha=1, target_modules=("q_proj", layer))
    assert not get_adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())  # refused before any change


def test_a_rank_above_that_of_the_weight_is_refused():
    with pytest.raises(ConfigError, match=r"lora_rank is 33, but .* is a matrix of 32 × 32"):
        apply_lora(make_model("vit"), BOTH, rank=33, alpha=1, target_modules=("q_proj",))


def test_an_adapter_computes_the_formula_of_the_paper():
    model = make_model("vit")
    apply_lora(model, BOTH, rank=4, alpha=8, target_modules=("c_fc",))
    layer = randomize_adapters(model).visual.transformer.resblocks[0].mlp.c_fc
    x = torch.randn(5, 32)
    expected = nn.functional.linear(x, layer.weight, layer.bias) + 8 / 4 * (layer.lora.B @ (layer.lora.A @ x.T)).T
    assert torch.allclose(layer(x), expected, atol=1e-6)
