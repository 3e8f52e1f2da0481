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
        ("shard_cache_bytes", -1),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"data_options.{name}"):
        DataConfig(**{name: value})


def test_both_ends_of_a_range_are_allowed() -> None:
    assert DataConfig(max_skip_rate=0, min_crop_area=1).max_skip_rate == 0
    assert DataConfig(max_skip_rate=1, max_image_pixels=178_956_970).max_skip_rate == 1
