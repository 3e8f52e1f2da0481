"""The bag-of-words baseline."""

import pytest
import torch
from torch import Tensor

from zebra.config.image_towers import ResNetConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.losses import bag_of_words_loss
from zebra.models import CLIP, BagOfWords
from zebra.models.bag_of_words import tokens_to_multi_hot

START, END = 38, 39
TEXTS_BL = torch.tensor([[START, 5, 9, 5, 7, END], [START, 8, 0, END, 0, 0], [START, END, 0, 0, 0, 0]])


def make_model() -> BagOfWords:
    torch.manual_seed(0)
    vision = ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4)
    text = TextConfig(width=32, layers=1, heads=1, vocab_size=40)
    return BagOfWords(ModelConfig(embed_dim=24, image_size=32, vision=vision, text=text)).eval()


def make_images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_words_are_the_distinct_tokens_between_start_and_end():
    """In the second text, the padding id 0 is also a word; in the others it is only padding."""
    target_BV = tokens_to_multi_hot(TEXTS_BL, 40)
    assert [row.nonzero().flatten().tolist() for row in target_BV] == [[5, 7, 9], [0, 8], []]


def test_padding_adds_no_words():
    wider_BL = torch.cat([TEXTS_BL, torch.full((3, 4), 11)], dim=1)
    assert torch.equal(tokens_to_multi_hot(wider_BL, 40), tokens_to_multi_hot(TEXTS_BL, 40))


@torch.no_grad()
def test_likelihood_is_the_mean_log_probability_of_the_words_of_a_text():
    model = make_model()
    prob_BV = model(make_images()).softmax(dim=1)
    result_BC = model.log_likelihood(make_images(), TEXTS_BL)
    for b in range(3):
        assert float(result_BC[b, 0]) == pytest.approx(float(prob_BV[b, [5, 7, 9]].log().mean()), rel=1e-5)
        assert float(result_BC[b, 1]) == pytest.approx(float(prob_BV[b, [0, 8]].log().mean()), rel=1e-5)
    assert not result_BC[:, 2].any()


def test_gradients_reach_the_image_tower():
    model = make_model().train()
    bag_of_words_loss(model(make_images()), tokens_to_multi_hot(TEXTS_BL, 40)).backward()
    assert model.visual.conv1.weight.grad.any()
    assert model.visual.attnpool.c_proj.weight.grad.any()


def test_the_same_seed_gives_the_image_tower_of_clip():
    model = make_model()
    torch.manual_seed(0)
    for name, weight in CLIP(model.config).visual.state_dict().items():
        assert torch.equal(weight, model.visual.state_dict()[name]), name
