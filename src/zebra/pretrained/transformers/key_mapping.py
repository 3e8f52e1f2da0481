"""Conversion of tensor names between transformers and zebra.

One table serves both directions. In transformers, q, k and v are separate, projections are linear layers (out × in),
and the scalars of SigLIP are vectors of one element. The misspelling `pre_layrnorm` is theirs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import BertTextConfig, SiglipTextConfig, TextConfig
from zebra.errors import WeightsError
from zebra.pretrained.concatenate import concatenate

POSITION_IDS_SUFFIX = ".position_ids"
"""Suffix of buffers 0, 1, 2, … that older versions saved with the weights."""

_PATCH_EMBED = "vision_model.embeddings.patch_embedding"
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


def convert_from_transformers(tensors: Mapping[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under zebra's names; only q, k, v and projections are copied.

    Args:
        where: Name of the file in error messages.

    Raises:
        WeightsError: A tensor is missing, unknown, or of a wrong shape.
    """
    remaining = {name: tensor for name, tensor in tensors.items() if not name.endswith(POSITION_IDS_SUFFIX)}
    converted: dict[str, Tensor] = {}
    for mapping in _key_mappings(config):
        missing = [name for name in mapping.transformers_keys if name not in remaining]
        if missing:
            raise WeightsError(
                f"{where} lacks the tensor {missing[0]}, which config.json implies. Copy the folder again."
            )
        parts = [remaining.pop(name) for name in mapping.transformers_keys]
        if any(part.shape != parts[0].shape for part in parts):
            raise WeightsError(
                f"{where}: {', '.join(mapping.transformers_keys)} differ in shape. Copy the folder again."
            )
        try:
            converted[mapping.zebra_key] = mapping.to_zebra(concatenate(parts) if len(parts) > 1 else parts[0])
        except RuntimeError as error:
            raise WeightsError(
                f"{where}: {mapping.transformers_keys[0]} has the wrong shape {tuple(parts[0].shape)} ({error}). Copy "
                "the folder again."
            ) from error
    if remaining:
        raise WeightsError(
            f"{where} has a tensor {min(remaining)} that config.json does not imply. Copy both from the same model."
        )
    return converted


