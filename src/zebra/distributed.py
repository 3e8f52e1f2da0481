"""A thin wrapper over torch.distributed, in which a single process is a no-op."""

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
"""Pause between the last collective and the destruction of the process group.

Gloo's thread needs the GIL to free exchanged tensors, and the group's destructor waits for that thread. If an error
keeps DDP alive, the destructor holds the GIL while it waits, and the two deadlock.
"""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one run. All processes must call the same collectives in the same order."""

    rank: int = 0
    """Rank of this process."""
    world_size: int = 1
    """Number of processes."""

    @property
    def is_main_process(self) -> bool:
        """Return whether this process has rank 0, which writes files and reports."""
        return self.rank == 0

    def local_slice(self, num_items: int) -> slice:
        """Return the slice of `num_items` items that belongs to this rank; the slices of all ranks cover all items."""
        return slice(self.rank * num_items // self.world_size, (self.rank + 1) * num_items // self.world_size)

    def all_gather(self, local_RE: Tensor) -> Tensor:
        """Return the rows [N, E] of all ranks, R each; the backward pass reduce-scatters the gradients."""
        if self.world_size == 1:
            return local_RE
        rows_NE: Tensor = _AllGather.apply(local_RE, self)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return rows_NE

    def all_reduce_sum(self, local: Tensor) -> Tensor:
        """Return the sum over all ranks; gradients pass through unchanged.

        This is correct for a loss that all ranks compute from the same sums and whose parameter gradients are summed
        later.
        """
        return local if self.world_size == 1 else _all_reduce_sum(local, False)

    def all_reduce_sum_with_grad(self, local: Tensor) -> Tensor:
        """Return the sum over all ranks; gradients are summed over all ranks too.

        This is correct inside a network, where each rank uses the sum differently.
        """
        return local if self.world_size == 1 else _all_reduce_sum(local, True)

    def all_reduce_max(self, local: Tensor) -> Tensor:
        """Return the elementwise maximum over all ranks, without a gradient."""
        if self.world_size == 1:
            return local.detach()
        maximum = local.detach().clone()
        dist.all_reduce(maximum, dist.ReduceOp.MAX)
        return maximum

    def all_gather_object(self, obj: T) -> list[T]:
        """Return the objects of all ranks, in the order of ranks."""
        if self.world_size == 1:
            return [obj]
        objects: list[Any] = [None] * self.world_size
        dist.all_gather_object(objects, obj)
        return objects

    def broadcast_from_main(self, fn: Callable[[], T]) -> T:
        """Call `fn` on rank 0 and return its result on all ranks.

        Raises:
            ZebraError: On rank 0 the error of `fn`; on the other ranks a ConfigError with its first line.
        """
        if self.world_size == 1:
            return fn()
        result_and_error: list[Any] = [None, None]
        failure: ZebraError | None = None
        if self.is_main_process:
            try:
                result_and_error[0] = fn()
            except ZebraError as error:
                failure, result_and_error[1] = error, str(error).partition("\n")[0]
        dist.broadcast_object_list(result_and_error)
        if failure is not None:
            raise failure
        if result_and_error[1] is not None:
            raise ConfigError(f"rank 0 failed: {result_and_error[1]}")
        result: T = result_and_error[0]
        return result


SINGLE_PROCESS = ProcessGroup()


def world_info_from_env() -> ProcessGroup:
    """Return rank and world size from torchrun's environment variables, without connecting.

    Raises:
        ConfigError: If the variables are incomplete or invalid.
    """
    env = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")}
    if env["WORLD_SIZE"] in ("", "1"):
        return SINGLE_PROCESS
    missing = [name for name, value in env.items() if not value]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set without {', '.join(missing)}; start the processes with torchrun, or unset WORLD_SIZE"
        )
    rank, world_size = env["RANK"], env["WORLD_SIZE"]
    if not (rank.isdecimal() and world_size.isdecimal() and int(rank) < int(world_size)):
        raise ConfigError(
            f"RANK must be an integer in [0, WORLD_SIZE); got RANK={rank!r}, WORLD_SIZE={world_size!r}. Start the "
            "processes with torchrun, or unset both."
        )
    return ProcessGroup(int(rank), int(world_size))


@contextmanager
def init_distributed(timeout_seconds: float) -> Iterator[ProcessGroup]:
    """Initialize torch.distributed for the processes that torchrun started, with one GPU each if there are GPUs.

    Args:
        timeout_seconds: Time-out of a collective.

    Raises:
        ConfigError: If torchrun's environment variables are incomplete, or there are more processes than GPUs.
        RankError: If the processes could not connect.
    """
    group = world_info_from_env()
    if group.world_size == 1:
        yield group
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"LOCAL_RANK is {local_rank}, but this machine has {torch.cuda.device_count()} GPUs. Start at most one "
                "process per GPU (torchrun --nproc-per-node)."
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    except dist.DistError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RankError(
            f"rank {group.rank}: the {group.world_size} processes did not connect at {address} within "
            f"{timeout_seconds:g} s ({str(error).partition(chr(10))[0]}). Start all of them, with an address and port "
            "that all can reach."
        ) from error
    try:
        yield group
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
        local_RE = gradient_NE.new_empty(len(gradient_NE) // ctx.group.world_size, *gradient_NE.shape[1:])
        _get_collective("reduce_scatter_single", "reduce_scatter_tensor")(local_RE, gradient_NE.contiguous())
        return local_RE, None


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
    """Return a collective by its name since torch 2.13, or else by its old name."""
    collective: Callable[..., object] = getattr(dist, name, None) or getattr(dist, old_name)
    return collective
