"""Going on from a trained model: settings, parts that share no picture, locks, and what is kept in the end."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

import zebra
from zebra.cli.main import main
from zebra.config.data import DataConfig
from zebra.config.export import ExportConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.model import ModelConfig, ResNetConfig, TextConfig, VisionTransformerConfig
from zebra.config.structure import structure
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.data.sources import open_source
from zebra.data.splits import train_val_test_split
from zebra.errors import ConfigError, DataError, WeightsError
from zebra.evaluators.validation import RetrievalValidator
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.train.checkpoint import load_checkpoint
from zebra.train.finetune import suggest_settings
from zebra.train.freeze import FrozenBatchNorm2d, freeze
from zebra.train.optimizer import build_optimizer, layer_depths
from zebra.workflows import export, train

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "black": (20, 20, 20)}


def write_pictures(folder, count, seed=0):
    """Draw coloured noise, captioned by its colour and its brightness."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption"])
        for number in range(count):
            name = list(COLOURS)[number % len(COLOURS)]
            noise = rng.integers(-40, 41, (32, 32, 3))
            pixels = (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", f"a {name} picture, number {number}"])
    return folder / "captions.csv"


def make_model(folder, seed=0, width=8):
    torch.manual_seed(seed)
    words = BPETokenizer.train(["a red green blue black picture, number 0123456789"] * 5, 560, 24)
    text = TextConfig(width=64, layers=1, heads=1, vocab_size=words.vocab_size, context_length=24)
    vision = ResNetConfig(width=width, layers=(1, 1, 1, 1), heads=4)
    config = ModelConfig(embed_dim=32, image_size=32, vision=vision, text=text)
    Bundle(CLIP(config), words, Preprocess(image_size=32)).save(folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("finetune")
    write_pictures(root / "pictures", 60)
    make_model(root / "start")
    return root


def config(world, out, **changes):
    recipe = suggest_settings(str(world / "start"), str(world / "pictures/captions.csv"))
    told = {"data": str(world / "pictures/captions.csv"), "out": str(out), "precision": "fp32", "workers": 0}
    finetune = recipe.pop("finetune") | changes.pop("finetune", {})
    return structure(TrainConfig, recipe | told | {"finetune": finetune} | changes)


def test_a_small_set_is_seen_more_often_in_smaller_batches(world, tmp_path):
    small = suggest_settings(str(world / "start"), str(world / "pictures/captions.csv"))
    large = suggest_settings(str(world / "start"), str(write_pictures(tmp_path / "more", 1100)))
    assert small["epochs"] > large["epochs"]
    assert small["batch_size"] == 8
    assert large["batch_size"] == 128
    assert small["finetune"]["init_from"] == str(world / "start")


def test_the_flags_that_say_how_data_is_read_hold_for_the_choice_of_settings(world, tmp_path, capsys):
    table = shutil.copytree(world / "pictures", tmp_path / "odd") / "captions.csv"
    table.write_text(table.read_text().replace("path,caption", "path,words"))
    words = ["train", "--from", str(world / "start"), f"--data={table}", "--out", str(tmp_path / "run")]
    assert main(words) == 1
    assert "has no caption column" in capsys.readouterr().err
    named = [
        "--data-options.caption-columns",
        "words",
        "--steps",
        "2",
        "--workers",
        "0",
        "--precision",
        "fp32",
    ]
    assert main([*words, *named]) == 0
    assert "trained 2 steps" in capsys.readouterr().out


def test_a_picture_to_judge_by_that_cannot_be_decoded_is_counted(world, tmp_path):
    folder = shutil.copytree(world / "pictures", tmp_path / "pictures")
    source = train_val_test_split(open_source(folder / "captions.csv", DataConfig()), 0.15).val
    first = folder / f"{int(source.sample_id(0).rpartition(':')[2]) - 2}.png"
    first.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"\(validation\): left out 1 not an image"):
        judge = RetrievalValidator(source, Preprocess(image_size=32))
    assert len(judge.ids) == len(source) - 1


def test_fewer_than_ten_pictures_are_refused(world, tmp_path):
    few = write_pictures(tmp_path / "few", 9)
    with pytest.raises(DataError, match="holds 9 pairs"):
        suggest_settings(str(world / "start"), str(few))


def captioned(folder, captions):
    """Draw pictures, the same ones each time, captioned as told."""
    table = write_pictures(folder, len(captions))
    rows = [f"{number}.png,{caption}" for number, caption in enumerate(captions)]
    table.write_text("\n".join(["path,caption", *rows]))
    return table


def held_out(folder, count):
    """Return the number of a picture that is held out of as many."""
    table = captioned(folder, [str(number) for number in range(count)])
    return (
        int(train_val_test_split(open_source(table, DataConfig()), 0.15).test.sample_id(0).rpartition(":")[2])
        - 2
    )


@pytest.mark.parametrize("other", [False, True])
def test_one_caption_for_all_is_refused_before_training(world, tmp_path, other):
    """Also where one picture has another, but is held out."""
    captions = ["a photo"] * 20
    if other:
        captions[held_out(tmp_path / "numbered", 20)] = "a horse"
    told = replace(config(world, tmp_path / "run"), data=str(captioned(tmp_path / "same", captions)))
    with pytest.raises(
        DataError, match="have the caption 'a photo', so contrastive training cannot distinguish them"
    ):
        train.run(told)
    assert not (tmp_path / "run").exists()


def test_names_of_classes_as_captions_are_warned_of(tmp_path):
    table = captioned(tmp_path / "classes", ["a cat", "a dog"] * 10)
    with pytest.warns(UserWarning, match="2 distinct captions for 20 pairs. Images with the same caption"):
        train_val_test_split(open_source(table, DataConfig()), 0.15)


def test_a_class_whose_only_picture_is_held_out_is_counted(tmp_path):
    captions = ["a cat", "a dog"] * 10
    captions[held_out(tmp_path / "numbered", 20)] = "a horse"
    table = captioned(tmp_path / "classes", captions)
    with pytest.warns(UserWarning, match="3 distinct captions for 20 pairs, 1 of them on held-out"):
        train_val_test_split(open_source(table, DataConfig()), 0.15)


def test_captions_that_tell_pictures_apart_cost_no_warning(tmp_path):
    table = captioned(
        tmp_path / "some", [f"number {number // 2 if number < 18 else number}" for number in range(20)]
    )
    train_val_test_split(open_source(table, DataConfig()), 0.15)  # a warning is an error in these tests


def test_one_picture_repeated_is_one_picture(tmp_path):
    table = write_pictures(tmp_path / "same", 4)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[1:] * 10]))
    with pytest.raises(DataError, match="4 distinct captioned images"):
        train_val_test_split(open_source(table, DataConfig()), 0.1)


