"""The encoders that are compared: zebra in each precision, and peers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args

from torch import Tensor, nn

from zebra.bench.ceilings import NumberFormat, describe_missing_format
from zebra.config.precision import InferencePrecision
from zebra.errors import ZebraError
from zebra.pretrained.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Encoder:
    """Functions from JPEGs and texts to unit vectors."""

    name: str
    """Library and number format, such as "zebra int8"."""
    format: NumberFormat
    preprocess: Callable[[Sequence[bytes]], Any]
    """JPEGs → what `encode_images` takes."""
    encode_images: Callable[[Any], Tensor]
    """→ float32 [B, E] on the CPU."""
    encode_texts: Callable[[Sequence[str]], Tensor] | None
    """→ float32 [N, E] on the CPU; None if texts are not measured."""
    is_peer: bool = False
    weight_bytes: int | None = None
    """Memory of the weights of both towers."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Something that was not measured."""

    name: str
    reason: str


def open_precisions(bundle: Bundle) -> list[Encoder | Unavailable]:
    """Return the model in every precision that this machine multiplies; `bundle` is in fp32."""
    return [_open_precision(bundle, precision) for precision in get_args(InferencePrecision)]


def _open_precision(bundle: Bundle, precision: InferencePrecision) -> Encoder | Unavailable:
    name = f"zebra {precision}"
    reason = describe_missing_format(precision, bundle.device)
    if reason:
        return Unavailable(name, reason)
    try:
        cast = bundle.to_precision(precision)
    except ZebraError as error:
        return Unavailable(name, str(error))
    return wrap_bundle(cast, name, precision)


def wrap_bundle(bundle: Bundle, name: str, format: NumberFormat) -> Encoder:
    """Return a bundle as an encoder."""
    return Encoder(
        name=name,
        format=format,
        preprocess=lambda jpegs: next(bundle.pixel_batches(jpegs)),
        encode_images=bundle.encode_pixels,
        encode_texts=bundle.encode_texts if bundle.tokenizer is not None else None,
        weight_bytes=count_weight_bytes(bundle.model),
    )


def count_weight_bytes(model: nn.Module) -> int:
    """Return the bytes of all tensors of a model, those of quantized weights included; shared ones count once."""
    storages: dict[int, int] = {}

    def add(value: object) -> None:
        if isinstance(value, Tensor):
            storages[id(value)] = value.numel() * value.element_size()
        elif is_dataclass(value):  # quantized weights with their scales
            for field in fields(value):
                add(getattr(value, field.name))

    for module in model.modules():
        for group in (module._parameters, module._buffers, vars(module)):
            for value in group.values():
                add(value)
    return sum(storages.values())
