"""Pairs that match each other: equal labels are no negatives, dense and tiled."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ShapeError
from zebra.losses import info_nce, sigmoid_loss
from zebra.losses.contrastive import TiledLogSumExp
from zebra.losses.sigmoid import TiledLogSigmoid

from .cases import shapes, tile_columns, unit, with_gradients


def info_nce_definition(image: Tensor, text: Tensor, scale: Tensor, labels: list[int]) -> Tensor:
    """Classify each pair among itself and the pairs of other labels, one pair at a time."""
    terms = []
    for i, label in enumerate(labels):
        rivals = [j for j in range(len(labels)) if j == i or labels[j] != label]
        for query, candidates in ((image[i], text[rivals]), (text[i], image[rivals])):
            terms.append(F.cross_entropy((scale * candidates @ query)[None], torch.tensor([rivals.index(i)])))
    return torch.stack(terms).mean()


def sigmoid_definition(image: Tensor, text: Tensor, scale: Tensor, labels: list[int]) -> Tensor:
    """Sum the log losses of each image with its text and the texts of other labels, one at a time, at a bias of -3."""
    terms = [
        -F.logsigmoid((1 if i == j else -1) * (scale * image[i] @ text[j] - 3))
        for i in range(len(labels))
        for j in range(len(labels))
        if i == j or labels[i] != labels[j]
    ]
    return torch.stack(terms).sum() / len(labels)


def sigmoid(image: Tensor, text: Tensor, scale: Tensor, **options: object) -> Tensor:
    return sigmoid_loss(image, text, scale, -3.0, **options)


LOSSES = [(info_nce, info_nce_definition), (sigmoid, sigmoid_definition)]


@pytest.mark.parametrize(("loss", "definition"), LOSSES)
@given(shape=shapes(), data=st.data(), scale=st.floats(1, 100))
def test_tiles_of_any_shape_and_the_full_matrix_give_the_definition(loss, definition, shape, data, scale):
    n, e, rows, columns = shape
    labels = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    values = unit(n, e, 0), unit(n, e, 1), torch.tensor(scale, dtype=torch.float64)
    expected = with_gradients(lambda *leaves: definition(*leaves, labels), *values)
    with tile_columns(rows, columns):
        tiled = with_gradients(loss, *values, tile_rows=rows, label_N=torch.tensor(labels))
    dense = with_gradients(loss, *values, tile_rows=None, label_N=torch.tensor(labels))
    for got in (tiled, dense):
        for value, wanted in zip(got, expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("loss", [info_nce, sigmoid])
@pytest.mark.parametrize("rows", [None, 3])
def test_distinct_labels_change_nothing(loss, rows):
    values = unit(7, 8, 0), unit(7, 8, 1), torch.tensor(9.0)
    plain = with_gradients(loss, *values, tile_rows=rows)
    labeled = with_gradients(loss, *values, tile_rows=rows, label_N=torch.tensor([5, 3, -1, 2**40, 8, 0, 6]))
    assert all(map(torch.equal, plain, labeled))


@pytest.mark.parametrize("rows", [None, 3])
def test_a_batch_of_one_label_has_nothing_to_tell_apart(rows):
    with tile_columns(3, 2):
        loss, *gradients = with_gradients(
            info_nce, unit(7, 8, 0), unit(7, 8, 1), torch.tensor(90.0), tile_rows=rows, label_N=torch.zeros(7).long()
        )
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


def test_an_image_is_never_pushed_from_the_caption_that_it_shares():
    """Without labels, images of one caption compete for it: the nearest are pushed away from it."""
    text = unit(2, 8, 1)[[0, 0, 0, 1]]
    image = F.normalize(text + torch.tensor([[0.0], [1.0], [2.0], [0.0]]) * unit(4, 8, 0))

    def pull(labels: Tensor | None) -> list[float]:
        """Return how strongly a step of gradient descent moves each of the three images towards their caption."""
        _, gradient, *_ = with_gradients(info_nce, image, text, torch.tensor(5.0), label_N=labels)
        return [-float(gradient[row] @ text[row]) for row in range(3)]

    assert min(pull(None)) < 0
    assert min(pull(torch.tensor([0, 0, 0, 1]))) > 0


def test_two_ranks_give_the_loss_of_the_global_batch():
    """Two simulated ranks with 4 and 7 rows and all 11 columns, combined like an all-reduce."""
    image, text, labels = unit(11, 8, 0), unit(11, 8, 1), torch.tensor([0, 1, 1, 0, 2, 1, 3, 3, 0, 4, 1])
    with tile_columns(3, 2):
        parts = [
            TiledLogSumExp.apply(9.0 * image[first:last], text, 3, first, labels) for first, last in ((0, 4), (4, 11))
        ]
        match, row_max, row_sum = (torch.cat(side) for side in list(zip(*parts, strict=True))[:3])
        column_max = torch.maximum(parts[0][3], parts[1][3])
        column_sum = sum(part[4] * (part[3] - column_max).exp() for part in parts)
        loss = ((row_max + column_max - 2 * match) + row_sum.log() + column_sum.log()).mean() / 2
        bias = torch.tensor(-3.0, dtype=torch.float64)
        total = sum(
            TiledLogSigmoid.apply(9.0 * image[first:last], text, bias, 3, first, labels)
            for first, last in ((0, 4), (4, 11))
        )
    scale = torch.tensor(9.0, dtype=torch.float64)
    torch.testing.assert_close(loss, info_nce_definition(image, text, scale, labels.tolist()))
    torch.testing.assert_close(total / 11, sigmoid_definition(image, text, scale, labels.tolist()))


@pytest.mark.parametrize("loss", [info_nce, sigmoid])
@pytest.mark.parametrize("labels", [torch.zeros(4).long(), torch.zeros(5, 1).long(), torch.zeros(5)])
def test_other_labels_than_one_integer_per_pair_are_refused(loss, labels):
    with pytest.raises(ShapeError, match="5 integers"):
        loss(unit(5, 8, 0), unit(5, 8, 1), torch.tensor(9.0), label_N=labels)
