"""Named architectures have the published sizes."""

import pytest
import torch

from zebra.config.presets import PRESETS, get_preset
from zebra.errors import ConfigError
from zebra.models import CLIP

PUBLISHED = {
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
    "ViT-L/14@336px": 427_944_193,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_has_the_parameter_count_of_the_published_checkpoint(name):
    with torch.device("meta"):
        model = CLIP(get_preset(name))
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("tiny")])
def test_tiny_presets_keep_the_head_widths_of_their_family(name):
    """Other libraries derive heads from widths: 64 per head in transformers, width / 2 heads in ResNets."""
    config = get_preset(name)
    assert config.text.heads == config.text.width // 64
    if config.vision.kind in ("vit", "naflex"):
        assert config.vision.heads == config.vision.width // 64
    else:
        assert config.vision.heads == config.vision.width // 2


def test_an_unknown_preset_is_refused_with_the_closest_name():
    with pytest.raises(ConfigError, match="Did you mean 'ViT-B/32'"):
        get_preset("ViT-B-32")
