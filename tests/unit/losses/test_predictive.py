"""The predictive baseline losses against their definitions."""

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
TARGET_BL = torch.tensor([[4, 2, 0, 0], [1, 0, 3, 4]])
MASK_BL = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
"""The first text has two tokens; the second contains the padding id 0 as a word."""


def test_bag_of_words_is_the_mean_log_probability_of_the_words():
    logits_BV, total = draw(3, 5), 0.0
    for i in range(3):
        exp_logits = [math.exp(float(logit)) for logit in logits_BV[i]]
        words = [v for v in range(5) if WORDS_BV[i, v]]
        total -= sum(math.log(exp_logits[v] / sum(exp_logits)) for v in words) / len(words)
    assert float(bag_of_words_loss(logits_BV, WORDS_BV)) == pytest.approx(total / 3, rel=1e-12)


def test_bag_of_words_gradient_is_softmax_minus_target():
    logits_BV = draw(3, 5)
    _, gradient_BV = with_gradients(lambda logits: bag_of_words_loss(logits, WORDS_BV), logits_BV)
    target_prob_BV = torch.tensor([[1, 0, 0, 1, 1], [0, 3, 0, 0, 0], [0.6] * 5], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient_BV, (logits_BV.softmax(1) - target_prob_BV) / 3)


def test_equal_logits_have_loss_log_vocab_size():
    assert float(bag_of_words_loss(torch.zeros(3, 5), WORDS_BV)) == pytest.approx(math.log(5))
    assert float(captioning_loss(torch.zeros(2, 4, 5), TARGET_BL, MASK_BL)) == pytest.approx(math.log(5))


def test_a_caption_without_words_has_loss_zero():
    logits_BV, target_BV = draw(3, 5), WORDS_BV.clone()
    target_BV[1] = False
    loss, gradient_BV = with_gradients(lambda logits: bag_of_words_loss(logits, target_BV), logits_BV)
    others = bag_of_words_loss(logits_BV[[0, 2]], target_BV[[0, 2]])
    assert float(loss) == pytest.approx(float(others) * 2 / 3)
    assert not gradient_BV[1].any()


def test_captioning_is_the_mean_over_all_tokens_except_padding():
    logits_BLV, total = draw(2, 4, 5), 0.0
    for i, length in ((0, 2), (1, 4)):
        for position in range(length):
            exp_logits = [math.exp(float(logit)) for logit in logits_BLV[i, position]]
            total -= math.log(exp_logits[int(TARGET_BL[i, position])] / sum(exp_logits))
    assert float(captioning_loss(logits_BLV, TARGET_BL, MASK_BL)) == pytest.approx(total / 6, rel=1e-12)


def test_values_at_padding_have_no_influence():
    logits_BLV, other_BLV, other_BL = draw(2, 4, 5), draw(2, 4, 5), TARGET_BL.clone()
    other_BLV[0, 2:], other_BL[0, 2:] = torch.nan, 3
    padded = with_gradients(lambda logits: captioning_loss(logits, TARGET_BL, MASK_BL), logits_BLV)
    damaged = with_gradients(lambda logits: captioning_loss(logits, other_BL, MASK_BL), other_BLV)
    assert all(map(torch.equal, padded, damaged))
    assert not padded[1][0, 2:].any()
    assert padded[1][0, :2].all()


@pytest.mark.parametrize("loss", ["words", "caption"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loss_is_fp32_under_autocast_and_for_half_precision_logits(loss, dtype):
    input_logits = draw(*((3, 5) if loss == "words" else (2, 4, 5))).to(dtype)

    def compute(logits: Tensor) -> Tensor:
        return bag_of_words_loss(logits, WORDS_BV) if loss == "words" else captioning_loss(logits, TARGET_BL, MASK_BL)

    autocast_loss = under_autocast(compute)(input_logits)
    assert autocast_loss.dtype == torch.float32
    torch.testing.assert_close(autocast_loss.double(), compute(input_logits.double()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("words", [(3, 4), (2, 5), (3,)])
def test_targets_of_another_shape_are_named_in_the_error(words):
    with pytest.raises(ShapeError, match=r"\(3, 5\) and \(" + ", ".join(map(str, words))):
        bag_of_words_loss(draw(3, 5), torch.ones(words, dtype=torch.bool))


@pytest.mark.parametrize(
    ("logits", "target", "mask"), [((2, 5), (2,), (2,)), ((2, 4, 5), (2, 3), (2, 3)), ((2, 4, 5), (2, 4), (2, 3))]
)
def test_texts_that_do_not_match_their_logits_are_named_in_the_error(logits, target, mask):
    with pytest.raises(ShapeError, match=r"logits \[B, L, V\]"):
        captioning_loss(draw(*logits), torch.zeros(target, dtype=torch.int64), torch.ones(mask, dtype=torch.bool))


def test_an_empty_batch_is_an_error_instead_of_nan():
    empty = torch.zeros(0, 5, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"\(0, 5\)"):
        bag_of_words_loss(draw(0, 5), empty)
    with pytest.raises(ShapeError, match=r"every token of the batch .* is masked"):
        captioning_loss(draw(2, 4, 5), TARGET_BL, torch.zeros_like(MASK_BL))
