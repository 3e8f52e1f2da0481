"""A step with the sigmoid loss, with dropped patches, and with layer-wise rates equals the same step by hand."""

import copy

import pytest
import torch

from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig
from zebra.errors import DivergenceError
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.train.objective import Targets, label_pairs
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step


def build(logit_bias=False):
    torch.manual_seed(0)
    config = ModelConfig(
        embed_dim=16,
        image_size=32,
        vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=8),
        text=TextConfig(width=64, layers=1, heads=1, vocab_size=300, context_length=8),
        logit_bias=logit_bias,
    )
    return CLIP(config)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 290, (6, 8), generator=generator)
    tokens[:, 7] = 299
    return torch.randn(6, 3, 32, 32, generator=generator), tokens


def by_hand(model, loss_of, *inputs, lr):
    """Update a copy of the model with torch alone; return it and the loss."""
    model = copy.deepcopy(model)
    optimizer = build_optimizer(model, OptimizerConfig())
    loss = loss_of(model, *model(*inputs))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return model, float(loss.detach())


def assert_same_weights(first, second):
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("logit_bias", "loss_of"),
    [
        (False, lambda _model, image, text, scale: info_nce(image, text, scale)),
        (True, lambda model, image, text, scale: sigmoid_loss(image, text, scale, model.logit_bias)),
    ],
)
def test_a_step_is_that_of_the_loss_its_model_asks_for(batch, logit_bias, loss_of):
    model = build(logit_bias)
    expected, loss = by_hand(model, loss_of, *batch, lr=1e-3)
    metrics = train_step(
        model, build_optimizer(model, OptimizerConfig()), *batch, lr=1e-3, grad_clip_norm=1.0, precision="fp32"
    )
    assert metrics.loss == pytest.approx(loss, rel=1e-5)
    assert_same_weights(model, expected)


@pytest.mark.parametrize("logit_bias", [False, True])
def test_pairs_with_equal_labels_match_each_other(batch, logit_bias):
    model, labels = build(logit_bias), torch.tensor([0, 1, 0, 2, 1, 0])

    def loss_of(model, image, text, scale):
        if logit_bias:
            return sigmoid_loss(image, text, scale, model.logit_bias, label_N=labels)
        return info_nce(image, text, scale, label_N=labels)

    expected, loss = by_hand(model, loss_of, *batch, lr=1e-3)
    optimizer = build_optimizer(model, OptimizerConfig())
    metrics = train_step(
        model, optimizer, *batch, targets=Targets(label_B=labels), lr=1e-3, grad_clip_norm=1.0, precision="fp32"
    )
    assert metrics.loss == pytest.approx(loss, rel=1e-5)
    assert_same_weights(model, expected)


def test_a_text_with_the_same_caption_counts_as_correct(batch):
    images, tokens = batch
    tokens = tokens[:1].repeat(6, 1)
    for labels, accuracy in ((None, 1 / 6), (torch.zeros(6).long(), 1.0)):
        model = build()
        optimizer = build_optimizer(model, OptimizerConfig())
        metrics = train_step(
            model,
            optimizer,
            images,
            tokens,
            targets=Targets(label_B=labels),
            lr=1e-3,
            grad_clip_norm=1.0,
            precision="fp32",
        )
        assert metrics.batch_accuracy == pytest.approx(accuracy)


def test_pairs_of_a_group_or_with_equal_captions_have_equal_labels_in_every_process():
    captions = ("a dog", "a cat", "a dog", "\ud800", "a dog", "a hound", "7")
    labels = label_pairs(captions, (None, None, None, None, "7", "7", None)).tolist()
    assert labels[0] == labels[2]
    assert labels[4] == labels[5]
    assert len(set(labels)) == 5
    assert labels[0] == 9060669101138719874


def test_the_image_tower_sees_the_patches_of_the_step(batch):
    model = build()
    ids_keep = torch.arange(16).repeat(6, 1)[:, 3:9]
    expected, loss = by_hand(model, lambda _model, *parts: info_nce(*parts), *batch, ids_keep, lr=1e-3)
    metrics = train_step(
        model,
        build_optimizer(model, OptimizerConfig()),
        *batch,
        ids_keep,
        lr=1e-3,
        grad_clip_norm=1.0,
        precision="fp32",
    )
    assert metrics.loss == pytest.approx(loss, rel=1e-5)
    assert_same_weights(model, expected)
    with torch.no_grad():
        assert float(info_nce(*model(*batch))) != pytest.approx(loss, rel=1e-3)


def test_gradients_of_the_step_before_do_not_count(batch):
    first, second = build(), build()
    for parameter in first.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    for model in (first, second):
        train_step(
            model, build_optimizer(model, OptimizerConfig()), *batch, lr=1e-3, grad_clip_norm=1.0, precision="fp32"
        )
    assert_same_weights(first, second)


def test_each_parameter_group_learns_at_its_own_share_of_the_rate(batch):
    model = build()
    optimizer = build_optimizer(model, OptimizerConfig())
    optimizer.param_groups[0]["lr_scale"] = 0.25
    train_step(model, optimizer, *batch, lr=1e-3, grad_clip_norm=1.0, precision="fp32")
    assert [group["lr"] for group in optimizer.param_groups] == [2.5e-4, *[1e-3] * (len(optimizer.param_groups) - 1)]


def test_a_finite_loss_with_a_nan_gradient_stops_before_the_update(batch):
    model = build()
    before = copy.deepcopy(model.state_dict())
    model.text.text_projection.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DivergenceError, match="nan"):
        train_step(
            model, build_optimizer(model, OptimizerConfig()), *batch, lr=1e-3, grad_clip_norm=1.0, precision="fp32"
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
