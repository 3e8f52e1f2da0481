"""Text models of sentence-transformers: an encoder, a pooling and a projection.

modules.json  config.json  model.safetensors  tokenizer.json  1_Pooling/config.json  2_Dense/ (config.json, weights)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zebra.config.text_towers import BertPooling
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.pretrained.bert import bert_from_transformers, parse_bert_config
from zebra.pretrained.checkpoint import TextCheckpoint
from zebra.pretrained.sentence_transformers.modules import (
    MODULE_SETTINGS_FILES,
    MODULES_FILE,
    Module,
    read_module_settings,
    read_modules,
    require_values,
)
from zebra.pretrained.tensors import read_tensors
from zebra.pretrained.weight_files import find_weights, list_weight_files
from zebra.text.files import read_json_object

TOKENIZER_CONFIG = "tokenizer_config.json"
IDENTITY = "torch.nn.modules.linear.Identity"
POOLINGS: dict[str, BertPooling] = {"mean": "mean", "cls": "cls"}
"""The poolings that zebra computes, by their names in the library."""
_FLAGS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
"""Names of poolings by the flags of versions before 5.4."""
_SUPPORTED_SETTINGS: dict[str, tuple[object, ...]] = {
    "transformer_task": ("feature-extraction",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "module_output_name": ("token_embeddings",),
    "max_seq_length": (),
    "do_lower_case": (False,),
    "unpad_inputs": (None, True, False),
    **dict.fromkeys(
        ("processor_kwargs", "processing_kwargs", "model_kwargs", "config_kwargs", "model_args", "config_args"), ({},)
    ),
    "tokenizer_args": ({},),
}
_SUPPORTED_DENSE: dict[str, tuple[object, ...]] = {
    "in_features": (),
    "out_features": (),
    "bias": (True, False),
    "activation_function": (IDENTITY,),
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding",),
    "use_residual": (False,),
}


def has_pooling(folder: Path) -> bool:
    """Return whether a folder with `modules.json` is a text model: its first module is pooled."""
    return [module.kind for module in read_modules(folder)[:2]] == ["Transformer", "Pooling"]


def read_text_modules(folder: Path) -> TextCheckpoint:
    """Read the modules Transformer, Pooling and, if there is one, Dense.

    Raises:
        WeightsError: A file is missing or damaged, the encoder is not of the BERT family, or a module or a setting is
            not supported.
    """
    modules = read_modules(folder)
    if [module.kind for module in modules] not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Dense"]):
        raise WeightsError(
            f"{folder / MODULES_FILE} has the modules {', '.join(module.kind for module in modules)}. Of text models, "
            "zebra reads Transformer, Pooling and at most one Dense."
        )
    encoder, pooling = (folder / module.path for module in modules[:2])
    raw, weights = read_json_object(encoder / "config.json"), find_weights(encoder)
    projection, projection_files = _read_projection(folder, modules[2:])
    config, tensors = bert_from_transformers(
        raw,
        read_tensors(weights),
        str(encoder),
        pooling=_read_pooling(pooling / "config.json"),
        projection=projection,
        context_length=_read_max_length(encoder, raw),
    )
    settings = [encoder / name for name in (*MODULE_SETTINGS_FILES, TOKENIZER_CONFIG) if (encoder / name).is_file()]
    return TextCheckpoint(
        folder=encoder,
        embed_dim=config.width if projection is None else len(projection[0]),
        config=config,
        tensors=tensors,
        files=(
            folder / MODULES_FILE,
            encoder / "config.json",
            *settings,
            pooling / "config.json",
            *list_weight_files(weights),
            *projection_files,
        ),
    )


def _read_max_length(encoder: Path, raw_config: Mapping[str, Any]) -> int | None:
    """Return the number of tokens to which texts are truncated; None if only the positions limit it."""
    max_length = read_module_settings(encoder, _SUPPORTED_SETTINGS).get("max_seq_length")
    if max_length is None and (encoder / TOKENIZER_CONFIG).is_file():
        max_length = read_json_object(encoder / TOKENIZER_CONFIG).get("model_max_length")
    if not isinstance(max_length, int):
        return None
    try:
        return min(max_length, parse_bert_config(raw_config, str(encoder)).context_length)
    except ConfigError as error:
        raise WeightsError(str(error)) from error


def _read_pooling(path: Path) -> BertPooling:
    raw = read_json_object(path)
    flags = [name for key, name in _FLAGS.items() if raw.get(key)]
    mode = raw.get("pooling_mode", flags[0] if len(flags) == 1 else flags or "mean")
    if mode not in list(POOLINGS):
        raise WeightsError(f"{path}: the pooling is {show_value(mode)}. zebra computes {', '.join(POOLINGS)}.")
    return POOLINGS[mode]


def _read_projection(folder: Path, dense: list[Module]) -> tuple[tuple[Tensor, Tensor | None] | None, tuple[Path, ...]]:
    """Return weight and bias of the Dense module, and its files."""
    if not dense:
        return None, ()
    module = folder / dense[0].path
    path = module / "config.json"
    raw = read_json_object(path)
    # Without the key, the library applies tanh.
    require_values({"activation_function": "torch.nn.modules.activation.Tanh"} | raw, _SUPPORTED_DENSE, path)
    weights = find_weights(module)
    tensors = read_tensors(weights)
    has_bias = raw.get("bias", True)
    names = {"linear.weight", *(("linear.bias",) if has_bias else ())}
    if tensors.keys() != names:
        raise WeightsError(
            f"{weights} has the tensors {', '.join(sorted(tensors)[:5])} instead of {', '.join(sorted(names))}. Copy "
            "the folder again."
        )
    shape = (raw.get("out_features"), raw.get("in_features"))
    if tensors["linear.weight"].shape != shape:
        raise WeightsError(
            f"{weights}: linear.weight has the shape {tuple(tensors['linear.weight'].shape)}, but config.json implies "
            f"{shape}. Copy both from the same model."
        )
    return (tensors["linear.weight"], tensors.get("linear.bias")), (path, *list_weight_files(weights))
