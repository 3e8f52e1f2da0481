"""Preservation: vectors of synthetic images and random words stay near those of the initial model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tiny_model import build_siglip2_tokenizer, build_tiny_model, save_tiny_model
from tests.unit.train.test_rehearsal import make_config, write_pairs

import zebra
from zebra.config.finetune import FineTuneConfig
from zebra.distributed import SINGLE_PROCESS
from zebra.errors import ConfigError
from zebra.train.checkpoint import load_checkpoint
from zebra.train.preservation import Anchors, draw_dead_leaves, draw_noise, list_vocabulary_words
from zebra.train.wise_ft import average, initial_tensors
from zebra.workflows import train


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("preservation")
    write_pairs(root / "new", 30)
    for kind in ("vit", "naflex"):
        save_tiny_model(root / kind, kind=kind)
    return root


@pytest.fixture(autouse=True)
def few_anchors(monkeypatch):
    monkeypatch.setattr("zebra.train.preservation.NUM_ANCHORS", 64)


def preserving(assets, out, kind="vit", weight=5.0, **changes):
    finetune = FineTuneConfig(init_from=str(assets / kind), patience=50, preserve_weight=weight)
    return make_config(assets, out, kind, rehearse=None, finetune=finetune, **{"lr": 3e-3} | changes)


def distance(model, initial):
    """Return how far other anchors than those of the run are from the initial model, mean 1 - cosine of the images."""
    anchors = Anchors(initial, 64, 1.0, seed=7, group=SINGLE_PROCESS).sample(0)
    with torch.inference_mode():
        image_ME = model.model.eval()(anchors.images, anchors.tokens_ML)[0]
    return float(1 - (image_ME * anchors.image_ME).sum(dim=1).mean())


@pytest.mark.parametrize("kind", ["naflex"])
def test_other_synthetic_images_move_less_with_the_term_than_without(assets, tmp_path, kind):
    distances = []
    for weight in (0.0, 50.0):
        config = preserving(assets, tmp_path / str(weight), kind, weight, steps=8, eval_every=100)
        train.run(config)
        model, initial = build_tiny_model(kind), zebra.load(assets / kind)
        checkpoint = max((tmp_path / str(weight) / "checkpoints").iterdir())
        model.model.load_state_dict(dict(load_checkpoint(checkpoint).tensors["model"]))
        distances.append(distance(model, initial))
    assert distances[1] < 0.5 * distances[0]


def test_the_terms_are_zero_before_the_first_step_and_are_logged(assets, tmp_path):
    reports = []
    config = preserving(assets, tmp_path / "run", steps=3)
    train.run(config, callback=lambda report, _scores: reports.append(report.metrics))
    terms = reports[0].terms
    assert terms.keys() == {"contrastive", "preserved_images", "preserved_texts"}
    assert terms["preserved_images"] == pytest.approx(0, abs=1e-5)
    assert terms["preserved_texts"] == pytest.approx(0, abs=1e-5)
    assert reports[2].terms["preserved_images"] > 1e-4
    line = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1])
    assert "preserved_images" in line["terms"]


def test_an_interrupted_run_with_chunks_resumes_to_the_same_weights(assets, tmp_path):
    config = preserving(assets, tmp_path / "whole", chunk_size=3)
    train.run(config)

    def stop(report, _scores):
        if report.step == 4:
            raise KeyboardInterrupt

    parts = replace(config, out=str(tmp_path / "parts"), checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        train.run(parts, callback=stop)
    train.run(parts)
    first, second = (zebra.load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert first.fingerprint == second.fingerprint


def test_anchors_depend_on_seed_and_step_alone(assets):
    clip = zebra.load(assets / "vit")
    first, again, other = (Anchors(clip, 8, 1.0, seed, SINGLE_PROCESS) for seed in (0, 0, 1))
    assert torch.equal(first.sample(3).images, again.sample(3).images)
    assert torch.equal(first.sample(3).text_ME, again.sample(3).text_ME)
    assert not torch.equal(first.sample(3).images, first.sample(4).images)
    assert not torch.equal(first.sample(3).images, other.sample(3).images)
    assert first.sample(0).images.shape == (8, 3, 64, 64)
    assert torch.allclose(first.image_NE.norm(dim=1), torch.ones(64))


def test_synthetic_images_differ_and_are_not_flat():
    rng = np.random.default_rng(0)
    for draw in (draw_dead_leaves, draw_noise):
        images = [draw(32, rng) for _ in range(5)]
        assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 and image.std() > 5 for image in images)
        assert not np.array_equal(images[0], images[1])


def test_words_of_the_vocabulary_are_whole_words(assets):
    words = list_vocabulary_words(zebra.load(assets / "vit").require_tokenizer())
    assert {"photo", "horse", "striped"} <= set(words)
    assert all(word.isalpha() for word in words)


def test_a_vocabulary_without_words_yields_letters():
    assert list_vocabulary_words(build_siglip2_tokenizer())[:3] == ["a", "b", "c"]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_invalid_weights_are_refused(weight):
    with pytest.raises(ConfigError, match="preserve_weight"):
        FineTuneConfig(init_from="model", preserve_weight=weight)


def test_averages_with_lora_scale_the_product_of_the_adapters():
    base = torch.nn.Linear(2, 2)
    trained = {"model": {**base.state_dict(), "lora.A": torch.ones(1, 2), "lora.B": torch.full((2, 1), 4.0)}}
    mixed = average(initial_tensors(base, trained), trained, 0.25)["model"]
    assert torch.equal(mixed["lora.B"] @ mixed["lora.A"], torch.ones(2, 2))
    assert torch.equal(mixed["weight"], base.weight)


def test_the_average_with_the_highest_validation_score_is_selected(assets, tmp_path, monkeypatch):
    """With EMA, too: the averaged weights are those that are evaluated and saved."""
    initial = zebra.load(assets / "vit").model.state_dict()["visual.proj"]
    distances, scores = [], iter([0.1, 0.1, 0.2, 0.9, 0.3, 0.3])  # at the start; then of 0, 25, 50, 75 and 100 %

    def score(_self, clip):
        distances.append(float((clip.model.state_dict()["visual.proj"] - initial).norm()))
        return next(scores)

    monkeypatch.setattr("zebra.train.finetune.FineTuning.mean_score", score)
    result = train.run(preserving(assets, tmp_path / "run", steps=4, eval_every=4, ema_decay=0.9))
    assert result.before_after.alpha == 0.5
    assert "averaged with 50% of the initial weights" in result.before_after.selection
    saved = zebra.load(tmp_path / "run/model").model.state_dict()["visual.proj"]
    assert distances[-1] > 0
    assert float((saved - initial).norm()) == pytest.approx(distances[-1] / 2, rel=1e-3)
    assert "averaged with 50% of the initial weights" in (tmp_path / "run/report.html").read_text()
