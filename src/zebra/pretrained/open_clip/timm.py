"""Conversion of SigLIP and NaFlex image towers between timm and zebra.

open_clip stores such towers with timm's tensors and only the name of the architecture, so this module lists the sizes
of each name (timm 1.0.31, `vision_transformer.py` and `naflexvit.py`). Like zebra, timm stacks q, k and v in blocks,
but in the pool q is separate from k and v.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig
from zebra.config.transformer import Activation
from zebra.pretrained.concatenate import concatenate

TIMM_PREFIX = "visual.trunk."


def _siglip_vision_config(
    patch_size: int, width: int, layers: int, heads: int, activation: Activation, mlp_width: int | None = None
) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        patch_size=patch_size, width=width, layers=layers, heads=heads, mlp_width=mlp_width, activation=activation
    )


_BASE_16 = _siglip_vision_config(16, 768, 12, 12, "gelu")
_LARGE_16 = _siglip_vision_config(16, 1024, 24, 16, "gelu")
_SO400M_14 = _siglip_vision_config(14, 1152, 27, 16, "gelu", 4304)
_SO400M_16 = _siglip_vision_config(16, 1152, 27, 16, "gelu_tanh", 4304)
_GIANT_16 = _siglip_vision_config(16, 1536, 40, 16, "gelu_tanh")

TIMM_TOWERS: dict[str, tuple[SiglipVisionConfig, int]] = {
    "vit_base_patch32_siglip_256": (_siglip_vision_config(32, 768, 12, 12, "gelu_tanh"), 256),
    "vit_base_patch16_siglip_224": (_BASE_16, 224),
    "vit_base_patch16_siglip_256": (_BASE_16, 256),
    "vit_base_patch16_siglip_384": (_BASE_16, 384),
    "vit_base_patch16_siglip_512": (_BASE_16, 512),
    "vit_large_patch16_siglip_256": (_LARGE_16, 256),
    "vit_large_patch16_siglip_384": (_LARGE_16, 384),
    "vit_large_patch16_siglip_512": (_siglip_vision_config(16, 1024, 24, 16, "gelu_tanh"), 512),
    "vit_so400m_patch14_siglip_224": (_SO400M_14, 224),
    "vit_so400m_patch14_siglip_378": (_SO400M_14, 378),
    "vit_so400m_patch14_siglip_384": (_SO400M_14, 384),
    "vit_so400m_patch16_siglip_256": (_SO400M_16, 256),
    "vit_so400m_patch16_siglip_384": (_SO400M_16, 384),
    "vit_so400m_patch16_siglip_512": (_SO400M_16, 512),
    "vit_giantopt_patch16_siglip_256": (_GIANT_16, 256),
    "vit_giantopt_patch16_siglip_384": (_GIANT_16, 384),
}
"""Tower and image size by timm's name. All were trained with the tanh form of GELU, but timm uses the exact form for
the older names."""

NAFLEX_TOWERS: dict[str, tuple[NaflexVisionConfig, int]] = {
    "naflexvit_base_patch16_siglip": (NaflexVisionConfig(patch_size=16, width=768, layers=12, heads=12), 256),
    "naflexvit_so400m_patch16_siglip": (
        NaflexVisionConfig(patch_size=16, width=1152, layers=27, heads=16, mlp_width=4304),
        256,
    ),
}
"""Tower and side of the square image with the stored positions, by timm's name."""

