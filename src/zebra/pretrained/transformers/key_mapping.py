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

POSITION_IDS_SUFFIX = ".position_ids"
"""Ends the names of counters 0, 1, 2, … that older versions saved beside the weights."""
PATCH_EMBED_WEIGHT = "vision_model.embeddings.patch_embedding.weight"

_BLOCK_LAYERS = (
    ("ln_1", "layer_norm1"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_POOL_LAYERS = (
    ("attn.out_proj", "attention.out_proj"),
    ("ln", "layernorm"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


def convert_from_transformers(
    tensors: Mapping[str, Tensor], config: ModelConfig, where: str
) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors; only q, k, v and the projections are copied, the rest stays mapped.

    Args:
        where: Names the file in errors.

    Raises:
        WeightsError: A tensor is missing, left over, or of a shape that cannot be.
    """
    left = {name: tensor for name, tensor in tensors.items() if not name.endswith(POSITION_IDS_SUFFIX)}
    own: dict[str, Tensor] = {}
    for mapping in _key_mappings(config):
        missing = [name for name in mapping.transformers_keys if name not in left]
        if missing:
            raise WeightsError(
                f"{where} lacks the tensor {missing[0]}, which config.json calls for; copy it again"
            )
        parts = [left.pop(name) for name in mapping.transformers_keys]
        if any(part.shape != parts[0].shape for part in parts):
            raise WeightsError(
                f"{where}: {', '.join(mapping.transformers_keys)} differ in shape; the file is damaged"
            )
        try:
            own[mapping.zebra_key] = mapping.to_zebra(torch.cat(parts) if len(parts) > 1 else parts[0])
        except RuntimeError as error:
            raise WeightsError(
                f"{where}: {mapping.transformers_keys[0]} has the shape {tuple(parts[0].shape)}, which it cannot have ({error})"
            ) from error
    if left:
        raise WeightsError(
            f"{where} holds a tensor {min(left)} that config.json has no place for; they do not belong together"
        )
    return own


def convert_to_transformers(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename the tensors of a whole model, split q, k and v, and return what can be saved as it is."""
    theirs: dict[str, Tensor] = {}
    for mapping in _key_mappings(config):
        tensor, count = mapping.to_transformers(tensors[mapping.zebra_key]), len(mapping.transformers_keys)
        parts = tensor.chunk(count) if count > 1 else (tensor,)
        theirs |= {
            name: part.contiguous() for name, part in zip(mapping.transformers_keys, parts, strict=True)
        }
    return theirs


def map_layer_names(config: ModelConfig) -> dict[str, str]:
    """Return zebra's names on disk → transformers' of the layers in the blocks of both towers.

    The three layers that zebra stacks are called q_proj, k_proj and v_proj here as there.
    """
    names: dict[str, str] = {}
    for mapping in _key_mappings(config):
        for theirs in mapping.transformers_keys:
            layer, _, part = theirs.rpartition(".")
            if part != "weight" or ".encoder.layers." not in layer:
                continue
            own = mapping.zebra_key.removesuffix(".weight")
            if len(mapping.transformers_keys) > 1:
                own = f"{mapping.zebra_key.removesuffix('in_proj_weight')}{layer.rpartition('.')[2]}"
            names[own] = layer
    return names


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _transpose(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous()


@dataclass(frozen=True, slots=True)
class _KeyMapping:
    """Where one tensor of zebra's lies in transformers' checkpoint."""

    zebra_key: str
    transformers_keys: tuple[str, ...]
    """One name, or those of q, k and v, which zebra stacks."""
    to_zebra: Callable[[Tensor], Tensor] = _identity
    to_transformers: Callable[[Tensor], Tensor] = _identity


def _key_mappings(config: ModelConfig) -> Iterator[_KeyMapping]:
    """List every tensor of a `CLIPModel` or a `SiglipModel`."""
    vision, text = config.vision, config.text
    assert not isinstance(vision, ResNetConfig)
    yield _KeyMapping("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
    yield _KeyMapping("positional_embedding", ("text_model.embeddings.position_embedding.weight",))
    yield from _block_mappings("transformer.resblocks", "text_model.encoder.layers", text.layers)
    yield from _layer_mappings("ln_final", "text_model.final_layer_norm")
    yield _KeyMapping("visual.conv1.weight", (PATCH_EMBED_WEIGHT,))
    yield _KeyMapping("visual.positional_embedding", ("vision_model.embeddings.position_embedding.weight",))
    yield from _block_mappings("visual.transformer.resblocks", "vision_model.encoder.layers", vision.layers)
    yield from _layer_mappings("visual.ln_post", "vision_model.post_layernorm")
    yield from _siglip_mappings() if isinstance(vision, SiglipVisionConfig) else _clip_mappings()


def _clip_mappings() -> Iterator[_KeyMapping]:
    """List what a `CLIPModel` has and a `SiglipModel` lacks."""
    yield _KeyMapping("logit_scale", ("logit_scale",))
    yield _KeyMapping("text_projection", ("text_projection.weight",), _transpose, _transpose)
    yield _KeyMapping("visual.class_embedding", ("vision_model.embeddings.class_embedding",))
    yield from _layer_mappings("visual.ln_pre", "vision_model.pre_layrnorm")
    yield _KeyMapping("visual.proj", ("visual_projection.weight",), _transpose, _transpose)


def _siglip_mappings() -> Iterator[_KeyMapping]:
    """List what a `SiglipModel` has and a `CLIPModel` lacks."""
    for scalar in ("logit_scale", "logit_bias"):
        yield _KeyMapping(scalar, (scalar,), lambda one: one.reshape(()), lambda one: one.reshape(1))
    yield from _layer_mappings("text_projection", "text_model.head")
    yield _KeyMapping("visual.conv1.bias", ("vision_model.embeddings.patch_embedding.bias",))
    pool, head = "visual.pool", "vision_model.head"
    yield _KeyMapping(
        f"{pool}.probe",
        (f"{head}.probe",),
        lambda probe: probe.reshape(-1),
        lambda probe: probe.reshape(1, 1, -1),
    )
    for part in ("weight", "bias"):
        yield _KeyMapping(f"{pool}.attn.in_proj_{part}", (f"{head}.attention.in_proj_{part}",))
    for own, theirs in _POOL_LAYERS:
        yield from _layer_mappings(f"{pool}.{own}", f"{head}.{theirs}")


def _block_mappings(zebra_prefix: str, transformers_prefix: str, num_layers: int) -> Iterator[_KeyMapping]:
    for index in range(num_layers):
        for part in ("weight", "bias"):
            stacked = tuple(f"{transformers_prefix}.{index}.self_attn.{which}_proj.{part}" for which in "qkv")
            yield _KeyMapping(f"{zebra_prefix}.{index}.attn.in_proj_{part}", stacked)
        for mine, other in _BLOCK_LAYERS:
            yield from _layer_mappings(
                f"{zebra_prefix}.{index}.{mine}", f"{transformers_prefix}.{index}.{other}"
            )


def _layer_mappings(zebra_prefix: str, transformers_prefix: str) -> Iterator[_KeyMapping]:
    """List weight and bias of a linear layer or a norm."""
    for part in ("weight", "bias"):
        yield _KeyMapping(f"{zebra_prefix}.{part}", (f"{transformers_prefix}.{part}",))