def test_no_picture_is_in_two_parts_however_many_captions_it_has(world, tmp_path):
    table = shutil.copytree(world / "pictures", tmp_path / "twice") / "captions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *(f"{line.partition(',')[0]},said otherwise" for line in lines[1:])]))
    parts = train_val_test_split(open_source(table, DataConfig()), 0.15)
    pictures = [
        {part.read(index).image for index in range(len(part))}
        for part in (parts.train, parts.val, parts.test)
    ]
    assert [len(some) for some in pictures] == [42, 9, 9]
    assert len(set.union(*pictures)) == 60
    assert sum(map(len, (parts.train, parts.val, parts.test))) == 120


def test_a_picture_that_cannot_be_read_stays_where_it_is_counted(world, tmp_path):
    folder = shutil.copytree(world / "pictures", tmp_path / "broken")
    (folder / "7.png").unlink()
    parts = train_val_test_split(open_source(folder / "captions.csv", DataConfig()), 0.15)
    assert "captions.csv:9" in [parts.train.sample_id(index) for index in range(len(parts.train))]


@pytest.mark.parametrize(("learns", "locked"), [("text", "visual."), ("image", "text."), ("all", "nothing")])
def test_what_is_locked_does_not_move(world, tmp_path, learns, locked):
    train.run(config(world, tmp_path / "run", epochs=2, finetune={"train_towers": learns, "patience": 50}))
    checkpoint = sorted((tmp_path / "run/checkpoints").iterdir())[-1]
    moved = load_checkpoint(checkpoint).tensors["model"]
    before = zebra.load(world / "start").model.state_dict()
    for name, value in moved.items():
        same = torch.equal(value, before[name])
        assert same == (name.startswith(locked) or "running_" in name or "num_batches" in name), name


