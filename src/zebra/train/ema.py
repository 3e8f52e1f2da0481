"""Exponential moving average of the weights (EMA)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zebra.train.parallel import to_local


class ModelEMA:
    """Exponential moving average of a model's parameters, in the parameters' precision.

    The average starts at the current weights. In the first steps the decay is small, (1 + n) / (10 + n), so that the
    random initial weights are soon forgotten. Buffers are not averaged: batch norm's statistics already are averages.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.num_updates = 0
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        """Averaged weights by parameter name."""

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after an optimizer step to the average."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(
            [to_local(weight) for weight in self.weights.values()], self._local_parameters(), 1 - decay
        )

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, and restore its own weights after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(map(to_local, self.weights.values()), self._local_parameters(), strict=True):
            saved = parameter.clone()
            parameter.copy_(average)
            average.copy_(saved)

    def _local_parameters(self) -> list[Tensor]:
        return [to_local(parameter.detach()) for parameter in self.model.parameters()]
