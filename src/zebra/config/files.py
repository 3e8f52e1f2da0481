"""Read recipes and write resolved configs as YAML."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from zebra.config.presets import get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, suggest_name


def list_recipes(verb: str = "train") -> list[str]:
    """Return the names of the built-in recipes of `zebra train` or `zebra curate`."""
    return sorted(
        file.name.removesuffix(".yaml") for file in _recipe_dir(verb).iterdir() if file.name.endswith(".yaml")
    )


def read_recipe(name: str, verb: str = "train") -> dict[str, Any]:
    """Read a built-in recipe by name or a YAML file by path; `model` of `zebra train` may be the name of a preset.

    Raises:
        ConfigError: If the recipe does not exist, is invalid YAML, or is no mapping.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"recipe file not found: {path.resolve()}")
        text, source = _read_text(path), str(path)
    elif name in list_recipes(verb):
        text = (_recipe_dir(verb) / f"{name}.yaml").read_text(encoding="utf-8")
        source = f"recipe {name}"
    else:
        hint = suggest_name(name, list_recipes(verb))
        raise ConfigError(f"unknown recipe {name!r}.{hint} The path of a recipe file ends in .yaml.")
    raw = _parse_mapping(text, source)
    if verb == "train" and isinstance(raw.get("model"), str):
        raw["model"] = unstructure(get_preset(raw["model"]))
    return raw


def _recipe_dir(verb: str) -> Traversable:
    directory = resources.files("zebra") / "recipes"
    return directory if verb == "train" else directory / verb


def read_train_config(path: Path) -> TrainConfig:
    """Read a resolved `config.yaml` into a TrainConfig."""
    return structure(TrainConfig, _parse_mapping(_read_text(path), str(path)))


def write_config(path: Path, config: object) -> None:
    """Write a config as YAML, with fields in declaration order."""
    path.write_text(yaml.safe_dump(unstructure(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


class _RecipeLoader(yaml.SafeLoader):
    """PyYAML with the numbers of YAML 1.2: `5e-4` is one, and `1:30` is text instead of a number in base 60."""


_NUMBER_PATTERNS = {
    "int": r"[-+]?[0-9][0-9_]*",
    "float": r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?",
}
_RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in _NUMBER_PATTERNS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _type, _pattern in _NUMBER_PATTERNS.items():
    _RecipeLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", re.compile(f"^(?:{_pattern})$"), "-+.0123456789")


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_RecipeLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse_scalar(text: str) -> Any:
    """Return the value of a setting as in a recipe: a number, true, false, null or text.

    Raises:
        ConfigError: The text is a list, a mapping or no YAML.
    """
    value = _parse_mapping(f"value: {text}", f"the value {text!r}")["value"]
    if isinstance(value, list | dict):
        raise ConfigError(f"the value {text!r} must be a number, true, false, null or text")
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _parse_mapping(text: str, source: str) -> dict[str, Any]:
    try:
        raw = _RecipeLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        # PyYAML raises ValueError for an invalid date, and AttributeError for the tag !!timestamp on other text.
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{source} is not a YAML mapping; write settings as 'name: value' lines")
    return raw