def test_the_batch_norm_of_a_start_keeps_its_statistics(world):
    model = zebra.load(world / "start").model
    names = list(model.state_dict())
    freeze(model, "all")
    model.train()
    assert list(model.state_dict()) == names
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(norm, FrozenBatchNorm2d) and not norm.training for norm in norms)


def test_lower_blocks_learn_more_slowly():
    vit = VisionTransformerConfig(width=64, layers=3, heads=1, patch_size=8)
    text = TextConfig(width=64, layers=2, heads=1, vocab_size=300, context_length=8)
    model = CLIP(ModelConfig(embed_dim=32, image_size=32, vision=vit, text=text))
    above = layer_depths(model)
    assert above["visual.conv1.weight"] == above["visual.positional_embedding"] == 4 - 0
    assert [above[f"visual.transformer.resblocks.{n}.mlp.c_fc.weight"] for n in range(3)] == [3, 2, 1]
    assert [above[f"text.transformer.resblocks.{n}.mlp.c_fc.weight"] for n in range(2)] == [2, 1]
    assert above["text.token_embedding.weight"] == 3
    assert above["visual.proj"] == above["visual.ln_post.weight"] == above["logit_scale"] == 0
    shares = {}
    optimizer = build_optimizer(model, OptimizerConfig(), 0.5)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        shares |= {names[parameter]: group["lr_scale"] for parameter in group["params"]}
    assert shares == {name: 0.5 ** above[name] for name in shares}
    assert len(shares) == len(names)


def test_what_it_learns_shows_on_pictures_that_nothing_depends_on(world, tmp_path, capsys):
    out = tmp_path / "run"
    words = [
        "train",
        "--from",
        str(world / "start"),
        "--data",
        str(world / "pictures/captions.csv"),
        "--out",
        str(out),
    ]
    assert (
        main([*words, "--workers", "0", "--lr", "3e-3", "--finetune.patience", "30", "--precision", "fp32"])
        == 0
    )
    printed = capsys.readouterr()
    assert "settings for this data: epochs 30, batch_size 8" in printed.err
    assert "selected: step" in printed.out
    assert "held-out" in printed.out
    held = json.loads((out / "metrics.json").read_text())["held-out"]
    metric = "image_to_text_recall@5"
    assert held["after"][metric]["value"] >= held["before"][metric]["value"]
    assert "Before and after" in (out / "report.html").read_text()
    assert "initialized from" in (out / "model/README.md").read_text()
    assert zebra.load(out / "model").encode_texts(["a red picture"]).shape == (1, 32)


def test_where_nothing_gets_better_the_start_is_kept_and_the_run_ends_early(world, tmp_path, monkeypatch):
    scores = iter(np.linspace(0.9, 0.1, 100))
    start = zebra.load(world / "start")
    judged = RetrievalValidator.__call__

    def worse(self, clip):
        same = torch.equal(clip.model.visual.conv1.weight, start.model.visual.conv1.weight)
        return 0.95 if same else float(next(scores)) * (judged(self, clip) > 0)

    monkeypatch.setattr(RetrievalValidator, "__call__", worse)
    told = config(world, tmp_path / "run", lr=1e-3, finetune={"patience": 2})
    found = train.run(told)
    assert found.before_after is not None
    assert found.before_after.selected_step == 0
    assert found.steps == 2 * told.eval_every
    after = zebra.load(tmp_path / "run/model").model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in start.model.state_dict().items())
    assert "the initial weights were selected" in (tmp_path / "run/report.html").read_text()


