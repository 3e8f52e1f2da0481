"""Settings of image towers that timm computes."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from zebra.config.transformer import MAX_IMAGE_SIZE, require_in_range
from zebra.errors import ConfigError, show_value

TimmPool = Literal["default", "avg", "max", "avgmax", "token", "map", "abs_attn", "rot_attn"]
TimmProjection = Literal["classifier", "linear", "mlp", "none"]
ATTENTION_POOLS = ("abs_attn", "rot_attn")
"""Pools of feature maps that follow the trunk and contain a projection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimmVisionConfig:
    """An image tower of timm: a trunk by its name, a pool and a projection, as in open_clip's `TimmModel`."""

    kind: Literal["timm"] = "timm"
    """Identifies the tower family in YAML and JSON."""
    library: ClassVar[str] = "timm"
    """The library that computes the tower."""
    name: str
    """timm's name of the trunk, such as convnext_base; its pretrained weights are never used."""
    pool: TimmPool = "default"
    """Pool of the trunk; default: the trunk's own. abs_attn and rot_attn are attention pools after the trunk."""
    projection: TimmProjection = "linear"
    """classifier: the trunk's classifier with embed_dim outputs; linear or mlp: layers after the trunk; none."""
    projection_bias: bool = False
    """Whether the last layer of a linear or mlp projection has a bias."""

    def __post_init__(self) -> None:
        # timm would download names such as hf-hub:org/name.
        if not re.fullmatch(r"\w+(\.\w+)?", self.name, re.ASCII):
            raise ConfigError(
                f"model.vision.name is {show_value(self.name)}; it must be a name of timm, such as convnext_base"
            )
        if self.pool == "default" and self.projection in ("classifier", "none"):
            raise ConfigError(
                f"model.vision.pool is default, but projection {self.projection} needs a pool, such as avg"
            )
        if self.pool in ATTENTION_POOLS and self.projection == "classifier":
            raise ConfigError(f"model.vision.pool {self.pool} leaves no classifier; use projection none")

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image size is in range; timm checks the rest when the tower is built."""
        require_in_range("model.image_size", size, MAX_IMAGE_SIZE)

    @property
    def num_blocks(self) -> int:
        """Return 0: only timm knows the number of blocks."""
        return 0

    def describe(self, image_size: int) -> str:
        """Return the settings in words."""
        bias = " with bias" if self.projection_bias else ""
        return f"{self.name} of timm, pool {self.pool}, projection {self.projection}{bias}, {image_size} px"
