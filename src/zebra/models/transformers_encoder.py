"""Encoders of Hugging Face transformers, built from their settings.

The only module that imports transformers. It never runs code of a repository: an encoder is a class of the installed
library. Dropout is off, in training too, like in zebra's own towers.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zebra.config.transformers_towers import EncoderPooling, EncoderProjection, TransformersTowerConfig
from zebra.errors import ConfigError, MissingExtra, suggest_name

if TYPE_CHECKING:
    from types import ModuleType

MIN_TRANSFORMERS = 5
"""The first major release whose configs check the types of their settings and which builds on the meta device."""
_IRRELEVANT_SETTINGS = {
    "_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Settings of every config of the library that do not change what an encoder computes in fp32."""


@dataclass(frozen=True, slots=True)
class _EncoderClass:
    """How the library builds an encoder."""

    name: str
    """A class of the library."""
    submodule: str = ""
    """The encoder inside the model of this class."""
    overrides: Mapping[str, object] = field(default_factory=dict)
    """Settings that leave out layers which no embedding depends on, or select the exact computation."""
    unused: tuple[str, ...] = ()
    """Parameters that only pre-training uses; removed."""


_ENCODER_CLASSES = {
    # Otherwise the attention is causal only if the batch contains padding.
    "aimv2_text_model": _EncoderClass("Aimv2TextModel", overrides={"attn_implementation": "eager"}),
    "aimv2_vision_model": _EncoderClass("Aimv2VisionModel"),
    "align_text_model": _EncoderClass("AlignTextModel"),
    "align_vision_model": _EncoderClass("AlignVisionModel"),
    "blip_text_model": _EncoderClass("BlipTextModel", overrides={"is_decoder": False}),  # no cross-attention
    "blip_vision_model": _EncoderClass("BlipVisionModel"),
    "flava_image_model": _EncoderClass("FlavaImageModel", overrides={"mask_token": False}),
    "flava_text_model": _EncoderClass("FlavaTextModel"),
    "groupvit_text_model": _EncoderClass("GroupViTTextModel", "text_model"),
    "groupvit_vision_model": _EncoderClass("GroupViTVisionModel", "vision_model"),
    "m2m_100": _EncoderClass("M2M100Model", "encoder", {"decoder_layers": 0}),
    "mt5": _EncoderClass("MT5EncoderModel", "encoder"),
    "t5": _EncoderClass("T5EncoderModel", "encoder"),
    "tipsv2_text_model": _EncoderClass("Tipsv2TextModel"),
    "tipsv2_vision_model": _EncoderClass("Tipsv2VisionModel", unused=("embeddings.mask_token",)),
    "umt5": _EncoderClass("UMT5EncoderModel", "encoder"),
}
"""Encoders by model type; each is compared with the library in a test."""


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of the library with its defaults for missing settings, without those that change no vector.

    Args:
        settings: Contents of a config.json, with `model_type`; checked by `require_bounded_settings`.

    Raises:
        MissingExtra: transformers is not installed.
        ConfigError: The installed library has no such model, or refuses a setting.
    """
    with _quiet_transformers() as transformers:
        config_class = _find_config_class(transformers, str(settings.get("model_type")))
        return _drop_irrelevant(_build_config(transformers, config_class, settings).to_dict())


def build_encoder(config: TransformersTowerConfig) -> nn.Module:
    """Build an encoder with initial weights.

    Raises:
        MissingExtra: transformers is not installed.
        ConfigError: The installed library has no such encoder, or refuses a setting.
    """
    encoder_class = _ENCODER_CLASSES.get(config.model_type)
    if encoder_class is None:
        raise ConfigError(
            f"{config.config_path}: zebra does not know how transformers' {config.model_type} embeds."
            f"{suggest_name(config.model_type, _ENCODER_CLASSES)}"
        )
    settings = {key: 0.0 if _is_dropout(key, value) else value for key, value in config.settings.items()}
    with _quiet_transformers() as transformers:
        model_class = _import_class(transformers, encoder_class.name)
        library_config = _build_config(transformers, model_class.config_class, {**settings, **encoder_class.overrides})
        # Some classes have a pooling layer that is left out, so that every parameter gets a gradient.
        takes_pooler = "add_pooling_layer" in inspect.signature(model_class).parameters
        arguments = {"add_pooling_layer": config.pooling == "pooler"} if takes_pooler else {}
        try:
            encoder: nn.Module = model_class(library_config, **arguments)
        except (ValueError, TypeError, RuntimeError, KeyError, AssertionError) as error:
            raise ConfigError(
                f"{config.config_path}: transformers {transformers.__version__} cannot build the {config.model_type} "
                f"({error}). Copy the config from the source of the model."
            ) from error
    encoder = encoder.get_submodule(encoder_class.submodule)
    for name in encoder_class.unused:
        parent, _, parameter = name.rpartition(".")
        delattr(encoder.get_submodule(parent), parameter)
    return encoder


def build_projection(
    kind: EncoderProjection, width: int, hidden_width: int | None, embed_dim: int, path: str
) -> nn.Module:
    """Build the layers from pooled features [B, D] to embeddings [B, E].

    Args:
        path: The tower's path in a config, for error messages.

    Raises:
        ConfigError: There is no projection, but D differs from E.
    """
    hidden = hidden_width or 0
    match kind:
        case "none":
            if width != embed_dim:
                raise ConfigError(
                    f"{path}: features of width {width} without a projection are no embeddings of {embed_dim}; "
                    "set model.embed_dim to the width"
                )
            return nn.Identity()
        case "linear" | "linear_bias":
            return nn.Linear(width, embed_dim, bias=kind == "linear_bias")
        case "mlp":
            return nn.Sequential(
                nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, embed_dim, bias=False)
            )
        case "batch_norm_mlp":
            return nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, embed_dim)
            )


def pool(output: Any, pooling: EncoderPooling, mask_BL: Tensor | None = None) -> Tensor:
    """Return the pooled features [B, D] of an encoder's output.

    Args:
        mask_BL: 1 for tokens, 0 for padding; for `mean`.
    """
    match pooling:
        case "pooler":
            return output.pooler_output
        case "first":
            return output.last_hidden_state[:, 0]
        case "mean":
            assert mask_BL is not None
            hidden_BLD = output.last_hidden_state * mask_BL.unsqueeze(-1).to(output.last_hidden_state.dtype)
            return hidden_BLD.sum(dim=1) / mask_BL.sum(dim=-1, keepdim=True).to(hidden_BLD.dtype)


@contextmanager
def skip_initialization() -> "Iterator[None]":
    """Build encoders without initial weights, which takes neither time nor memory."""
    _import_transformers()
    from transformers.initialization import no_init_weights

    with no_init_weights():
        yield


def _import_transformers() -> "ModuleType":
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra(error.name or "transformers", "a tower of transformers", "transformers") from error
    if int(transformers.__version__.partition(".")[0]) < MIN_TRANSFORMERS:
        raise ConfigError(
            f"transformers {transformers.__version__} is too old; zebra needs {MIN_TRANSFORMERS}.0 or newer. Run: pip "
            'install --upgrade "zebra-clip[transformers]"'
        )
    module: ModuleType = transformers
    return module


@contextmanager
def _quiet_transformers() -> "Iterator[ModuleType]":
    """Import transformers, without its notes about token ids and deprecations meanwhile."""
    transformers = _import_transformers()
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield transformers
    finally:
        transformers.logging.set_verbosity(verbosity)


def _find_config_class(transformers: "ModuleType", model_type: str) -> Any:
    known = transformers.CONFIG_MAPPING
    if model_type in known:
        return known[model_type]
    raise ConfigError(
        f"model_type {model_type[:100]!r} is not one of transformers {transformers.__version__}."
        f"{suggest_name(model_type[:100], known.keys())} zebra never runs code of a repository (trust_remote_code); a "
        "newer release of transformers may have the model."
    )


def _build_config(transformers: "ModuleType", config_class: Any, settings: Mapping[str, Any]) -> Any:
    arguments = {key: value for key, value in settings.items() if key not in _IRRELEVANT_SETTINGS | {"model_type"}}
    try:
        return config_class(**arguments)
    except Exception as error:  # each config class checks in its own way, with its own exceptions
        raise ConfigError(
            f"transformers {transformers.__version__} refuses the config of this {settings.get('model_type')} "
            f"({error}). Copy it from the source of the model."
        ) from error


def _import_class(transformers: "ModuleType", name: str) -> Any:
    try:
        return getattr(transformers, name)
    except (ImportError, AttributeError) as error:  # the library imports its modules late
        raise ConfigError(
            f"transformers {transformers.__version__} cannot import {name}: {error.__cause__ or error}. Install the "
            f"packages that match torch {torch.__version__}, such as torchvision, or uninstall those that do not."
        ) from error


def _drop_irrelevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _drop_irrelevant(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key not in _IRRELEVANT_SETTINGS and value is not None
    }


def _is_dropout(key: str, value: object) -> bool:
    is_rate = isinstance(value, int | float) and not isinstance(value, bool)
    return is_rate and ("drop" in key and "token" not in key)