def test_a_run_that_was_stopped_goes_on_to_the_same_end(world, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    told = config(world, whole, epochs=4, lr=1e-3, finetune={"patience": 3})
    train.run(told)
    stopped = replace(told, out=str(parted), checkpoint_every=7)

    def stop(report, _checks):
        if report.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(stopped, callback=stop)
    train.run(stopped)
    first, second = (zebra.load(folder / "model") for folder in (whole, parted))
    assert first.fingerprint == second.fingerprint


def test_another_start_is_another_run(world, tmp_path):
    told = config(world, tmp_path / "run", epochs=2)

    def stop(report, _checks):
        if report.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(replace(told, checkpoint_every=4), callback=stop)
    other = make_model(tmp_path / "other", seed=1)
    assert told.finetune is not None
    with pytest.raises(ConfigError, match="start"):
        train.run(replace(told, finetune=replace(told.finetune, init_from=str(other))))


def test_a_start_of_another_architecture_is_refused(world, tmp_path):
    wide = make_model(tmp_path / "wide", width=16)
    told = config(world, tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"does not have the architecture of the settings.*\n  vision.width: 16 → 8\n"
    ):
        train.run(replace(told, finetune=FineTuneConfig(init_from=str(wide))))


def test_pictures_of_another_size_than_the_start_s_are_refused(world, tmp_path, capsys):
    words = [
        "train",
        "--from",
        str(world / "start"),
        "--data",
        str(world / "pictures"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--model.image-size", "64"]) == 1
    assert "image_size: 32 → 64" in capsys.readouterr().err


def test_a_start_without_a_tokenizer_or_with_a_larger_one_is_refused(world, tmp_path):
    export.run(ExportConfig(model=str(world / "start"), format="open_clip", out=str(tmp_path / "start")))
    data = str(world / "pictures/captions.csv")
    many = " ".join(map("".join, product("abcdefgh", repeat=3)))
    BPETokenizer.train([many] * 3, 900, 24).save(tmp_path / "start/tokenizer.json")
    with pytest.raises(
        WeightsError, match=r"the tokenizer has \d+ ids, but the text tower of .* has \d+"
    ):
        suggest_settings(str(tmp_path / "start"), data)
    for name in (
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        (tmp_path / "start" / name).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="has no tokenizer"):
        suggest_settings(str(tmp_path / "start"), data)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"val_fraction": 0.5}, "val_fraction"), ({"patience": 0}, "patience"), ({"layer_decay": 0}, "decay")],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        FineTuneConfig(init_from="model", **wrong)


def test_half_way_between_two_models_lies_the_mean_of_their_weights(world, tmp_path):
    make_model(tmp_path / "tuned", seed=1)
    told = ExportConfig(
        model=str(tmp_path / "tuned"),
        format="zebra",
        out=str(tmp_path / "out"),
        wise_ft=0.5,
        base=str(world / "start"),
    )
    export.run(told)
    blended, tuned, start = (
        zebra.load(path).model.state_dict()
        for path in (tmp_path / "out", tmp_path / "tuned", world / "start")
    )
    for name, value in blended.items():
        if value.is_floating_point():
            assert torch.allclose(value, (tuned[name] + start[name]) / 2, atol=1e-6), name
    words = ["export", str(tmp_path / "tuned"), "--format", "zebra", "--out", str(tmp_path / "none")]
    assert main([*words, "--wise-ft", "0", "--base", str(world / "start")]) == 0
    assert zebra.load(tmp_path / "none").fingerprint == zebra.load(world / "start").fingerprint
    assert main([*words, "--wise-ft", "0.5"]) == 2


def test_models_that_do_not_belong_together_are_not_blended(world, tmp_path):
    make_model(tmp_path / "wide", width=16)
    told = ExportConfig(
        model=str(tmp_path / "wide"),
        format="zebra",
        out=str(tmp_path / "out"),
        wise_ft=0.5,
        base=str(world / "start"),
    )
    with pytest.raises(ConfigError, match="differ in architecture"):
        export.run(told)
