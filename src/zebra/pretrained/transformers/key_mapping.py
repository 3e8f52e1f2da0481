"""Tensors under transformers' names in, the same tensors under zebra's names on disk out, and back.

One table serves both directions. transformers keeps q, k and v apart, projections as linear layers (out × in) and
scalars of SigLIP as vectors of one element; the misspelt `pre_layrnorm` is its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.model import ModelConfig, ResNetConfig, SiglipVisionConfig
from zebra.errors import WeightsError

POSITION_IDS = ".position_ids"
"""Ends the names of counters 0, 1, 2, … that older versions saved beside the weights."""
PATCHES = "vision_model.embeddings.patch_embedding.weight"

_BLOCK = (
    ("ln_1", "layer_norm1"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_POOL = (
    ("attn.out_proj", "attention.out_proj"),
    ("ln", "layernorm"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


def from_transformers(tensors: Mapping[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors; only q, k, v and the projections are copied, the rest stays mapped.

    Args:
        where: Names the file in errors.

    Raises:
        WeightsError: A tensor is missing, left over, or of a shape that cannot be.
    """
    left = {name: tensor for name, tensor in tensors.items() if not name.endswith(POSITION_IDS)}
    own: dict[str, Tensor] = {}
    for place in _places(config):
        missing = [name for name in place.theirs if name not in left]
        if missing:
            raise WeightsError(
                f"{where} lacks the tensor {missing[0]}, which config.json calls for; copy it again"
            )
        parts = [left.pop(name) for name in place.theirs]
        if any(part.shape != parts[0].shape for part in parts):
            raise WeightsError(f"{where}: {', '.join(place.theirs)} differ in shape; the file is damaged")
        try:
            own[place.own] = place.read(torch.cat(parts) if len(parts) > 1 else parts[0])
        except RuntimeError as error:
            raise WeightsError(
                f"{where}: {place.theirs[0]} has the shape {tuple(parts[0].shape)}, which it cannot have ({error})"
            ) from error
    if left:
        raise WeightsError(
            f"{where} holds a tensor {min(left)} that config.json has no place for; they do not belong together"
        )
    return own


def to_transformers(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename the tensors of a whole model, split q, k and v, and return what can be saved as it is."""
    theirs: dict[str, Tensor] = {}
    for place in _places(config):
        tensor, count = place.write(tensors[place.own]), len(place.theirs)
        parts = tensor.chunk(count) if count > 1 else (tensor,)
        theirs |= {name: part.contiguous() for name, part in zip(place.theirs, parts, strict=True)}
    return theirs


def layer_names(config: ModelConfig) -> dict[str, str]:
    """Return zebra's names on disk → transformers' of the layers in the blocks of both towers.

    The three layers that zebra stacks are called q_proj, k_proj and v_proj here as there.
    """
    names: dict[str, str] = {}
    for place in _places(config):
        for theirs in place.theirs:
            layer, _, part = theirs.rpartition(".")
            if part != "weight" or ".encoder.layers." not in layer:
                continue
            own = place.own.removesuffix(".weight")
            if len(place.theirs) > 1:
                own = f"{place.own.removesuffix('in_proj_weight')}{layer.rpartition('.')[2]}"
            names[own] = layer
    return names


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one tensor of zebra's lies in transformers' checkpoint."""

    own: str
    theirs: tuple[str, ...]
    """One name, or those of q, k and v, which zebra stacks."""
    read: Callable[[Tensor], Tensor] = _same
    write: Callable[[Tensor], Tensor] = _same


def _places(config: ModelConfig) -> Iterator[_Place]:
    """List every tensor of a `CLIPModel` or a `SiglipModel`."""
    vision, text = config.vision, config.text
    assert not isinstance(vision, ResNetConfig)
    yield _Place("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
    yield _Place("positional_embedding", ("text_model.embeddings.position_embedding.weight",))
    yield from _blocks("transformer.resblocks", "text_model.encoder.layers", text.layers)
    yield from _layer("ln_final", "text_model.final_layer_norm")
    yield _Place("visual.conv1.weight", (PATCHES,))
    yield _Place("visual.positional_embedding", ("vision_model.embeddings.position_embedding.weight",))
    yield from _blocks("visual.transformer.resblocks", "vision_model.encoder.layers", vision.layers)
    yield from _layer("visual.ln_post", "vision_model.post_layernorm")
    yield from _siglip() if isinstance(vision, SiglipVisionConfig) else _clip()


def _clip() -> Iterator[_Place]:
    """List what a `CLIPModel` has and a `SiglipModel` lacks."""
    yield _Place("logit_scale", ("logit_scale",))
    yield _Place("text_projection", ("text_projection.weight",), _transposed, _transposed)
    yield _Place("visual.class_embedding", ("vision_model.embeddings.class_embedding",))
    yield from _layer("visual.ln_pre", "vision_model.pre_layrnorm")
    yield _Place("visual.proj", ("visual_projection.weight",), _transposed, _transposed)


def _siglip() -> Iterator[_Place]:
    """List what a `SiglipModel` has and a `CLIPModel` lacks."""
    for scalar in ("logit_scale", "logit_bias"):
        yield _Place(scalar, (scalar,), lambda one: one.reshape(()), lambda one: one.reshape(1))
    yield from _layer("text_projection", "text_model.head")
    yield _Place("visual.conv1.bias", ("vision_model.embeddings.patch_embedding.bias",))
    pool, head = "visual.pool", "vision_model.head"
    yield _Place(
        f"{pool}.probe",
        (f"{head}.probe",),
        lambda probe: probe.reshape(-1),
        lambda probe: probe.reshape(1, 1, -1),
    )
    for part in ("weight", "bias"):
        yield _Place(f"{pool}.attn.in_proj_{part}", (f"{head}.attention.in_proj_{part}",))
    for own, theirs in _POOL:
        yield from _layer(f"{pool}.{own}", f"{head}.{theirs}")


def _blocks(own: str, theirs: str, layers: int) -> Iterator[_Place]:
    for index in range(layers):
        for part in ("weight", "bias"):
            stacked = tuple(f"{theirs}.{index}.self_attn.{which}_proj.{part}" for which in "qkv")
            yield _Place(f"{own}.{index}.attn.in_proj_{part}", stacked)
        for mine, other in _BLOCK:
            yield from _layer(f"{own}.{index}.{mine}", f"{theirs}.{index}.{other}")


def _layer(own: str, theirs: str) -> Iterator[_Place]:
    """List weight and bias of a linear layer or a norm."""
    for part in ("weight", "bias"):
        yield _Place(f"{own}.{part}", (f"{theirs}.{part}",))
