"""NaFlex models compute the same function as in transformers and timm, for images of any aspect ratio.

Reference: `Siglip2Model` and `Siglip2ImageProcessorPil` of transformers 5.24, `naflexvit_*_siglip` of timm 1.0.31.
Models are random and tiny, with noise on every parameter. Tolerance: 1e-5 on unit vectors; none on pixels.
"""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from zebra.config.image_towers import NaflexVisionConfig
from zebra.images.naflex import stack_patches
from zebra.images.patch_grid import fit_grid
from zebra.models.image.naflex import NaflexVision
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.open_clip.timm import convert_from_timm
from zebra.pretrained.transformers.layout import read_transformers
from zebra.pretrained.weights import build_model

PATCH, MAX_PATCHES, POSITIONS = 8, 40, 16


@pytest.fixture(scope="module")
def peer(transformers):
    """Return transformers without its progress bars and warnings."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def theirs(peer):
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = peer.Siglip2Config(
        text_config={**tower, "vocab_size": 100, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**tower, "num_patches": POSITIONS, "patch_size": PATCH},
    )
    model = peer.Siglip2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


@pytest.fixture(scope="module")
def folder(peer, theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("naflex")
    theirs.save_pretrained(path)
    peer.Siglip2ImageProcessorPil(max_num_patches=MAX_PATCHES, patch_size=PATCH).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def bundle(folder):
    checkpoint = read_transformers(folder)
    model = build_model(checkpoint.config, checkpoint.tensors, str(folder)).eval()
    return Bundle(model, None, checkpoint.preprocess)


def random_image(width, height, mode="RGB"):
    """Return an image that is smooth enough for its patches to differ."""
    rng = np.random.default_rng(width * 10_000 + height)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def odd_images(count):
    """Return images of log-uniform aspect ratios from 1:38 to 38:1, the first ones of special shapes."""
    dice = random.Random(0)
    sizes = [(8, 300), (300, 8), (8, 8), (64, 64), (41, 39), (17, 640)]
    while len(sizes) < count:
        aspect, side = 38 ** dice.uniform(-1, 1), dice.uniform(20, 90)
        sizes.append((max(8, round(side * aspect**0.5)), max(8, round(side / aspect**0.5))))
    return [random_image(*size, "L" if index % 9 == 8 else "RGB") for index, size in enumerate(sizes)]


def test_images_of_200_aspect_ratios_get_the_vectors_of_transformers(peer, theirs, folder, bundle):
    images = odd_images(200)
    assert len({bundle.preprocess.resize_and_crop(image).shape for image in images}) > 40
    processor = peer.Siglip2ImageProcessorPil.from_pretrained(folder)
    inputs = processor([image.convert("RGB") for image in images], return_tensors="pt")
    assert not inputs["pixel_attention_mask"].all()
    with torch.no_grad():
        reference = F.normalize(theirs.get_image_features(**inputs).pooler_output, dim=-1)
    vectors = bundle.encode_images(images)
    assert reference.std(dim=0).max() > 0.01
    assert float((vectors - reference).abs().max()) < 1e-5


def test_a_tower_of_timm_is_the_same_function(open_clip):
    """open_clip stores the tensors of timm's tower under `visual.trunk.`."""
    import timm

    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": PATCH, "pos_embed_grid_size": (4, 4)}
    torch.manual_seed(0)
    theirs = timm.create_model("naflexvit_base_patch16_siglip", num_classes=0, **sizes).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    vision = NaflexVisionConfig(width=32, layers=2, heads=2, patch_size=PATCH)
    ours = NaflexVision(vision, 4 * PATCH).eval()
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in theirs.state_dict().items()}
    converted = convert_from_timm(tensors, vision.layers)
    ours.load_state_dict({name.removeprefix("visual."): tensor for name, tensor in converted.items()})
    shapes = [(rows * PATCH, columns * PATCH) for rows, columns in [(1, 12), (4, 4), (3, 5), (7, 2)]]
    batch = stack_patches([torch.randn(3, *shape) for shape in shapes], PATCH)
    row_and_column = [torch.cartesian_prod(torch.arange(r // PATCH), torch.arange(c // PATCH)) for r, c in shapes]
    coordinates = torch.nn.utils.rnn.pad_sequence(row_and_column, batch_first=True)
    with torch.no_grad():
        patches = {"patches": batch.patches_BPI, "patch_coord": coordinates, "patch_valid": batch.mask_BP}
        difference = F.normalize(ours(batch), dim=-1) - F.normalize(theirs(patches), dim=-1)
    assert float(difference.abs().max()) < 1e-5


def test_padding_does_not_change_a_vector(bundle):
    images = [bundle.preprocess.resize_and_crop(image) for image in odd_images(30)]
    batch = stack_patches([torch.from_numpy(image) for image in images], PATCH)
    assert batch.mask_BP is not None
    with torch.no_grad():
        padded = bundle.model.encode_images(bundle.preprocess.normalize_patches(batch))
    assert torch.allclose(padded, bundle.encode_pixels([torch.from_numpy(image) for image in images]), atol=1e-6)


def test_texts_get_the_vectors_of_transformers(theirs, bundle):
    tokens = torch.randint(0, 100, (5, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reference = F.normalize(theirs.get_text_features(input_ids=tokens).pooler_output, dim=-1)
        assert torch.allclose(bundle.model.encode_texts(tokens), reference, atol=1e-5)


def test_grids_are_those_of_transformers(peer):
    from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

    dice = random.Random(0)
    for _ in range(2000):
        width, height = (round(10 ** dice.uniform(0, 4)) for _ in range(2))
        patch_size, most = dice.choice([8, 14, 16, 32]), dice.choice([1, 2, 17, 64, 256, 576, 1024])
        rows, columns = fit_grid(width, height, patch_size=patch_size, max_num_patches=most)
        reference = get_image_size_for_max_num_patches(height, width, patch_size, most)
        assert (rows * patch_size, columns * patch_size) == reference, (width, height, patch_size, most)