def convert_to_transformers(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return the tensors of a model under transformers' names, contiguous, with q, k and v split."""
    converted: dict[str, Tensor] = {}
    for mapping in _key_mappings(config):
        tensor, count = mapping.to_transformers(tensors[mapping.zebra_key]), len(mapping.transformers_keys)
        parts = tensor.chunk(count) if count > 1 else (tensor,)
        converted |= {name: part.contiguous() for name, part in zip(mapping.transformers_keys, parts, strict=True)}
    return converted


def map_layer_names(config: ModelConfig) -> dict[str, str]:
    """Return the names in transformers of the layers in the blocks of both towers, by zebra's names on disk.

    The three layers that zebra stacks are called q_proj, k_proj and v_proj in both.
    """
    names: dict[str, str] = {}
    for mapping in _key_mappings(config):
        for key in mapping.transformers_keys:
            layer, _, part = key.rpartition(".")
            if part != "weight" or ".encoder.layers." not in layer:
                continue
            zebra_layer = mapping.zebra_key.removesuffix(".weight")
            if len(mapping.transformers_keys) > 1:
                zebra_layer = f"{mapping.zebra_key.removesuffix('in_proj_weight')}{layer.rpartition('.')[2]}"
            names[zebra_layer] = layer
    return names


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _transpose(tensor: Tensor) -> Tensor:
    return tensor.permute(1, 0).contiguous()  # RuntimeError unless it is a matrix


@dataclass(frozen=True, slots=True)
class _KeyMapping:
    """The names of one tensor in zebra and in transformers, and the conversions of its values."""

    zebra_key: str
    transformers_keys: tuple[str, ...]
    """One name, or the names of q, k and v, which zebra stacks."""
    to_zebra: Callable[[Tensor], Tensor] = _identity
    to_transformers: Callable[[Tensor], Tensor] = _identity


def _key_mappings(config: ModelConfig) -> Iterator[_KeyMapping]:
    """Yield the mapping of every tensor of a `CLIPModel` or a `SiglipModel`.

    The tensors of a text tower of the BERT family are those of `bert_dual_encoders`.
    """
    vision, text = config.vision, config.text
    assert isinstance(vision, VisionTransformerConfig | SiglipVisionConfig | NaflexVisionConfig)
    assert isinstance(text, TextConfig | SiglipTextConfig | BertTextConfig)
    if not isinstance(text, BertTextConfig):
        yield _KeyMapping("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
        yield _KeyMapping("positional_embedding", ("text_model.embeddings.position_embedding.weight",))
        yield from _block_mappings("transformer.resblocks", "text_model.encoder.layers", text.layers)
        yield from _layer_mappings("ln_final", "text_model.final_layer_norm")
    if isinstance(text, TextConfig):
        yield _KeyMapping("text_projection", ("text_projection.weight",), _transpose, _transpose)
    # NaFlex: a linear layer of patches in both, with the values of a patch in the order rows, columns, channels.
    patch_embed = "visual.patch_embed" if isinstance(vision, NaflexVisionConfig) else "visual.conv1"
    yield _KeyMapping(f"{patch_embed}.weight", (f"{_PATCH_EMBED}.weight",))
    if not isinstance(vision, VisionTransformerConfig):
        yield _KeyMapping(f"{patch_embed}.bias", (f"{_PATCH_EMBED}.bias",))
    yield _KeyMapping("visual.positional_embedding", ("vision_model.embeddings.position_embedding.weight",))
    yield from _block_mappings("visual.transformer.resblocks", "vision_model.encoder.layers", vision.layers)
    yield from _layer_mappings("visual.ln_post", "vision_model.post_layernorm")
    yield from _clip_mappings() if isinstance(vision, VisionTransformerConfig) else _siglip_mappings()


def _clip_mappings() -> Iterator[_KeyMapping]:
    """Yield the mappings of tensors that a `CLIPModel` has and a `SiglipModel` has not."""
    yield _KeyMapping("logit_scale", ("logit_scale",))
    yield _KeyMapping("visual.class_embedding", ("vision_model.embeddings.class_embedding",))
    yield from _layer_mappings("visual.ln_pre", "vision_model.pre_layrnorm")
    yield _KeyMapping("visual.proj", ("visual_projection.weight",), _transpose, _transpose)


def _siglip_mappings() -> Iterator[_KeyMapping]:
    """Yield the mappings of tensors that only a `SiglipModel` or a `Siglip2Model` has."""
    for scalar in ("logit_scale", "logit_bias"):
        yield _KeyMapping(scalar, (scalar,), lambda value: value.reshape(()), lambda value: value.reshape(1))
    yield from _layer_mappings("text_projection", "text_model.head")
    pool, head = "visual.pool", "vision_model.head"
    yield _KeyMapping(
        f"{pool}.probe", (f"{head}.probe",), lambda probe: probe.reshape(-1), lambda probe: probe.reshape(1, 1, -1)
    )
    for part in ("weight", "bias"):
        yield _KeyMapping(f"{pool}.attn.in_proj_{part}", (f"{head}.attention.in_proj_{part}",))
    for zebra_layer, layer in _POOL_LAYERS:
        yield from _layer_mappings(f"{pool}.{zebra_layer}", f"{head}.{layer}")


def _block_mappings(zebra_prefix: str, transformers_prefix: str, num_layers: int) -> Iterator[_KeyMapping]:
    for index in range(num_layers):
        for part in ("weight", "bias"):
            stacked = tuple(f"{transformers_prefix}.{index}.self_attn.{which}_proj.{part}" for which in "qkv")
            yield _KeyMapping(f"{zebra_prefix}.{index}.attn.in_proj_{part}", stacked)
        for zebra_layer, layer in _BLOCK_LAYERS:
            yield from _layer_mappings(
                f"{zebra_prefix}.{index}.{zebra_layer}", f"{transformers_prefix}.{index}.{layer}"
            )


def _layer_mappings(zebra_prefix: str, transformers_prefix: str) -> Iterator[_KeyMapping]:
    """Yield the mappings of weight and bias of a linear layer or a norm."""
    for part in ("weight", "bias"):
        yield _KeyMapping(f"{zebra_prefix}.{part}", (f"{transformers_prefix}.{part}",))
