"""Mappings (from YAML or JSON) become dataclasses and back, strictly: every mistake is named with its path."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from zebra.errors import ConfigError, nearest

T = TypeVar("T")


def structure(kind: type[T], raw: object, path: str = "") -> T:
    """Build the dataclass `kind` from a mapping.

    Numbers are coerced by the field's type (PyYAML reads `5e-4` as a string), unions of dataclasses are
    told apart by their `kind` field, and absent keys take the field's default.

    Raises:
        ConfigError: an unknown key (with the nearest name), a missing one, or a value of the wrong type.
    """
    return typing.cast(T, _convert(kind, raw, path))


def unstructure(value: object) -> Any:
    """Turn a config into plain mappings, lists and scalars that `structure` reads back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: unstructure(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): unstructure(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [unstructure(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def differences(old: object, new: object, path: str = "") -> list[str]:
    """List every leaf where two unstructured configs differ, as 'path: old → new'."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if old == new else [f"{path}: {old!r} → {new!r}"]


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _dataclass(kind: type, raw: object, path: str) -> object:
    if isinstance(raw, kind):
        return raw
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path or 'the config'} must be a mapping of settings, not {raw!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in raw:
        if key not in fields:
            raise ConfigError(f"unknown setting {_join(path, key)}.{nearest(str(key), fields)}")
    hints = _hints(kind)
    missing = [
        name
        for name, field in fields.items()
        if name not in raw
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path or 'the config'} lacks {', '.join(missing)}")
    return kind(**{str(key): _convert(hints[key], value, _join(path, key)) for key, value in raw.items()})


def _union(options: tuple[Any, ...], raw: object, path: str) -> object:
    if raw is None and type(None) in options:
        return None
    real = [option for option in options if option is not type(None)]
    if len(real) == 1:
        return _convert(real[0], raw, path)
    classes: dict[str, type] = {
        get_args(_hints(option)["kind"])[0]: option
        for option in real
        if isinstance(option, type) and dataclasses.is_dataclass(option)
    }
    if len(classes) == len(real):
        if isinstance(raw, Mapping) and raw.get("kind") in classes:
            return _dataclass(classes[raw["kind"]], raw, path)
        if isinstance(raw, tuple(real)):
            return raw
        raise ConfigError(f"{path}.kind must be one of {', '.join(sorted(classes))}")
    for option in real:
        try:
            return _convert(option, raw, path)
        except ConfigError:
            continue
    raise ConfigError(f"{path}: {raw!r} fits none of {', '.join(str(option) for option in real)}")


def _convert(kind: Any, raw: object, path: str) -> object:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), raw, path)
    if origin is Literal:
        if raw in get_args(kind):
            return raw
        raise ConfigError(f"{path} is {raw!r}; choose one of {', '.join(map(str, get_args(kind)))}")
    if origin is tuple:
        return _tuple(get_args(kind), raw, path)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, raw, path)
    return _scalar(kind, raw, path)


def _tuple(items: tuple[Any, ...], raw: object, path: str) -> tuple[object, ...]:
    if not isinstance(raw, list | tuple):
        raise ConfigError(f"{path} must be a list, not {raw!r}")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(raw)
    if len(items) != len(raw):
        raise ConfigError(f"{path} needs {len(items)} values, not {len(raw)}")
    return tuple(
        _convert(item, value, f"{path}[{i}]") for i, (item, value) in enumerate(zip(items, raw, strict=True))
    )


def _scalar(kind: Any, raw: object, path: str) -> object:
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is str and isinstance(raw, str):
        return raw
    if kind is Path and isinstance(raw, str | Path):
        return Path(raw)
    if kind in (int, float) and isinstance(raw, int | float | str) and not isinstance(raw, bool):
        try:
            number = float(raw)
            if kind is float:
                return number
            if number.is_integer():
                return int(raw) if isinstance(raw, int) else int(number)
        except (ValueError, OverflowError):
            pass
    raise ConfigError(f"{path} must be {expected.get(kind, kind)}, not {raw!r}")


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
