"""The text tower computes what one that runs every position of every text computes, and nothing behind the ends.

The plain tower is written here from the weights alone: all positions, a mask, every head by hand.
"""

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from zebra.config.model import TextConfig
from zebra.models.init import initialize_text
from zebra.models.text.causal import TextTransformer

CONTEXT, WORDS = 16, 600
END = WORDS - 1


def tower(layers: int = 2) -> TextTransformer:
    torch.manual_seed(0)
    config = TextConfig(width=32, layers=layers, heads=2, vocab_size=WORDS, context_length=CONTEXT)
    built = TextTransformer(config, 24)
    initialize_text(built)
    for parameter in built.parameters():
        if parameter.ndim == 1:  # gains and biases start at 1 and 0, which would hide that one is left out
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return built


def texts(lengths: list[int]) -> Tensor:
    draw = torch.Generator().manual_seed(sum(lengths))
    tokens_BL = torch.randint(0, END, (len(lengths), CONTEXT), generator=draw)
    tokens_BL[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return tokens_BL


def plain(model: TextTransformer, tokens_BL: Tensor) -> Tensor:
    """Run every position of every text."""
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


def in_groups(model: TextTransformer, tokens_BL: Tensor, size: int) -> Tensor:
    """Run texts sorted by length, `size` at a time: each weight takes part once per group."""
    end_B = tokens_BL.argmax(dim=1)
    order_B = end_B.argsort(stable=True)
    parts = [plain(model, tokens_BL[rows][:, : int(end_B[rows].max()) + 1]) for rows in order_B.split(size)]
    return torch.cat(parts)[order_B.argsort()]


def gradients(model: TextTransformer, vectors_BE: Tensor) -> dict[str, Tensor]:
    """Take the gradient of a sum in which every coordinate of every text has its own weight."""
    model.zero_grad()
    weights_BE = torch.linspace(-1, 2, vectors_BE.numel(), dtype=torch.float64).view_as(vectors_BE)
    (vectors_BE * weights_BE).sum().backward()
    return {name: parameter.grad.double().clone() for name, parameter in model.named_parameters()}


def distance(tensor: Tensor, truth: Tensor) -> float:
    return float((tensor - truth).detach().norm() / truth.detach().norm())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 1), max_size=CONTEXT - 1), min_size=1, max_size=24))
@example([[], [], [0]])
@example([[0, 1] * 5] * 4)
@example([[0] * length for length in range(CONTEXT)])
def test_texts_that_begin_alike_give_the_vectors_and_gradients_of_each_by_itself(beginnings):
    model, tokens_BL = tower().double(), torch.zeros(len(beginnings), CONTEXT, dtype=torch.int64)
    for row, tokens in zip(tokens_BL, beginnings, strict=True):
        row[: len(tokens) + 1] = torch.tensor([*tokens, END])
    result, truth = model(tokens_BL), plain(model, tokens_BL)
    assert distance(result, truth) < 1e-12
    wanted = gradients(model, truth)
    for name, gradient in gradients(model, result).items():
        assert distance(gradient, wanted[name]) < 1e-12, name


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(2, CONTEXT), min_size=1, max_size=24))
@example([7])
@example([2] * 5)
@example([CONTEXT] * 3)
@example([9] * 33)
@example(list(range(2, CONTEXT + 1)))
@example([2, CONTEXT])
def test_any_lengths_give_the_vectors_and_gradients_of_all_positions(lengths):
    model, tokens_BL = tower().double(), texts(lengths)
    result, truth = model(tokens_BL), plain(model, tokens_BL)
    assert distance(result, truth) < 1e-12
    wanted = gradients(model, truth)
    for name, gradient in gradients(model, result).items():
        assert distance(gradient, wanted[name]) < 1e-12, name


def test_bf16_gradients_of_256_texts_are_as_exact_as_those_of_one_pass():
    """Autocast sums the gradients of a weight that takes part in several passes in bf16; here it takes part in one.

    The yardstick is the error of all positions in one pass. Groups of 32 texts exceed it by a tenth, and the more
    groups, the more.
    """
    model = tower()
    draw = torch.Generator().manual_seed(1)
    tokens_BL = texts(torch.randint(3, CONTEXT + 1, (256,), generator=draw).tolist())
    exact = copy.deepcopy(model).double()
    truth = gradients(exact, plain(exact, tokens_BL))

    def error(run) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors_BE = run(model, tokens_BL)
        errors = [distance(gradient, truth[name]) for name, gradient in gradients(model, vectors_BE).items()]
        return sum(errors) / len(errors)

    bound = 1.04 * error(plain)
    assert error(lambda model, tokens: model(tokens)) < bound
    assert error(lambda model, tokens: in_groups(model, tokens, 32)) > bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_gives_the_same_bits_twice_and_whatever_stands_behind_the_ends(dtype):
    model, tokens_BL = tower(), texts([5, 3, 11, 8, 3, 12])
    behind_BL = torch.arange(CONTEXT) > tokens_BL.argmax(dim=1)[:, None]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16), torch.no_grad():
        vectors_BE = model(tokens_BL)
        assert torch.equal(model(tokens_BL), vectors_BE)
        assert torch.equal(model(tokens_BL[:, :12]), vectors_BE)
        assert torch.equal(model(tokens_BL.masked_fill(behind_BL, 7)), vectors_BE)


def test_neighbours_change_a_text_by_rounding_alone():
    """Its tokens are rows of products with more or fewer rows, for which a library may take another kernel."""
    model, tokens_BL = tower(), texts([5, 3, 11, 8, 3, 12, 16, 2, 9, 10, 7])
    with torch.no_grad():
        together_BE = model(tokens_BL)
        for row, vector_E in zip(tokens_BL, together_BE, strict=True):
            assert distance(model(row[None])[0], vector_E) < 2e-6


def test_no_position_behind_an_end_is_computed_and_no_beginning_twice():
    model, rows = tower(), []
    first = next(iter(model.transformer.blocks()))
    first.mlp.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    apart = texts([2, 2, 5, 5, 16])
    model(apart)
    alike = apart[4].repeat(3, 1)
    alike[1, 9] = END  # ends where the first goes on
    model(alike)
    assert rows == [2 + 2 + 5 + 5 + 16, 16 + 1]
