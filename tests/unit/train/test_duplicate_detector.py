"""Tests of the duplicate detector."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from zebra.models.image.resnet import ModifiedResNet
from zebra.models.init import initialize_resnet
from zebra.train.duplicate_detector import EMBED_DIM, IMAGE_SIZE, TOWER_CONFIG, DuplicateDetector


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    tower = ModifiedResNet(TOWER_CONFIG, IMAGE_SIZE, EMBED_DIM)
    initialize_resnet(tower)
    return DuplicateDetector(tower)


def test_a_mirrored_image_has_the_vector_of_its_original(detector):
    pixels = np.random.default_rng(0).integers(0, 256, (2, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    pixels[1, :, 20:] = 0
    images = [Image.fromarray(image_HWC) for image_HWC in pixels]
    vectors = detector(images)
    assert vectors.shape == (2, EMBED_DIM)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert detector([ImageOps.mirror(image) for image in images]) == pytest.approx(vectors, abs=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
