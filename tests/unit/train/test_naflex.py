"""Training of NaFlex: batches of patches, chunks, resume, and the budget that the trained model keeps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zebra
from zebra.config.data import DataConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.image_towers import NaflexVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import LogConfig, OptimizerConfig, TrainConfig
from zebra.data.batches import iter_batches
from zebra.data.sources import open_source
from zebra.errors import ConfigError
from zebra.images.augment import PatchCrop, sample_similar_box
from zebra.images.preprocess import build_preprocess
from zebra.models import CLIP
from zebra.train.optimizer import layer_depths
from zebra.train.step import train_step
from zebra.workflows import train

TEXT = TextConfig(context_length=16, vocab_size=600, width=16, layers=1, heads=2)
MODEL = ModelConfig(
    embed_dim=16, image_size=32, vision=NaflexVisionConfig(width=16, layers=2, heads=2, patch_size=8), text=TEXT
)
CROP = PatchCrop(patch_size=8, max_num_patches=12)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder of 24 captioned images of various shapes."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        shape = (int(rng.integers(16, 90)), int(rng.integers(16, 90)), 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{number} striped things")
    return folder


@pytest.fixture
def config(data, tmp_path):
    return TrainConfig(
        data=str(data),
        out=str(tmp_path / "run"),
        model=MODEL,
        image_seq_len=12,
        steps=4,
        batch_size=6,
        workers=0,
        precision="fp32",
        checkpoint_every=2,
        val_fraction=0.25,
        log=LogConfig(every=1),
        optimizer=OptimizerConfig(warmup_steps=2),
    )


def load_batches(data, workers=0, **options):
    settings = {"image_size": 32, "batch_size": 6, "seed": 0, "config": DataConfig(), "patch_crop": CROP} | options
    source = open_source(data, DataConfig())
    return list(iter_batches(source, start_sample=0, num_steps=4, num_workers=workers, **settings))


def test_batches_contain_patches_within_the_budget_and_zeros_after_them(data):
    batches = load_batches(data)
    grids = torch.cat([batch.images.grid_B2 for batch in batches])
    assert len(grids.unique(dim=0)) > 4
    assert all(batch.images.patches_BPI.shape == (6, 12, 192) for batch in batches)
    for batch in batches:
        images = batch.images
        assert torch.equal(images.mask_BP.sum(dim=1), images.grid_B2.prod(dim=1))
        assert not images.patches_BPI[~images.mask_BP].any()
        assert images.patches_BPI[images.mask_BP].any(dim=1).all()


def test_batches_do_not_depend_on_the_number_of_workers_and_ranks(data):
    alone, workers = load_batches(data), load_batches(data, workers=1)
    halves = [load_batches(data, rank=rank, world_size=2) for rank in range(2)]
    for index, batch in enumerate(alone):
        for field, tensor in batch.images._asdict().items():
            assert torch.equal(tensor, getattr(workers[index].images, field))
            assert torch.equal(tensor, torch.cat([getattr(half[index].images, field) for half in halves]))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (30, 900), (64, 64)])
def test_a_crop_keeps_about_the_aspect_ratio_of_its_image(width, height):
    rng = np.random.default_rng(0)
    boxes = [sample_similar_box(width, height, rng.random((10, 4)), 0.5) for _ in range(200)]
    assert len(set(boxes)) > 100
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left) * (bottom - top) >= 0.48 * width * height
        assert 0.7 < (right - left) / (bottom - top) / (width / height) < 1.43
    assert sample_similar_box(width, height, rng.random((10, 4)), 1.0) == (0, 0, width, height)


def test_without_augmentation_the_patches_are_those_of_evaluation(data):
    """They differ only as the resize of torch differs from that of Pillow."""
    preprocess = build_preprocess(MODEL, 12)
    [batch, *_] = load_batches(data, config=DataConfig(min_crop_area=1.0))
    for id, patches_PI, grid in zip(batch.ids, batch.images.patches_BPI, batch.images.grid_B2.tolist(), strict=True):
        image = preprocess.resize_and_crop(Image.open(data / id))
        assert [side // 8 for side in image.shape[1:]] == grid
        expected = torch.from_numpy(image).unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 3, 4, 0).flatten(0, 1)
        difference = patches_PI[: len(expected)].int() - expected.flatten(1).int()
        assert difference.abs().float().mean() < 1


def test_a_step_in_chunks_equals_the_step_on_the_full_batch(data):
    images = build_preprocess(MODEL, 12).normalize_patches(load_batches(data)[0].images, torch.float64)
    tokens = torch.randint(1, 590, (6, 8), generator=torch.Generator().manual_seed(0))
    tokens[:, -1] = 599
    grads = []
    for chunk_size in (None, 2):
        torch.manual_seed(0)
        model = CLIP(MODEL).double().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        settings = {"lr": 0.0, "grad_clip_norm": 0, "precision": "fp32", "chunk_size": chunk_size}
        train_step(model, optimizer, images, tokens, **settings)
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert grads[0]["visual.positional_embedding"].abs().max() > 0
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-12, rtol=1e-9, msg=name)


def test_a_resumed_run_has_the_weights_of_a_run_without_a_break(config, tmp_path):
    first = train.run(config, callback=lambda _report, _scores: None)
    full = zebra.load(first.out / "model")
    assert full.preprocess.max_num_patches == 12
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000002"
    resumed = train.run(replace(config, out=str(tmp_path / "again")), resume=str(checkpoint))
    again = zebra.load(resumed.out / "model")
    for name, value in full.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    tuned = replace(
        config,
        out=str(tmp_path / "tuned"),
        image_seq_len=20,
        finetune=FineTuneConfig(init_from=str(first.out / "model")),
        model=full.model.config,
    )
    assert zebra.load(train.run(tuned).out / "model").preprocess.max_num_patches == 20


def test_the_layers_of_the_image_tower_have_depths():
    depths = layer_depths(CLIP(MODEL))
    assert depths["visual.patch_embed.weight"] == depths["visual.positional_embedding"] == 3
    assert depths["visual.transformer.resblocks.1.mlp.c_fc.weight"] == 1
    assert depths["visual.pool.probe"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_seq_len": 0}, "image_seq_len is 0; it must be between 1"),
        ({"patch_dropout": 0.5}, "NaFlex image tower. Set it to 0 and use a smaller image_seq_len"),
        (
            {"model": replace(MODEL, vision=VisionTransformerConfig(width=16, layers=1, heads=2, patch_size=8))},
            "image_seq_len needs a NaFlex image tower; this model has a vit tower of 32 px",
        ),
    ],
)
def test_settings_that_do_not_suit_the_tower_are_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)