_MODULE_NAMES = {
    "patch_embed.proj": "conv1",
    "norm": "ln_post",
    "attn_pool.proj": "pool.attn.out_proj",
    "attn_pool.norm": "pool.ln",
    "attn_pool.mlp.fc1": "pool.mlp.c_fc",
    "attn_pool.mlp.fc2": "pool.mlp.c_proj",
}
_NAFLEX_POS_EMBED = f"{TIMM_PREFIX}embeds.pos_embed"  # [1, rows, columns, D]
_BLOCK_MODULE_NAMES = {
    "norm1": "ln_1",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_POOL_IN_PROJ = "visual.pool.attn.in_proj"
# In timm, these two have additional batch dimensions of size 1.
_POS_EMBED_NAMES = (f"{TIMM_PREFIX}pos_embed", "visual.positional_embedding")
_PROBE_NAMES = (f"{TIMM_PREFIX}attn_pool.latent", "visual.pool.probe")


def convert_from_timm(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return the tensors with timm's image tower under zebra's names; other tensors are unchanged.

    Missing and unknown tensors are not detected here, but when the model is built.
    """
    rest = dict(tensors)
    names = _map_names(num_layers)
    # NaFlex: both have a linear layer of patches, with the values of a patch in the order rows, columns, channels.
    names |= {f"{TIMM_PREFIX}embeds.proj.{part}": f"visual.patch_embed.{part}" for part in ("weight", "bias")}
    converted = {name: rest.pop(timm) for timm, name in names.items() if timm in rest}
    if _NAFLEX_POS_EMBED in rest:
        converted[_POS_EMBED_NAMES[1]] = rest.pop(_NAFLEX_POS_EMBED).flatten(0, -2)
    if _POS_EMBED_NAMES[0] in rest:
        converted[_POS_EMBED_NAMES[1]] = rest.pop(_POS_EMBED_NAMES[0]).squeeze(0)
    if _PROBE_NAMES[0] in rest:
        converted[_PROBE_NAMES[1]] = rest.pop(_PROBE_NAMES[0]).flatten()
    for part in ("weight", "bias"):
        query, pair = (f"{TIMM_PREFIX}attn_pool.{module}.{part}" for module in ("q", "kv"))
        if query in rest and pair in rest and rest[query].shape[1:] == rest[pair].shape[1:]:
            converted[f"{_POOL_IN_PROJ}_{part}"] = concatenate([rest.pop(query), rest.pop(pair)])
    return rest | converted


def convert_to_timm(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return the tensors with zebra's SigLIP tower under timm's names: the inverse of `convert_from_timm`."""
    rest = dict(tensors)
    converted = {timm: rest.pop(name) for timm, name in _map_names(num_layers).items()}
    for timm, name in (_POS_EMBED_NAMES, _PROBE_NAMES):
        tensor = rest.pop(name)
        converted[timm] = tensor.reshape(1, -1, tensor.shape[-1])
    for part in ("weight", "bias"):
        fused = rest.pop(f"{_POOL_IN_PROJ}_{part}")
        query, pair = torch.split(fused, [len(fused) // 3, 2 * len(fused) // 3])
        # Copies, because safetensors refuses tensors that share memory.
        converted |= {
            f"{TIMM_PREFIX}attn_pool.q.{part}": query.clone(),
            f"{TIMM_PREFIX}attn_pool.kv.{part}": pair.clone(),
        }
    return rest | converted


def map_block_names(num_layers: int) -> dict[str, str]:
    """Return zebra's names by timm's names, for all tensors of the blocks."""
    names: dict[str, str] = {}
    for layer in range(num_layers):
        timm_block, block = f"{TIMM_PREFIX}blocks.{layer}", f"visual.transformer.resblocks.{layer}"
        for part in ("weight", "bias"):
            names[f"{timm_block}.attn.qkv.{part}"] = f"{block}.attn.in_proj_{part}"
            for timm, zebra in _BLOCK_MODULE_NAMES.items():
                names[f"{timm_block}.{timm}.{part}"] = f"{block}.{zebra}.{part}"
    return names


def _map_names(num_layers: int) -> dict[str, str]:
    """Return zebra's names by timm's names, for all tensors of the same shape in both."""
    names = {
        f"{TIMM_PREFIX}{timm}.{part}": f"visual.{zebra}.{part}"
        for timm, zebra in _MODULE_NAMES.items()
        for part in ("weight", "bias")
    }
    return names | map_block_names(num_layers)
