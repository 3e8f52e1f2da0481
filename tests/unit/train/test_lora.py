"""Fine-tuning by low-rank additions: what moves, what a run leaves behind, and the same end however often it stops."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import zebra
from zebra.cli.main import main
from zebra.config.files import read_train_config
from zebra.config.finetune import FineTuneConfig
from zebra.config.model import ModelConfig, ResNetConfig, TextConfig, VisionTransformerConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError
from zebra.evaluators.validation import RetrievalValidator
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.lora import get_adapters
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.train.checkpoint import list_checkpoints, load_checkpoint
from zebra.train.finetune import suggest_settings
from zebra.workflows import train

SIZES = {"width": 32, "layers": 2, "heads": 2}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "black": (20, 20, 20)}


def make_model(folder, vision):
    torch.manual_seed(0)
    words = BPETokenizer.train(["a red green blue black picture, number 0123456789"] * 5, 560, 24)
    text = TextConfig(**SIZES, vocab_size=words.vocab_size, context_length=24)
    model = CLIP(ModelConfig(embed_dim=16, image_size=32, vision=vision, text=text))
    Bundle(model, words, Preprocess(image_size=32)).save(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    (root / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        name = list(COLOURS)[number % len(COLOURS)]
        pixels = (np.array(COLOURS[name]) + rng.integers(-40, 41, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"pictures/{number}.png")
        (root / f"pictures/{number}.txt").write_text(f"a {name} picture, number {number}")
    make_model(root / "vit", VisionTransformerConfig(**SIZES, patch_size=8))
    make_model(root / "resnet", ResNetConfig(width=4, layers=(1, 1, 1, 1), heads=4))
    return root


@pytest.fixture
def favoured(monkeypatch):
    """Whatever has learned counts as better than the start."""

    def judged(self, clip):
        return float(any(low_rank.B.any() for low_rank in get_adapters(clip.model).values()))

    monkeypatch.setattr(RetrievalValidator, "__call__", judged)


def config(world, out, start="vit", **changes):
    recipe = suggest_settings(str(world / start), str(world / "pictures"), use_lora=True)
    told = {"data": str(world / "pictures"), "out": str(out), "precision": "fp32", "workers": 0, "epochs": 3}
    finetune = {"lora_rank": 4, "patience": 50} | recipe.pop("finetune") | changes.pop("finetune", {})
    return structure(TrainConfig, recipe | told | {"finetune": finetune} | changes)


@pytest.mark.parametrize(
    ("learns", "towers"), [("all", {"visual", "text"}), ("text", {"text"}), ("image", {"visual"})]
)
def test_weights_stay_and_additions_move(world, tmp_path, learns, towers):
    train.run(config(world, tmp_path / "run", finetune={"train_towers": learns}))
    weights = load_checkpoint(list_checkpoints(tmp_path / "run/checkpoints")[-1]).tensors["model"]
    before = zebra.load(world / "vit").model.state_dict()
    moved = {name for name in before if not torch.equal(weights[name], before[name])}
    added = weights.keys() - before.keys()
    assert moved == {"logit_scale"}
    assert {name.partition(".")[0] for name in added} == towers
    assert all(weights[name].any() for name in added)
    names = {"q_proj", "v_proj"}
    assert {name.split(".")[-2] for name in added} == names


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_leaves_an_ordinary_model_and_an_adapter_that_adds_up_to_it(world, tmp_path, favoured, ema):
    told = config(
        world,
        tmp_path / "run",
        ema_decay=ema,
        finetune={"lora_target_modules": ("k_proj", "c_fc", "out_proj")},
    )
    gain = train.run(told).before_after
    assert gain is not None
    assert gain.selected_step > 0
    after, before = zebra.load(tmp_path / "run/model").model, zebra.load(world / "vit").model.state_dict()
    assert after.state_dict().keys() == before.keys()
    settings = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 4, 16)
    assert len(settings["target_modules"]) == 2 * 2 * 3
    pairs = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    assert len(pairs) == 2 * len(settings["target_modules"])
    layer = "base_model.model.vision_model.encoder.layers.1"
    fc1 = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    product = pairs[f"{layer}.mlp.fc1.lora_B.weight"] @ pairs[f"{layer}.mlp.fc1.lora_A.weight"]
    assert product.any()
    assert torch.allclose(after.state_dict()[fc1], before[fc1] + 16 / 4 * product, atol=1e-6)
    stacked = "visual.transformer.resblocks.1.attn.in_proj_weight"
    query, key, value = (after.state_dict()[stacked] - before[stacked]).chunk(3)
    product = (
        pairs[f"{layer}.self_attn.k_proj.lora_B.weight"] @ pairs[f"{layer}.self_attn.k_proj.lora_A.weight"]
    )
    assert torch.allclose(key, 16 / 4 * product, atol=1e-6)
    assert not query.any()
    assert not value.any()


def test_a_run_that_was_stopped_goes_on_to_the_same_end(world, tmp_path):
    told = config(
        world,
        tmp_path / "whole",
        ema_decay=0.9,
        finetune={"layer_decay": 0.7, "lora_target_modules": ("q_proj", "c_proj")},
    )
    train.run(told)
    parted = replace(told, out=str(tmp_path / "parted"), checkpoint_every=3)

    def stop(report, _checks):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(parted, callback=stop)
    train.run(parted)
    for file in ("model/MANIFEST.json", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parted" / file).read_bytes(), file


def test_another_rank_is_another_run(world, tmp_path):
    told = config(world, tmp_path / "run", checkpoint_every=3)

    def stop(report, _checks):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(told, callback=stop)
    assert told.finetune is not None
    with pytest.raises(ConfigError, match="lora_rank: 4 → 8"):
        train.run(replace(told, finetune=replace(told.finetune, lora_rank=8)))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_where_nothing_gets_better_the_adapter_adds_nothing(world, tmp_path, monkeypatch, ema):
    scores = iter(np.linspace(0.9, 0.1, 100))

    def worse(self, clip):
        learned = any(low_rank.B.any() for low_rank in get_adapters(clip.model).values())
        return float(next(scores)) if learned else 0.95

    monkeypatch.setattr(RetrievalValidator, "__call__", worse)
    found = train.run(config(world, tmp_path / "run", ema_decay=ema, finetune={"patience": 2}))
    assert found.before_after is not None
    assert found.before_after.selected_step == 0
    after, before = zebra.load(tmp_path / "run/model").model, zebra.load(world / "vit").model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.state_dict().items())
    pairs = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    assert not any(value.any() for name, value in pairs.items() if "lora_B" in name)


def test_a_model_that_transformers_does_not_know_ends_whole_and_without_an_adapter(world, tmp_path, favoured):
    with pytest.warns(UserWarning, match=r"no such model \(resnet image tower\).* no adapter/"):
        train.run(config(world, tmp_path / "run", "resnet"))
    assert not (tmp_path / "run/adapter").exists()
    after, before = (
        zebra.load(tmp_path / "run/model").model.state_dict(),
        zebra.load(world / "resnet").model.state_dict(),
    )
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved == {
        "logit_scale",
        "visual.attnpool.q_proj.weight",
        "visual.attnpool.v_proj.weight",
        "text.transformer.resblocks.0.attn.in_proj_weight",
        "text.transformer.resblocks.1.attn.in_proj_weight",
    }


def test_flags_choose_additions_and_a_learning_rate_that_suits_them(world, tmp_path, capsys):
    words = ["train", "--from", str(world / "vit"), "--data", str(world / "pictures"), "--workers", "0"]
    words += ["--steps", "1", "--precision", "fp32"]
    adapted = ["--finetune.lora-rank", "2", "--finetune.lora-target-modules", "q_proj", "c_fc"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert main([*words, "--out", str(tmp_path / "adapted"), *adapted]) == 0
    whole, told = (read_train_config(tmp_path / name / "config.yaml") for name in ("whole", "adapted"))
    assert told.finetune is not None
    assert (told.finetune.lora_rank, told.finetune.lora_target_modules) == (2, ("q_proj", "c_fc"))
    assert told.lr == pytest.approx(5 * whole.lr)
    assert (tmp_path / "adapted/adapter/adapter_config.json").is_file()
    assert f"{tmp_path}/adapted/adapter" in capsys.readouterr().out
    assert not (tmp_path / "whole/adapter").exists()


def test_a_layer_that_is_not_there_stops_the_command_before_training(world, tmp_path, capsys):
    words = [
        "train",
        "--from",
        str(world / "vit"),
        "--data",
        str(world / "pictures"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--finetune.lora-rank", "2", "--finetune.lora-target-modules", "query"]) == 1
    printed = capsys.readouterr().err
    assert "matches no trainable layer" in printed
    assert "q_proj" in printed
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lora_rank": 0}, "lora_rank"),
        ({"lora_alpha": 0.0}, "lora_alpha"),
        ({"lora_target_modules": ()}, "lora_target_modules"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        FineTuneConfig(init_from="model", **wrong)
