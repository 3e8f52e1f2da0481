"""The averaged weights follow the formula, and lending them changes nothing."""

import contextlib

import torch
from torch import nn

from zebra.train.ema import ModelEMA


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def move(module, by):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


def test_the_average_is_the_recurrence_of_its_decay():
    module = model()
    average = ModelEMA(module, decay=0.3)
    expected = module[0].weight.detach().clone()
    for step in range(20):
        move(module, 1.0 + step)
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module[0].weight.detach()
    torch.testing.assert_close(average.weights["0.weight"], expected, rtol=1e-13, atol=0)


def test_inside_the_block_the_model_is_the_average_and_after_it_is_itself():
    module = model()
    average = ModelEMA(module, decay=0.9)
    start = [parameter.detach().clone() for parameter in module.parameters()]
    move(module, 1.0)
    moved = [parameter.detach().clone() for parameter in module.parameters()]
    with average.average_parameters():
        inside = [parameter.detach().clone() for parameter in module.parameters()]
    assert all(map(torch.equal, inside, start))
    assert all(map(torch.equal, module.parameters(), moved))
    assert all(map(torch.equal, average.weights.values(), start))


def test_an_error_inside_the_block_gives_the_model_its_weights_back():
    module = model()
    average = ModelEMA(module, decay=0.9)
    move(module, 1.0)
    moved = module[0].weight.detach().clone()
    with contextlib.suppress(ZeroDivisionError), average.average_parameters():
        _ = 1 / 0
    assert torch.equal(module[0].weight, moved)
