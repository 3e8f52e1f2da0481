"""A NaFlex model encodes images of any shapes together, in every precision, and after being saved."""

import numpy as np
import pytest
import torch
from PIL import Image

import zebra
from zebra.config.data import DataConfig
from zebra.config.embed import EmbedConfig
from zebra.data.sources import open_source
from zebra.errors import ConfigError, WeightsError
from zebra.evaluators.decoded_images import DecodedImages
from zebra.pretrained.autotune import benchmark_precisions
from zebra.pretrained.open_clip.config import parse_open_clip_config
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.weights import published_state_dict
from zebra.serve.frames import Frame
from zebra.serve.model_runner import ModelRunner
from zebra.serve.worker import _handle_images
from zebra.store import Store
from zebra.workflows import doctor, embed

from ...tiny_model import build_tiny_model, save_tiny_model
from .bundles import random_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("naflex") / "model", kind="naflex")


@pytest.fixture
def clip():
    return build_tiny_model("naflex")


def various_images():
    shapes = [(90, 60), (60, 90), (64, 64), (200, 20), (61, 88), (64, 64), (30, 150)]
    return [image.resize(shape) for image, shape in zip(map(Image.fromarray, random_images(7)), shapes, strict=True)]


def test_images_of_various_shapes_get_the_vectors_that_each_gets_alone(clip):
    images = various_images()
    assert len({clip.preprocess.resize_and_crop(image).shape for image in images}) > 4
    alone = torch.cat([clip.encode_images([image]) for image in images])
    assert torch.allclose(clip.encode_images(images), alone, atol=1e-6)
    assert torch.pdist(alone).min() > 1e-3
    features, vectors = clip.encode_features_and_vectors(images)
    assert torch.allclose(features, clip.encode_images(images, projected=False), atol=1e-6)
    assert torch.allclose(vectors, alone, atol=1e-6)


def test_the_shape_of_an_image_matters(clip):
    """The same content at another aspect ratio has another grid, and so another vector."""
    square = Image.fromarray(random_images(1)[0]).resize((64, 64))
    one, other = clip.encode_images([square, square.resize((128, 32))])
    assert float(one @ other) < 0.999


def test_int8_passes_contain_few_tokens(clip, monkeypatch):
    cast = clip.to_precision("int8")
    seen = []
    run = cast.model.encode_images
    monkeypatch.setattr(cast.model, "encode_images", lambda batch: seen.append(batch.patches_BPI.shape) or run(batch))
    cast.encode_images(various_images() * 10)
    assert max(count for count, _, _ in seen) > 1
    assert all(count * length <= 512 for count, length, _ in seen)


def test_precisions_are_compared_on_images_of_various_shapes(clip):
    trials = benchmark_precisions(clip, ["int8"])
    assert all(trial.min_cosine > 0.999 for trial in trials)


def test_a_saved_model_has_the_same_vectors_and_verifies_them(folder):
    loaded = zebra.load(folder)
    expected = build_tiny_model("naflex").encode_images(various_images())
    assert torch.equal(loaded.encode_images(various_images()), expected)
    assert loaded.fingerprint
    [images] = [finding for finding in doctor.inspect_model(str(folder)) if finding.name == "images"]
    assert "at most 20 patches of 16 px" in images.detail


def test_a_saved_model_keeps_another_number_of_patches(folder, tmp_path):
    zebra.load(folder, max_num_patches=80).save(tmp_path / "fine")
    fine = zebra.load(tmp_path / "fine")
    assert fine.preprocess.max_num_patches == 80
    assert "at most 80 patches per image" in fine.describe()["image tower"]


def test_open_clips_naflex_towers_get_as_many_patches_as_positions():
    vision = {
        "image_size": 256,
        "timm_model_name": "naflexvit_so400m_patch16_siglip",
        "timm_pool": "map",
        "timm_proj": "none",
    }
    text = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True, "width": 1152, "heads": 16, "layers": 27}
    raw = {"model_cfg": {"embed_dim": 1152, "init_logit_bias": -10, "vision_cfg": vision, "text_cfg": text}}
    config, preprocess = parse_open_clip_config(raw)
    assert (config.vision.kind, config.vision.hidden, config.image_size) == ("naflex", 4304, 256)
    assert (preprocess.resize, preprocess.patch_size, preprocess.max_num_patches) == ("naflex", 16, 256)
    vision["image_size"] = 384
    with pytest.raises(ConfigError, match="image_size is 384, but naflexvit_so400m_patch16_siglip needs 256"):
        parse_open_clip_config(raw)


def test_more_patches_give_another_function_and_fingerprint(folder):
    usual, fine = zebra.load(folder), zebra.load(folder, max_num_patches=80)
    image = various_images()[0]
    assert fine.preprocess.resize_and_crop(image).size > 3 * usual.preprocess.resize_and_crop(image).size
    assert fine.fingerprint != usual.fingerprint == zebra.load(folder, verify=False).fingerprint
    cosines = (fine.encode_images(various_images()) * usual.encode_images(various_images())).sum(dim=1)
    assert cosines.max() < 0.999


def test_a_fixed_size_is_refused_for_naflex_and_a_number_of_patches_for_other_models(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"no fixed image size. Use max_num_patches="):
        zebra.load(folder, image_size=128)
    with pytest.raises(ConfigError, match="max_num_patches is 0"):
        zebra.load(folder, max_num_patches=0)
    with pytest.raises(ConfigError, match=r"no NaFlex model.*Use image_size="):
        zebra.load(save_tiny_model(tmp_path / "vit"), max_num_patches=64)


def test_open_clips_layout_is_refused_because_it_cannot_express_the_resize(clip, tmp_path):
    with pytest.raises(WeightsError, match=r"squash them to squares. Use --format zebra"):
        write_open_clip(
            tmp_path / "out",
            config=clip.model.config,
            tensors=published_state_dict(clip.model),
            preprocess=clip.preprocess,
            tokenizer=clip.tokenizer,
        )
    assert not (tmp_path / "out").exists()


def test_the_model_worker_takes_images_of_various_shapes(clip):
    runner = ModelRunner(clip)
    pixels = [clip.preprocess.resize_and_crop(image) for image in various_images()]
    header = {"shapes": [list(array.shape) for array in pixels], "digests": [str(i) for i in range(len(pixels))]}
    _, [payload] = _handle_images(runner, Frame(header, [bytearray(array.tobytes()) for array in pixels]))
    vectors = torch.frombuffer(bytearray(payload), dtype=torch.float32).view(len(pixels), -1)
    assert torch.allclose(vectors, clip.encode_images(various_images()), atol=1e-6)


def test_validation_decodes_images_of_various_shapes_once(clip, tmp_path):
    for index, image in enumerate(various_images()):
        image.save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text("a photo of a horse")
    images = DecodedImages.decode(open_source(tmp_path, DataConfig()), clip.preprocess, range(7))
    assert torch.allclose(torch.from_numpy(images.embed(clip).vectors), clip.encode_images(various_images()), atol=1e-6)


def test_images_of_various_shapes_are_embedded_into_a_store(folder, tmp_path):
    (tmp_path / "images").mkdir()
    for index, image in enumerate(various_images()):
        image.save(tmp_path / "images" / f"{index}.png")
    store = tmp_path / "store"
    embed.run(
        EmbedConfig(model=str(folder), data=str(tmp_path / "images"), out=str(store), precision="fp32", workers=1)
    )
    with Store.open(store) as opened:
        vectors = torch.from_numpy(opened.read_vectors()[1].astype(np.float32))
    assert torch.allclose(vectors, zebra.load(folder).encode_images(various_images()), atol=1e-3)
