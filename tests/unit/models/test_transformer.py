"""Transformer blocks: activation, attention and output index."""

import pytest
import torch
from torch.nn import functional as F

from zebra.config.transformer import TransformerConfig
from zebra.models.transformer import Transformer, dot_product_attention, quick_gelu

TOWER = TransformerConfig(width=32, layers=3, heads=4)


def make_transformer():
    torch.manual_seed(0)
    return Transformer(TOWER).double()


def gradients(tower, result):
    tower.zero_grad()
    (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in tower.named_parameters()}


def test_quick_gelu_is_bit_identical_to_the_published_formula():
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.linspace(-30, 30, 10_001, dtype=dtype)
        assert torch.equal(quick_gelu(x), x * torch.sigmoid(1.702 * x))


def test_quick_gelu_has_the_derivative_of_its_formula():
    x = torch.linspace(-6, 6, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quick_gelu, x)


def test_quick_gelu_saves_only_its_input():
    saved = []
    x = torch.randn(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        quick_gelu(x * 1)
    assert [tensor.numel() for tensor in saved] == [1000]


def test_bf16_attention_on_a_cpu_is_fp32_attention_rounded_once():
    query, key, value = torch.randn(3, 2, 4, 9, 8, dtype=torch.bfloat16)
    causal_mask = torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = dot_product_attention(query, key, value, causal_mask)
    assert torch.equal(result, exact.to(torch.bfloat16))


@pytest.mark.parametrize("output_index", [(slice(None), 0), (slice(None), -1), ...])
def test_an_output_index_gives_the_states_and_gradients_of_a_full_pass(output_index):
    tower = make_transformer()
    x = torch.randn(3, 5, 32, dtype=torch.float64)
    expected, result = tower(x)[output_index], tower(x, output_index=output_index)
    assert torch.allclose(result, expected, rtol=0, atol=1e-12)
    expected_gradients = gradients(tower, expected)
    for name, gradient in gradients(tower, result).items():
        assert torch.allclose(gradient, expected_gradients[name], rtol=1e-12, atol=1e-12), name


def test_the_last_block_computes_only_the_indexed_tokens():
    tower = make_transformer()
    rows = []
    *_, last = tower.blocks()
    last.mlp.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape))
    tower(torch.randn(3, 5, 32, dtype=torch.float64), output_index=(slice(None), 0))
    assert rows == [(3, 32)]
