"""The MTEB encoder. `tests/parity/test_mteb.py` runs tasks with it."""

import warnings

import numpy as np
import pytest
from PIL import Image

from zebra.errors import ConfigError

from ...parity.conftest import torchvision  # noqa: F401
from .conftest import TEXTS, import_adapter

ZebraEncoder = import_adapter("mteb").ZebraEncoder
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mteb

pytestmark = [pytest.mark.usefixtures("torchvision"), pytest.mark.filterwarnings("ignore")]  # deprecations inside mteb


@pytest.fixture(scope="module")
def encoder(model):
    return ZebraEncoder(model)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(12)]


def test_texts_and_images_of_an_item_are_added_and_missing_ones_left_out(encoder, clip, images):
    batches = [{"text": [TEXTS[0], None], "image": [images[0], images[1]]}, {"text": [TEXTS[1]], "image": [None]}]
    vectors = encoder.encode(batches)
    texts, pixels = clip.encode_texts(TEXTS, normalize=False), clip.encode_images(images[:2], normalize=False)
    expected = np.stack([texts[0] + pixels[0], pixels[1], texts[1]])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert encoder.encode([]).shape == (0, clip.embed_dim)


def test_images_of_batches_of_one_pass_the_tower_together(encoder, clip, images, monkeypatch):
    """mteb's compositionality tasks load one image at a time."""
    sizes = []
    forward = clip.model.visual.forward
    monkeypatch.setattr(encoder.clip.model.visual, "forward", lambda x: sizes.append(len(x)) or forward(x))
    vectors = encoder.encode({"image": [image]} for image in images)
    assert (sizes, len(vectors)) == ([12], 12)


def test_a_task_of_another_modality_is_refused(encoder):
    with pytest.raises(ConfigError, match="the task has audio"):
        encoder.encode([{"audio": [b""]}])


def test_metadata_that_only_the_author_knows_are_given_and_checked(model, clip):
    meta = ZebraEncoder(clip, metadata={"name": "zoo/tiny", "release_date": "2026-01-31", "license": "mit"})
    assert meta.mteb_model_meta.name == "zoo/tiny"
    assert (meta.mteb_model_meta.license, meta.mteb_model_meta.release_date) == ("mit", "2026-01-31")
    assert ZebraEncoder(clip).mteb_model_meta.license is None
    for wrong in ({"licenses": "mit"}, {"release_date": "in spring"}, {"name": "without-organization"}):
        with pytest.raises(ConfigError, match=f"mteb refuses the metadata.*(?s:.*){next(iter(wrong))}"):
            ZebraEncoder(clip, metadata=wrong)


def test_results_carry_the_fingerprint_and_the_name_of_the_model(encoder, model, clip):
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == (f"zebra/{model.name}", clip.fingerprint)
    assert isinstance(encoder, mteb.EncoderProtocol)
