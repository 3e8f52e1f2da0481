"""Processes that work together: what torchrun started in; who this one is, and rows, sums and decisions of all, out.

Alone, all of it is the identity.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zebra.errors import ConfigError, RankError, ZebraError

T = TypeVar("T")

SHUTDOWN_GRACE_SECONDS = 0.5
"""Between the last exchange and the end.

Gloo's thread needs the interpreter to let go of what was exchanged. The group's destructor waits for that thread; where
an error keeps DDP alive, it does so while it holds the interpreter, and both would wait for ever.
"""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one run. What is exchanged must be asked for by all of them, in the same order."""

    rank: int = 0
    """Number of this process."""
    world_size: int = 1
    """Processes in all."""

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def local_slice(self, num_items: int) -> slice:
        """Return which of some items are this process's; the shares of all, in order, are all of them."""
        return slice(self.rank * num_items // self.world_size, (self.rank + 1) * num_items // self.world_size)

    def all_gather(self, local_RE: Tensor) -> Tensor:
        """Return the rows [N, E] of all processes, each giving as many; gradients come back summed."""
        if self.world_size == 1:
            return local_RE
        rows_NE: Tensor = _AllGather.apply(local_RE, self)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return rows_NE

    def all_reduce_sum(self, local: Tensor) -> Tensor:
        """Return the sum over all processes.

        Its gradient is that of the sum, unchanged: right for a loss that all processes compute from the same sums, and
        whose gradients are added up afterwards.
        """
        return local if self.world_size == 1 else _all_reduce_sum(local, False)

    def all_reduce_sum_with_grad(self, local: Tensor) -> Tensor:
        """Return the sum over all processes, for the middle of a network.

        What each of them makes of it differs, so its gradients are summed over all, too.
        """
        return local if self.world_size == 1 else _all_reduce_sum(local, True)

    def all_reduce_max(self, local: Tensor) -> Tensor:
        """Return the largest of all processes, number by number, without a gradient."""
        if self.world_size == 1:
            return local.detach()
        largest = local.detach().clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest

    def all_gather_object(self, obj: T) -> list[T]:
        """Return what every process has, in the order of ranks."""
        if self.world_size == 1:
            return [obj]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, obj)
        return found

    def broadcast_from_main(self, fn: Callable[[], T]) -> T:
        """Return what the first process decides; where that fails, all fail.

        Raises:
            ZebraError: As the first process raises it; the others say that it did.
        """
        if self.world_size == 1:
            return fn()
        told: list[Any] = [None, None]
        failure: ZebraError | None = None
        if self.is_main_process:
            try:
                told[0] = fn()
            except ZebraError as error:
                failure, told[1] = error, str(error).partition("\n")[0]
        dist.broadcast_object_list(told)
        if failure is not None:
            raise failure
        if told[1] is not None:
            raise ConfigError(f"rank 0 gave up: {told[1]}")
        decided: T = told[0]
        return decided


SINGLE_PROCESS = ProcessGroup()


def world_info_from_env() -> ProcessGroup:
    """Return what torchrun says in the environment, without joining anybody; alone if it says nothing.

    Raises:
        ConfigError: It does not say all that is needed.
    """
    said = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")}
    if said["WORLD_SIZE"] in ("", "1"):
        return SINGLE_PROCESS
    missing = [name for name, value in said.items() if not value]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set, {' and '.join(missing)} not; start the processes with torchrun, or unset it"
        )
    rank, size = said["RANK"], said["WORLD_SIZE"]
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise ConfigError(
            f"RANK is {rank!r} and WORLD_SIZE {size!r}: the one must be a number below the other; start the processes "
            "with torchrun, or unset both"
        )
    return ProcessGroup(int(rank), int(size))


@contextmanager
def init_distributed(timeout_seconds: float) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started beside this one, each with a GPU of its own where there are GPUs.

    Args:
        timeout_seconds: Without a word from one of them, after which an exchange fails.

    Raises:
        ConfigError: What torchrun sets in the environment is not whole, or there are more processes than GPUs.
        RankError: The processes did not find each other.
    """
    world = world_info_from_env()
    if world.world_size == 1:
        yield world
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine finds {torch.cuda.device_count()} GPUs; start as many processes as "
                "there are GPUs (torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    except dist.DistError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RankError(
            f"rank {world.rank}: the {world.world_size} processes did not find each other at {place} within "
            f"{timeout_seconds:g} s ({str(error).partition(chr(10))[0]}); start all of them, with an address and a "
            "port that all of them reach"
        ) from error
    try:
        yield world
    finally:
        time.sleep(SHUTDOWN_GRACE_SECONDS)
        dist.destroy_process_group()


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local_RE: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        rows_NE = local_RE.new_empty(group.world_size * len(local_RE), *local_RE.shape[1:])
        _get_collective("all_gather_single", "all_gather_into_tensor")(rows_NE, local_RE.contiguous())
        return rows_NE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient_NE,) = gradients
        mine_RE = gradient_NE.new_empty(len(gradient_NE) // ctx.group.world_size, *gradient_NE.shape[1:])
        _get_collective("reduce_scatter_single", "reduce_scatter_tensor")(mine_RE, gradient_NE.contiguous())
        return mine_RE, None


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, sum_gradients: bool) -> Tensor:
        ctx.sum_gradients = sum_gradients
        total = local.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        if ctx.sum_gradients:
            gradient = gradient.clone()
            dist.all_reduce(gradient)
        return gradient, None


def _all_reduce_sum(local: Tensor, sum_gradients: bool) -> Tensor:
    total: Tensor = _AllReduceSum.apply(local, sum_gradients)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return total


def _get_collective(name: str, old_name: str) -> Callable[..., object]:
    """Return an exchange by the name it has since torch 2.13, or the one it had before."""
    found: Callable[..., object] = getattr(dist, name, None) or getattr(dist, old_name)
    return found
