"""A running average of the weights: a model in after each step, the same model of averaged weights out when asked."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zebra.train.parallel import to_local


class ModelEMA:
    """The exponential moving average of a model's parameters, in the parameters' own precision.

    Averaging starts at the weights the model has now. For the first steps the decay is small, (1 + n) / (10 + n),
    so that the random start is forgotten soon. Buffers (batch norm's statistics) are averages already and stay as
    they are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.num_updates = 0
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        """By the parameter's name."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimizer step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(
            [to_local(weight) for weight in self.weights.values()], self._local_parameters(), 1 - decay
        )

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, and its own ones back after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(
            map(to_local, self.weights.values()), self._local_parameters(), strict=True
        ):
            own = parameter.clone()
            parameter.copy_(average)
            average.copy_(own)

    def _local_parameters(self) -> list[Tensor]:
        return [to_local(parameter.detach()) for parameter in self.model.parameters()]
