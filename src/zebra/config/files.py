"""Recipes and resolved configs as YAML: files in, mappings out, and back."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zebra.config.presets import get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, suggest_name


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("zebra") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def read_recipe(name: str) -> dict[str, Any]:
    """Read a recipe by its name, or any YAML file by its path; a preset's name may stand for `model`.

    Raises:
        ConfigError: no such recipe or file, broken YAML, or not a mapping.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"no recipe file at {path.resolve()}")
        text, where = path.read_text(encoding="utf-8"), str(path)
    elif name in list_recipes():
        text = (resources.files("zebra") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        where = f"recipe {name}"
    else:
        hint = suggest_name(name, list_recipes())
        raise ConfigError(f"no recipe is called {name!r}.{hint} A path to a recipe ends in .yaml.")
    return _parse_mapping(text, where)


def read_train_config(path: Path) -> TrainConfig:
    """Read a resolved `config.yaml` back into the value that wrote it."""
    return structure(TrainConfig, _parse_mapping(path.read_text(encoding="utf-8"), str(path)))


def write_config(path: Path, config: object) -> None:
    """Write a config as YAML, fields in their declared order."""
    path.write_text(
        yaml.safe_dump(unstructure(config), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def _parse_mapping(text: str, source: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{source} must hold settings as 'name: value' lines")
    if isinstance(raw.get("model"), str):
        raw["model"] = unstructure(get_preset(raw["model"]))
    return raw
