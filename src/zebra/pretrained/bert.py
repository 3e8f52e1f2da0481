"""Conversion of text encoders of the BERT family from transformers.

Reference: `BertModel`, `RobertaModel`, `XLMRobertaModel`, `CamembertModel` and `DistilBertModel` of transformers 5.24
with their configs. The first four have the same tensor names.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zebra.config.structure import structure
from zebra.config.text_towers import BertPooling, BertTextConfig
from zebra.config.transformer import Activation
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.pretrained.concatenate import concatenate

JsonDict = dict[str, Any]

BERT_DEFAULTS: JsonDict = {
    "vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "layer_norm_eps": 1e-12,
    "pad_token_id": 0, "type_vocab_size": 2,
    "position_embedding_type": "absolute", "is_decoder": False,
}  # fmt: skip
_ROBERTA_DEFAULTS = BERT_DEFAULTS | {"vocab_size": 50_265, "pad_token_id": 1}
MODEL_DEFAULTS: dict[str, JsonDict] = {
    "bert": BERT_DEFAULTS,
    "roberta": _ROBERTA_DEFAULTS,
    "xlm-roberta": _ROBERTA_DEFAULTS | {"vocab_size": 30_522},
    "camembert": _ROBERTA_DEFAULTS | {"vocab_size": 30_522},
    "distilbert": BERT_DEFAULTS | {"num_hidden_layers": 6},
}
"""The defaults of transformers for keys that are missing in a config, by model type."""
_DISTILBERT_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}
_FIXED_SETTINGS: JsonDict = {"position_embedding_type": "absolute", "is_decoder": False}
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
}  # fmt: skip

_EMBEDDING_NORM = "embeddings.LayerNorm"
_WORDS, _POSITIONS, _TOKEN_TYPES = (
    f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
)
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Buffers 0, 1, 2, … and 0, 0, 0, … that older versions saved with the weights."""
_POOLER = "pooler.dense"
_BERT_BLOCK = "encoder.layer"
_BERT_QKV = tuple(f"attention.self.{name}" for name in ("query", "key", "value"))
_BERT_LAYERS = {
    "attn.out_proj": "attention.output.dense",
    "ln_1": "attention.output.LayerNorm",
    "mlp.c_fc": "intermediate.dense",
    "mlp.c_proj": "output.dense",
    "ln_2": "output.LayerNorm",
}
_DISTILBERT_BLOCK = "transformer.layer"
_DISTILBERT_QKV = tuple(f"attention.{name}_lin" for name in "qkv")
_DISTILBERT_LAYERS = {
    "attn.out_proj": "attention.out_lin",
    "ln_1": "sa_layer_norm",
    "mlp.c_fc": "ffn.lin1",
    "mlp.c_proj": "ffn.lin2",
    "ln_2": "output_layer_norm",
}


def parse_bert_config(
    raw: Mapping[str, Any], where: str, *, context_length: int | None = None, **head: object
) -> BertTextConfig:
    """Convert the config of an encoder.

    Args:
        raw: The config: its `model_type` and the settings that differ from the defaults of that type.
        where: Name of the file or section in error messages.
        context_length: Maximum length of a text in tokens; the number of positions by default.
        head: `pooling`, `projection`, `projection_bias` and `projection_norm` of `BertTextConfig`.

    Raises:
        ConfigError: The model type or a setting is not supported, a setting has the wrong type, or `context_length`
            exceeds the number of positions.
    """
    model_type = raw.get("model_type")
    if model_type not in list(MODEL_DEFAULTS):  # a list, because the value in the file may not be hashable
        raise ConfigError(
            f"{where}: model_type is {show_value(model_type)}. zebra's own text encoders are "
            f"{', '.join(MODEL_DEFAULTS)}."
        )
    if model_type == "distilbert" and head.get("pooling") == "pooler":
        raise ConfigError(f"{where}: model_type is distilbert, which has no dense layer for pooling.")
    if raw.get("auto_map"):
        raise ConfigError(
            f"{where}: auto_map is {show_value(raw['auto_map'])}: this encoder needs code of its repository "
            "(trust_remote_code), which zebra does not run, so its function is unknown."
        )
    settings = _complete_settings(raw)
    for key, supported in _FIXED_SETTINGS.items():
        if settings[key] != supported:
            raise ConfigError(f"{where}: {key} is {show_value(settings[key])}. zebra supports {supported!r} only.")
    if settings["hidden_act"] not in list(_ACTIVATIONS):
        raise ConfigError(
            f"{where}: the activation is {show_value(settings['hidden_act'])}. zebra supports "
            f"{', '.join(_ACTIVATIONS)}."
        )
    for key, minimum in (("pad_token_id", 0), ("max_position_embeddings", 1), ("type_vocab_size", 1)):
        if not isinstance(settings[key], int) or settings[key] < minimum:
            raise ConfigError(
                f"{where}: {key} is {show_value(settings[key])}. It must be an integer of at least {minimum}."
            )
    num_positions = settings["max_position_embeddings"] - _first_position(settings)
    if context_length is not None and context_length > num_positions:
        raise ConfigError(
            f"{where}: the context length is {context_length}, but the encoder has {num_positions} positions for "
            "tokens. Use the config of these weights."
        )
    config = {
        "kind": "bert",
        "vocab_size": settings["vocab_size"],
        "context_length": num_positions if context_length is None else context_length,
        "pad_id": settings["pad_token_id"],
        "width": settings["hidden_size"],
        "layers": settings["num_hidden_layers"],
        "heads": settings["num_attention_heads"],
        "mlp_width": settings["intermediate_size"],
        "activation": _ACTIVATIONS[settings["hidden_act"]],
        "norm_eps": 1e-12 if model_type == "distilbert" else settings["layer_norm_eps"],
        **head,
    }
    try:
        return structure(BertTextConfig, config, "model.text")
    except ConfigError as error:
        raise ConfigError(f"{where} describes an invalid text encoder: {error}") from error


