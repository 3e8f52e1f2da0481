"""Symmetric InfoNCE against its definition, dense and tiled."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ConfigError, ShapeError
from zebra.losses import info_nce
from zebra.losses.contrastive import TiledLogSumExp

from .cases import shapes, tile_columns, under_autocast, unit, with_gradients


def definition(image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """Return the cross-entropies of the full matrix in fp64, independently of the code under test."""
    logits = scale * image.double() @ text.double().T
    return -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean() / 2


def test_loss_is_the_mean_of_both_cross_entropies():
    image, text, scale = unit(5, 8, 0), unit(5, 8, 1), 7.0
    total = 0.0
    for i in range(5):
        row = [math.exp(scale * float(image[i] @ text[j])) for j in range(5)]
        column = [math.exp(scale * float(image[j] @ text[i])) for j in range(5)]
        total += -math.log(row[i] / sum(row)) - math.log(column[i] / sum(column))
    assert float(info_nce(image, text, scale)) == pytest.approx(total / 10, abs=1e-12)


@given(shape=shapes(), scale=st.floats(1, 100), seed=st.integers(0, 2**31))
def test_tiles_of_any_shape_give_the_loss_and_gradients_of_the_full_matrix(shape, scale, seed):
    n, e, rows, columns = shape
    values = unit(n, e, seed), unit(n, e, seed + 1), torch.tensor(scale, dtype=torch.float64)
    with tile_columns(rows, columns):
        tiled = with_gradients(info_nce, *values, tile_rows=rows)
    for got, expected in zip(tiled, with_gradients(definition, *values), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
def test_gradients_reach_images_texts_and_temperature(rows):
    image, text = unit(5, 6, 0).requires_grad_(), unit(5, 6, 1).requires_grad_()
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    with tile_columns(rows or 1, 2):
        assert torch.autograd.gradcheck(lambda *values: info_nce(*values, tile_rows=rows), (image, text, scale))


def test_the_default_tiling_gives_the_loss_of_the_full_matrix():
    """The default is 1,024 rows per tile; 1,025 is the first size with more than one."""
    image, text = unit(1025, 4, 0), unit(1025, 4, 1)
    assert torch.allclose(info_nce(image, text, 20.0), definition(image, text, 20.0), rtol=1e-12)


def test_a_batch_of_one_tile_is_bit_identical_to_the_full_matrix():
    values = unit(64, 16, 0, torch.float32), unit(64, 16, 1, torch.float32), torch.tensor(14.0)
    dense = with_gradients(info_nce, *values, tile_rows=None)
    assert all(map(torch.equal, dense, with_gradients(info_nce, *values)))


def test_order_of_the_pairs_does_not_matter():
    image, text, order = unit(6, 8, 0), unit(6, 8, 1), torch.tensor([3, 1, 5, 0, 2, 4])
    with tile_columns(4, 4):
        shuffled = info_nce(image[order], text[order], 9.0, tile_rows=4)
        assert torch.allclose(info_nce(image, text, 9.0, tile_rows=4), shuffled)


def test_swapping_images_and_texts_changes_nothing():
    image, text = unit(6, 8, 0), unit(6, 8, 1)
    with tile_columns(4, 3):
        assert torch.allclose(info_nce(image, text, 9.0, tile_rows=4), info_nce(text, image, 9.0, tile_rows=4))


@pytest.mark.parametrize("rows", [None, 3])
def test_identical_pairs_have_loss_log_n(rows):
    same = unit(1, 8, 0).expand(7, 8)
    assert float(info_nce(same, same, 50.0, tile_rows=rows)) == pytest.approx(math.log(7))


@pytest.mark.parametrize("rows", [None, 1, 1024])
def test_a_single_pair_has_loss_zero(rows):
    image = unit(1, 8, 0).requires_grad_()
    loss = info_nce(image, unit(1, 8, 1), 100.0, tile_rows=rows)
    loss.backward()
    assert loss == 0
    assert not image.grad.any()


def test_near_duplicates_at_the_largest_temperature_neither_overflow_nor_drift():
    """exp(100) overflows fp32 unless the maximum is subtracted."""
    base = unit(1, 32, 0, torch.float32)
    image, text = (F.normalize(base + 1e-3 * unit(50, 32, seed, torch.float32), dim=1) for seed in (1, 2))
    values = image, text, torch.tensor(100.0)
    with tile_columns(16, 16):
        tiled = with_gradients(info_nce, *values, tile_rows=16)
    exact = with_gradients(definition, *(value.double() for value in values))
    for got, expected in zip(tiled, exact, strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)  # adjacent logits differ by 8e-6


def test_a_tiled_loss_near_zero_keeps_its_precision():
    """With logits of 100 and 86, rounding 100 + log(sum) would hide the loss of 2e-5."""
    image = torch.cat([0.14**0.5 * torch.eye(24), torch.full((24, 1), 0.86**0.5)], dim=1)
    with tile_columns(5, 5):
        tiled = info_nce(image, image, 100.0, tile_rows=5)
    assert float(tiled) == pytest.approx(float(definition(image.double(), image, 100.0)), abs=2e-7)


@pytest.mark.parametrize("rows", [None, 10])
def test_loss_is_fp32_under_autocast(rows):
    """At a scale of 100, adjacent bf16 logits differ by 0.5."""
    image, text = unit(32, 16, 0, torch.float32), unit(32, 16, 1, torch.float32)
    autocast_loss = under_autocast(info_nce)(image, text, 100.0, tile_rows=rows)
    assert autocast_loss.dtype == torch.float32
    assert torch.equal(autocast_loss, info_nce(image, text, 100.0, tile_rows=rows))


def test_tiled_gradients_are_fp32_even_with_backward_under_autocast():
    values = unit(32, 16, 0, torch.float32), unit(32, 16, 1, torch.float32), torch.tensor(100.0)
    with torch.autocast("cpu", torch.bfloat16):
        autocast_values = with_gradients(info_nce, *values, tile_rows=10)
    assert all(map(torch.equal, autocast_values, with_gradients(info_nce, *values, tile_rows=10)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [None, 10])
def test_low_precision_vectors_lose_only_their_own_rounding(rows, dtype):
    values = unit(32, 16, 0).to(dtype), unit(32, 16, 1).to(dtype), torch.tensor(50.0)
    loss, image, text, scale = with_gradients(under_autocast(info_nce), *values, tile_rows=rows)
    exact = with_gradients(definition, *(value.double() for value in values))
    assert loss.dtype == torch.float32
    assert image.dtype == text.dtype == dtype
    torch.testing.assert_close(loss.double(), exact[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(scale.double(), exact[3], rtol=1e-5, atol=0)
    for got, expected in ((image, exact[1]), (text, exact[2])):
        torch.testing.assert_close(got.double(), expected, rtol=2**-8, atol=1e-6)


def test_strided_vectors_give_the_same_loss_and_gradients():
    wide = unit(7, 16, 0)
    image, text = wide[:, ::2], unit(8, 7, 1).T
    assert not image.is_contiguous()
    with tile_columns(3, 3):
        strided = with_gradients(info_nce, image, text, torch.tensor(9.0), tile_rows=3)
        dense = with_gradients(info_nce, image.contiguous(), text.contiguous(), torch.tensor(9.0), tile_rows=3)
    for got, expected in zip(strided, dense, strict=True):
        torch.testing.assert_close(got, expected)


def test_expanded_vectors_get_the_summed_gradient():
    row = unit(1, 8, 0).requires_grad_()
    info_nce(row.expand(7, 8), unit(7, 8, 1), 9.0, tile_rows=3).backward()
    expected = with_gradients(definition, row.detach().expand(7, 8), unit(7, 8, 1), torch.tensor(9.0))[1]
    torch.testing.assert_close(row.grad, expected.sum(0, keepdim=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_only_inputs_that_require_a_gradient_get_one(wanted):
    values = [unit(7, 8, 0), unit(7, 8, 1), torch.tensor(9.0, dtype=torch.float64)]
    expected = with_gradients(definition, *values)[1 + wanted]
    values[wanted].requires_grad_()
    info_nce(*values, tile_rows=3).backward()
    torch.testing.assert_close(values[wanted].grad, expected, rtol=1e-9, atol=1e-12)
    assert [value.grad is None for value in values].count(False) == 1


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_tower_saves_a_matrix_product(frozen):
    """The gradient of a frozen tower is not computed."""
    sides = [unit(7, 8, seed).requires_grad_(seed != frozen) for seed in (0, 1)]
    products, addmm_ = [], Tensor.addmm_
    with patch.object(Tensor, "addmm_", lambda *args: products.append(args) or addmm_(*args)):
        info_nce(*sides, 9.0, tile_rows=6).backward()
    assert len(products) == 2  # one for each tile: six rows, then one


def test_maxima_have_no_gradient():
    parts = TiledLogSumExp.apply(unit(7, 8, 0).requires_grad_(), unit(7, 8, 1), 3, 0, None)
    assert [part.requires_grad for part in parts] == [True, False, True, False, True]


def test_tiles_refuse_double_backward():
    image = unit(7, 8, 0).requires_grad_()
    loss = info_nce(image, unit(7, 8, 1), 9.0, tile_rows=3)
    with pytest.raises(ConfigError, match="Pass tile_rows=None to the loss"):
        torch.autograd.grad(loss, image, create_graph=True)


def test_a_second_backward_gives_the_same_gradient():
    image = unit(7, 8, 0).requires_grad_()
    loss = info_nce(image, unit(7, 8, 1), 9.0, tile_rows=3)
    first, second = (torch.autograd.grad(loss, image, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_two_ranks_give_the_loss_and_gradients_of_the_global_batch():
    """Two simulated ranks with 4 and 7 rows and all 11 columns, combined like an all-reduce."""
    values = unit(11, 8, 0), unit(11, 8, 1)
    image, text = (value.clone().requires_grad_() for value in values)
    with tile_columns(3, 2):
        parts = [
            TiledLogSumExp.apply(9.0 * image[first:last], text, 3, first, None) for first, last in ((0, 4), (4, 11))
        ]
        match, row_max, row_sum = (torch.cat(side) for side in list(zip(*parts, strict=True))[:3])
        column_max = torch.maximum(parts[0][3], parts[1][3])
        column_sum = sum(part[4] * (part[3] - column_max).exp() for part in parts)
        loss = ((row_max + column_max - 2 * match) + row_sum.log() + column_sum.log()).mean() / 2
        loss.backward()
    expected = with_gradients(lambda i, t: definition(i, t, 9.0), *values)
    for got, wanted in zip((loss.detach(), image.grad, text.grad), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_inputs_of_different_shape_are_named_in_the_error():
    with pytest.raises(ShapeError, match=r"\(4, 8\) and \(5, 8\)"):
        info_nce(unit(4, 8, 0), unit(5, 8, 0), 1.0)


def test_an_empty_batch_is_an_error_instead_of_nan():
    with pytest.raises(ShapeError, match=r"\(0, 8\)"):
        info_nce(unit(0, 8, 0), unit(0, 8, 0), 1.0)


def test_zero_tile_rows_are_an_error_with_advice():
    with pytest.raises(ConfigError, match="tile_rows is 0; give 1 or more"):
        info_nce(unit(4, 8, 0), unit(4, 8, 0), 1.0, tile_rows=0)
