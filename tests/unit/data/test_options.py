"""Invalid data options are refused in DataConfig."""

import pytest

from zebra.config.data import DataConfig
from zebra.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_skip_rate", -0.1),
        ("max_skip_rate", 1.5),
        ("max_image_pixels", 0),
        ("max_image_pixels", 10**9),
        ("min_crop_area", 0.0),
        ("min_crop_area", 1.1),
        ("caption_columns", ("text", "text")),
        ("caption_templates", ("a {}", "a {}")),
        ("caption_weights", (1.0,)),
        ("shard_cache_bytes", -1),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"data_options.{name}"):
        DataConfig(**{name: value})


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_a_positive_number(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"data_options\.caption_weights.*Leave out a column"):
        DataConfig(caption_columns=("a", "b"), caption_weights=(1.0, weight))


def test_each_caption_column_needs_a_weight() -> None:
    with pytest.raises(ConfigError, match=r"caption_weights has 1 values for 2 caption_columns"):
        DataConfig(caption_columns=("a", "b"), caption_weights=(1.0,))


def test_both_ends_of_a_range_are_allowed() -> None:
    assert DataConfig(max_skip_rate=0, min_crop_area=1).max_skip_rate == 0
    assert DataConfig(max_skip_rate=1, max_image_pixels=178_956_970).max_skip_rate == 1
