"""Conversion of the settings of transformer blocks, which both towers have."""

import math
from typing import Any

from zebra.config.transformer import MAX_MLP_WIDTH, Activation, TransformerConfig
from zebra.errors import ConfigError
from zebra.pretrained.open_clip.schema import NormKwargs, TowerCfg


def parse_transformer(cfg: TowerCfg, where: str, *, quick_gelu: bool) -> dict[str, Any]:
    """Return the arguments of a `TransformerConfig` that have other names or forms in open_clip.

    Args:
        where: Name of the section in error messages.
        quick_gelu: `model_cfg.quick_gelu`, which is valid for both towers.

    Raises:
        ConfigError: The activation is ambiguous, or the MLP is too wide.
    """
    if quick_gelu and cfg.act_kwargs is not None:
        raise ConfigError(
            f"{where}.act_kwargs and quick_gelu are both set, but quick_gelu has no options. Delete one of them."
        )
    is_tanh = cfg.act_kwargs is not None and cfg.act_kwargs.approximate == "tanh"
    activation: Activation = "quick_gelu" if quick_gelu else "gelu_tanh" if is_tanh else "gelu"
    if not 1 <= cfg.width * cfg.mlp_ratio <= MAX_MLP_WIDTH:  # may be infinite
        raise ConfigError(
            f"{where}: width × mlp_ratio ({cfg.width} × {cfg.mlp_ratio}) must be between 1 and {MAX_MLP_WIDTH:,}. "
            "Download the file again."
        )
    mlp_width = int(cfg.width * cfg.mlp_ratio)
    return {
        "width": cfg.width,
        "mlp_width": None if mlp_width == 4 * cfg.width else mlp_width,
        "activation": activation,
        "norm_eps": (cfg.norm_kwargs or NormKwargs()).eps,
    }


def to_transformer_cfg(tower: TransformerConfig) -> dict[str, Any]:
    """Return the keys of a tower's blocks: the inverse of `parse_transformer`, without `quick_gelu`."""
    cfg: dict[str, Any] = {"width": tower.width, "mlp_ratio": _to_mlp_ratio(tower.width, tower.hidden)}
    if tower.activation == "gelu_tanh":
        cfg["act_kwargs"] = {"approximate": "tanh"}
    if tower.norm_eps != NormKwargs().eps:
        cfg["norm_kwargs"] = {"eps": tower.norm_eps}
    return cfg


def _to_mlp_ratio(width: int, mlp_width: int) -> float:
    """Return the ratio from which open_clip, which truncates the product, computes `mlp_width`."""
    ratio = mlp_width / width
    while int(width * ratio) < mlp_width:
        ratio = math.nextafter(ratio, math.inf)
    return ratio
