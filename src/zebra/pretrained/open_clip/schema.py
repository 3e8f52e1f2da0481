"""The keys of `open_clip_config.json`: those that are read, as dataclasses, and those that are not, each with a reason.

The keys and their defaults: `model.py` and `transform.py` of open_clip 3.3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

from zebra.config.structure import structure
from zebra.errors import ConfigError
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD

T = TypeVar("T")

IGNORED_KEYS = {
    "model_cfg": {
        "init_logit_scale": "the weights hold the scale",
        "nonscalar_logit_scale": "a shape: one number either way",
        "custom_text": "a prefix of names, which are read with and without it",
        "output_dict": "the form of open_clip's answers",
    },
    "model_cfg.vision_cfg": {
        "patch_dropout": "training only",
        "attn_pooler_queries": "of a pool that is refused",
        "attn_pooler_heads": "of a pool that is refused",
        "timm_model_pretrained": "where training started",
        "timm_proj_bias": "of a projection that is refused",
        "timm_drop": "training only",
        "timm_drop_path": "training only",
    },
    "model_cfg.text_cfg": {
        "pad_id": "of a mask that is refused",
        "eos_id": "of a pool that is refused",
        "hf_model_pretrained": "of a tower that is refused",
        "hf_proj_type": "of a tower that is refused",
        "hf_pooler_type": "of a tower that is refused",
    },
    "preprocess_cfg": {
        "size": "the tower's own size decides, in open_clip too",
        "fill_color": "of a resize mode that is refused",
    },
}
"""Keys that cannot change a vector, and why."""

_PLAIN_BLOCK_VALUES = {
    "ls_init_value": None,
    "final_ln_after_pool": False,
    "output_tokens": False,
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
    "model_cfg.vision_cfg": {
        **_PLAIN_BLOCK_VALUES,
        "attentional_pool": False,
        "no_ln_pre": False,
        "pos_embed_type": "learnable",
        "pool_type": "tok",
    },
    "model_cfg.text_cfg": {
        **_PLAIN_BLOCK_VALUES,
        "embed_cls": False,
        "proj_type": "linear",
        "hf_model_name": None,
        "tokenizer_mode": None,
    },
    "preprocess_cfg": {"mode": "RGB"},
}
"""Keys that zebra reads at one value alone: open_clip's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCfg:
    """`model_cfg` but for its two towers."""

    embed_dim: int
    quick_gelu: bool = False
    init_logit_bias: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ActKwargs:
    """`act_kwargs`: which form of GELU."""

    approximate: Literal["none", "tanh"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class NormKwargs:
    """`norm_kwargs`."""

    eps: float = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerCfg:
    """What both towers of transformers have."""

    width: int
    mlp_ratio: float = 4.0
    act_kwargs: ActKwargs | None = None
    norm_kwargs: NormKwargs | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CLIPVisionCfg(TowerCfg):
    """`vision_cfg`; a list of layers makes it a ResNet, a timm name makes it timm's tower of that name."""

    width: int = 768
    layers: int | tuple[int, int, int, int] = 12
    head_width: int = 64
    patch_size: int | tuple[int, int] | None = 16
    image_size: int | tuple[int, int] = 224
    timm_model_name: str | None = None
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerKwargs:
    """`tokenizer_kwargs`."""

    clean: Literal["lower", "whitespace", "canonicalize"] | None = None


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
    proj_bias: bool = False
    hf_tokenizer_name: str | None = None
    tokenizer_kwargs: TokenizerKwargs | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessCfg:
    """`preprocess_cfg`."""

    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    resize_mode: Literal["shortest", "squash"] = "shortest"


def parse_section(kind: type[T], raw: object, where: str) -> T:
    """Read the section `where` of the file.

    Raises:
        ConfigError: A key is not known, not at the only value that is read, or of the wrong type.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must hold settings, not {raw!r}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # every kind here is a dataclass
    for key, value in raw.items():
        is_plain = key in FIXED_VALUES[where] and value == FIXED_VALUES[where][key]
        if key not in known and key not in IGNORED_KEYS[where] and not is_plain:
            raise unsupported_key_error(f"{where}.{key}", value)
    return structure(kind, {key: value for key, value in raw.items() if key in known}, where)


def unsupported_key_error(key: str, value: object) -> ConfigError:
    """Return the error for a setting that makes another function than zebra's towers compute."""
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:59] + "…"
    return ConfigError(
        f"{key} is {shown}, which zebra does not build; zebra reads CLIP ViT, CLIP ResNet and SigLIP from "
        "open_clip folders"
    )
