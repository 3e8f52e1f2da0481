"""Configs from mappings: strict, typed, with errors that name the path."""

from dataclasses import dataclass

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import PRESETS, get_preset
from zebra.config.structure import diff_configs, structure, unstructure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError

MINIMAL = {"data": "x", "out": "y", "steps": 3}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_a_yaml_round_trip(name):
    text = yaml.safe_dump(unstructure(get_preset(name)))
    assert structure(ModelConfig, yaml.safe_load(text)) == get_preset(name)


def test_a_typo_is_refused_with_its_path_and_the_closest_name():
    raw = MINIMAL | {"optimizer": {"weight_deacy": 0.1}}
    with pytest.raises(ConfigError, match=r"optimizer\.weight_deacy.*'weight_decay'"):
        structure(TrainConfig, raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"batch_size": "many"}, "batch_size must be an integer"),
        ({"batch_size": 12.5}, "batch_size must be an integer"),
        ({"batch_size": True}, "batch_size must be an integer"),
        ({"batch_size": "64"}, "batch_size must be an integer, not '64'"),
        ({"batch_size": float("inf")}, "batch_size must be an integer, not inf"),
        ({"batch_size": 10**400}, "batch_size must be an integer, not 1000.*[.]{3}"),
        ({"lr": "5e-4"}, "lr must be a finite number, not '5e-4'"),
        ({"lr": float("nan")}, "lr must be a finite number, not nan"),
        ({"model": unstructure(get_preset("tiny-vit")) | {"vision": {"kind": []}}}, "vision.kind must be one of"),
        ({"precision": "fp8"}, "precision is 'fp8'; choose one of auto, fp32, bf16"),
        ({"model": {"embed_dim": 8}}, "model lacks image_size, vision, text"),
        ({"eval_sets": "x"}, "eval_sets must be a list"),
        ({"optimizer": 3}, "optimizer must be a mapping"),
        ({"steps": None}, "exactly one of"),
        ({"epochs": 2}, "exactly one of"),
        ({"lr": -1}, "lr is -1"),
        ({"batch_size": 1}, "at least 2 pairs"),
    ],
)
def test_invalid_values_are_refused_with_a_reason(raw, message):
    with pytest.raises(ConfigError, match=message):
        structure(TrainConfig, MINIMAL | raw)


def test_a_missing_setting_is_named_in_the_error():
    with pytest.raises(ConfigError, match="lacks out"):
        structure(TrainConfig, {"data": "x", "steps": 1})


def test_towers_are_distinguished_by_their_kind():
    raw = unstructure(get_preset("tiny-vit"))
    assert isinstance(structure(ModelConfig, raw).vision, VisionTransformerConfig)
    raw["vision"] = unstructure(get_preset("tiny-resnet").vision)
    assert isinstance(structure(ModelConfig, raw).vision, ResNetConfig)
    raw["vision"]["kind"] = "swin"
    with pytest.raises(ConfigError, match=r"vision\.kind must be one of .*resnet, siglip, .*vit"):
        structure(ModelConfig, raw)


@pytest.mark.parametrize("raw", ["x" * 10**6, [[0] * 10**5] * 10**5], ids=["text", "lists"])
def test_a_message_has_a_bounded_length_whatever_the_value(raw):
    for name in ("lr", "precision", "steps", "data", "optimizer", "model"):
        with pytest.raises(ConfigError) as refused:
            structure(TrainConfig, MINIMAL | {name: raw, "data": raw if name == "data" else "x", "out": 1})
        assert len(str(refused.value)) < 500


def test_a_list_that_contains_itself_is_refused():
    raw = []
    raw.append(raw)
    with pytest.raises(ConfigError, match="lr must be a finite number"):
        structure(TrainConfig, MINIMAL | {"lr": raw})


@dataclass(frozen=True)
class Scalars:
    count: int
    rate: float
    name: str
    maybe: int | None
    pair: tuple[int, int]
    many: tuple[str, ...]


@given(
    st.builds(
        Scalars,
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.none() | st.integers(),
        st.tuples(st.integers(), st.integers()),
        st.lists(st.text()).map(tuple),
    )
)
def test_any_value_survives_a_round_trip(value):
    assert structure(Scalars, unstructure(value)) == value


def test_diff_configs_names_each_changed_leaf():
    old = structure(TrainConfig, MINIMAL)
    new = structure(TrainConfig, MINIMAL | {"lr": 2e-3, "optimizer": {"beta2": 0.9}})
    lines = diff_configs(unstructure(old), unstructure(new))
    assert [line.split(":")[0] for line in lines] == ["lr", "optimizer.beta2"]
