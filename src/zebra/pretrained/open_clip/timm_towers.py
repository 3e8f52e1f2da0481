"""Image towers of timm in `open_clip_config.json`.

The towers that timm computes have the same tensor names in open_clip and in zebra: `visual.trunk.…`, `visual.head.…`.
Reference for the keys: `timm_model.py` of open_clip 3.3.0. `timm_drop` and `timm_drop_path` are for training only.
"""

from collections.abc import Mapping
from typing import Any, get_args

from torch import Tensor

from zebra.config.timm_tower import ATTENTION_POOLS, TimmPool, TimmProjection, TimmVisionConfig
from zebra.errors import WeightsError
from zebra.models.image.timm_tower import native_trunk_shapes
from zebra.pretrained.open_clip.schema import CLIPVisionCfg, unsupported_key_error

WHERE = "model_cfg.vision_cfg"
POOLS: dict[str, TimmPool] = {"" if pool == "default" else pool: pool for pool in get_args(TimmPool)}
"""Pools by their name in open_clip."""


def parse_timm_tower(cfg: CLIPVisionCfg) -> TimmVisionConfig:
    """Convert `vision_cfg` with a `timm_model_name`; timm checks the name when the tower is built.

    Raises:
        ConfigError: The pool or the projection is unknown, or they do not fit together.
    """
    assert cfg.timm_model_name is not None
    if cfg.timm_pool not in POOLS:
        raise unsupported_key_error(f"{WHERE}.timm_pool", cfg.timm_pool)
    pool = POOLS[cfg.timm_pool]
    projection: TimmProjection
    match cfg.timm_proj:
        case "linear" | "mlp" | "none":
            projection = cfg.timm_proj
        case None | "":
            projection = "none" if pool in ATTENTION_POOLS else "classifier"
        case _:
            raise unsupported_key_error(f"{WHERE}.timm_proj", cfg.timm_proj)
    return TimmVisionConfig(
        name=cfg.timm_model_name, pool=pool, projection=projection, projection_bias=cfg.timm_proj_bias
    )


def to_timm_cfg(vision: TimmVisionConfig, image_size: int) -> dict[str, Any]:
    """Return `vision_cfg` for a tower of timm."""
    return {
        "image_size": image_size,
        "timm_model_name": vision.name,
        "timm_model_pretrained": False,
        "timm_pool": next(name for name, pool in POOLS.items() if pool == vision.pool),
        "timm_proj": None if vision.projection == "classifier" else vision.projection,
        "timm_proj_bias": vision.projection_bias,
    }


def require_native_image_size(vision: TimmVisionConfig, tensors: Mapping[str, Tensor], embed_dim: int) -> None:
    """Raise WeightsError if a trunk has been adapted to another image size; open_clip builds it for timm's own."""
    for name, shape in native_trunk_shapes(vision, embed_dim).items():
        if tensors[f"visual.{name}"].shape != shape:
            raise WeightsError(
                f"open_clip builds {vision.name} for timm's image size only, where {name} has shape {tuple(shape)}, "
                f"but this model has {tuple(tensors[f'visual.{name}'].shape)}. Use --format zebra."
            )
