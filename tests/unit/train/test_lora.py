"""Fine-tuning with LoRA: trained parameters, the files of a run, and resuming."""

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
from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure
from zebra.config.text_towers import TextConfig
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
COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "black": (20, 20, 20)}


def make_model(folder, vision):
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a red green blue black picture, number 0123456789"] * 5, 560, 24)
    text = TextConfig(**SIZES, vocab_size=tokenizer.vocab_size, context_length=24)
    model = CLIP(ModelConfig(embed_dim=16, image_size=32, vision=vision, text=text))
    Bundle(model, tokenizer, Preprocess(image_size=32)).save(folder)


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        name = list(COLORS)[number % len(COLORS)]
        pixels = (np.array(COLORS[name]) + rng.integers(-40, 41, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"images/{number}.png")
        (root / f"images/{number}.txt").write_text(f"a {name} picture, number {number}")
    make_model(root / "vit", VisionTransformerConfig(**SIZES, patch_size=8))
    make_model(root / "resnet", ResNetConfig(width=4, layers=(1, 1, 1, 1), heads=4))
    return root


@pytest.fixture
def prefer_trained(monkeypatch):
    """Score every trained model higher than the initial one."""

    def is_trained(self, clip):
        return {"held-out MRR": float(any(low_rank.B.any() for low_rank in get_adapters(clip.model).values()))}

    monkeypatch.setattr(RetrievalValidator, "__call__", is_trained)


def config(assets, out, initial="vit", **changes):
    recipe = suggest_settings(str(assets / initial), str(assets / "images"), use_lora=True)
    settings = {"data": str(assets / "images"), "out": str(out), "precision": "fp32", "workers": 0, "epochs": 3}
    finetune = {"lora_rank": 4, "patience": 50} | recipe.pop("finetune") | changes.pop("finetune", {})
    return structure(TrainConfig, recipe | settings | {"finetune": finetune} | changes)


@pytest.mark.parametrize(
    ("train_towers", "towers"), [("all", {"visual", "text"}), ("text", {"text"}), ("image", {"visual"})]
)
def test_only_lora_weights_and_the_temperature_change(assets, tmp_path, train_towers, towers):
    train.run(config(assets, tmp_path / "run", finetune={"train_towers": train_towers}))
    weights = load_checkpoint(list_checkpoints(tmp_path / "run/checkpoints")[-1]).tensors["model"]
    before = zebra.load(assets / "vit").model.state_dict()
    changed = {name for name in before if not torch.equal(weights[name], before[name])}
    lora_names = weights.keys() - before.keys()
    assert changed == {"logit_scale"}
    assert {name.partition(".")[0] for name in lora_names} == towers
    assert all(weights[name].any() for name in lora_names)
    names = {"q_proj", "v_proj"}
    assert {name.split(".")[-2] for name in lora_names} == names


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_writes_a_merged_model_and_the_adapter_that_leads_to_it(assets, tmp_path, prefer_trained, ema):
    train_config = config(
        assets, tmp_path / "run", ema_decay=ema, finetune={"lora_target_modules": ("k_proj", "c_fc", "out_proj")}
    )
    before_after = train.run(train_config).before_after
    assert before_after is not None
    assert before_after.selected_step > 0
    after, before = zebra.load(tmp_path / "run/model").model, zebra.load(assets / "vit").model.state_dict()
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
    product = pairs[f"{layer}.self_attn.k_proj.lora_B.weight"] @ pairs[f"{layer}.self_attn.k_proj.lora_A.weight"]
    assert torch.allclose(key, 16 / 4 * product, atol=1e-6)
    assert not query.any()
    assert not value.any()


def test_an_interrupted_run_resumes_to_the_same_result(assets, tmp_path):
    train_config = config(
        assets,
        tmp_path / "whole",
        ema_decay=0.9,
        finetune={"layer_decay": 0.7, "lora_target_modules": ("q_proj", "c_proj")},
    )
    train.run(train_config)
    resumed_config = replace(train_config, out=str(tmp_path / "parted"), checkpoint_every=3)

    def stop(report, _scores):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(resumed_config, callback=stop)
    train.run(resumed_config)
    for file in ("model/MANIFEST.json", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parted" / file).read_bytes(), file


def test_a_run_with_another_lora_rank_is_refused(assets, tmp_path):
    train_config = config(assets, tmp_path / "run", checkpoint_every=3)

    def stop(report, _scores):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(train_config, callback=stop)
    assert train_config.finetune is not None
    with pytest.raises(ConfigError, match="lora_rank: 4 → 8"):
        train.run(replace(train_config, finetune=replace(train_config.finetune, lora_rank=8)))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_without_improvement_the_adapter_adds_nothing(assets, tmp_path, monkeypatch, ema):
    scores = iter(np.linspace(0.9, 0.1, 100))

    def score_below_initial(self, clip):
        learned = any(low_rank.B.any() for low_rank in get_adapters(clip.model).values())
        return {"held-out MRR": float(next(scores)) if learned else 0.95}

    monkeypatch.setattr(RetrievalValidator, "__call__", score_below_initial)
    result = train.run(config(assets, tmp_path / "run", ema_decay=ema, finetune={"patience": 2}))
    assert result.before_after is not None
    assert result.before_after.selected_step == 0
    after, before = zebra.load(tmp_path / "run/model").model, zebra.load(assets / "vit").model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.state_dict().items())
    pairs = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    assert not any(value.any() for name, value in pairs.items() if "lora_B" in name)


def test_a_model_that_transformers_does_not_have_gets_no_adapter(assets, tmp_path, prefer_trained):
    with pytest.warns(UserWarning, match=r"no such model \(resnet image tower\).* no adapter"):
        train.run(config(assets, tmp_path / "run", "resnet"))
    assert not (tmp_path / "run/adapter").exists()
    after, before = (
        zebra.load(tmp_path / "run/model").model.state_dict(),
        zebra.load(assets / "resnet").model.state_dict(),
    )
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {
        "logit_scale",
        "visual.attnpool.q_proj.weight",
        "visual.attnpool.v_proj.weight",
        "text.transformer.resblocks.0.attn.in_proj_weight",
        "text.transformer.resblocks.1.attn.in_proj_weight",
    }


def test_flags_enable_lora_with_a_larger_learning_rate(assets, tmp_path, capsys):
    args = ["train", "--from", str(assets / "vit"), "--data", str(assets / "images"), "--workers", "0"]
    args += ["--steps", "1", "--precision", "fp32"]
    adapted = ["--finetune.lora-rank", "2", "--finetune.lora-target-modules", "q_proj", "c_fc"]
    assert main([*args, "--out", str(tmp_path / "whole")]) == 0
    assert main([*args, "--out", str(tmp_path / "adapted"), *adapted]) == 0
    full_config, train_config = (read_train_config(tmp_path / name / "config.yaml") for name in ("whole", "adapted"))
    assert train_config.finetune is not None
    assert (train_config.finetune.lora_rank, train_config.finetune.lora_target_modules) == (2, ("q_proj", "c_fc"))
    assert train_config.lr == pytest.approx(10 * full_config.lr)
    assert (tmp_path / "adapted/adapter/adapter_config.json").is_file()
    assert f"{tmp_path}/adapted/adapter" in capsys.readouterr().out
    assert not (tmp_path / "whole/adapter").exists()


def test_an_unknown_target_module_stops_the_command_before_training(assets, tmp_path, capsys):
    args = ["train", "--from", str(assets / "vit"), "--data", str(assets / "images"), "--out", str(tmp_path / "run")]
    assert main([*args, "--finetune.lora-rank", "2", "--finetune.lora-target-modules", "query"]) == 1
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
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        FineTuneConfig(init_from="model", **wrong)
