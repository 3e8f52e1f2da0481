"""Text towers in `open_clip_config.json`: causal, and bidirectional as in SigLIP."""

from typing import Any

from zebra.config.text_towers import BertTextConfig, SiglipTextConfig, TextConfig, TextTowerConfig
from zebra.errors import WeightsError
from zebra.pretrained.open_clip.blocks import parse_transformer, to_transformer_cfg
from zebra.pretrained.open_clip.schema import CLIPTextCfg, unsupported_key_error


def parse_text(cfg: CLIPTextCfg, *, quick_gelu: bool) -> TextTowerConfig:
    """Convert `text_cfg`.

    Raises:
        ConfigError: zebra does not support the tower.
    """
    where = "model_cfg.text_cfg"
    # The text towers that zebra supports: causal ones pool at the end token, SigLIP's at the last position.
    pool_type, proj_bias = ("last", True) if cfg.no_causal_mask else ("argmax", False)
    if cfg.pool_type != pool_type:
        raise unsupported_key_error(f"{where}.pool_type", cfg.pool_type)
    if cfg.proj_bias != proj_bias:
        raise unsupported_key_error(f"{where}.proj_bias", cfg.proj_bias)
    config_type = SiglipTextConfig if cfg.no_causal_mask else TextConfig
    return config_type(
        layers=cfg.layers,
        heads=cfg.heads,
        vocab_size=cfg.vocab_size,
        context_length=cfg.context_length,
        **parse_transformer(cfg, where, quick_gelu=quick_gelu),
    )


def to_text_cfg(text: TextTowerConfig) -> dict[str, Any]:
    """Return `text_cfg` for a text tower.

    Raises:
        WeightsError: open_clip cannot build the tower from a folder.
    """
    if isinstance(text, BertTextConfig):
        raise WeightsError(
            "open_clip builds text towers of the BERT family from a config on the hub, which a folder cannot contain. "
            "Use --format zebra."
        )
    cfg = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "heads": text.heads,
        "layers": text.layers,
        **to_transformer_cfg(text),
    }
    if isinstance(text, SiglipTextConfig):
        cfg |= {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    return cfg
