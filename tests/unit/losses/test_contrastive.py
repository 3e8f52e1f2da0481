"""Symmetric InfoNCE against its definition."""

import math

import pytest
import torch
from torch.nn import functional as F

from zebra.errors import ShapeError
from zebra.losses import info_nce


def unit(n, e, seed, dtype=torch.float64):
    return F.normalize(torch.randn(n, e, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=1)


def test_loss_is_the_mean_of_both_cross_entropies_written_out():
    image, text, scale = unit(5, 8, 0), unit(5, 8, 1), 7.0
    total = 0.0
    for i in range(5):
        row = [math.exp(scale * float(image[i] @ text[j])) for j in range(5)]
        column = [math.exp(scale * float(image[j] @ text[i])) for j in range(5)]
        total += -math.log(row[i] / sum(row)) - math.log(column[i] / sum(column))
    assert float(info_nce(image, text, scale)) == pytest.approx(total / 10, abs=1e-12)


def test_gradients_reach_images_texts_and_temperature():
    image, text = unit(4, 6, 0).requires_grad_(), unit(4, 6, 1).requires_grad_()
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(info_nce, (image, text, scale))


def test_order_of_the_pairs_does_not_matter():
    image, text, order = unit(6, 8, 0), unit(6, 8, 1), torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(info_nce(image, text, 9.0), info_nce(image[order], text[order], 9.0))


def test_swapping_images_and_texts_changes_nothing():
    image, text = unit(6, 8, 0), unit(6, 8, 1)
    assert torch.allclose(info_nce(image, text, 9.0), info_nce(text, image, 9.0))


def test_indistinguishable_pairs_cost_the_logarithm_of_n():
    same = unit(1, 8, 0).expand(7, 8)
    assert float(info_nce(same, same, 50.0)) == pytest.approx(math.log(7))


def test_loss_is_fp32_under_autocast():
    """At a scale of 100, bf16 logits would be half a unit apart."""
    image, text = unit(32, 16, 0, torch.float32), unit(32, 16, 1, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(image, text, 100.0)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, info_nce(image, text, 100.0))


def test_sides_of_different_shape_are_named():
    with pytest.raises(ShapeError, match=r"\(4, 8\) and \(5, 8\)"):
        info_nce(unit(4, 8, 0), unit(5, 8, 0), 1.0)
