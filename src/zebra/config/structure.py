"""Convert between mappings (YAML, JSON) and dataclasses, strictly."""

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from zebra.errors import ConfigError, show_value, suggest_name

T = TypeVar("T")


def structure(cls: type[T], raw: object, path: str = "") -> T:
    """Build the dataclass `cls` from a mapping.

    Convert whole numbers of either type to the field's type; text is never a number. Select the member of a union of
    dataclasses by its `kind` field. Use the default of fields whose key is absent.

    Raises:
        ConfigError: If a key is unknown or missing, or a value has the wrong type or is not finite; the message gives
            the path.
    """
    return typing.cast(T, _structure_value(cls, raw, path))


def unstructure(value: object) -> Any:
    """Convert a config to plain mappings, lists and scalars; the inverse of `structure`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: unstructure(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): unstructure(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [unstructure(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def diff_configs(old: object, new: object, path: str = "") -> list[str]:
    """Return the leaves that differ between two unstructured configs, as 'path: old → new'."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in diff_configs(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if old == new else [f"{path}: {old!r} → {new!r}"]


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _structure_dataclass(cls: type, raw: object, path: str) -> object:
    if isinstance(raw, cls):
        return raw
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path or 'the config'} must be a mapping of settings, not {show_value(raw)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in raw:
        if key not in fields:
            shown = str(key)[:100]
            raise ConfigError(f"unknown setting {_join_path(path, shown)}.{suggest_name(shown, fields)}")
    hints = _type_hints(cls)
    missing = [
        name
        for name, field in fields.items()
        if name not in raw and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path or 'the config'} lacks {', '.join(missing)}")
    return cls(**{str(key): _structure_value(hints[key], value, _join_path(path, key)) for key, value in raw.items()})


def _structure_union(options: tuple[Any, ...], raw: object, path: str) -> object:
    if raw is None and type(None) in options:
        return None
    members = [option for option in options if option is not type(None)]
    if len(members) == 1:
        return _structure_value(members[0], raw, path)
    classes: dict[str, type] = {
        get_args(_type_hints(option)["kind"])[0]: option
        for option in members
        if isinstance(option, type) and dataclasses.is_dataclass(option)
    }
    if len(classes) == len(members):
        if isinstance(raw, Mapping) and raw.get("kind") in list(classes):  # a list, because it may not be hashable
            return _structure_dataclass(classes[raw["kind"]], raw, path)
        if isinstance(raw, tuple(members)):
            return raw
        raise ConfigError(f"{path}.kind must be one of {', '.join(sorted(classes))}")
    for option in members:
        try:
            return _structure_value(option, raw, path)
        except ConfigError:
            continue
    raise ConfigError(f"{path}: {show_value(raw)} matches none of {', '.join(str(option) for option in members)}")


def _structure_value(annotation: Any, raw: object, path: str) -> object:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _structure_union(get_args(annotation), raw, path)
    if origin is Literal:
        if raw in get_args(annotation):
            return raw
        raise ConfigError(f"{path} is {show_value(raw)}; choose one of {', '.join(map(str, get_args(annotation)))}")
    if origin is tuple:
        return _structure_tuple(get_args(annotation), raw, path)
    if origin is Mapping:
        return _structure_mapping(raw, path)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _structure_dataclass(annotation, raw, path)
    return _structure_scalar(annotation, raw, path)


def _structure_mapping(raw: object, path: str) -> dict[str, Any]:
    """Return the settings of another library, which checks the values itself."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path} must be a mapping of settings, not {show_value(raw)}")
    return {str(key): value for key, value in raw.items()}


def _structure_tuple(item_types: tuple[Any, ...], raw: object, path: str) -> tuple[object, ...]:
    if not isinstance(raw, list | tuple):
        raise ConfigError(f"{path} must be a list, not {show_value(raw)}")
    if len(item_types) == 2 and item_types[1] is Ellipsis:
        item_types = (item_types[0],) * len(raw)
    if len(item_types) != len(raw):
        raise ConfigError(f"{path} needs {len(item_types)} values, not {len(raw)}")
    return tuple(
        _structure_value(item, value, f"{path}[{i}]")
        for i, (item, value) in enumerate(zip(item_types, raw, strict=True))
    )


def _structure_scalar(annotation: Any, raw: object, path: str) -> object:
    expected = {bool: "true or false", int: "an integer", float: "a finite number", str: "text", Path: "a path"}
    if annotation is bool and isinstance(raw, bool):
        return raw
    if annotation is str and isinstance(raw, str):
        return raw
    if annotation is Path and isinstance(raw, str | Path):
        return Path(raw)
    if annotation is int and _is_number(raw) and raw == int(raw):
        return int(raw)
    if annotation is float and _is_number(raw):
        return float(raw)
    raise ConfigError(f"{path} must be {expected.get(annotation, annotation)}, not {show_value(raw)}")


def _is_number(raw: object) -> TypeGuard[int | float]:
    """Return whether a value is a number that a float can represent, but neither NaN nor infinite."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return False
    return abs(raw) <= sys.float_info.max  # also false for NaN


def _join_path(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