def bert_from_transformers(
    raw: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    pooling: BertPooling,
    projection: tuple[Tensor, Tensor | None] | None = None,
    context_length: int | None = None,
) -> tuple[BertTextConfig, dict[str, Tensor]]:
    """Convert an encoder and a linear projection to a text tower.

    Args:
        raw: The contents of the encoder's config.json.
        tensors: The encoder's tensors, without a prefix.
        where: Name of the folder in error messages.
        pooling: As in `BertTextConfig`.
        projection: Weight [E, D] and bias [E] of the projection; None if the pooled token is the vector.
        context_length: Maximum length of a text in tokens; the number of positions by default.

    Returns:
        The config, and the tensors under zebra's names on disk.

    Raises:
        WeightsError: A setting is not supported, or a tensor is missing, unknown or of another shape.
    """
    weight, bias = projection or (None, None)
    try:
        config = parse_bert_config(
            raw,
            where,
            context_length=context_length,
            pooling=pooling,
            projection="none" if weight is None else "linear",
            projection_bias=bias is not None,
        )
    except ConfigError as error:
        raise WeightsError(str(error)) from error
    remaining = dict(tensors)
    converted = take_bert_tensors(remaining, config, raw, "", where)
    if remaining:
        raise WeightsError(f"{where} has a tensor {min(remaining)} that its config does not imply.")
    for part, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            converted[f"text_projection.{part}"] = tensor
    return config, converted


def take_bert_tensors(
    tensors: dict[str, Tensor], config: BertTextConfig, raw: Mapping[str, Any], prefix: str, where: str
) -> dict[str, Tensor]:
    """Remove the tensors of an encoder from `tensors` and return them under zebra's names, without the projection.

    The embedding of the first sentence type is added to the positions. Positions that a text of `context_length` tokens
    does not reach are dropped, as is BERT's dense layer if the tower does not use it.

    Args:
        tensors: Tensors by their names in transformers.
        config: The result of `parse_bert_config`.
        raw: The encoder's config, from which it was converted.
        prefix: Prefix of the encoder's names, with its dot.
        where: Name of the file in error messages.

    Raises:
        WeightsError: A tensor is missing or has another shape than the config implies; the message names it.
    """
    width, settings = config.width, _complete_settings(raw)
    is_distilbert = settings["model_type"] == "distilbert"

    def take(name: str, *shape: int) -> Tensor:
        if prefix + name not in tensors:
            raise WeightsError(f"{where} lacks the tensor {prefix}{name}. Use the config of these weights.")
        tensor = tensors.pop(prefix + name)
        if tensor.shape != shape:
            raise WeightsError(
                f"{where}: {prefix}{name} has shape {tuple(tensor.shape)}, but the config implies {shape}. Use the "
                "config of these weights."
            )
        return tensor

    def take_layer(name: str, *shape: int) -> dict[str, Tensor]:
        return {"weight": take(f"{name}.weight", *shape), "bias": take(f"{name}.bias", shape[0])}

    first = _first_position(settings)
    positions_PD = take(_POSITIONS, settings["max_position_embeddings"], width)
    positions_PD = positions_PD[first : first + config.context_length].float()
    if not is_distilbert:
        positions_PD = positions_PD + take(_TOKEN_TYPES, settings["type_vocab_size"], width)[0].float()
    converted = {"token_embedding.weight": take(_WORDS, config.vocab_size, width), "positional_embedding": positions_PD}
    modules = {"ln_pre": take_layer(_EMBEDDING_NORM, width)}
    shapes = {"attn.out_proj": (width, width), "mlp.c_fc": (config.hidden, width), "mlp.c_proj": (width, config.hidden)}
    block_prefix, qkv, layers = (
        (_DISTILBERT_BLOCK, _DISTILBERT_QKV, _DISTILBERT_LAYERS)
        if is_distilbert
        else (_BERT_BLOCK, _BERT_QKV, _BERT_LAYERS)
    )
    for index in range(config.layers):
        block = f"transformer.resblocks.{index}"
        for part, shape in (("weight", (width, width)), ("bias", (width,))):
            stacked = [take(f"{block_prefix}.{index}.{name}.{part}", *shape) for name in qkv]
            converted[f"{block}.attn.in_proj_{part}"] = concatenate(stacked)
        for zebra_name, name in layers.items():
            modules[f"{block}.{zebra_name}"] = take_layer(
                f"{block_prefix}.{index}.{name}", *shapes.get(zebra_name, (width,))
            )
    if config.pooling == "pooler":
        modules["pooler"] = take_layer(_POOLER, width, width)
    for name in (*_BUFFERS, f"{_POOLER}.weight", f"{_POOLER}.bias"):
        tensors.pop(prefix + name, None)
    return converted | {f"{name}.{part}": tensor for name, layer in modules.items() for part, tensor in layer.items()}


def _complete_settings(raw: Mapping[str, Any]) -> JsonDict:
    """Return the settings of a config under BERT's names, with the defaults of the model type."""
    settings = {_DISTILBERT_KEYS.get(key, key): value for key, value in raw.items() if value is not None}
    return MODEL_DEFAULTS[raw["model_type"]] | settings


def _first_position(settings: JsonDict) -> int:
    """Return the row of the first token in the table of positions; RoBERTa counts from the row after `pad_token_id`."""
    first: int = 0 if settings["model_type"] in ("bert", "distilbert") else settings["pad_token_id"] + 1
    return first
