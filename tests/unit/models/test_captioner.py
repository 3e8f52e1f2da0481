"""The captioner: causal decoding, likelihoods and weights."""

import pytest
import torch
from torch import Tensor

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig, TextConfig
from zebra.errors import ConfigError, ShapeError
from zebra.losses import captioning_loss
from zebra.models import CLIP, Captioner

TEXT = TextConfig(width=32, layers=2, heads=2, vocab_size=40, context_length=12)
TOWERS = {
    "vit": VisionTransformerConfig(width=32, layers=1, heads=1, patch_size=16),
    "resnet": ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
}
START, END = 38, 39
TEXTS_BL = torch.tensor([[START, 5, 9, 3, 7, END], [START, 8, 0, END, 0, 0]])
"""In the second text, the padding id 0 is also a word."""


def make_captioner(kind: str = "vit") -> Captioner:
    torch.manual_seed(0)
    return Captioner(ModelConfig(embed_dim=24, image_size=32, vision=TOWERS[kind], text=TEXT)).eval()


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_later_token_changes_no_earlier_logit():
    model = make_captioner()
    before_BLV = model(images(), TEXTS_BL)[0]
    for position in range(1, 5):
        changed_BL = TEXTS_BL.clone()
        changed_BL[0, position] = 20
        after_BLV = model(images(), changed_BL)[0]
        assert torch.equal(after_BLV[0, :position], before_BLV[0, :position])
        assert not torch.isclose(after_BLV[0, position:], before_BLV[0, position:]).all(dim=1).any()


def test_every_logit_depends_on_its_image_only():
    model, pixels = make_captioner(), images()
    before_BLV = model(pixels, TEXTS_BL)[0]
    pixels[0] += 1
    after_BLV = model(pixels, TEXTS_BL)[0]
    assert not torch.isclose(after_BLV[0], before_BLV[0]).all(dim=1).any()
    assert torch.equal(after_BLV[1], before_BLV[1])


def test_targets_are_the_words_and_the_end_token():
    _, target_BL, mask_BL = make_captioner()(images(), TEXTS_BL)
    assert [row[mask].tolist() for row, mask in zip(target_BL, mask_BL, strict=True)] == [
        [5, 9, 3, 7, END],
        [8, 0, END],
    ]


def test_padding_changes_neither_loss_nor_likelihood():
    model = make_captioner()
    wider_BL = torch.cat([TEXTS_BL, torch.zeros(2, 4, dtype=torch.int64)], dim=1)
    for padding in (0, 11):
        wider_BL[0, 6:], wider_BL[1, 4:] = padding, padding
        torch.testing.assert_close(
            captioning_loss(*model(images(), wider_BL)), captioning_loss(*model(images(), TEXTS_BL))
        )
        torch.testing.assert_close(model.log_likelihood(images(), wider_BL), model.log_likelihood(images(), TEXTS_BL))


@torch.no_grad()
def test_likelihood_is_the_product_of_the_probabilities_of_the_tokens():
    """Decode each text token by token, with an arbitrary last token."""
    model = make_captioner()
    result_BC = model.log_likelihood(images(), TEXTS_BL)
    for b, image in enumerate(images()):
        for c, text in enumerate(([5, 9, 3, 7, END], [8, 0, END])):
            total, prefix = 0.0, [START]
            for token in text:
                tokens = torch.tensor([[*prefix, END]])
                total += float(model(image[None], tokens)[0][0, -1].softmax(dim=0)[token].log())
                prefix.append(token)
            assert float(result_BC[b, c]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", TOWERS)
def test_gradients_reach_every_weight_of_both_towers(kind):
    model = make_captioner(kind).train()
    for module in model.modules():  # a residual branch that starts at zero has no gradient
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    captioning_loss(*model(images(4), TEXTS_BL.repeat(2, 1))).backward()
    unused = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    # A shift of all keys does not change attention.
    assert unused <= {"visual.attnpool.k_proj.bias"}


@pytest.mark.parametrize("kind", TOWERS)
def test_it_has_exactly_the_weights_of_clip(kind):
    model = make_captioner(kind)
    clip = CLIP(model.config)
    shapes = {name: weight.shape for name, weight in clip.named_parameters() if name != "logit_scale"}
    assert {name: weight.shape for name, weight in model.named_parameters()} == shapes


def test_the_same_seed_gives_the_initial_weights_of_clip():
    model = make_captioner("resnet")
    torch.manual_seed(0)
    for name, weight in CLIP(model.config).visual.state_dict().items():
        assert torch.equal(weight, model.visual.state_dict()[name]), name


def test_a_bidirectional_text_tower_is_refused():
    text = SiglipTextConfig(width=32, layers=1, heads=1)
    with pytest.raises(ConfigError, match="needs a causal text tower"):
        Captioner(ModelConfig(embed_dim=24, image_size=32, vision=TOWERS["vit"], text=text))


@pytest.mark.parametrize("texts", [torch.zeros(3, 5, dtype=torch.int64), torch.zeros(2, 13, dtype=torch.int64)])
def test_texts_of_wrong_number_or_length_are_refused(texts):
    with pytest.raises(ShapeError, match=r"one text per image, truncated to that length"):
        make_captioner()(images(), texts)
