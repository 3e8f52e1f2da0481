"""Configs of the text encoders that open_clip names by a repository on the hub.

An open_clip folder contains the weights of such an encoder, but only the name of its config.
"""

import json
from pathlib import Path
from typing import Any

from zebra.errors import ConfigError, show_value

JsonDict = dict[str, Any]

_BERT_BASE: JsonDict = {"model_type": "bert"}
_BERT_LARGE = _BERT_BASE | {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
}  # fmt: skip
_ROBERTA_BASE: JsonDict = {
    "model_type": "roberta", "vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}  # fmt: skip
_XLM_ROBERTA_BASE = _ROBERTA_BASE | {"model_type": "xlm-roberta", "vocab_size": 250_002}
_LARGE = {name: value for name, value in _BERT_LARGE.items() if name != "model_type"}

_NLLB: JsonDict = {
    "model_type": "m2m_100", "vocab_size": 256_206, "d_model": 1024, "encoder_layers": 12, "encoder_ffn_dim": 4096,
    "encoder_attention_heads": 16, "activation_function": "relu", "scale_embedding": True, "pad_token_id": 1,
}  # fmt: skip
_MT5: JsonDict = {
    "model_type": "mt5", "vocab_size": 250_112, "d_model": 768, "d_ff": 2048, "d_kv": 64, "num_layers": 12,
    "num_heads": 12, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6, "pad_token_id": 0,
}  # fmt: skip

KNOWN_CONFIGS: dict[str, JsonDict] = {
    "bert-base-uncased": _BERT_BASE,
    "bert-base-cased": _BERT_BASE | {"vocab_size": 28_996},
    "bert-base-chinese": _BERT_BASE | {"vocab_size": 21_128},
    "bert-base-multilingual-cased": _BERT_BASE | {"vocab_size": 119_547},
    "bert-large-uncased": _BERT_LARGE,
    "bert-large-cased": _BERT_LARGE | {"vocab_size": 28_996},
    "facebook/nllb-200-distilled-600M": _NLLB,
    "facebook/nllb-200-distilled-1.3B": _NLLB | {"encoder_layers": 24, "encoder_ffn_dim": 8192},
    "google/mt5-small": _MT5 | {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "google/mt5-base": _MT5,
    "google/mt5-large": _MT5 | {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "google/mt5-xl": _MT5 | {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": _BERT_BASE,
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": _BERT_BASE,
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract": _BERT_BASE,
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext": _BERT_BASE,
    "roberta-base": _ROBERTA_BASE,
    "roberta-large": _ROBERTA_BASE | _LARGE,
    "xlm-roberta-base": _XLM_ROBERTA_BASE,
    "xlm-roberta-large": _XLM_ROBERTA_BASE | _LARGE,
}
"""What differs from the defaults of the model type, by name. Sizes are verified when the weights are read; the number
of heads (width / 64), the epsilon and the padding id are those of the publications."""
_ORGANIZATIONS = ("google-bert/", "FacebookAI/")
"""Today's prefixes of the names above without an organization."""


def read_encoder_config(name: str, key: str = "model_cfg.text_cfg.hf_model_name") -> JsonDict:
    """Return the config.json of an encoder: from the table, or from huggingface_hub's cache.

    Args:
        name: A repository on the hub.
        key: The key of the file that names it, for the error.

    Raises:
        ConfigError: It is in neither; the message has the command that downloads it.
    """
    for organization in _ORGANIZATIONS:
        if name.removeprefix(organization) in KNOWN_CONFIGS:
            return dict(KNOWN_CONFIGS[name.removeprefix(organization)])
    path = _find_cached_config(name)
    if path is None:
        raise ConfigError(
            f"{key} is {show_value(name)}, whose config is not in the folder. Download it: "
            f"hf download {name[:100]} config.json"
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}). Download it again.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a JSON object. Download it again.")
    return raw


def _find_cached_config(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path on the author's machine
        return None
    return Path(path) if isinstance(path, str) else None
