"""Texts that match no image, in both losses."""

import pytest
import torch
from torch.nn import functional as F

from zebra.errors import ShapeError
from zebra.losses import info_nce, negatives, sigmoid_loss

N, M, E = 7, 5, 4
SCALE, BIAS = 8.0, -3.0


def vectors(*sizes: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [F.normalize(torch.randn(size, E, dtype=torch.float64), dim=1).requires_grad_() for size in sizes]


def expected_info_nce(image, text, negative, labels=None):
    own, extra = SCALE * image @ text.T, SCALE * image @ negative.T
    if labels is not None:
        others = (labels[:, None] == labels) & ~torch.eye(N, dtype=torch.bool)
        own = own.masked_fill(others, -torch.inf)
    target = torch.arange(N)
    return (F.cross_entropy(torch.cat([own, extra], 1), target) + F.cross_entropy(own.T, target)) / 2


def expected_sigmoid(image, text, negative, labels=None):
    labels = torch.arange(N) if labels is None else labels
    sign = 2 * torch.eye(N, dtype=torch.float64) - 1
    takes_part = (labels[:, None] != labels) | torch.eye(N, dtype=torch.bool)
    own = (F.logsigmoid(sign * (SCALE * image @ text.T + BIAS)) * takes_part).sum()
    return -(own + F.logsigmoid(-(SCALE * image @ negative.T + BIAS)).sum()) / N


def losses(tile_rows, negative, labels=None):
    def contrastive(image, text):
        return info_nce(image, text, SCALE, tile_rows, label_N=labels, negative_ME=negative)

    def sigmoid(image, text):
        return sigmoid_loss(image, text, SCALE, BIAS, tile_rows, label_N=labels, negative_ME=negative)

    return contrastive, sigmoid


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 1, 2, 3, 0, 4])], ids=["own", "repeated"])
@pytest.mark.parametrize("tile_rows", [None, 2, 3])
@pytest.mark.parametrize("block_elements", [1, 10, 10**6])
def test_value_and_gradients_are_those_of_the_whole_matrix(tile_rows, labels, block_elements, monkeypatch):
    monkeypatch.setattr(negatives, "MAX_BLOCK_ELEMENTS", block_elements)
    for index, expected in enumerate((expected_info_nce, expected_sigmoid)):
        image, text, negative = vectors(N, N, M)
        loss = losses(tile_rows, negative, labels)[index](image, text)
        other = expected(image, text, negative, labels)
        torch.testing.assert_close(loss, other)
        for one, two in zip(
            torch.autograd.grad(loss, (image, text, negative)),
            torch.autograd.grad(other, (image, text, negative)),
            strict=True,
        ):
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize("tile_rows", [None, 2])
def test_no_negatives_change_no_bit(tile_rows):
    image, text = vectors(N, N)
    for index in range(2):
        without = losses(tile_rows, None)[index](image, text)
        assert torch.equal(losses(tile_rows, torch.zeros(0, E))[index](image, text), without)


@pytest.mark.parametrize("tile_rows", [None, 2])
def test_a_negative_like_the_image_raises_the_loss_more_than_one_unlike_it(tile_rows):
    image, text = vectors(N, N)
    for index in range(2):
        like, unlike = (losses(tile_rows, sign * image[:1].detach())[index](image[:1], text[:1]) for sign in (1, -1))
        assert like > unlike


@pytest.mark.parametrize("shape", [(3,), (3, E + 1), (3, E, 1)])
def test_negatives_of_another_width_are_refused(shape):
    image, text = vectors(N, N)
    for index, name in enumerate(("info_nce", "sigmoid_loss")):
        with pytest.raises(ShapeError, match=rf"{name} needs negative_ME as \[M, 4\]"):
            losses(None, torch.zeros(shape))[index](image, text)
