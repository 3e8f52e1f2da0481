"""A model in; the same model spread over the processes of a run out: DDP keeps a copy in each, FSDP2 shares of it.

Order matters and is this one: what is kept for gradients (`memory`), compilation, then the spreading; the optimizer is
made last, since FSDP2 puts other parameters in place of the model's.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from zebra.config.train import ParallelStrategy
from zebra.distributed import ProcessGroup
from zebra.models import CLIP
from zebra.models.image.resnet import Bottleneck
from zebra.models.transformer import ResidualBlock
from zebra.train.batchnorm import convert_sync_batchnorm

ForwardFn = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""Images and tokens in, their vectors and the multiplier out; on the way back, gradients of all are averaged."""


def parallelize(model: CLIP, group: ProcessGroup, mode: ParallelStrategy) -> ForwardFn:
    """Spread a model over processes; alone, it is what it was.

    FSDP2 holds a share of the towers' parameters, their gradients and moments in each process, and puts a block's
    together when it is its turn. The temperature is one number and stays whole.

    Returns:
        What to call in training in place of the model.
    """
    if group.world_size == 1:
        return model
    convert_sync_batchnorm(model, group)
    if mode == "fsdp":
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # FSDP2 takes no other
        mesh = init_device_mesh(model.logit_scale.device.type, (group.world_size,))
        for module in [*model.modules()]:
            if isinstance(module, ResidualBlock | Bottleneck):
                fully_shard(module, mesh=mesh)
        for tower in (model.visual, model.text):
            fully_shard(tower, mesh=mesh)
        return model
    # Without device_ids inputs stay where they are: texts are packed on the CPU.
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def all_reduce_replicated_grads(model: CLIP, group: ProcessGroup) -> None:
    """Average the gradients of parameters that are whole while others are sharded; DDP does it for all of its own."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return
    for parameter in parameters:
        if not isinstance(parameter, DTensor):
            assert parameter.grad is not None
            parameter.grad.copy_(group.all_reduce_sum(parameter.grad) / group.world_size)


def to_full(tensor: Tensor) -> Tensor:
    """Return a tensor put together from its shares, if it has some; all processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """Return this process's share of a tensor, or all of one that is not sharded; both lie in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def copy_from_full(tensor: Tensor, full_value: Tensor) -> None:
    """Give a tensor the values of a whole one, each process taking its share."""
    if isinstance(tensor, DTensor):
        full_value = distribute_tensor(
            full_value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
        )
    tensor.copy_(full_value)


def unshard_model(model: CLIP) -> CLIP:
    """Return a plain model with the weights of a sharded one; an unsharded one is returned as it is."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model
    plain = CLIP(model.config).to(model.logit_scale.device)
    plain.load_state_dict({name: to_full(value) for name, value in model.state_dict().items()})
    return plain


def clip_grad_norm_(model: nn.Module, max_norm: float, group: ProcessGroup) -> Tensor:
    """Scale the gradient down to a norm of `max_norm`, if it has more; return the norm it had."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    shares = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    if not shares:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    wholes = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = [torch.nn.utils.get_total_norm(some) ** 2 for some in (shares, wholes)]
    norm = (group.all_reduce_sum(squares[0]) + squares[1]).sqrt()
    torch._foreach_mul_(shares + wholes, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
