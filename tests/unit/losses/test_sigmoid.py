"""SigLIP's pairwise sigmoid loss against its definition, dense and tiled."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ConfigError, ShapeError
from zebra.losses import sigmoid_loss
from zebra.losses.sigmoid import TiledLogSigmoid

from .cases import shapes, tile_columns, under_autocast, unit, with_gradients


def definition(image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Return the log losses of the full matrix in fp64, independently of the code under test."""
    logits = scale * image.double() @ text.double().T + bias
    target = torch.eye(len(image), dtype=torch.float64)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(image)


def scalar(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype)


@pytest.mark.parametrize("rows", [None, 2])
def test_loss_is_the_sum_of_the_paper(rows):
    image, text, scale, bias = unit(5, 8, 0), unit(5, 8, 1), 7.0, -3.0
    total = 0.0
    for i in range(5):
        for j in range(5):
            z = (1 if i == j else -1) * (scale * float(image[i] @ text[j]) + bias)
            total += -math.log(1 / (1 + math.exp(-z)))
    assert float(sigmoid_loss(image, text, scale, bias, rows)) == pytest.approx(total / 5, rel=1e-12)


@given(shape=shapes(), scale=st.floats(1, 100), bias=st.floats(-20, 5), seed=st.integers(0, 2**31))
def test_tiles_of_any_shape_give_the_loss_and_gradients_of_the_full_matrix(shape, scale, bias, seed):
    n, e, rows, columns = shape
    values = unit(n, e, seed), unit(n, e, seed + 1), scalar(scale), scalar(bias)
    with tile_columns(rows, columns):
        tiled = with_gradients(sigmoid_loss, *values, tile_rows=rows)
    for got, expected in zip(tiled, with_gradients(definition, *values), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
def test_gradients_reach_images_texts_scale_and_bias(rows):
    values = unit(5, 6, 0), unit(5, 6, 1), scalar(5.0), scalar(-2.0)
    with tile_columns(rows or 1, 2):
        assert torch.autograd.gradcheck(
            lambda *leaves: sigmoid_loss(*leaves, tile_rows=rows), [v.requires_grad_() for v in values]
        )


def test_a_bias_of_shape_1_gets_a_gradient_of_shape_1():
    image, text, bias = unit(7, 8, 0), unit(7, 8, 1), torch.tensor([-10.0], requires_grad=True)
    sigmoid_loss(image, text, 10.0, bias, 3).backward()
    expected = with_gradients(definition, image, text, scalar(10.0), scalar(-10.0))[4]
    assert bias.grad.shape == (1,)
    assert float(bias.grad) == pytest.approx(float(expected), rel=1e-6)


def test_order_of_the_pairs_does_not_matter():
    image, text, order = unit(6, 8, 0), unit(6, 8, 1), torch.tensor([3, 1, 5, 0, 2, 4])
    with tile_columns(4, 4):
        shuffled = sigmoid_loss(image[order], text[order], 9.0, -3.0, 4)
        assert torch.allclose(sigmoid_loss(image, text, 9.0, -3.0, 4), shuffled)


@pytest.mark.parametrize("rows", [None, 1])
def test_a_single_pair_is_one_binary_classification(rows):
    same = unit(1, 8, 0)
    assert float(sigmoid_loss(same, same, 3.0, -1.0, rows)) == pytest.approx(math.log1p(math.exp(-2)))


def test_a_confident_correct_pair_has_almost_no_loss_and_a_wrong_one_its_logit():
    """A naive log(1 + exp(100)) overflows fp32, and log(1 + exp(-30)) underflows."""
    axes = torch.eye(6)
    with tile_columns(4, 4):
        confident = sigmoid_loss(axes, axes, 60.0, -30.0, 4)
        wrong = sigmoid_loss(axes, -axes, 100.0, 0.0, 4)
    assert float(confident) == pytest.approx(6 * math.exp(-30), rel=1e-5)
    assert float(wrong) == pytest.approx(100 + 5 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("rows", [None, 10])
def test_loss_is_fp32_under_autocast(rows):
    values = unit(32, 16, 0, torch.float32), unit(32, 16, 1, torch.float32)
    scale, bias = scalar(100.0, torch.float32), scalar(-10.0, torch.float32)
    autocast_values = under_autocast(sigmoid_loss)(*values, scale, bias, rows)
    assert autocast_values.dtype == torch.float32
    assert torch.equal(autocast_values, sigmoid_loss(*values, scale, bias, rows))


def test_tiled_gradients_are_fp32_even_with_backward_under_autocast():
    values = [unit(32, 16, s, torch.float32) for s in (0, 1)] + [torch.tensor(100.0), torch.tensor(-10.0)]
    with torch.autocast("cpu", torch.bfloat16):
        autocast_values = with_gradients(sigmoid_loss, *values, tile_rows=10)
    assert all(map(torch.equal, autocast_values, with_gradients(sigmoid_loss, *values, tile_rows=10)))


@pytest.mark.parametrize("rows", [None, 10])
def test_bf16_vectors_lose_only_their_own_rounding(rows):
    values = unit(32, 16, 0).bfloat16(), unit(32, 16, 1).bfloat16(), torch.tensor(50.0), torch.tensor(-10.0)
    got = with_gradients(under_autocast(sigmoid_loss), *values, tile_rows=rows)
    exact = with_gradients(definition, *(value.double() for value in values))
    for index in (0, 3, 4):
        torch.testing.assert_close(got[index].double(), exact[index], rtol=1e-5, atol=0)
    for index in (1, 2):
        assert got[index].dtype == torch.bfloat16
        torch.testing.assert_close(got[index].double(), exact[index], rtol=2**-8, atol=1e-6)


def test_strided_vectors_give_the_same_loss_and_gradients():
    image, text = unit(7, 16, 0)[:, ::2], unit(8, 7, 1).T
    with tile_columns(3, 3):
        tiled = with_gradients(sigmoid_loss, image, text, scalar(9.0), scalar(-3.0), tile_rows=3)
    for got, expected in zip(tiled, with_gradients(definition, image, text, scalar(9.0), scalar(-3.0)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wanted", [0, 1, 2, 3])
def test_only_inputs_that_require_a_gradient_get_one(wanted):
    values = [unit(7, 8, 0), unit(7, 8, 1), scalar(9.0), scalar(-3.0)]
    expected = with_gradients(definition, *values)[1 + wanted]
    values[wanted].requires_grad_()
    sigmoid_loss(*values, tile_rows=3).backward()
    torch.testing.assert_close(values[wanted].grad, expected, rtol=1e-9, atol=1e-12)
    assert [value.grad is None for value in values].count(False) == 1


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_tower_saves_a_matrix_product(frozen):
    """The gradient of a frozen tower is not computed."""
    sides = [unit(7, 8, seed).requires_grad_(seed != frozen) for seed in (0, 1)]
    products, addmm_ = [], Tensor.addmm_
    with patch.object(Tensor, "addmm_", lambda *args: products.append(args) or addmm_(*args)):
        sigmoid_loss(*sides, 9.0, -3.0, tile_rows=6).backward()
    assert len(products) == 2  # one for each tile: six rows, then one


def test_tiles_refuse_double_backward():
    image = unit(7, 8, 0).requires_grad_()
    loss = sigmoid_loss(image, unit(7, 8, 1), 9.0, -3.0, 3)
    with pytest.raises(ConfigError, match="Pass tile_rows=None to the loss"):
        torch.autograd.grad(loss, image, create_graph=True)


def test_a_second_backward_gives_the_same_gradient():
    image = unit(7, 8, 0).requires_grad_()
    loss = sigmoid_loss(image, unit(7, 8, 1), 9.0, -3.0, 3)
    first, second = (torch.autograd.grad(loss, image, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_two_ranks_add_up_to_the_global_batch():
    """Two simulated ranks with 4 and 7 rows and all 11 columns."""
    image, text, bias = unit(11, 8, 0), unit(11, 8, 1), scalar(-3.0)
    with tile_columns(3, 2):
        totals = [
            TiledLogSigmoid.apply(9.0 * image[first:last], text, bias, 3, first, None)
            for first, last in ((0, 4), (4, 11))
        ]
    torch.testing.assert_close(sum(totals) / 11, definition(image, text, 9.0, bias), rtol=1e-12, atol=0)


def test_inputs_of_different_shape_are_named_in_the_error():
    with pytest.raises(ShapeError, match=r"sigmoid_loss .*\(4, 8\) and \(5, 8\)"):
        sigmoid_loss(unit(4, 8, 0), unit(5, 8, 0), 1.0, 0.0)


def test_zero_tile_rows_are_an_error_with_advice():
    with pytest.raises(ConfigError, match="sigmoid_loss: tile_rows is 0; give 1 or more"):
        sigmoid_loss(unit(4, 8, 0), unit(4, 8, 0), 1.0, 0.0, tile_rows=0)
