"""The causal text tower against a reference implementation that computes all positions.

The reference uses only the weights: all positions, a causal mask, explicit attention heads.
"""

import copy

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from zebra.config.text_towers import TextConfig
from zebra.models.init import initialize_text
from zebra.models.text.causal import TextTransformer

CONTEXT, VOCAB_SIZE = 16, 600
END = VOCAB_SIZE - 1


def make_tower(layers: int = 2) -> TextTransformer:
    torch.manual_seed(0)
    config = TextConfig(width=32, layers=layers, heads=2, vocab_size=VOCAB_SIZE, context_length=CONTEXT)
    model = TextTransformer(config, 24)
    initialize_text(model)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # gains and biases start at 1 and 0, which would hide a missing one
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def make_texts(lengths: list[int]) -> Tensor:
    draw = torch.Generator().manual_seed(sum(lengths))
    tokens_BL = torch.randint(0, END, (len(lengths), CONTEXT), generator=draw)
    tokens_BL[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return tokens_BL


def reference(model: TextTransformer, tokens_BL: Tensor) -> Tensor:
    """Compute every position of every text."""
    B, L = tokens_BL.shape
    future_LL = torch.ones(L, L, dtype=torch.bool).triu(1)
    x_BLD = model.token_embedding(tokens_BL) + model.positional_embedding[:L]
    for block in model.transformer.blocks():
        qkv = block.ln_1(x_BLD) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        query, key, value = qkv.view(B, L, 3, block.attn.heads, -1).permute(2, 0, 3, 1, 4)
        scores_BHLL = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights_BHLL = scores_BHLL.masked_fill(future_LL, -torch.inf).softmax(dim=-1)
        x_BLD = x_BLD + block.attn.out_proj((weights_BHLL @ value).transpose(1, 2).reshape(B, L, -1))
        hidden = block.mlp.c_fc(block.ln_2(x_BLD))
        x_BLD = x_BLD + block.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))
    return (model.ln_final(x_BLD) @ model.text_projection)[torch.arange(B), tokens_BL.argmax(dim=1)]


def reference_in_groups(model: TextTransformer, tokens_BL: Tensor, size: int) -> Tensor:
    """Compute texts sorted by length in groups of `size`, so that each weight is used once per group."""
    end_B = tokens_BL.argmax(dim=1)
    order_B = end_B.argsort(stable=True)
    parts = [reference(model, tokens_BL[rows][:, : int(end_B[rows].max()) + 1]) for rows in order_B.split(size)]
    return torch.cat(parts)[order_B.argsort()]


def gradients(model: TextTransformer, vectors_BE: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a sum with a distinct weight per coordinate and text."""
    model.zero_grad()
    weights_BE = torch.linspace(-1, 2, vectors_BE.numel(), dtype=torch.float64).view_as(vectors_BE)
    (vectors_BE * weights_BE).sum().backward()
    return {name: parameter.grad.double().clone() for name, parameter in model.named_parameters()}


def relative_error(tensor: Tensor, expected: Tensor) -> float:
    return float((tensor - expected).detach().norm() / expected.detach().norm())


@given(st.lists(st.lists(st.integers(0, 1), max_size=CONTEXT - 1), min_size=1, max_size=24))
@example([[], [], [0]])
@example([[0, 1] * 5] * 4)
@example([[0] * length for length in range(CONTEXT)])
def test_common_prefixes_give_the_vectors_and_gradients_of_the_reference(prefixes):
    model, tokens_BL = make_tower().double(), torch.zeros(len(prefixes), CONTEXT, dtype=torch.int64)
    for row, tokens in zip(tokens_BL, prefixes, strict=True):
        row[: len(tokens) + 1] = torch.tensor([*tokens, END])
    result, expected = model(tokens_BL), reference(model, tokens_BL)
    assert relative_error(result, expected) < 1e-12
    expected_gradients = gradients(model, expected)
    for name, gradient in gradients(model, result).items():
        assert relative_error(gradient, expected_gradients[name]) < 1e-12, name


@given(st.lists(st.integers(2, CONTEXT), min_size=1, max_size=24))
@example([7])
@example([2] * 5)
@example([CONTEXT] * 3)
@example([9] * 33)
@example(list(range(2, CONTEXT + 1)))
@example([2, CONTEXT])
def test_any_lengths_give_the_vectors_and_gradients_of_the_reference(lengths):
    model, tokens_BL = make_tower().double(), make_texts(lengths)
    result, expected = model(tokens_BL), reference(model, tokens_BL)
    assert relative_error(result, expected) < 1e-12
    expected_gradients = gradients(model, expected)
    for name, gradient in gradients(model, result).items():
        assert relative_error(gradient, expected_gradients[name]) < 1e-12, name


def test_bf16_gradients_of_256_texts_are_as_exact_as_in_one_pass():
    """Autocast sums the gradients of a weight that is used several times in bf16; the tower uses it once.

    The bound is the error of all positions in one pass. Groups of 32 texts exceed it by a tenth.
    """
    model = make_tower()
    draw = torch.Generator().manual_seed(1)
    tokens_BL = make_texts(torch.randint(3, CONTEXT + 1, (256,), generator=draw).tolist())
    exact = copy.deepcopy(model).double()
    expected = gradients(exact, reference(exact, tokens_BL))

    def mean_error(encode) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors_BE = encode(model, tokens_BL)
        errors = [relative_error(gradient, expected[name]) for name, gradient in gradients(model, vectors_BE).items()]
        return sum(errors) / len(errors)

    bound = 1.04 * mean_error(reference)
    assert mean_error(lambda model, tokens: model(tokens)) < bound
    assert mean_error(lambda model, tokens: reference_in_groups(model, tokens, 32)) > bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_is_deterministic_and_ignores_padding(dtype):
    model, tokens_BL = make_tower(), make_texts([5, 3, 11, 8, 3, 12])
    padding_BL = torch.arange(CONTEXT) > tokens_BL.argmax(dim=1)[:, None]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16), torch.no_grad():
        vectors_BE = model(tokens_BL)
        assert torch.equal(model(tokens_BL), vectors_BE)
        assert torch.equal(model(tokens_BL[:, :12]), vectors_BE)
        assert torch.equal(model(tokens_BL.masked_fill(padding_BL, 7)), vectors_BE)


def test_other_texts_of_a_batch_change_a_text_only_by_rounding():
    """Matrix products with more rows may use another kernel."""
    model, tokens_BL = make_tower(), make_texts([5, 3, 11, 8, 3, 12, 16, 2, 9, 10, 7])
    with torch.no_grad():
        batch_BE = model(tokens_BL)
        for row, vector_E in zip(tokens_BL, batch_BE, strict=True):
            assert relative_error(model(row[None])[0], vector_E) < 2e-6


def test_padding_is_not_computed_and_no_prefix_twice():
    model, rows = make_tower(), []
    first = next(iter(model.transformer.blocks()))
    first.mlp.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    distinct = make_texts([2, 2, 5, 5, 16])
    model(distinct)
    similar = distinct[4].repeat(3, 1)
    similar[1, 9] = END  # a prefix of the first text
    model(similar)
    assert rows == [2 + 2 + 5 + 5 + 16, 16 + 1]
