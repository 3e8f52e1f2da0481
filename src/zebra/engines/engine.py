"""The interface of an engine that runs independent jobs."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs a function on many items."""

    is_distributed: bool
    """Whether jobs run in other processes, perhaps on other machines, to which functions and items are copied."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result for each item, in their order; only a few items ahead are computed at a time.

        An exception of the function is raised here. A job may run twice if a machine fails, so it must be idempotent.
        """
        ...
