"""Fine-tuning: suggested settings, disjoint splits, frozen parts and the selected weights."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import zebra
from zebra.cli.main import main
from zebra.cli.train import parse_recipe_flags, parse_train_config
from zebra.config.data import DataConfig
from zebra.config.export import ExportConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.data.sources import open_source
from zebra.data.splits import train_val_test_split
from zebra.errors import ConfigError, DataError, WeightsError
from zebra.evaluators.validation import RetrievalValidator
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.train.batchnorm import FrozenBatchNorm2d
from zebra.train.checkpoint import load_checkpoint
from zebra.train.finetune import suggest_settings
from zebra.train.freeze import freeze
from zebra.train.optimizer import build_optimizer, layer_depths
from zebra.workflows import export, train

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "black": (20, 20, 20)}


def write_images(folder, count, seed=0):
    """Draw colored noise, captioned by its color and a number."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption"])
        for number in range(count):
            name = list(COLORS)[number % len(COLORS)]
            noise = rng.integers(-40, 41, (32, 32, 3))
            pixels = (np.array(COLORS[name]) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", f"a {name} picture, number {number}"])
    return folder / "captions.csv"


def make_model(folder, seed=0, width=8):
    torch.manual_seed(seed)
    tokenizer = BPETokenizer.train(["a red green blue black picture, number 0123456789"] * 5, 560, 24)
    text = TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=24)
    vision = ResNetConfig(width=width, layers=(1, 1, 1, 1), heads=4)
    config = ModelConfig(embed_dim=32, image_size=32, vision=vision, text=text)
    Bundle(CLIP(config), tokenizer, Preprocess(image_size=32)).save(folder)
    return folder


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("finetune")
    write_images(root / "images", 60)
    make_model(root / "start")
    return root


def config(assets, out, **changes):
    recipe = suggest_settings(str(assets / "start"), str(assets / "images/captions.csv"))
    settings = {"data": str(assets / "images/captions.csv"), "out": str(out), "precision": "fp32", "workers": 0}
    finetune = recipe.pop("finetune") | changes.pop("finetune", {})
    return structure(TrainConfig, recipe | settings | {"finetune": finetune} | changes)


def test_a_small_dataset_gets_more_epochs_and_smaller_batches(assets, tmp_path):
    small = suggest_settings(str(assets / "start"), str(assets / "images/captions.csv"))
    large = suggest_settings(str(assets / "start"), str(write_images(tmp_path / "more", 1100)))
    assert small["epochs"] > large["epochs"]
    assert small["batch_size"] == 8
    assert large["batch_size"] == 128
    assert small["finetune"]["init_from"] == str(assets / "start")


def test_the_settings_of_a_rehearsal_follow_from_the_sizes_of_both_datasets(assets, tmp_path):
    def suggest(num_earlier, caption="a picture of {}", **settings):
        folder = tmp_path / f"earlier-{num_earlier}"
        folder.mkdir(exist_ok=True)
        images = sorted((assets / "images").glob("*.png"))
        rows = [f"{images[n % len(images)]},{caption.format(n)}\n" for n in range(num_earlier)]
        (folder / "captions.csv").write_text("path,caption\n" + "".join(rows))
        data = str(assets / "images/captions.csv")
        return suggest_settings(str(assets / "start"), data, rehearse=str(folder / "captions.csv"), **settings)

    alone = suggest_settings(str(assets / "start"), str(assets / "images/captions.csv"))
    large, small, quarter = suggest(1000), suggest(10), suggest(1000, rehearse_fraction=0.25)
    assert large["batch_size"] == 2 * alone["batch_size"]  # as many new pairs per step as alone, so as many steps
    assert large["optimizer"] == alone["optimizer"]
    assert large["eval_every"] == alone["eval_every"]
    assert small["batch_size"] == 4  # two of the ten earlier pairs in a step
    assert small["eval_every"] == 30  # steps with two of the 60 new pairs each
    assert quarter["batch_size"] == 16
    assert not large["objective"]["multi_positive"]
    assert suggest(40, caption="a picture")["objective"]["multi_positive"]


def test_repeated_captions_turn_on_multi_positive(assets, tmp_path):
    table = shutil.copytree(assets / "images", tmp_path / "images") / "captions.csv"
    assert not suggest_settings(str(assets / "start"), str(table))["objective"]["multi_positive"]
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    table.write_text("path,caption\n" + "".join(f"{row[0]},a picture of {n % 7}\n" for n, row in enumerate(rows)))
    assert suggest_settings(str(assets / "start"), str(table))["objective"]["multi_positive"]


