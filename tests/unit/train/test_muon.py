"""Muon for matrices and AdamW for the rest, as one optimizer."""

from pathlib import Path

import pytest
import torch

from zebra.config.image_towers import NaflexVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.lora import apply_lora
from zebra.train.muon import Muon, muon_names, orthogonalize
from zebra.train.optimizer import build_optimizer
from zebra.train.snapshot import TrainSnapshot, copy_to_cpu, optimizer_tensors, restore_tensors
from zebra.train.step import train_step

from .test_step import CONFIG

TEXT = TextConfig(width=64, layers=1, heads=1, vocab_size=300, context_length=8)
VIT = ModelConfig(
    embed_dim=32, image_size=32, vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=8), text=TEXT
)
NAFLEX = ModelConfig(
    embed_dim=64, image_size=32, vision=NaflexVisionConfig(width=64, layers=1, heads=1, patch_size=8), text=TEXT
)
MUON = OptimizerConfig(name="muon")


def build(seed: int = 0, config: ModelConfig = VIT) -> tuple[CLIP, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = CLIP(config)
    return model, build_optimizer(model, MUON)


def take_steps(model: CLIP, optimizer: torch.optim.Optimizer, steps: range, lr: float = 1e-3) -> list[float]:
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        tokens_BL = torch.randint(0, 290, (4, 8), generator=generator)
        tokens_BL[:, 7] = 299
        images = torch.randn(4, 3, 32, 32, generator=generator)
        metrics = train_step(model, optimizer, images, tokens_BL, lr=lr, grad_clip_norm=1.0, precision="fp32")
        losses.append(metrics.loss)
    return losses


def step_once(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, gradients: torch.Tensor) -> torch.Tensor:
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(24, 80), (80, 24), (32, 32), (1, 7)])
def test_updates_of_matrices_are_those_of_torch(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(3, *shape, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    ours_after = step_once(Muon([{"params": [ours], "weight_decay": 0.3}]), ours, gradients)
    muon = torch.optim.Muon([theirs], lr=0.0, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    theirs_after = step_once(muon, theirs, gradients)
    difference = (ours_after - theirs_after).norm() / (theirs_after - start).norm()
    assert difference < 0.02  # torch rounds the products to bf16, eight bits


def test_an_orthogonalized_matrix_keeps_its_singular_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra.train.muon.has_native_bf16", lambda _: False)  # fp32 on every processor
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.linspace(0.2, 3, 50))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    diagonal = left.T @ orthogonalize(matrix) @ right.T
    torch.testing.assert_close(diagonal, torch.diag(torch.diagonal(diagonal)), atol=1e-4, rtol=0)
    assert torch.diagonal(diagonal).min() > 0.6
    assert torch.diagonal(diagonal).max() < 1.3


def test_bf16_products_keep_the_direction_of_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(48, 96, generator=torch.Generator().manual_seed(0))
    updates = []
    for has_native_bf16 in (True, False):
        monkeypatch.setattr("zebra.train.muon.has_native_bf16", lambda _, value=has_native_bf16: value)
        updates.append(orthogonalize(matrix))
    assert updates[0].dtype == updates[1].dtype == torch.float32
    assert not torch.equal(*updates)
    assert torch.cosine_similarity(updates[0].flatten(), updates[1].flatten(), dim=0) > 0.999


def test_a_gradient_of_zeros_leaves_the_weights() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 4))
    after = step_once(Muon([{"params": [weight], "weight_decay": 0.0}]), weight, torch.zeros(2, 3, 4))
    assert torch.equal(after, torch.ones(3, 4))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_filter_is_updated_as_the_matrix_of_its_outputs(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(6, 5, 3, 3, generator=generator), torch.randn(2, 6, 5, 3, 3, generator=generator)
    filters = torch.nn.Parameter(start.clone(memory_format=memory_format))
    matrix = torch.nn.Parameter(start.flatten(1).clone())
    filters_after = step_once(Muon([{"params": [filters], "weight_decay": 0.1}]), filters, gradients)
    matrix_after = step_once(Muon([{"params": [matrix], "weight_decay": 0.1}]), matrix, gradients.flatten(2))
    assert torch.equal(filters_after.flatten(1), matrix_after)


def test_muon_trains_filters_that_mix_hidden_channels() -> None:
    model = torch.nn.Module()
    model.stem = torch.nn.Conv2d(3, 8, 3)
    model.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8)
    model.pointwise = torch.nn.Conv2d(8, 16, 1)
    assert muon_names(model) == {"pointwise.weight"}
    assert {"visual.layer1.0.conv2.weight", "visual.conv2.weight"} < muon_names(CLIP(CONFIG))


