"""Towers of transformers where it is missing or unusable; the towers themselves are tested beside the library."""

import dataclasses
import sys
from types import ModuleType, SimpleNamespace

import pytest

from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.config.transformers_towers import TransformersTextConfig, TransformersVisionConfig
from zebra.errors import ConfigError, MissingExtra
from zebra.models import CLIP
from zebra.models.transformers_encoder import build_encoder, build_projection

SETTINGS = {"hidden_size": 16, "num_hidden_layers": 1}
CONFIG = ModelConfig(
    embed_dim=8,
    image_size=32,
    vision=TransformersVisionConfig(
        settings={**SETTINGS, "model_type": "tipsv2_vision_model", "image_size": 32},
        pooling="pooler",
        projection="linear",
    ),
    text=TransformersTextConfig(
        settings={**SETTINGS, "model_type": "tipsv2_text_model"},
        pooling="mean",
        projection="mlp",
        projection_width=12,
        vocab_size=50,
        context_length=8,
        pad_id=0,
    ),
)


def test_a_config_of_transformers_survives_json():
    assert structure(ModelConfig, unstructure(CONFIG)) == CONFIG
    assert "1 layers, features of width 16" in CONFIG.text.describe()


def test_without_transformers_the_error_names_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r'pip install "zebra-clip\[transformers\]"'):
        CLIP(CONFIG)


def test_an_old_transformers_is_refused_with_the_lowest_version(monkeypatch):
    old = ModuleType("transformers")
    old.__version__ = "4.57.1"
    monkeypatch.setitem(sys.modules, "transformers", old)
    with pytest.raises(ConfigError, match=r"transformers 4\.57\.1 is too old; zebra needs 5\.0"):
        CLIP(CONFIG)


def test_a_package_that_does_not_match_torch_is_named(monkeypatch):
    class Incompatible(ModuleType):
        """A transformers whose models cannot be imported."""

        def __getattr__(self, name):
            raise ModuleNotFoundError(f"Could not import {name}") from RuntimeError("no operator torchvision::nms")

    broken = Incompatible("transformers")
    broken.__version__ = "5.24.0"
    broken.logging = SimpleNamespace(**dict.fromkeys(["get_verbosity", "set_verbosity_error"], int), set_verbosity=abs)
    monkeypatch.setitem(sys.modules, "transformers", broken)
    with pytest.raises(ConfigError, match=r"cannot import Tipsv2VisionModel: no operator torchvision::nms. Install"):
        build_encoder(CONFIG.vision)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"hidden_size": 16}}, "settings.model_type is None"),
        (
            {"settings": {**CONFIG.text.settings, "hidden_size": "wide"}},
            "hidden_size or d_model or hidden_dim is 'wide'",
        ),
        ({"settings": {**CONFIG.text.settings, "num_hidden_layers": True}}, "it must be an integer"),
        ({"settings": {**CONFIG.text.settings, "encoder_layers": 10**6}}, "the limit is 256"),
        ({"settings": {**CONFIG.text.settings, "depths": [1] * 1000}}, "has 1000 entries"),
        ({"settings": {**CONFIG.text.settings, "x": float("nan")}}, "x is nan"),
        ({"settings": {**CONFIG.text.settings, "x": [[[[[[1]]]]]]}}, "nested too deeply"),
        ({"projection_width": None}, "set it for mlp"),
        ({"projection": "linear"}, "and only for them"),
        ({"pad_id": 50}, "below vocab_size"),
        ({"pad_id": None}, "needs the pad_id"),
        ({"context_length": 0}, "context_length is 0"),
    ],
)
def test_wild_settings_are_refused_before_anything_is_built(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG.text, **changes)


def test_an_image_size_without_positions_is_refused():
    with pytest.raises(ConfigError, match="image_size is 64, but the tipsv2_vision_model has positions for 32"):
        dataclasses.replace(CONFIG, image_size=64)


def test_features_of_another_width_need_a_projection():
    with pytest.raises(ConfigError, match="features of width 16 without a projection are no embeddings of 8"):
        build_projection("none", 16, None, 8, "model.vision")