@pytest.mark.parametrize(
    ("flags", "length", "warmup_steps"),
    [
        ([], {"epochs": 30, "batch_size": 8}, 10),
        (["--epochs", "4"], {"epochs": 4, "batch_size": 8}, 1),
        (["--epochs=60"], {"epochs": 60, "batch_size": 8}, 21),
        (["--steps", "200"], {"steps": 200, "batch_size": 8}, 10),
        (["--batch-size", "2"], {"epochs": 30, "batch_size": 2}, 45),
        (["--rehearse", "DATA", "--batch-size", "4"], {"epochs": 30, "batch_size": 4}, 45),
        (["--batch_size", "4", "--epochs", "12"], {"epochs": 12, "batch_size": 4}, 9),
        (["--epochs", "4", "--optimizer.warmup-steps", "7"], {"epochs": 4}, 7),
        (["--recipe", "RECIPE"], {"steps": 400, "batch_size": 4}, 20),
        (["--recipe", "RECIPE", "--epochs", "4"], {"epochs": 4, "batch_size": 4}, 3),
    ],
)
def test_the_warmup_is_a_twentieth_of_the_length_that_is_given(assets, tmp_path, flags, length, warmup_steps):
    recipe = tmp_path / "short.yaml"
    recipe.write_text("steps: 400\nbatch_size: 4\n")
    data = str(assets / "images/captions.csv")
    flags = [{"RECIPE": str(recipe), "DATA": data}.get(flag, flag) for flag in flags]
    args = ["--from", str(assets / "start"), "--data", data, "--out", "run"]
    config = parse_train_config(parse_recipe_flags([*args, *flags]))
    assert {name: getattr(config, name) for name in length} == length
    assert config.optimizer.warmup_steps == warmup_steps


def test_suggested_settings_use_the_data_options(assets, tmp_path, capsys):
    table = shutil.copytree(assets / "images", tmp_path / "odd") / "captions.csv"
    table.write_text(table.read_text().replace("path,caption", "path,words"))
    args = ["train", "--from", str(assets / "start"), f"--data={table}", "--out", str(tmp_path / "run")]
    assert main(args) == 1
    assert "has no caption column" in capsys.readouterr().err
    flags = ["--data-options.caption-columns", "words", "--steps", "2", "--workers", "0", "--precision", "fp32"]
    assert main([*args, *flags]) == 0
    assert "trained 2 steps" in capsys.readouterr().out


def test_class_folders_are_trained_on_their_names_in_sentences(assets, tmp_path, capsys):
    for number, path in enumerate(sorted((assets / "images").glob("*.png"))):
        folder = tmp_path / "classes" / f"kind {number % 12}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    flags = ["--steps", "2", "--workers", "0", "--precision", "fp32", "--data-options.caption-columns", "class"]
    flags += ["--data-options.caption-templates", "a photo of a {}.", "an image of a {}."]
    out = tmp_path / "run"
    args = ["train", "--from", str(assets / "start"), "--data", str(tmp_path / "classes"), "--out", str(out)]
    with pytest.warns(UserWarning, match="12 distinct captions for 60 pairs"):
        assert main([*args, *flags]) == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["objective"]["multi_positive"]
    assert "n=18)" in capsys.readouterr().out, "each of the 9 held-out images has both sentences"


def test_a_validation_image_that_cannot_be_decoded_is_counted(assets, tmp_path):
    folder = shutil.copytree(assets / "images", tmp_path / "images")
    source = train_val_test_split(open_source(folder / "captions.csv", DataConfig()), 0.15).val
    first = folder / f"{int(source.sample_id(0).rpartition(':')[2]) - 2}.png"
    first.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"\(validation\): left out 1 not an image"):
        validator = RetrievalValidator(source, Preprocess(image_size=32))
    assert len(validator.ids) == len(source) - 1


def test_fewer_than_ten_images_are_refused(assets, tmp_path):
    table = write_images(tmp_path / "few", 9)
    with pytest.raises(DataError, match="holds 9 pairs"):
        suggest_settings(str(assets / "start"), str(table))


def write_captioned(folder, captions):
    """Draw the same images each time, with the given captions."""
    table = write_images(folder, len(captions))
    rows = [f"{number}.png,{caption}" for number, caption in enumerate(captions)]
    table.write_text("\n".join(["path,caption", *rows]))
    return table


