"""Grids keep the aspect ratio within the budget, and batches contain every patch of every image once."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.errors import BadSample, ConfigError
from zebra.images.inputs import iter_images
from zebra.images.naflex import group_by_length, stack_patches
from zebra.images.patch_grid import cut_patches, fit_grid
from zebra.images.preprocess import Preprocess

from ...tiny_model import NAFLEX_PREPROCESS

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.sampled_from([8, 14, 16]), st.integers(1, 1024))
def test_a_grid_keeps_the_aspect_ratio_and_cannot_be_larger(width, height, patch_size, most):
    rows, columns = fit_grid(width, height, patch_size=patch_size, max_num_patches=most)
    assert rows >= 1 <= columns
    assert rows * columns <= most
    scale = max((rows - 1) / height, (columns - 1) / width)  # sides are rounded up to whole patches
    assert scale <= min(rows / height, columns / width) * (1 + 1e-9) + 1e-4
    grown = (math.ceil(side * (min(rows / height, columns / width) + 2e-5 / patch_size)) for side in (height, width))
    assert math.prod(grown) > most or min(rows / height, columns / width) * patch_size > 99


def test_a_square_image_fills_a_square_grid():
    assert fit_grid(999, 999, patch_size=16, max_num_patches=256) == (16, 16)


@pytest.mark.parametrize(("width", "height", "shape"), [(1600, 8, (3, 16, 3200)), (8, 1600, (3, 3200, 16))])
def test_an_image_of_1_to_200_keeps_its_shape_and_one_patch_per_side(width, height, shape):
    wide = replace(NAFLEX_PREPROCESS, max_num_patches=256)
    [image] = iter_images([Image.new("RGB", (width, height))], "careful", wide.max_aspect_ratio)
    assert wide.resize_and_crop(image).shape == shape
    with pytest.raises(BadSample, match="too thin"):
        list(iter_images([image], "careful", Preprocess(64).max_aspect_ratio))


def test_a_patch_holds_rows_of_its_pixels_with_the_channels_last():
    image_3HW = torch.arange(3 * 4 * 6).view(3, 4, 6)
    patches = cut_patches(image_3HW, 2)
    assert patches.shape == (6, 12)
    assert torch.equal(patches[4], image_3HW[:, 2:4, 2:4].permute(1, 2, 0).flatten())


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12), st.sampled_from([None, 6]))
def test_batches_of_equal_length_contain_every_image_once_and_restore_the_order(grids, max_tokens):
    images = [torch.full((3, 2 * rows, 2 * columns), index) for index, (rows, columns) in enumerate(grids)]
    order, batches = group_by_length(images, 2, max_tokens)
    assert torch.cat([batch.patches_BPI[:, 0, 0] for batch in batches])[order].tolist() == list(range(len(grids)))
    assert torch.cat([batch.grid_B2 for batch in batches])[order].tolist() == [list(grid) for grid in grids]
    assert all(batch.mask_BP is None for batch in batches)
    assert all(max_tokens is None or len(b.grid_B2) == 1 or b.patches_BPI[:, :, 0].numel() <= 6 for b in batches)


def test_shorter_images_are_padded_and_masked():
    batch = stack_patches([torch.ones(3, 2, 4), torch.ones(3, 2, 2)], 2)
    assert batch.mask_BP is not None
    assert batch.mask_BP.tolist() == [[True, True], [True, False]]
    assert batch.patches_BPI.sum(dim=2).tolist() == [[12, 12], [12, 0]]


def test_patches_are_normalized_as_images_are_bit_for_bit():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 48), dtype=np.uint8))
    normalized = NAFLEX_PREPROCESS.normalize_patches(stack_patches([image], 16)).patches_BPI
    assert torch.equal(normalized[0], cut_patches(NAFLEX_PREPROCESS.normalize(image[None])[0], 16))


def test_only_naflex_preprocessing_has_and_needs_patches():
    assert Preprocess.from_dict(NAFLEX_PREPROCESS.to_dict()) == NAFLEX_PREPROCESS
    assert not {"patch_size", "max_num_patches"} & Preprocess(64).to_dict().keys()
    for settings in ({"resize": "naflex", "patch_size": 8}, {"max_num_patches": 9}, {"patch_size": 8}):
        with pytest.raises(ConfigError, match="needed with resize naflex, and only then"):
            Preprocess(64, **settings)
    with pytest.raises(ConfigError, match="max_num_patches is 0"):
        replace(NAFLEX_PREPROCESS, max_num_patches=0)
