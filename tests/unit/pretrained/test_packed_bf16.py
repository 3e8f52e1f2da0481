"""Packed bf16 weights give the products of plain ones to the last bit; any other use of them is refused."""

import pytest
import torch
from torch.nn import functional as F

from zebra.models.transformer import ACTIVATION_FUNCTIONS, MLP
from zebra.pretrained.linear_layers import InferenceMLP
from zebra.pretrained.packed_bf16 import PackedWeight, pack_bf16_weights

from ...tiny_model import build_tiny_model

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="oneDNN has no bf16 products on this processor",
)


def random_tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 33), (100, 3), (65, 128), (96, 64)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_equal_those_of_plain_weights(outputs, inputs, has_bias):
    weight = random_tensor(outputs, inputs)
    bias = random_tensor(outputs, seed=1).bfloat16() if has_bias else None
    packed = PackedWeight.from_float(weight)
    for tokens in (1, 2, 16, 70):
        x = random_tensor(tokens, inputs, seed=tokens).bfloat16()
        assert torch.equal(F.linear(x, packed, bias), F.linear(x, weight.bfloat16(), bias))


def test_tokens_may_have_any_shape_and_order_in_memory():
    weight = random_tensor(24, 16)
    packed = PackedWeight.from_float(weight)
    x = random_tensor(3, 5, 16).bfloat16()
    for tokens in (x, x.transpose(0, 1), x[:, 0], x[:0], x[0, 0]):
        product = F.linear(tokens, packed)
        assert torch.equal(product, F.linear(tokens, weight.bfloat16()))
        assert product.shape == (*tokens.shape[:-1], 24)


def test_tokens_have_the_gradient_of_plain_weights():
    weight, x = random_tensor(24, 16), random_tensor(5, 16).bfloat16().requires_grad_()
    (expected,) = torch.autograd.grad(F.linear(x, weight.bfloat16()).sum(), x)
    (actual,) = torch.autograd.grad(F.linear(x, PackedWeight.from_float(weight)).sum(), x)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("use", [torch.relu, lambda weight: torch.ones(2, 4) @ weight])
def test_another_use_of_packed_weights_is_refused(use):
    with pytest.raises(TypeError):
        use(PackedWeight.from_float(random_tensor(4, 4)))


@pytest.mark.parametrize("activation", ACTIVATION_FUNCTIONS)
def test_an_mlp_in_blocks_is_near_that_of_fp32(activation):
    torch.manual_seed(0)
    mlp = MLP(32, 128, activation).requires_grad_(False)
    x = random_tensor(2, 5, 32)
    packed = InferenceMLP(mlp, PackedWeight.from_float, block_size=4).bfloat16()
    expected, actual = mlp(x), packed(x.bfloat16()).float()
    assert ((actual - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 0.02


@pytest.mark.parametrize("kind", ["vit", "naflex"])
def test_every_linear_layer_of_the_blocks_is_packed(kind):
    tower = build_tiny_model(kind).model.visual.requires_grad_(False)
    pack_bf16_weights(tower)
    for block in tower.transformer.blocks():
        assert isinstance(block.attn.in_proj_weight, PackedWeight)
        assert isinstance(block.attn.out_proj.weight, PackedWeight)
        assert isinstance(block.mlp, InferenceMLP)


@pytest.mark.parametrize(("instructions", "is_packed"), [({}, False), ({"avx512_bf16": True}, True)])
def test_weights_are_packed_only_for_instructions_that_multiply_bf16(instructions, is_packed, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    cast = build_tiny_model().to_precision("bf16")
    weight = cast.model.visual.transformer.resblocks[0].attn.in_proj_weight
    assert isinstance(weight, PackedWeight) == is_packed