def find_test_index(folder, count):
    """Return the index of an image in the test split of a dataset of `count` images."""
    table = write_captioned(folder, [str(number) for number in range(count)])
    return int(train_val_test_split(open_source(table, DataConfig()), 0.15).test.sample_id(0).rpartition(":")[2]) - 2


@pytest.mark.parametrize(("other", "templates"), [(False, ()), (True, ()), (False, ("a {}", "the {}"))])
def test_one_caption_for_all_is_refused_before_training(assets, tmp_path, other, templates):
    """Also if one image has another caption, but is in the test split; and whatever sentences it is put into."""
    captions = ["a photo"] * 20
    if other:
        captions[find_test_index(tmp_path / "numbered", 20)] = "a horse"
    train_config = replace(
        config(assets, tmp_path / "run"),
        data=str(write_captioned(tmp_path / "same", captions)),
        data_options=DataConfig(caption_templates=templates),
    )
    with pytest.raises(DataError, match="have the caption 'a photo', so contrastive training cannot distinguish them"):
        train.run(train_config)
    assert not (tmp_path / "run").exists()


def test_class_names_as_captions_cause_a_warning(tmp_path):
    table = write_captioned(tmp_path / "classes", ["a cat", "a dog"] * 10)
    with pytest.warns(UserWarning, match="2 distinct captions for 20 pairs. Retrieval counts"):
        train_val_test_split(open_source(table, DataConfig()), 0.15)


def test_a_class_whose_only_image_is_held_out_is_counted(tmp_path):
    captions = ["a cat", "a dog"] * 10
    captions[find_test_index(tmp_path / "numbered", 20)] = "a horse"
    table = write_captioned(tmp_path / "classes", captions)
    with pytest.warns(UserWarning, match="3 distinct captions for 20 pairs, 1 of them on held-out"):
        train_val_test_split(open_source(table, DataConfig()), 0.15)


def test_distinct_captions_cause_no_warning(tmp_path):
    table = write_captioned(
        tmp_path / "some", [f"number {number // 2 if number < 18 else number}" for number in range(20)]
    )
    train_val_test_split(open_source(table, DataConfig()), 0.15)  # a warning is an error in these tests


def test_repeated_images_count_once(tmp_path):
    table = write_images(tmp_path / "same", 4)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[1:] * 10]))
    with pytest.raises(DataError, match="4 distinct captioned images"):
        train_val_test_split(open_source(table, DataConfig()), 0.1)


def test_no_image_is_in_two_splits_however_many_captions_it_has(assets, tmp_path):
    table = shutil.copytree(assets / "images", tmp_path / "twice") / "captions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *(f"{line.partition(',')[0]},said otherwise" for line in lines[1:])]))
    parts = train_val_test_split(open_source(table, DataConfig()), 0.15)
    images = [{part.read(index).image for index in range(len(part))} for part in (parts.train, parts.val, parts.test)]
    assert [len(split_images) for split_images in images] == [42, 9, 9]
    assert len(set.union(*images)) == 60
    assert sum(map(len, (parts.train, parts.val, parts.test))) == 120


def test_an_unreadable_image_stays_in_the_training_split_where_it_is_counted(assets, tmp_path):
    folder = shutil.copytree(assets / "images", tmp_path / "broken")
    (folder / "7.png").unlink()
    parts = train_val_test_split(open_source(folder / "captions.csv", DataConfig()), 0.15)
    assert "captions.csv:9" in [parts.train.sample_id(index) for index in range(len(parts.train))]


@pytest.mark.parametrize(("train_towers", "frozen"), [("text", "visual."), ("image", "text."), ("all", "nothing")])
def test_frozen_towers_do_not_change(assets, tmp_path, train_towers, frozen):
    train.run(config(assets, tmp_path / "run", epochs=2, finetune={"train_towers": train_towers, "patience": 50}))
    checkpoint = sorted((tmp_path / "run/checkpoints").iterdir())[-1]
    trained = load_checkpoint(checkpoint).tensors["model"]
    before = zebra.load(assets / "start").model.state_dict()
    for name, value in trained.items():
        same = torch.equal(value, before[name])
        assert same == (name.startswith(frozen) or "running_" in name or "num_batches" in name), name


def test_batch_norm_keeps_its_statistics(assets):
    model = zebra.load(assets / "start").model
    names = list(model.state_dict())
    freeze(model, "all")
    model.train()
    assert list(model.state_dict()) == names
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(norm, FrozenBatchNorm2d) and not norm.training for norm in norms)


