"""The modules of a sentence-transformers folder: `modules.json`.

Such a folder lists the modules that compute a vector, in order, each with its own subfolder:

    0_CLIPModel                               images and texts, a transformers folder
    Transformer, 1_Pooling, 2_Dense           texts only

Reference: `base/model.py` and the modules of sentence-transformers 6.2. Versions before 5.4 wrote `CLIPModel`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zebra.errors import WeightsError, show_value
from zebra.text.files import read_json_object, read_text

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"
MODULE_SETTINGS_FILES = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
"""Names of the settings of a Transformer module; the first one that exists is read."""
MODULE_KINDS = ("Transformer", "CLIPModel", "Pooling", "Dense", "Normalize")
"""The classes that zebra computes, by the last part of their names."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module: the name of its class, and its folder."""

    kind: str
    path: str
    """Relative to the model folder; "" is the model folder itself."""

    @property
    def has_weights(self) -> bool:
        """Whether the folder has a weight file."""
        return self.kind in ("Transformer", "CLIPModel", "Dense")


def read_modules(folder: Path) -> list[Module]:
    """Read `modules.json`, without Normalize modules: zebra's vectors have unit length in any case.

    Raises:
        WeightsError: The file is damaged, or names a class that zebra does not compute.
    """
    path = folder / MODULES_FILE
    try:
        entries = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON ({error}). Copy it again.") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise WeightsError(f"{path} must be a JSON list of modules. Copy it again.")
    _require_sentence_transformer(folder / CONFIG_FILE)
    modules = [_parse_module(entry, path) for entry in entries]
    return [module for module in modules if module.kind != "Normalize"]


def read_module_settings(folder: Path, supported: Mapping[str, tuple[object, ...]]) -> dict[str, Any]:
    """Read the settings of a Transformer or CLIPModel module; without a file, they are empty.

    Args:
        folder: The folder of the module.
        supported: See `require_values`.

    Raises:
        WeightsError: The file is damaged, or a key is unknown or has another value.
    """
    path = next((folder / name for name in MODULE_SETTINGS_FILES if (folder / name).is_file()), None)
    if path is None:
        return {}
    settings = read_json_object(path)
    require_values(settings, supported, path)
    return settings


def require_values(settings: Mapping[str, Any], supported: Mapping[str, tuple[object, ...]], path: Path) -> None:
    """Raise WeightsError if a key of the file `path` is unknown or has another value than the supported ones.

    Args:
        supported: Values by key; a key without values is validated by the caller.
    """
    for key, value in settings.items():
        if key not in supported or (supported[key] and value not in supported[key]):
            raise WeightsError(
                f"{path}: {key[:100]} is {show_value(value)}, which zebra does not support. Delete it if it cannot "
                "change a vector."
            )


def _parse_module(entry: Mapping[str, Any], path: Path) -> Module:
    class_name, module_path = entry.get("type"), entry.get("path", "")
    if not isinstance(class_name, str) or not isinstance(module_path, str):
        raise WeightsError(f"{path}: a module needs a type and a path, not {show_value(dict(entry))}. Copy it again.")
    package, _, kind = class_name.rpartition(".")
    if package.split(".")[0] != "sentence_transformers":
        raise WeightsError(
            f"{path}: the module {class_name[:100]} is code in the repository of the model, which zebra never runs."
        )
    if kind not in MODULE_KINDS:
        raise WeightsError(
            f"{path}: the module {class_name[:100]} is not supported. zebra computes {', '.join(MODULE_KINDS)}."
        )
    parts = PurePosixPath(module_path).parts
    if PurePosixPath(module_path).is_absolute() or ".." in parts or "\\" in module_path:
        raise WeightsError(f"{path} names a folder outside the model: {module_path[:100]!r}. Do not trust this model.")
    return Module(kind, "/".join(parts))


def _require_sentence_transformer(path: Path) -> None:
    """Raise WeightsError for a sparse encoder or a reranker, and for a prompt that the library adds to each text."""
    if not path.is_file():
        return
    config = read_json_object(path)
    model_type = config.get("model_type", "SentenceTransformer")
    if model_type != "SentenceTransformer":
        raise WeightsError(f"{path}: model_type is {show_value(model_type)}. zebra reads SentenceTransformer only.")
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if prompt:
        raise WeightsError(
            f"{path}: default_prompt_name puts {show_value(prompt)} before each text, which zebra does not. Set "
            "default_prompt_name to null and write the prompt yourself."
        )
