"""Text encoders of open_clip that transformers computes: NLLB, mT5, T5 and UMT5.

Reference: `HFTextEncoder` in `hf_model.py` of open_clip 3.3.0, for a `text_cfg` with `hf_model_name`. Only the encoder
of an encoder-decoder is used. Its output has no pooled vector, so that `cls_pooler` is the first token.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zebra.config.transformers_towers import (
    EncoderPooling,
    EncoderProjection,
    TransformersTextConfig,
    require_bounded_settings,
)
from zebra.errors import ConfigError, show_value
from zebra.models.transformers_encoder import complete_settings

LIBRARY_TEXT_TYPES = ("m2m_100", "mt5", "t5", "umt5")
"""Model types of these encoders."""
_POOLINGS: dict[str, EncoderPooling] = {
    "mean_pooler": "mean",
    "cls_pooler": "first",
    "cls_last_hidden_state_pooler": "first",
}
_PROJECTIONS: dict[str | None, EncoderProjection] = {None: "none", "linear": "linear", "mlp": "mlp"}
_COMPUTED_BUFFER = re.compile(r"(^|\.)transformer\.embed_positions\.weights$")


def parse_library_text(
    encoder: Mapping[str, Any],
    where: str,
    *,
    pooler: str | None,
    projection: str | None,
    context_length: int,
    embed_dim: int,
) -> TransformersTextConfig:
    """Convert the config.json of an encoder.

    Args:
        where: The setting that names the encoder, for error messages.
        pooler: `hf_pooler_type`; None is open_clip's default for the model type.
        projection: `hf_proj_type`.

    Raises:
        MissingExtra: transformers is not installed.
        ConfigError: zebra or the installed library does not support a setting.
    """
    require_bounded_settings(encoder, where)
    settings = complete_settings(encoder)
    pooler = pooler or ("cls_pooler" if settings["model_type"] == "m2m_100" else "mean_pooler")
    if pooler not in _POOLINGS:
        raise ConfigError(f"model_cfg.text_cfg.hf_pooler_type is {show_value(pooler)}, which zebra does not support")
    width = settings["d_model"]
    kind = _PROJECTIONS[projection]
    if kind == "none" and width != embed_dim:  # open_clip builds no projection and fails
        raise ConfigError(f"model_cfg.text_cfg.hf_proj_type is null, but the encoder's width {width} is not embed_dim")
    return TransformersTextConfig(
        settings=settings,
        pooling=_POOLINGS[pooler],
        projection=kind,
        projection_width=(width + embed_dim) // 2 if kind == "mlp" else None,
        vocab_size=settings["vocab_size"],
        context_length=context_length,
        pad_id=settings["pad_token_id"],
    )


def drop_position_table(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without NLLB's sinusoidal positions, which older versions of transformers saved."""
    return {name: tensor for name, tensor in tensors.items() if not _COMPUTED_BUFFER.search(name)}