def test_layer_decay_lowers_the_learning_rate_of_lower_blocks():
    vit = VisionTransformerConfig(width=64, layers=3, heads=1, patch_size=8)
    text = TextConfig(width=64, layers=2, heads=1, vocab_size=300, context_length=8)
    model = CLIP(ModelConfig(embed_dim=32, image_size=32, vision=vit, text=text))
    depths = layer_depths(model)
    assert depths["visual.conv1.weight"] == depths["visual.positional_embedding"] == 4 - 0
    assert [depths[f"visual.transformer.resblocks.{n}.mlp.c_fc.weight"] for n in range(3)] == [3, 2, 1]
    assert [depths[f"text.transformer.resblocks.{n}.mlp.c_fc.weight"] for n in range(2)] == [2, 1]
    assert depths["text.token_embedding.weight"] == 3
    assert depths["visual.proj"] == depths["visual.ln_post.weight"] == depths["logit_scale"] == 0
    lr_scales = {}
    optimizer = build_optimizer(model, OptimizerConfig(), 0.5)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        lr_scales |= {names[parameter]: group["lr_scale"] for parameter in group["params"]}
    assert lr_scales == {name: 0.5 ** depths[name] for name in lr_scales}
    assert len(lr_scales) == len(names)


def test_fine_tuning_improves_scores_on_held_out_images(assets, tmp_path, capsys):
    out = tmp_path / "run"
    args = ["train", "--from", str(assets / "start"), "--data", str(assets / "images/captions.csv"), "--out", str(out)]
    assert main([*args, "--workers", "0", "--lr", "3e-3", "--finetune.patience", "30", "--precision", "fp32"]) == 0
    output = capsys.readouterr()
    assert "settings for this data: epochs 30, batch_size 8" in output.err
    assert "selected: step" in output.out
    assert "held-out" in output.out
    scores = json.loads((out / "metrics.json").read_text())["held-out"]
    metric = "image_to_text_recall@5"
    assert scores["after"][metric]["value"] >= scores["before"][metric]["value"]
    assert "Before and after" in (out / "report.html").read_text()
    assert "initialized from" in (out / "model/README.md").read_text()
    assert zebra.load(out / "model").encode_texts(["a red picture"]).shape == (1, 32)


@pytest.fixture
def no_training(monkeypatch):
    """Stop `zebra train` where training would start."""

    def run(*_args, **_options):
        raise ConfigError("training would start here")

    monkeypatch.setattr(train, "run", run)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ([], "epochs 30, batch_size 8, lr 0.0001."),
        (["--epochs", "4"], "epochs 4, batch_size 8, lr 0.0001."),
        (["--steps", "7", "--lr", "3e-5"], "steps 7, batch_size 8, lr 3e-05."),
        (["--batch-size=16"], "epochs 30, batch_size 16, lr 0.0001."),
    ],
)
def test_the_settings_of_fine_tuning_are_shown_as_the_flags_change_them(
    assets, tmp_path, capsys, no_training, flags, shown
):
    data = str(assets / "images/captions.csv")
    assert main(["train", "--from", str(assets / "start"), "--data", data, "--out", str(tmp_path), *flags]) == 1
    assert f"settings for this data: {shown}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "is_noted"), [([], True), (["--model", "RN50"], True), (["--model", "tiny-vit"], False)]
)
def test_a_model_that_transformers_cannot_represent_is_named_before_training(
    tmp_path, capsys, no_training, flags, is_noted
):
    assert main(["train", "--data", "images", "--out", str(tmp_path), *flags]) == 1
    error = capsys.readouterr().err
    assert ("but not for transformers" in error) == is_noted
    assert "training would start here" in error


def test_without_improvement_the_initial_weights_are_selected_and_the_run_stops_early(assets, tmp_path, monkeypatch):
    scores = iter(np.linspace(0.9, 0.1, 100))
    initial = zebra.load(assets / "start")
    original_score = RetrievalValidator.__call__

    def score_below_initial(self, clip):
        same = torch.equal(clip.model.visual.conv1.weight, initial.model.visual.conv1.weight)
        return {
            "held-out MRR": 0.95 if same else float(next(scores)) * (original_score(self, clip)["held-out MRR"] > 0)
        }

    monkeypatch.setattr(RetrievalValidator, "__call__", score_below_initial)
    train_config = config(assets, tmp_path / "run", lr=1e-3, finetune={"patience": 2})
    result = train.run(train_config)
    assert result.before_after is not None
    assert result.before_after.selected_step == 0
    assert result.steps == 2 * train_config.eval_every
    after = zebra.load(tmp_path / "run/model").model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in initial.model.state_dict().items())
    assert "the initial weights were selected" in (tmp_path / "run/report.html").read_text()


