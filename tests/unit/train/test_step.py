"""One optimizer step: parameter groups, clipping, divergence, precision."""

import copy

import pytest
import torch

from zebra.config.image_towers import ResNetConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig
from zebra.errors import DivergenceError
from zebra.models import CLIP
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step

CONFIG = ModelConfig(
    embed_dim=32,
    image_size=32,
    vision=ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
    text=TextConfig(width=64, layers=1, heads=1, vocab_size=300, context_length=8),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLIP(CONFIG)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 290, (6, 8), generator=generator)
    tokens[:, 7] = 299
    return torch.randn(6, 3, 32, 32, generator=generator), tokens


def step(model, batch, **options):
    settings = {"lr": 1e-2, "grad_clip_norm": 1.0, "precision": "fp32"} | options
    optimizer = settings.pop("optimizer", None) or build_optimizer(model, OptimizerConfig())
    return train_step(model, optimizer, *batch, **settings)


def test_weights_decay_and_gains_and_biases_do_not(model):
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, OptimizerConfig(weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in sorted(groups, key=lambda group: group["weight_decay"])] == [0.0, 0.3]
    decayed, free = (
        [names[parameter] for group in groups if group["weight_decay"] == decay for parameter in group["params"]]
        for decay in (0.3, 0.0)
    )
    assert {"text.token_embedding.weight", "text.positional_embedding", "visual.conv1.weight"} <= set(decayed)
    assert {"logit_scale", "visual.bn1.weight", "visual.bn1.bias", "text.ln_final.weight"} <= set(free)
    assert len(decayed) + len(free) == len(list(model.parameters()))


def test_repeated_steps_on_one_batch_fit_it(model, batch):
    optimizer = build_optimizer(model, OptimizerConfig())
    losses = [step(model, batch, optimizer=optimizer, lr=3e-3).loss for _ in range(40)]
    assert losses[-1] < losses[0] / 3


def test_clipping_scales_the_gradient_that_is_applied_and_reports_the_norm_before(model, batch):
    """With plain gradient descent, the change of the weights is the applied gradient."""
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    metrics = step(model, batch, optimizer=optimizer, lr=1.0, grad_clip_norm=1e-3)
    moved = [model.get_parameter(n) - before[n] for n, _ in model.named_parameters()]
    assert metrics.grad_norm > 1e-3
    assert float(torch.cat([m.flatten() for m in moved]).detach().norm()) == pytest.approx(1e-3, rel=1e-2)


def test_clip_norm_0_does_not_change_the_gradient(model, batch):
    before = copy.deepcopy(model.state_dict())
    metrics = step(model, batch, optimizer=torch.optim.SGD(model.parameters(), lr=0.0), lr=1e-3, grad_clip_norm=0)
    moved = [model.get_parameter(n) - before[n] for n, _ in model.named_parameters()]
    applied = float(torch.cat([m.flatten() for m in moved]).detach().norm()) / 1e-3
    assert applied == pytest.approx(metrics.grad_norm, rel=1e-2)


def test_a_nan_loss_stops_before_the_update(model, batch):
    images, tokens = batch
    images[0, 0, 0, 0] = float("nan")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(DivergenceError, match="lower --lr"):
        step(model, (images, tokens))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_bf16_step_stays_close_to_fp32(model, batch):
    other = copy.deepcopy(model)
    fp32, bf16 = step(model, batch), step(other, batch, precision="bf16")
    assert bf16.loss == pytest.approx(fp32.loss, rel=0.05)
    assert bf16.loss != fp32.loss


def test_temperature_stays_within_its_bounds_after_a_step(model, batch):
    torch.nn.init.constant_(model.logit_scale, 4.6)
    for _ in range(3):
        step(model, batch, lr=1.0)
        assert 1.0 <= float(model.logit_scale.detach().exp()) <= 100.001


def test_batch_accuracy_is_the_share_of_images_whose_own_text_scores_highest(model):
    """The batch has more rows than one block of comparisons."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(300, 3, 32, 32, generator=generator)
    tokens = torch.randint(0, 299, (300, 8), generator=generator)
    own = torch.arange(300) % 7 == 0
    image_BE = torch.eye(300, 301)
    text_BE = torch.where(own[:, None], image_BE, torch.eye(301)[300])
    model.forward = lambda *_: (image_BE.requires_grad_(), text_BE, model.logit_scale.exp())
    assert step(model, (images, tokens)).batch_accuracy == pytest.approx(float(own.float().mean()))
