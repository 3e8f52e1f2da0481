"""Read recipes and write resolved configs as YAML."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zebra.config.presets import get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, suggest_name


def list_recipes() -> list[str]:
    """Return the names of the built-in recipes."""
    directory = resources.files("zebra") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in directory.iterdir() if file.name.endswith(".yaml"))


def read_recipe(name: str) -> dict[str, Any]:
    """Read a built-in recipe by name or a YAML file by path; `model` may be the name of a preset.

    Raises:
        ConfigError: If the recipe does not exist, is invalid YAML, or is no mapping.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"recipe file not found: {path.resolve()}")
        text, source = path.read_text(encoding="utf-8"), str(path)
    elif name in list_recipes():
        text = (resources.files("zebra") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        source = f"recipe {name}"
    else:
        hint = suggest_name(name, list_recipes())
        raise ConfigError(f"unknown recipe {name!r}.{hint} The path of a recipe file ends in .yaml.")
    return _parse_mapping(text, source)


def read_train_config(path: Path) -> TrainConfig:
    """Read a resolved `config.yaml` into a TrainConfig."""
    return structure(TrainConfig, _parse_mapping(path.read_text(encoding="utf-8"), str(path)))


def write_config(path: Path, config: object) -> None:
    """Write a config as YAML, with fields in declaration order."""
    path.write_text(yaml.safe_dump(unstructure(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _parse_mapping(text: str, source: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{source} is not a YAML mapping; write settings as 'name: value' lines")
    if isinstance(raw.get("model"), str):
        raw["model"] = unstructure(get_preset(raw["model"]))
    return raw
