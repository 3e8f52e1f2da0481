"""Heat maps: their sum, signs and shapes, for each kind of tower."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_model import build_tiny_model

from zebra.config.image_towers import SiglipVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.errors import BadSample, ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.heat_map import _blur, _encode, compute_heat_map

TEXTS = ["a photo of a horse", "two spotted dogs"]
SHAPES = {"vit": (4, 4), "resnet": (16, 16), "naflex": (3, 6), "siglip": (3, 3)}


def build(kind: str) -> Bundle:
    if kind != "siglip":
        return build_tiny_model(kind)
    torch.manual_seed(0)
    donor = build_tiny_model("vit")
    text = donor.model.config.text
    assert isinstance(text, TextConfig)
    # 20-pixel patches leave four pixels at the edge of 64-pixel images, which SigLIP drops.
    vision = SiglipVisionConfig(width=32, layers=1, heads=2, patch_size=20)
    config = ModelConfig(embed_dim=32, image_size=64, vision=vision, text=text)
    return Bundle(CLIP(config), donor.tokenizer, Preprocess(image_size=64))


@pytest.fixture(scope="module", params=SHAPES)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return build(request.param)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 80), Image.Resampling.BICUBIC)


def kind_of(bundle: Bundle) -> str:
    return bundle.model.config.vision.kind


def test_a_map_has_the_cells_of_its_tower(bundle, image):
    heat_THW = bundle.heat_map(image, TEXTS)
    assert heat_THW.shape == (2, *SHAPES[kind_of(bundle)])
    assert heat_THW.dtype == torch.float32
    assert heat_THW.isfinite().all()
    assert heat_THW.abs().amax(dim=(1, 2)).min() > 0


def test_a_map_sums_up_to_the_cosine_minus_that_of_the_blurred_image(bundle, image):
    pixels_3HW = torch.from_numpy(bundle.preprocess.resize_and_crop(image))
    text_TE = bundle.encode_texts(TEXTS)
    heat_THW = compute_heat_map(bundle.model, bundle.preprocess, pixels_3HW, text_TE, num_steps=64)
    image_13HW = bundle.preprocess.normalize(pixels_3HW[None])
    with torch.no_grad():
        image_1E, blurred_1E = (
            _encode(bundle.model, bundle.preprocess, images) for images in (image_13HW, _blur(image_13HW))
        )
    expected_T = (text_TE @ (image_1E - blurred_1E).T).squeeze(1)
    assert expected_T.abs().max() > 2e-4
    torch.testing.assert_close(heat_THW.sum(dim=(1, 2)), expected_T, atol=2e-5, rtol=0.01)


def test_maps_are_linear_in_the_text_vectors(bundle, image):
    pixels_3HW = torch.from_numpy(bundle.preprocess.resize_and_crop(image))
    text_TE = bundle.encode_texts(TEXTS)
    first, second = compute_heat_map(bundle.model, bundle.preprocess, pixels_3HW, text_TE)
    mixed_1E = text_TE[:1] - 2 * text_TE[1:]
    (mixed,) = compute_heat_map(bundle.model, bundle.preprocess, pixels_3HW, mixed_1E)
    torch.testing.assert_close(mixed, first - 2 * second, atol=1e-6, rtol=1e-3)


def test_vectors_and_weights_are_the_same_before_and_after(bundle, image):
    before, weights = bundle.encode_images([image]), {k: v.clone() for k, v in bundle.model.state_dict().items()}
    bundle.heat_map(image, TEXTS)
    assert torch.equal(bundle.encode_images([image]), before)
    assert all(torch.equal(value, weights[name]) for name, value in bundle.model.state_dict().items())
    assert all(parameter.grad is None for parameter in bundle.model.parameters())


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_heat_is_where_the_image_has_detail(bundle, corner):
    pixels = np.full((64, 64, 3), 128, np.uint8)
    y, x = 40 * corner[0], 40 * corner[1]
    pixels[y : y + 24, x : x + 24] = np.random.default_rng(0).integers(0, 256, (24, 24, 3))
    heat_HW = bundle.heat_map(Image.fromarray(pixels), TEXTS)[0].abs()
    rows, columns = heat_HW.shape
    quarter = heat_HW[rows // 2 :] if corner[0] else heat_HW[: -(-rows // 2)]
    quarter = quarter[:, columns // 2 :] if corner[1] else quarter[:, : -(-columns // 2)]
    assert quarter.sum() > 0.6 * heat_HW.sum()


def test_a_model_in_inference_mode_or_bf16_gives_nearly_the_same_map(bundle, image):
    expected = bundle.heat_map(image, TEXTS)
    with torch.inference_mode():
        assert torch.equal(bundle.heat_map(image, TEXTS), expected)
    rounded = bundle.to_precision("bf16").heat_map(image, TEXTS)
    assert torch.nn.functional.cosine_similarity(rounded.flatten(), expected.flatten(), dim=0) > 0.95


def test_a_flat_image_has_no_heat(bundle):
    heat_THW = bundle.heat_map(Image.new("RGB", (64, 64), (200, 30, 90)), TEXTS)
    assert heat_THW.abs().max() < 1e-5


def test_int8_a_list_of_images_and_no_texts_are_refused(image):
    bundle = build("vit")
    with pytest.raises(ConfigError, match="fp32 or bf16"):
        bundle.to_precision("int8").heat_map(image, TEXTS)
    with pytest.raises(ConfigError, match="at least one text"):
        bundle.heat_map(image, [])
    with pytest.raises(ConfigError, match="texts"):
        bundle.heat_map(image, "a single text")
    with pytest.raises(ConfigError, match="Pass a path"):
        bundle.heat_map([image], TEXTS)
    with pytest.raises(BadSample):
        bundle.heat_map(b"no image", TEXTS)
    with pytest.raises(WeightsError, match="no tokenizer"):
        Bundle(bundle.model, None, bundle.preprocess).heat_map(image, TEXTS)


@pytest.mark.parametrize("size", [(64, 64), (160, 80), (81, 200), (64, 65)])
@pytest.mark.parametrize(
    "preprocess", [Preprocess(64), Preprocess(64, resize="squash"), Preprocess(64, resize_size=80)]
)
def test_the_visible_box_is_the_part_that_the_crop_keeps(preprocess, size):
    left, top, right, bottom = preprocess.visible_box(*size)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    # A ramp of brightness from left to right: the first and the last column of the crop show where it was cut.
    ramp = Image.linear_gradient("L").rotate(90).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    cropped = preprocess.resize_and_crop(ramp)[0, 32].astype(float)
    for column, x in ((8, left + (right - left) * 8.5 / 64), (55, left + (right - left) * 55.5 / 64)):
        assert abs(cropped[column] - 255 * x / size[0]) < 6
