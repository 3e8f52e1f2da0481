"""Plain Vision Transformers that open_clip builds with timm.

Two kinds (timm 1.0.31, `vision_transformer.py`): those for CLIP (`…_clip_…`) are open_clip's own ViT under other names;
the others have a bias in the patch embedding, no norm before the blocks, and another epsilon. Both pool at the class
token. Without `timm_proj`, timm's classifier, which has a bias, is the projection.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from zebra.config.image_towers import VisionTransformerConfig
from zebra.errors import WeightsError
from zebra.pretrained.open_clip.schema import CLIPVisionCfg
from zebra.pretrained.open_clip.timm import TIMM_PREFIX, map_block_names

_SIZES = {
    "tiny": (192, 12, 3, None),
    "xsmall": (256, 10, 4, None),
    "small": (384, 12, 6, None),
    "medium": (512, 12, 8, None),
    "betwixt": (640, 12, 10, None),
    "base": (768, 12, 12, None),
    "base_plus": (896, 12, 14, None),
    "large": (1024, 24, 16, None),
    "huge": (1280, 32, 16, None),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
}
"""Width, layers, heads and MLP width."""
_PLAIN_NAMES = (
    "tiny_patch16_224", "tiny_patch16_384", "small_patch8_224", "small_patch16_224", "small_patch16_384",
    "small_patch32_224", "small_patch32_384", "base_patch8_224", "base_patch16_224", "base_patch16_384",
    "base_patch32_224", "base_patch32_384", "large_patch14_224", "large_patch16_224", "large_patch16_384",
    "large_patch32_224", "large_patch32_384", "huge_patch14_224", "giant_patch14_224", "gigantic_patch14_224",
)  # fmt: skip
_CLIP_NAMES = (
    "xsmall_patch16_clip_224", "medium_patch16_clip_224", "medium_patch32_clip_224", "betwixt_patch32_clip_224",
    "base_patch16_clip_224", "base_patch16_clip_384", "base_patch16_plus_clip_240", "base_patch32_clip_224",
    "base_patch32_clip_256", "base_patch32_clip_384", "base_patch32_clip_448", "large_patch14_clip_224",
    "large_patch14_clip_336", "huge_patch14_clip_224", "huge_patch14_clip_336", "huge_patch14_clip_378",
    "giant_patch14_clip_224", "gigantic_patch14_clip_224", "gigantic_patch14_clip_378",
    "base_patch16_clip_quickgelu_224", "base_patch32_clip_quickgelu_224", "large_patch14_clip_quickgelu_224",
    "large_patch14_clip_quickgelu_336", "huge_patch14_clip_quickgelu_224", "huge_patch14_clip_quickgelu_378",
    "gigantic_patch14_clip_quickgelu_224",
)  # fmt: skip


def _parse_name(name: str) -> tuple[VisionTransformerConfig, int]:
    """Return the tower without projection bias, and the image size."""
    size, patch, *rest, image_size = name.split("_")
    width, layers, heads, mlp_width = _SIZES["base_plus" if "plus" in rest else size]
    is_clip = "clip" in rest
    tower = VisionTransformerConfig(
        width=width,
        layers=layers,
        heads=heads,
        mlp_width=mlp_width,
        patch_size=int(patch.removeprefix("patch")),
        activation="quick_gelu" if "quickgelu" in rest else "gelu",
        norm_eps=1e-5 if is_clip else 1e-6,
        patch_bias=not is_clip,
        pre_norm=is_clip,
    )
    return tower, int(image_size)


TIMM_VITS = {f"vit_{name}": _parse_name(name) for name in (*_PLAIN_NAMES, *_CLIP_NAMES)}
"""Tower and image size by timm's name."""


def find_timm_vit(cfg: CLIPVisionCfg) -> tuple[VisionTransformerConfig, int] | None:
    """Return the tower of `vision_cfg` and its image size; None if it is no plain ViT with a linear projection."""
    is_pooled = cfg.timm_pool == "token" or (cfg.timm_pool == "" and cfg.timm_proj == "linear")
    if cfg.timm_model_name not in TIMM_VITS or cfg.timm_proj not in ("linear", "", None) or not is_pooled:
        return None
    tower, image_size = TIMM_VITS[cfg.timm_model_name]
    return replace(tower, projection_bias=cfg.timm_proj_bias if cfg.timm_proj == "linear" else True), image_size


def find_timm_name(vision: VisionTransformerConfig, image_size: int) -> str:
    """Return timm's name of a tower with biases, which open_clip's own ViT does not have.

    Raises:
        WeightsError: There is none.
    """
    if vision.hidden == 4 * vision.width:
        vision = replace(vision, mlp_width=None)
    for name, (tower, size) in TIMM_VITS.items():
        if size == image_size and replace(tower, projection_bias=vision.projection_bias) == vision:
            return name
    biases = " and ".join(name for name in ("patch_bias", "projection_bias") if getattr(vision, name))
    raise WeightsError(
        f"open_clip has no Vision Transformer of {vision.describe(image_size)}: with {biases}, it needs timm, which "
        "has no name for it. Use --format zebra."
    )


def convert_vit_from_timm(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return the tensors with timm's image tower under zebra's names; other tensors are unchanged.

    Missing and unknown tensors are not detected here, but when the model is built.
    """
    rest = dict(tensors)
    converted = {name: rest.pop(timm) for timm, name in _map_names(num_layers).items() if timm in rest}
    for timm, name, ndim in (
        (_CLASS_TOKEN, "visual.class_embedding", 1),
        (_POS_EMBED, "visual.positional_embedding", 2),
    ):
        if timm in rest:
            tensor = rest.pop(timm)
            converted[name] = tensor.reshape(tensor.shape[-ndim:])
    for head in _HEADS:
        if f"{head}.weight" in rest:
            converted["visual.proj"] = rest.pop(f"{head}.weight").mT.contiguous()
        if f"{head}.bias" in rest:
            converted["visual.proj_bias"] = rest.pop(f"{head}.bias")
    return rest | converted


def convert_vit_to_timm(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return the tensors with zebra's image tower under timm's names, and the projection apart from timm's trunk."""
    rest = dict(tensors)
    converted = {timm: rest.pop(name) for timm, name in _map_names(num_layers).items() if name in rest}
    converted[_CLASS_TOKEN] = rest.pop("visual.class_embedding").reshape(1, 1, -1)
    converted[_POS_EMBED] = rest.pop("visual.positional_embedding")[None]
    converted[f"{_HEADS[1]}.weight"] = rest.pop("visual.proj").mT.contiguous()
    if "visual.proj_bias" in rest:
        converted[f"{_HEADS[1]}.bias"] = rest.pop("visual.proj_bias")
    return rest | converted


_CLASS_TOKEN, _POS_EMBED = f"{TIMM_PREFIX}cls_token", f"{TIMM_PREFIX}pos_embed"
_HEADS = (f"{TIMM_PREFIX}head", "visual.head.proj")
"""The projection: timm's classifier, or open_clip's layer."""


def _map_names(num_layers: int) -> dict[str, str]:
    """Return zebra's names by timm's names, for all tensors of the same shape in both."""
    modules = {"patch_embed.proj": "conv1", "norm_pre": "ln_pre", "norm": "ln_post"}
    names = {
        f"{TIMM_PREFIX}{timm}.{part}": f"visual.{zebra}.{part}"
        for timm, zebra in modules.items()
        for part in ("weight", "bias")
    }
    return names | map_block_names(num_layers)
