"""Geometry and arithmetic of CLIP's preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.errors import ConfigError
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess


def ramp(width: int, height: int) -> Image.Image:
    """Return an image whose red is the column and whose green is the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, :, 0] = np.arange(width)
    pixels[:, :, 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("extra", "skipped"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)])
def test_the_crop_is_centered_with_halves_rounded_to_even(extra: int, skipped: int) -> None:
    wide = Preprocess(image_size=16).resize_and_crop(ramp(16 + extra, 16))
    assert wide[0, 0].tolist() == list(range(skipped, skipped + 16))
    tall = Preprocess(image_size=16).resize_and_crop(ramp(16, 16 + extra))
    assert tall[1, :, 0].tolist() == list(range(skipped, skipped + 16))


def test_the_shorter_side_becomes_the_size_and_the_longer_one_is_truncated() -> None:
    wide = np.asarray(ramp(100, 74).resize((21, 16), Image.Resampling.BICUBIC))  # 16 · 100 / 74 = 21.62
    tall = np.asarray(ramp(74, 100).resize((16, 21), Image.Resampling.BICUBIC))
    preprocess = Preprocess(image_size=16)
    assert np.array_equal(preprocess.resize_and_crop(ramp(100, 74)), wide[:, 2:18].transpose(2, 0, 1))
    assert np.array_equal(preprocess.resize_and_crop(ramp(74, 100)), tall[2:18].transpose(2, 0, 1))


def test_squash_uses_the_full_image() -> None:
    image = ramp(60, 20)
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(Preprocess(image_size=16, resize="squash").resize_and_crop(image), expected)


def test_conversion_to_rgb_comes_after_resizing() -> None:
    """Palette images are resized by nearest neighbor, so blended colors would show an earlier conversion."""
    image = Image.new("P", (64, 64))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([(x // 3) % 2 for x in range(64)] * 64)
    colors = {tuple(c) for c in Preprocess(image_size=16).resize_and_crop(image).reshape(3, -1).T.tolist()}
    assert colors == {(255, 0, 0), (0, 0, 255)}


def test_rgb_first_blends_the_colors_of_a_palette() -> None:
    image = Image.new("P", (64, 64))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([(x // 3) % 2 for x in range(64)] * 64)
    expected = image.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
    ours = Preprocess(image_size=16, rgb="first").resize_and_crop(image)
    assert np.array_equal(ours, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize(("rgb", "color"), [("first", 255), ("last", 7)])
def test_transparency_becomes_white_if_converted_first_and_keeps_its_color_otherwise(rgb: str, color: int) -> None:
    image = Image.new("L", (20, 20), 7)
    image.info["transparency"] = 7
    assert np.unique(Preprocess(image_size=16, rgb=rgb).resize_and_crop(image)).tolist() == [color]


@pytest.mark.parametrize(("extra", "skipped"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_the_floor_crop_rounds_an_odd_margin_down(extra: int, skipped: int) -> None:
    wide = Preprocess(image_size=16, crop="floor").resize_and_crop(ramp(16 + extra, 16))
    assert wide[0, 0].tolist() == list(range(skipped, skipped + 16))
    tall = Preprocess(image_size=16, crop="floor").resize_and_crop(ramp(16, 16 + extra))
    assert tall[1, :, 0].tolist() == list(range(skipped, skipped + 16))


def test_the_resampling_filter_is_the_configured_one() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8))
    bilinear = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(Preprocess(image_size=16, interpolation="bilinear").resize_and_crop(image), bilinear)
    assert not np.array_equal(Preprocess(image_size=16).resize_and_crop(image), bilinear)


@pytest.mark.parametrize("size", [(8, 8), (8, 13), (15, 9)])
def test_an_image_smaller_than_the_target_is_enlarged(size: tuple[int, int]) -> None:
    image = ramp(*size)
    short = min(size)
    enlarged = image.resize((16 * size[0] // short, 16 * size[1] // short), Image.Resampling.BICUBIC)
    left, top = round((enlarged.width - 16) / 2), round((enlarged.height - 16) / 2)
    expected = np.asarray(enlarged)[top : top + 16, left : left + 16].transpose(2, 0, 1)
    assert np.array_equal(Preprocess(image_size=16).resize_and_crop(image), expected)


def test_preprocessing_does_not_modify_the_image() -> None:
    image = Image.new("P", (20, 20))
    image.info["transparency"] = bytes([0, 9])
    Preprocess(image_size=20).resize_and_crop(image)
    assert image.info == {"transparency": bytes([0, 9])}
    assert image.mode == "P"


def test_pixels_are_writable_uint8_with_channels_first() -> None:
    pixels = Preprocess(image_size=16).resize_and_crop(ramp(40, 20))
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


def test_normalizing_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    normalized = Preprocess(image_size=4).normalize(images)
    mean, std = torch.tensor(OPENAI_MEAN), torch.tensor(OPENAI_STD)
    assert normalized.dtype == torch.float32
    assert torch.equal(normalized[0, :, 0, 0], -mean / std)
    assert torch.equal(normalized[1, :, 3, 3], (1 - mean) / std)
    assert images.max() == 255


@pytest.mark.parametrize(("mean", "std"), [(OPENAI_MEAN, OPENAI_STD), ((0.5, 0.5, 0.5), (1, 2, 3))])
def test_arrays_and_tensors_are_normalized_to_the_same_bits(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    preprocess = Preprocess(image_size=16, mean=mean, std=std)
    images = np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(1, 3, 16, 16)
    images = np.concatenate([images, images[:, ::-1, ::-1]])
    normalized = preprocess.normalize_array(images)
    assert normalized.dtype == np.float32
    assert np.array_equal(normalized, preprocess.normalize(torch.from_numpy(images)).numpy())


def test_the_dict_round_trip_gives_an_equal_value() -> None:
    preprocess = Preprocess(image_size=64, resize="squash", mean=(0.5, 0.5, 0.5), std=(1, 2, 3), decode="reference")
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


def test_a_misspelled_key_is_refused_with_the_closest_name() -> None:
    raw = Preprocess(image_size=64).to_dict()
    raw["image_sise"] = raw.pop("image_size")
    with pytest.raises(ConfigError, match="image_size"):
        Preprocess.from_dict(raw)


def test_a_missing_key_is_an_error() -> None:
    raw = Preprocess(image_size=64).to_dict()
    del raw["decode"]
    with pytest.raises(ConfigError, match="decode"):
        Preprocess.from_dict(raw)


@pytest.mark.parametrize(("field", "value"), [("image_size", 0), ("std", (0.0, 1.0, 1.0))])
def test_impossible_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Preprocess(**({"image_size": 8} | {field: value}))
