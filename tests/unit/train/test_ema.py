"""EMA: the average follows its formula, and using it leaves the model unchanged."""

import contextlib

import torch
from torch import nn

from zebra.train.ema import ModelEMA


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def shift_weights(module, by):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


def test_the_average_follows_its_recurrence():
    module = make_model()
    ema = ModelEMA(module, decay=0.3)
    expected = module[0].weight.detach().clone()
    for step in range(20):
        shift_weights(module, 1.0 + step)
        ema.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module[0].weight.detach()
    torch.testing.assert_close(ema.weights["0.weight"], expected, rtol=1e-13, atol=0)


def test_the_block_uses_the_average_and_restores_the_weights():
    module = make_model()
    ema = ModelEMA(module, decay=0.9)
    initial = [parameter.detach().clone() for parameter in module.parameters()]
    shift_weights(module, 1.0)
    shifted = [parameter.detach().clone() for parameter in module.parameters()]
    with ema.average_parameters():
        inside = [parameter.detach().clone() for parameter in module.parameters()]
    assert all(map(torch.equal, inside, initial))
    assert all(map(torch.equal, module.parameters(), shifted))
    assert all(map(torch.equal, ema.weights.values(), initial))


def test_an_error_in_the_block_restores_the_weights():
    module = make_model()
    ema = ModelEMA(module, decay=0.9)
    shift_weights(module, 1.0)
    shifted = module[0].weight.detach().clone()
    with contextlib.suppress(ZeroDivisionError), ema.average_parameters():
        _ = 1 / 0
    assert torch.equal(module[0].weight, shifted)
