"""The model types of transformers that zebra reads."""

from collections.abc import Mapping
from pathlib import Path

from zebra.errors import WeightsError, show_value
from zebra.pretrained.transformers.bert_dual_encoders import BERT_MODEL_TYPES
from zebra.pretrained.transformers.config import ARCHITECTURES, JsonDict
from zebra.pretrained.transformers.dual_encoders import LIBRARY_MODEL_TYPES, match_dual_encoder
from zebra.pretrained.transformers.fg_clip import MODEL_TYPE as FG_CLIP

MODEL_TYPES = (*ARCHITECTURES, *BERT_MODEL_TYPES, *LIBRARY_MODEL_TYPES, FG_CLIP)


def require_model_type(raw: JsonDict, path: Path) -> None:
    """Raise WeightsError unless zebra reads models of a type.

    Args:
        raw: The contents of config.json.
        path: The file, for the error.
    """
    match_dual_encoder(raw, path)  # raises for a model of the library without embeddings
    model_type = raw.get("model_type")
    if model_type in MODEL_TYPES:
        return
    remote_class = _find_remote_class(raw.get("auto_map"))
    reason = (
        f" Its class {remote_class} is code in a repository (auto_map, trust_remote_code). zebra never runs such code: "
        "it may do anything on this machine, and what it computes cannot be verified."
        if remote_class
        else ""
    )
    raise WeightsError(
        f"{path}: model_type {show_value(model_type)} is not supported.{reason} From transformers, zebra reads "
        f"{', '.join(MODEL_TYPES)}."
    )


def _find_remote_class(auto_map: object) -> str | None:
    """Return the name of the model's class in `auto_map`, such as "modeling_clip.JinaCLIPModel"."""
    if not isinstance(auto_map, Mapping):
        return None
    names = [auto_map.get("AutoModel"), *auto_map.values()]
    return next((show_value(name) for name in names if isinstance(name, str)), None)
