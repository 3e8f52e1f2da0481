"""Feature and affinity loss: their definitions, tiles, widths and shapes."""

import pytest
import torch
from torch import Tensor

from zebra.errors import ShapeError
from zebra.losses import affinity_loss, feature_loss

from .cases import under_autocast, unit, with_gradients


def affinity_definition(
    image: Tensor, text: Tensor, teacher_image: Tensor, teacher_text: Tensor, scale: float
) -> Tensor:
    """Sum p log(p / q) for each image and each text, one at a time."""
    terms = []
    for rows, columns, teacher_rows, teacher_columns in (
        (image, text, teacher_image, teacher_text),
        (text, image, teacher_text, teacher_image),
    ):
        for row, teacher_row in zip(rows, teacher_rows, strict=True):
            q, p = (scale * columns @ row).softmax(0), (20 * teacher_columns @ teacher_row).softmax(0)
            terms.append((p * (p / q).log()).sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize(("n", "e", "t", "rows"), [(1, 3, 2, 1), (5, 4, 4, 5), (5, 3, 6, 2), (4, 2, 3, 1)])
def test_affinity_has_the_value_and_gradient_of_its_definition_in_tiles_and_at_once(n, e, t, rows):
    scale = 7.0
    image, text, teacher_image, teacher_text = unit(n, e, 0), unit(n, e, 1), unit(n, t, 2), unit(n, t, 3)
    expected = with_gradients(lambda i, x: affinity_definition(i, x, teacher_image, teacher_text, scale), image, text)
    got = with_gradients(
        lambda i, x: affinity_loss(i, x, teacher_image, teacher_text, scale, 20.0, tile_rows=rows), image, text
    )
    for value, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-9)


def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient():
    image, text = unit(8, 5, 0), unit(8, 5, 1)
    for loss, *gradients in (
        with_gradients(lambda i, x: affinity_loss(i, x, image, text, 20.0, 20.0), image, text),
        with_gradients(lambda i: feature_loss(i, image), image),
    ):
        assert float(loss) == pytest.approx(0, abs=1e-12)
        assert all(float(gradient.abs().max()) < 1e-12 for gradient in gradients)


def test_the_feature_loss_is_one_minus_the_cosine_whatever_the_length_of_the_teachers_vectors():
    student, teacher = unit(6, 4, 0), unit(6, 4, 1)
    expected = (1 - (student * teacher).sum(1)).mean()
    torch.testing.assert_close(feature_loss(student, 3 * teacher), expected)
    torch.testing.assert_close(feature_loss(student, -student), torch.tensor(2.0, dtype=torch.float64))


def test_both_are_computed_in_single_precision_under_autocast():
    image, text, teacher_image, teacher_text = (unit(6, 4, seed, torch.float32) for seed in range(4))
    for loss, args in (
        (affinity_loss, (image, text, teacher_image, teacher_text, 30.0, 60.0)),
        (feature_loss, (image, teacher_image)),
    ):
        assert torch.equal(under_autocast(loss)(*args), loss(*args))


@pytest.mark.parametrize(
    ("loss", "shapes", "message"),
    [
        (affinity_loss, [(4, 3), (4, 3), (4, 5), (3, 5)], r"texts \[N, T\].*\(3, 5\)"),
        (affinity_loss, [(4, 3), (4, 2), (4, 5), (4, 5)], "N = 1 R"),
        (affinity_loss, [(0, 3), (0, 3), (0, 5), (0, 5)], "affinity_loss needs"),
        (feature_loss, [(4, 3), (4, 2)], r"of one shape, not \(4, 3\) and \(4, 2\)"),
        (feature_loss, [(0, 3), (0, 3)], "non-empty"),
    ],
)
def test_shapes_that_do_not_match_are_named(loss, shapes, message):
    scales = (20.0, 20.0) if loss is affinity_loss else ()
    with pytest.raises(ShapeError, match=message):
        loss(*(torch.ones(shape) for shape in shapes), *scales)
