"""The keys of `open_clip_config.json`: supported, ignored and refused ones.

Reference for keys and defaults: `model.py` and `transform.py` of open_clip 3.3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

from zebra.config.structure import structure
from zebra.errors import ConfigError, show_value
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD

T = TypeVar("T")

IGNORED_KEYS = {
    "model_cfg": {
        "init_logit_scale": "the weights contain the scale",
        "nonscalar_logit_scale": "only a shape, of one element either way",
        "custom_text": "only a prefix of names, which are read with and without it",
        "output_dict": "only the type of open_clip's results",
        "multimodal_cfg": "only CoCa's decoder of captions, which is not read",
    },
    "model_cfg.vision_cfg": {
        "patch_dropout": "training only",
        "attn_pooler_queries": "queries but the first are for CoCa's decoder, which is not read",
        "pos_embed_type": "the weights contain the positions",
        "output_tokens": "only the type of open_clip's results",
        "timm_model_pretrained": "only the initial weights of training",
        "timm_drop": "training only",
        "timm_drop_path": "training only",
    },
    "model_cfg.text_cfg": {
        "hf_tokenizer_name": "read with the tokenizer",
        "tokenizer_kwargs": "read with the tokenizer",
        "tokenizer_mode": "read with the tokenizer",
        "output_tokens": "only the type of open_clip's results",
        "hf_model_pretrained": "only the initial weights of training",
        "hf_proj_type": "only for a tower with hf_model_name",
        "hf_pooler_type": "only for a tower with hf_model_name",
    },
    "preprocess_cfg": {
        "size": "open_clip also uses the tower's image_size",
        "fill_color": "only for a resize mode that is refused",
    },
}
"""Keys that cannot change a vector, with the reason."""

_PLAIN_BLOCK_VALUES: dict[str, object] = {
    "ls_init_value": None,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
FIXED_VALUES: dict[str, dict[str, object]] = {
    "model_cfg": {},
    "model_cfg.vision_cfg": _PLAIN_BLOCK_VALUES,
    "model_cfg.text_cfg": {**_PLAIN_BLOCK_VALUES, "final_ln_after_pool": False, "hf_model_name": None},
    "preprocess_cfg": {"mode": "RGB"},
}
"""Keys that are accepted only with this value, which is open_clip's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCfg:
    """`model_cfg` without its two towers."""

    embed_dim: int
    quick_gelu: bool = False
    init_logit_bias: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ActKwargs:
    """`act_kwargs`: the form of GELU."""

    approximate: Literal["none", "tanh"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class NormKwargs:
    """`norm_kwargs`."""

    eps: float = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerCfg:
    """Keys that `vision_cfg` and `text_cfg` share."""

    width: int
    mlp_ratio: float = 4.0
    act_kwargs: ActKwargs | None = None
    norm_kwargs: NormKwargs | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CLIPVisionCfg(TowerCfg):
    """`vision_cfg`: a tower of timm if it has a timm name, a ResNet if `layers` is a list, else a ViT."""

    width: int = 768
    layers: int | tuple[int, int, int, int] = 12
    head_width: int = 64
    patch_size: int | tuple[int, int] | None = 16
    image_size: int | tuple[int, int] = 224
    no_ln_pre: bool = False
    pool_type: str = "tok"
    final_ln_after_pool: bool = False
    attentional_pool: bool = False
    attn_pooler_heads: int = 8
    timm_model_name: str | None = None
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"
    timm_proj_bias: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CLIPTextCfg(TowerCfg):
    """`text_cfg`."""

    width: int = 512
    heads: int = 8
    layers: int = 12
    context_length: int = 77
    vocab_size: int = 49_408
    no_causal_mask: bool = False
    pool_type: str = "argmax"
    proj_type: str = "linear"
    proj_bias: bool = False
    embed_cls: bool = False
    pad_id: int = 0
    eos_id: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessCfg:
    """`preprocess_cfg`."""

    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    resize_mode: Literal["shortest", "squash"] = "shortest"


def parse_section(section_type: type[T], raw: object, where: str) -> T:
    """Parse the section `where` of the file as a dataclass.

    Raises:
        ConfigError: A key is unknown, has an unsupported value or the wrong type.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must be a JSON object, not {show_value(raw)}. Download the file again.")
    supported = {field.name for field in fields(section_type)}  # type: ignore[arg-type]  # always a dataclass
    for key, value in raw.items():
        is_default = key in FIXED_VALUES[where] and value == FIXED_VALUES[where][key]
        if key not in supported and key not in IGNORED_KEYS[where] and not is_default:
            raise unsupported_key_error(f"{where}.{key}", value)
    return structure(section_type, {key: value for key, value in raw.items() if key in supported}, where)


def unsupported_key_error(key: str, value: object) -> ConfigError:
    """Return the error for a setting that zebra's towers do not support."""
    return ConfigError(
        f"{key[:100]} is {show_value(value)}, which zebra does not support. docs/layouts.md lists what it reads from "
        "open_clip."
    )
