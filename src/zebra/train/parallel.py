"""Parallel training: DDP replicates the model in each process, FSDP2 shards it.

Apply in this order: activation checkpointing, torch.compile, DDP or FSDP2. Create the optimizer last, because FSDP2
replaces the parameters.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from zebra.config.train import ParallelStrategy
from zebra.distributed import ProcessGroup
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.image.resnet import Bottleneck
from zebra.models.transformer import TransformerBlock
from zebra.train.batchnorm import FrozenStatistics, SyncBatchNorm2d, replace_batchnorm

ForwardFn = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""The model as training calls it: images and tokens to their embeddings and the logit scale.

The backward pass averages the gradients over all processes.
"""


def parallelize(model: CLIP, group: ProcessGroup, mode: ParallelStrategy) -> ForwardFn:
    """Distribute a model over the processes; with one process, return it unchanged.

    FSDP2 keeps a shard of the towers' parameters, gradients and moments in each process, and gathers the parameters of
    a block when they are needed. The temperature is a scalar and is not sharded.

    Returns:
        The function to call in training in place of the model.

    Raises:
        ConfigError: A library's batch norm cannot be synchronized.
    """
    if group.world_size == 1:
        return model
    replace_batchnorm(model, partial(SyncBatchNorm2d, group=group))
    _require_synced_batchnorm(model)
    if mode == "fsdp":
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # FSDP2 requires it
        mesh = init_device_mesh(model.logit_scale.device.type, (group.world_size,))
        for module in [*model.modules()]:
            if isinstance(module, TransformerBlock | Bottleneck):
                fully_shard(module, mesh=mesh)
        for tower in (model.visual, model.text):
            fully_shard(tower, mesh=mesh)
        return model
    # No device_ids, which would move the inputs: texts are packed on the CPU.
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def _require_synced_batchnorm(model: CLIP) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, SyncBatchNorm2d | FrozenStatistics):
            raise ConfigError(
                f"{name} is a {type(module).__name__}, whose statistics several processes cannot share. Train this "
                "model with one process, or fine-tune it, which fixes the statistics."
            )


def all_reduce_replicated_grads(model: CLIP, group: ProcessGroup) -> None:
    """Average the gradients of the unsharded parameters of a sharded model; DDP averages its gradients itself."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return
    for parameter in parameters:
        if not isinstance(parameter, DTensor):
            assert parameter.grad is not None
            parameter.grad.copy_(group.all_reduce_sum(parameter.grad) / group.world_size)


def to_full(tensor: Tensor) -> Tensor:
    """Return the full tensor of a sharded one, others unchanged; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """Return this process's shard of a sharded tensor, others unchanged; the result shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def copy_from_full(tensor: Tensor, full_value: Tensor) -> None:
    """Copy the values of a full tensor into a tensor, each process its shard."""
    if isinstance(tensor, DTensor):
        full_value = distribute_tensor(
            full_value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
        )
    tensor.copy_(full_value)


def unshard_model(model: CLIP) -> CLIP:
    """Return a plain model with the weights of a sharded one; return an unsharded model unchanged."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model
    plain = CLIP(model.config).to(model.logit_scale.device)
    plain.load_state_dict({name: to_full(value) for name, value in model.state_dict().items()})
    return plain


def clip_grad_norm_(model: nn.Module, max_norm: float, group: ProcessGroup) -> Tensor:
    """Scale the gradient down to a norm of at most `max_norm`; return its norm before."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    shards = [grad.to_local() for grad in grads if isinstance(grad, DTensor)]
    if not shards:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    replicated = [grad for grad in grads if not isinstance(grad, DTensor)]
    squares = [torch.nn.utils.get_total_norm(tensors) ** 2 for tensors in (shards, replicated)]
    norm = (group.all_reduce_sum(squares[0]) + squares[1]).sqrt()
    torch._foreach_mul_(shards + replicated, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