def test_muon_trains_the_matrices_of_blocks_and_projections_but_no_embedding() -> None:
    names = muon_names(CLIP(VIT))
    assert {
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "text.transformer.resblocks.0.mlp.c_fc.weight",
    } < names
    assert {"visual.proj", "text.text_projection"} < names
    others = {name for name, _ in CLIP(VIT).named_parameters()} - names
    assert {"text.token_embedding.weight", "text.positional_embedding", "visual.positional_embedding"} < others
    assert {"visual.conv1.weight", "logit_scale", "visual.ln_pre.weight"} < others


@pytest.mark.parametrize("config", [VIT, NAFLEX, CONFIG], ids=["vit", "naflex", "resnet"])
def test_every_parameter_is_in_one_group_with_its_decay(config: ModelConfig) -> None:
    model, optimizer = build(config=config)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(trained) == len(set(trained)) == len(list(model.parameters()))
    for group in optimizer.param_groups:
        assert all((group["weight_decay"] > 0) == (parameter.ndim > 1) for parameter in group["params"])


def test_the_learning_rate_of_a_step_reaches_both_kinds() -> None:
    model, optimizer = build()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    take_steps(model, optimizer, range(1))
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3}
    unchanged = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert "text.token_embedding.weight" not in unchanged
    assert not unchanged & muon_names(model)


def test_an_update_of_muon_has_the_size_of_a_typical_one_of_adamw() -> None:
    weight = torch.nn.Parameter(torch.zeros(64, 256))
    weight.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Module()
    model.weight = weight
    optimizer = build_optimizer(model, MUON)
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.step()
    root_mean_square = float(weight.detach().square().mean().sqrt())
    assert root_mean_square == pytest.approx(0.2e-3, rel=0.3)  # of Liu et al. 2025, §2.2


def test_a_batch_is_learned() -> None:
    model, optimizer = build()
    losses = [take_steps(model, optimizer, range(1), lr=3e-3)[0] for _ in range(15)]
    assert losses[-1] < 0.5 < losses[0]


def test_a_restored_run_continues_with_the_same_bits() -> None:
    def parts(model: CLIP, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
        return {"model": dict(model.state_dict()), "optimizer": optimizer_tensors(model, optimizer)}

    model, optimizer = build()
    take_steps(model, optimizer, range(2))
    saved = copy_to_cpu(TrainSnapshot(2, parts(model, optimizer), {})).tensors
    assert any(name.endswith("/momentum_buffer") for name in saved["optimizer"])
    take_steps(model, optimizer, range(2, 4))
    other, other_optimizer = build(seed=1)
    restore_tensors(parts(other, other_optimizer), saved, "here")
    take_steps(other, other_optimizer, range(2, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_lora_adapters_are_trained() -> None:
    model = CLIP(VIT)
    model.requires_grad_(False)
    apply_lora(model, ("visual", "text"), rank=2, alpha=4, target_modules=("q_proj", "c_fc"))
    optimizer = build_optimizer(model, MUON)
    assert muon_names(model) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    losses = [take_steps(model, optimizer, range(1), lr=3e-2)[0] for _ in range(10)]
    assert losses[-1] < losses[0]


def test_layer_decay_scales_both_kinds() -> None:
    model = CLIP(VIT)
    optimizer = build_optimizer(model, MUON, layer_decay=0.5)
    scales = {parameter: group["lr_scale"] for group in optimizer.param_groups for parameter in group["params"]}
    assert scales[model.get_parameter("visual.transformer.resblocks.0.mlp.c_fc.weight")] == 0.5
    assert scales[model.get_parameter("visual.proj")] == 1.0


def test_a_model_without_matrices_to_train_is_refused() -> None:
    model = CLIP(VIT)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "logit_scale")
    with pytest.raises(ConfigError, match="no matrix besides embeddings; use adamw"):
        build_optimizer(model, MUON)


def test_sharded_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not support Muon.* Use --parallel ddp or --optimizer.name adamw"):
        TrainConfig(data="d", out=str(tmp_path), steps=1, model=VIT, parallel="fsdp", optimizer=MUON)
