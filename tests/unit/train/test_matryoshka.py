"""Shorter vectors by training: prefixes have a loss of their own, the model lists their sizes and refuses others."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from zebra.config.finetune import FineTuneConfig
from zebra.config.objective import ObjectiveConfig
from zebra.data.sources import open_source
from zebra.data.splits import hold_out
from zebra.distributed import SINGLE_PROCESS
from zebra.errors import ConfigError
from zebra.evaluators.validation import RetrievalValidator
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.pretrained.load import load
from zebra.train.objective import contrastive_terms
from zebra.workflows import train

from ...reliability.runs import TINY, tiny_run


def unit_vectors(seed):
    return F.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("logit_bias", [False, True])
def test_the_loss_is_the_mean_of_the_losses_of_all_sizes(logit_bias):
    image, text, scale = unit_vectors(0), unit_vectors(1), torch.tensor(10.0)
    plain, matryoshka = (CLIP(replace(TINY, dimensions=sizes, logit_bias=logit_bias)) for sizes in ((), (3, 8)))

    def loss(size):
        short = (F.normalize(vectors[:, :size], dim=1) for vectors in (image, text))
        return sigmoid_loss(*short, scale, plain.logit_bias) if logit_bias else info_nce(*short, scale)

    args = (image, text, scale, None, SINGLE_PROCESS, None)
    torch.testing.assert_close(contrastive_terms(plain, *args), {"contrastive": loss(16)}, rtol=0, atol=1e-6)
    terms = contrastive_terms(matryoshka, *args)
    expected = {"contrastive": loss(16) / 3, "contrastive_3": loss(3) / 3, "contrastive_8": loss(8) / 3}
    torch.testing.assert_close(terms, expected, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matryoshka")
    objective = ObjectiveConfig(dimensions=(4, 8))
    config = replace(tiny_run(folder), steps=2, val_fraction=0.4, ema_decay=None, objective=objective)
    train.run(config)
    return folder, config


def test_the_held_out_pairs_are_scored_with_each_size(trained):
    folder, config = trained
    held_out = json.loads((folder / "run/metrics.json").read_text())["held-out"]
    assert held_out.keys() == {"retrieval", "retrieval-4", "retrieval-8"}
    _, val_source = hold_out(open_source(config.data, config.data_options), config.val_fraction)
    for size, name in ((4, "retrieval-4"), (16, "retrieval")):
        clip = load(folder / "run/model", dimensions=size)
        expected = RetrievalValidator(val_source, clip.preprocess).retrieve(clip).scores()
        assert {key: score["value"] for key, score in held_out[name].items()} == {
            key: pytest.approx(score.value) for key, score in expected.items()
        }
    page = (folder / "run/report.html").read_text()
    section = page[page.index("Shorter vectors") :]
    assert all(f">{name}<" in section for name in ("first 4", "first 8", "all"))


def test_a_model_lists_its_sizes_and_gives_vectors_of_each(trained):
    folder, _ = trained
    model = folder / "run/model"
    assert json.loads((model / "config.json").read_text())["dimensions"] == [4, 8]
    assert "16 dimensions; also the first 4, 8" in (model / "README.md").read_text()
    full, texts, image = load(model), ["a red thing", "picture of 3 things"], folder / "data/0.png"
    for size in (4, 8, 16):
        short = load(model, dimensions=size)
        for encode, items in (
            (lambda clip, x: clip.encode_texts(x), texts),
            (lambda c, x: c.encode_images(x), [image]),
        ):
            expected = F.normalize(encode(full, items)[:, :size], dim=1)
            torch.testing.assert_close(encode(short, items), expected, rtol=0, atol=1e-6)
        assert (short.embed_dim, short.class_vectors(texts, ["{}"]).shape) == (size, (2, size))
        assert len(short.classify([image], texts)[0]) == 2
        _, vectors = short.encode_features_and_vectors([image])
        assert vectors.shape == (1, size)
    fingerprints = {load(model, dimensions=size).fingerprint for size in (4, 8, 16, None)}
    assert fingerprints == {full.fingerprint, f"{full.fingerprint}-4", f"{full.fingerprint}-8"}


def test_other_sizes_are_refused_with_the_way_out(trained):
    with pytest.raises(ConfigError, match=r"not trained for vectors of 5 dimensions, but for 4, 8, 16.*--pca"):
        load(trained[0] / "run/model", dimensions=5)


def test_a_cut_model_stays_cut_in_another_precision_and_is_not_saved(trained, tmp_path):
    short = load(trained[0] / "run/model", dimensions=4)
    cast = short.to_precision("bf16")
    assert (cast.embed_dim, cast.fingerprint) == (4, short.fingerprint)
    assert cast.encode_texts(["a"]).shape == (1, 4)
    with pytest.raises(ConfigError, match="dimensions=4 and cannot be saved"):
        short.save(tmp_path / "model")


@pytest.mark.filterwarnings("ignore:.*distinct captions")
def test_fine_tuning_keeps_the_sizes_of_the_initial_model_unless_it_gets_others(trained, tmp_path):
    folder, config = trained
    initial = load(folder / "run/model")
    for sizes, expected in (((), (4, 8)), ((2,), (2,))):
        out = tmp_path / str(len(sizes))
        finetune = FineTuneConfig(init_from=str(folder / "run/model"))
        tuning = replace(config, out=str(out), model=initial.model.config, finetune=finetune, val_fraction=0.3)
        train.run(replace(tuning, objective=ObjectiveConfig(dimensions=sizes), batch_size=4))
        assert load(out / "model").model.config.dimensions == expected


@pytest.mark.filterwarnings("ignore:.*distinct captions")
def test_weights_that_were_not_trained_for_new_sizes_are_never_selected_for_them(trained, tmp_path):
    """Without a learning rate, no checkpoint is better than the initial weights."""
    folder, config = trained
    initial = load(folder / "run/model")
    finetune = FineTuneConfig(init_from=str(folder / "run/model"))
    tuning = replace(config, model=initial.model.config, finetune=finetune, val_fraction=0.3, batch_size=4, lr=1e-12)
    for sizes, is_initial in (((4, 8), True), ((2, 4, 8), False)):
        out = tmp_path / str(len(sizes))
        result = train.run(replace(tuning, out=str(out), objective=ObjectiveConfig(dimensions=sizes)))
        assert (result.before_after.selected_step == 0) is is_initial
        assert load(out / "model").model.config.dimensions == sizes


@pytest.mark.parametrize("sizes", [(0, 4), (8, 4), (4, 4), (4, 16), (4, 99), (-1,)])
def test_sizes_are_ascending_and_below_the_full_one(tmp_path, sizes):
    with pytest.raises(ConfigError, match="ascending order"):
        replace(tiny_run(tmp_path), objective=ObjectiveConfig(dimensions=sizes))


def test_a_model_without_sizes_is_saved_as_before(tmp_path):
    train.run(replace(tiny_run(tmp_path), steps=1))
    assert "dimensions" not in json.loads((tmp_path / "run/model/config.json").read_text())
