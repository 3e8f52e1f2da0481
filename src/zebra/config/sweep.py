"""Settings of `zebra sweep`: variants of a training run."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zebra.config.files import parse_scalar
from zebra.config.presets import get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, suggest_name

FIXED_SETTINGS = {
    "out": "each variant gets a folder in --out of the sweep",
    "steps": "all variants have the same length; set it with --steps or --budget",
    "epochs": "all variants have the same length; set it with --steps or --budget",
}
"""Settings that cannot differ between variants, with the reason."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting with the values to try."""

    setting: str
    """Path of the setting, such as optimizer.weight_decay."""
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    """The values as the user wrote them."""

    @classmethod
    def parse(cls, text: str) -> "Axis":
        """Parse "lr=1e-3,2e-3"; values are numbers, true, false, null or text, as in recipes.

        Raises:
            ConfigError: There is no value, or one repeats.
        """
        setting, _, values = text.partition("=")
        texts = tuple(value.strip() for value in values.split(","))
        if not setting.strip() or not all(texts):
            raise ConfigError(f"--over {text!r} must be SETTING=VALUE,VALUE, such as lr=1e-3,2e-3")
        parsed = tuple(map(parse_scalar, texts))
        if len({(type(value), value) for value in parsed}) < len(parsed):
            raise ConfigError(f"--over {text!r} repeats a value. Name each once.")
        return cls(setting.strip().removeprefix("--").replace("-", "_"), parsed, texts)


@dataclass(frozen=True, slots=True)
class Variant:
    """One combination of the values."""

    name: str
    """Its values, such as "lr=1e-3, batch_size=64"."""
    folder: str
    """Name of its run directory."""
    config: TrainConfig
    """Settings of its run; the sweep sets `out` and the length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """Settings of a sweep."""

    base: TrainConfig
    """Settings of all variants; `base.out` is the directory of the sweep."""
    over: tuple[Axis, ...]
    """The settings to vary; every combination of their values is a variant."""
    budget: int | None = None
    """Steps of all variants together, from which the length of a run follows; None: `base.steps` is its length."""

    def __post_init__(self) -> None:
        if not self.over:
            raise ConfigError("a sweep needs a setting to vary, such as --over lr=1e-3,2e-3")
        names = [axis.setting for axis in self.over]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"--over names {min(repeated)} twice. Name all of its values at once.")
        if self.budget is None and self.base.steps is None:
            raise ConfigError("the length of the runs is unknown. Give --steps, or --budget for all variants together.")
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"budget is {self.budget}; it must be a positive number of steps")
        if not self.base.val_fraction and not self.base.eval_sets:
            raise ConfigError("variants are compared by validation scores. Set --val-fraction or --eval-sets.")
        if len(self.variants) < 2:
            raise ConfigError(f"--over gives only {self.variants[0].name}. Name at least two values of a setting.")

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return every combination of the values.

        Raises:
            ConfigError: A setting is unknown or cannot vary, or a value is invalid; the message names it.
        """
        base = unstructure(self.base)
        for axis in self.over:
            _require_setting(base, axis.setting)
        variants: list[Variant] = []
        for combination in itertools.product(*(zip(axis.values, axis.texts, strict=True) for axis in self.over)):
            settings = base
            for axis, (value, _) in zip(self.over, combination, strict=True):
                settings = _with_setting(settings, axis.setting.split("."), value)
            texts = [f"{axis.setting}={text}" for axis, (_, text) in zip(self.over, combination, strict=True)]
            name = ", ".join(texts)
            try:
                config = structure(TrainConfig, settings)
            except ConfigError as error:
                raise ConfigError(f"variant {name}: {error}") from error
            folder = f"{len(variants)}-{re.sub(r'[^A-Za-z0-9.=_+-]+', '-', '-'.join(texts))[:100]}"
            variants.append(Variant(name, folder, config))
        return tuple(variants)

    def with_length(self, variant: Variant, *, steps: int, eval_every: int, out: str) -> TrainConfig:
        """Return the settings of a variant's run."""
        return replace(variant.config, steps=steps, epochs=None, eval_every=eval_every, out=out)


def _require_setting(base: Mapping[str, Any], setting: str) -> None:
    if reason := FIXED_SETTINGS.get(setting):
        raise ConfigError(f"--over {setting}: {reason}")
    known = [path for path in _setting_paths(base) if path not in FIXED_SETTINGS]
    if setting in known:
        return
    same_name = [path for path in known if path.rpartition(".")[2] == setting.rpartition(".")[2]]
    hint = f" Did you mean {same_name[0]!r}?" if same_name else suggest_name(setting, known)
    raise ConfigError(f"--over {setting}: unknown setting.{hint}")


def _setting_paths(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the paths of all settings, groups of settings such as `model` included."""
    paths = []
    for name, value in settings.items():
        paths.append(prefix + name)
        if isinstance(value, Mapping):
            paths += _setting_paths(value, f"{prefix}{name}.")
    return paths


def _with_setting(settings: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    name, *rest = path
    if rest:
        return {**settings, name: _with_setting(settings[name], rest, value)}
    if name == "model" and isinstance(value, str):
        value = unstructure(get_preset(value))
    return {**settings, name: value}
