"""Count of floating-point operations by running a model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count


def count_flops(run: Callable[[], object]) -> int:
    """Run a function and return the operations of its products and convolutions in torch; a multiply-add is two.

    Norms, activations and softmax are limited by memory bandwidth and not counted. Products in int8 are not seen:
    count those of the same model in fp32.
    """
    counter = _FlopCounter()  # type: ignore[no-untyped-call]
    with counter:
        run()
    return counter.total


class _FlopCounter(TorchDispatchMode):
    """Torch's formulas and one for attention on the CPU; `FlopCounterMode` would import torch's compiler, in 3 s."""

    total: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet, aten = func._overloadpacket, torch.ops.aten
        if packet is aten._scaled_dot_product_flash_attention_for_cpu:
            query, key, value = args[:3]
            self.total += sdpa_flop_count(query.shape, key.shape, value.shape)  # type: ignore[no-untyped-call]
        elif packet in flop_registry:
            output = func(*args, **kwargs)
            self.total += flop_registry[packet](*args, **kwargs, out_val=output)
            return output
        elif packet in (aten.linear, aten.matmul, aten.mv):  # in inference mode; decomposing matmul would import sympy
            output = func(*args, **kwargs)
            self.total += 2 * output.numel() * args[0].shape[-1]
            return output
        else:
            with self:  # in inference mode, other operators with several parts arrive in one piece, too
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        return func(*args, **kwargs)