def test_an_interrupted_run_resumes_to_the_same_result(assets, tmp_path):
    uninterrupted, resumed = tmp_path / "whole", tmp_path / "parted"
    train_config = config(assets, uninterrupted, epochs=4, lr=1e-3, finetune={"patience": 3})
    train.run(train_config)
    resumed_config = replace(train_config, out=str(resumed), checkpoint_every=7)

    def stop(report, _scores):
        if report.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(resumed_config, callback=stop)
    train.run(resumed_config)
    first, second = (zebra.load(folder / "model") for folder in (uninterrupted, resumed))
    assert first.fingerprint == second.fingerprint


def test_a_run_with_another_initial_model_is_refused(assets, tmp_path):
    train_config = config(assets, tmp_path / "run", epochs=2)

    def stop(report, _scores):
        if report.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(replace(train_config, checkpoint_every=4), callback=stop)
    other = make_model(tmp_path / "other", seed=1)
    assert train_config.finetune is not None
    with pytest.raises(ConfigError, match="start"):
        train.run(replace(train_config, finetune=replace(train_config.finetune, init_from=str(other))))


def test_an_initial_model_of_another_architecture_is_refused(assets, tmp_path):
    wide = make_model(tmp_path / "wide", width=16)
    train_config = config(assets, tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"does not have the architecture of the settings.*\n  vision.width: 16 → 8\n"
    ):
        train.run(replace(train_config, finetune=FineTuneConfig(init_from=str(wide))))


def test_another_image_size_than_the_initial_models_is_refused(assets, tmp_path, capsys):
    args = ["train", "--from", str(assets / "start"), "--data", str(assets / "images"), "--out", str(tmp_path / "run")]
    assert main([*args, "--model.image-size", "64"]) == 1
    assert "image_size: 32 → 64" in capsys.readouterr().err


def test_an_initial_model_without_or_with_a_larger_tokenizer_is_refused(assets, tmp_path):
    export.run(ExportConfig(model=str(assets / "start"), format="open_clip", out=str(tmp_path / "start")))
    data = str(assets / "images/captions.csv")
    vocabulary = " ".join(map("".join, product("abcdefgh", repeat=3)))
    BPETokenizer.train([vocabulary] * 3, 900, 24).save(tmp_path / "start/tokenizer.json")
    with pytest.raises(WeightsError, match=r"the tokenizer has \d+ ids, but the text tower of .* has \d+"):
        suggest_settings(str(tmp_path / "start"), data)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "start" / name).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="has no tokenizer"):
        suggest_settings(str(tmp_path / "start"), data)


@pytest.mark.parametrize(("wrong", "message"), [({"patience": 0}, "patience"), ({"layer_decay": 0}, "decay")])
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        FineTuneConfig(init_from="model", **wrong)


def test_wise_ft_of_one_half_is_the_mean_of_the_weights(assets, tmp_path):
    make_model(tmp_path / "tuned", seed=1)
    export_config = ExportConfig(
        model=str(tmp_path / "tuned"),
        format="zebra",
        out=str(tmp_path / "out"),
        wise_ft=0.5,
        base=str(assets / "start"),
    )
    export.run(export_config)
    merged, tuned, initial = (
        zebra.load(path).model.state_dict() for path in (tmp_path / "out", tmp_path / "tuned", assets / "start")
    )
    for name, value in merged.items():
        if value.is_floating_point():
            assert torch.allclose(value, (tuned[name] + initial[name]) / 2, atol=1e-6), name
    args = ["export", str(tmp_path / "tuned"), "--format", "zebra", "--out", str(tmp_path / "none")]
    assert main([*args, "--wise-ft", "0", "--base", str(assets / "start")]) == 0
    assert zebra.load(tmp_path / "none").fingerprint == zebra.load(assets / "start").fingerprint
    assert main([*args, "--wise-ft", "0.5"]) == 2


def test_wise_ft_refuses_models_of_different_architectures(assets, tmp_path):
    make_model(tmp_path / "wide", width=16)
    export_config = ExportConfig(
        model=str(tmp_path / "wide"), format="zebra", out=str(tmp_path / "out"), wise_ft=0.5, base=str(assets / "start")
    )
    with pytest.raises(ConfigError, match="differ in architecture"):
        export.run(export_config)
