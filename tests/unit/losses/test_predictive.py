"""The paper's predictive baselines against their definitions."""

import math

import pytest
import torch
from torch import Tensor

from zebra.errors import ShapeError
from zebra.losses import bag_of_words_loss, captioning_loss

from .cases import under_autocast, with_gradients


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WORDS_BV = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
NEXT_BL = torch.tensor([[4, 2, 0, 0], [1, 0, 3, 4]])
SAID_BL = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
"""The first text ends after two tokens; the second holds the id of the padding, 0, as a word."""


def test_bag_of_words_is_the_mean_log_probability_of_the_words_written_out():
    logits_BV, total = draw(3, 5), 0.0
    for i in range(3):
        odds = [math.exp(float(logit)) for logit in logits_BV[i]]
        words = [v for v in range(5) if WORDS_BV[i, v]]
        total -= sum(math.log(odds[v] / sum(odds)) for v in words) / len(words)
    assert float(bag_of_words_loss(logits_BV, WORDS_BV)) == pytest.approx(total / 3, rel=1e-12)


def test_bag_of_words_pulls_each_score_towards_its_share_of_the_caption():
    logits_BV = draw(3, 5)
    _, gradient_BV = with_gradients(lambda logits: bag_of_words_loss(logits, WORDS_BV), logits_BV)
    share_BV = torch.tensor([[1, 0, 0, 1, 1], [0, 3, 0, 0, 0], [0.6] * 5], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient_BV, (logits_BV.softmax(1) - share_BV) / 3)


def test_equal_scores_cost_the_logarithm_of_the_vocabulary():
    assert float(bag_of_words_loss(torch.zeros(3, 5), WORDS_BV)) == pytest.approx(math.log(5))
    assert float(captioning_loss(torch.zeros(2, 4, 5), NEXT_BL, SAID_BL)) == pytest.approx(math.log(5))


def test_a_caption_without_words_costs_nothing():
    logits_BV, words_BV = draw(3, 5), WORDS_BV.clone()
    words_BV[1] = False
    loss, gradient_BV = with_gradients(lambda logits: bag_of_words_loss(logits, words_BV), logits_BV)
    others = bag_of_words_loss(logits_BV[[0, 2]], words_BV[[0, 2]])
    assert float(loss) == pytest.approx(float(others) * 2 / 3)
    assert not gradient_BV[1].any()


def test_captioning_is_the_mean_over_all_tokens_that_were_said_written_out():
    logits_BLV, total = draw(2, 4, 5), 0.0
    for i, length in ((0, 2), (1, 4)):
        for place in range(length):
            odds = [math.exp(float(logit)) for logit in logits_BLV[i, place]]
            total -= math.log(odds[int(NEXT_BL[i, place])] / sum(odds))
    assert float(captioning_loss(logits_BLV, NEXT_BL, SAID_BL)) == pytest.approx(total / 6, rel=1e-12)


def test_what_stands_at_padding_has_no_influence():
    logits_BLV, other_BLV, other_BL = draw(2, 4, 5), draw(2, 4, 5), NEXT_BL.clone()
    other_BLV[0, 2:], other_BL[0, 2:] = torch.nan, 3
    padded = with_gradients(lambda logits: captioning_loss(logits, NEXT_BL, SAID_BL), logits_BLV)
    damaged = with_gradients(lambda logits: captioning_loss(logits, other_BL, SAID_BL), other_BLV)
    assert all(map(torch.equal, padded, damaged))
    assert not padded[1][0, 2:].any()
    assert padded[1][0, :2].all()


@pytest.mark.parametrize("loss", ["words", "caption"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loss_is_fp32_under_autocast_and_of_scores_in_half_precision(loss, dtype):
    logits = draw(*((3, 5) if loss == "words" else (2, 4, 5))).to(dtype)

    def compute(scores: Tensor) -> Tensor:
        return (
            bag_of_words_loss(scores, WORDS_BV)
            if loss == "words"
            else captioning_loss(scores, NEXT_BL, SAID_BL)
        )

    inside = under_autocast(compute)(logits)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside.double(), compute(logits.double()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("words", [(3, 4), (2, 5), (3,)])
def test_words_of_another_shape_are_named(words):
    with pytest.raises(ShapeError, match=r"\(3, 5\) and \(" + ", ".join(map(str, words))):
        bag_of_words_loss(draw(3, 5), torch.ones(words, dtype=torch.bool))


@pytest.mark.parametrize(
    ("logits", "after", "said"),
    [((2, 5), (2,), (2,)), ((2, 4, 5), (2, 3), (2, 3)), ((2, 4, 5), (2, 4), (2, 3))],
)
def test_texts_that_do_not_fit_their_scores_are_named(logits, after, said):
    with pytest.raises(ShapeError, match=r"scores \[B, L, V\]"):
        captioning_loss(
            draw(*logits), torch.zeros(after, dtype=torch.int64), torch.ones(said, dtype=torch.bool)
        )


def test_an_empty_batch_is_an_error_and_not_nan():
    nothing = torch.zeros(0, 5, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"\(0, 5\)"):
        bag_of_words_loss(draw(0, 5), nothing)
    with pytest.raises(ShapeError, match="not one token was said"):
        captioning_loss(draw(2, 4, 5), NEXT_BL, torch.zeros_like(SAID_BL))
