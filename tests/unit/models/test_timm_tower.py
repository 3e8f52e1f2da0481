"""Towers of timm where timm is missing or unusable; the towers themselves are tested beside open_clip."""

import builtins
import sys
from types import ModuleType

import pytest

from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.config.text_towers import TextConfig
from zebra.config.timm_tower import TimmVisionConfig
from zebra.errors import ConfigError, MissingExtra
from zebra.models import CLIP
from zebra.models.image import timm_tower
from zebra.models.image.timm_tower import import_timm

CONFIG = ModelConfig(
    embed_dim=8,
    image_size=64,
    vision=TimmVisionConfig(name="convnext_atto"),
    text=TextConfig(width=16, layers=1, heads=1, vocab_size=50, context_length=8),
)


@pytest.fixture
def fake_timm(monkeypatch):
    """A module in the place of timm, whose version is the lowest that zebra accepts."""
    module = ModuleType("timm")
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setattr(timm_tower, "version", lambda name: "1.0.23")
    return module


def test_a_config_of_timm_survives_json():
    assert structure(ModelConfig, unstructure(CONFIG)) == CONFIG


def test_without_timm_the_error_names_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r'pip install "zebra-clip\[timm\]"'):
        CLIP(CONFIG)


@pytest.mark.parametrize("version", ["0.9.16", "1.0.9", "1.0.22", "1.0.22.dev0"])
def test_an_old_timm_is_refused_with_the_lowest_version(monkeypatch, fake_timm, version):
    assert import_timm() is fake_timm
    monkeypatch.setattr(timm_tower, "version", lambda name: version)
    with pytest.raises(ConfigError, match=rf"timm {version} is too old; zebra needs 1\.0\.23"):
        import_timm()


def test_a_torchvision_that_does_not_match_torch_is_named(monkeypatch):
    real_import = builtins.__import__

    def import_module(name, *args):
        if name == "timm":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", import_module)
    with pytest.raises(ConfigError, match=r"torchvision::nms does not exist. Install the torchvision that matches"):
        import_timm()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"name": "hf-hub:timm/convnext_base"}, "name is 'hf-hub:timm/convnext_base'"),
        ({"name": "convnext_base.a.b"}, "must be a name of timm"),
        ({"name": "convnext_base\n"}, "must be a name of timm"),
        ({"pool": "default", "projection": "classifier"}, "needs a pool"),
        ({"pool": "default", "projection": "none"}, "needs a pool"),
        ({"pool": "abs_attn", "projection": "classifier"}, "leaves no classifier"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        TimmVisionConfig(**({"name": "convnext_base"} | settings))
