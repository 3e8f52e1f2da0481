"""Functions that tests run in several processes: steps on one global batch."""

import torch
from torch import nn

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig
from zebra.models import CLIP
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.hard_negatives import HardNegatives
from zebra.train.objective import Targets
from zebra.train.optimizer import build_optimizer
from zebra.train.parallel import parallelize, to_full
from zebra.train.preservation import AnchorBatch
from zebra.train.step import train_step
from zebra.train.teacher import TeacherTargets

TEXT = TextConfig(width=64, layers=2, heads=1, vocab_size=300, context_length=8)
VIT = VisionTransformerConfig(width=64, layers=2, heads=1, patch_size=8)
MODELS = {
    "vit": ModelConfig(embed_dim=32, image_size=32, vision=VIT, text=TEXT),
    "matryoshka": ModelConfig(embed_dim=32, image_size=32, vision=VIT, text=TEXT, dimensions=(4, 16)),
    "sigmoid": ModelConfig(embed_dim=32, image_size=32, vision=VIT, text=TEXT, logit_bias=True),
    "resnet": ModelConfig(
        embed_dim=32, image_size=64, vision=ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4), text=TEXT
    ),
}
NUM_PAIRS = 12
STEPS = 3


def steps(
    group,
    name,
    mode="ddp",
    chunk_size=None,
    checkpointing=False,
    patch_dropout=False,
    grad_clip_norm=1.0,
    repeat=False,
    teacher=False,
    negatives=False,
    anchors=False,
):
    """Take some steps in fp64 on batches of 12 pairs; return metrics, first gradients and last weights, unsharded."""
    torch.manual_seed(0)
    config = MODELS[name]
    model = CLIP(config).double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # zero gains would leave the residual branches without a gradient
    if checkpointing:
        apply_activation_checkpointing(model)
    forward_fn = parallelize(model, group, mode)
    optimizer = build_optimizer(model, OptimizerConfig())
    local = group.local_slice(NUM_PAIRS)
    metrics, gradients = [], {}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(NUM_PAIRS, 3, config.image_size, config.image_size, generator=generator).double()
        lengths = torch.randint(1, 6, (NUM_PAIRS,), generator=generator)
        tokens = torch.zeros(NUM_PAIRS, 8, dtype=torch.int64)
        for row, length in zip(tokens, lengths.tolist(), strict=True):
            row[: length + 2] = torch.tensor([298, *torch.randint(1, 298, (length,), generator=generator), 299])
        labels = None
        if repeat:  # every third caption is the same
            tokens[::3] = tokens[0]
            labels = torch.where(torch.arange(NUM_PAIRS) % 3 == 0, 0, torch.arange(NUM_PAIRS))
        vectors = torch.nn.functional.normalize(torch.randn(2, NUM_PAIRS, 48, generator=generator).double(), dim=-1)
        axes = torch.eye(48, 32).double()
        ids_keep = torch.rand(NUM_PAIRS, 16, generator=generator).argsort(1)[:, :9] if patch_dropout else None
        wrong_captions = None
        texts = tokens[local]
        if negatives:  # one is equal to a caption of the last process, one is missing
            label, is_present = torch.arange(NUM_PAIRS) + 100, torch.arange(NUM_PAIRS) != 2
            label[1] = NUM_PAIRS - 1
            wrong_captions = HardNegatives(label[local], is_present[local], torch.arange(NUM_PAIRS)[local])
            texts = torch.cat([texts, tokens.roll(1, 0)[local]])
        metrics.append(
            train_step(
                model,
                optimizer,
                images[local],
                texts,
                None if ids_keep is None else ids_keep[local],
                targets=Targets(
                    negatives=wrong_captions,
                    label_B=None if labels is None else labels[local],
                    teacher=TeacherTargets(*vectors[:, local], axes, 20.0, 2.0, 3.0) if teacher else None,
                ),
                anchors=AnchorBatch(images[local].flip(-1), tokens[local], *vectors[:, local, :32], 5.0)
                if anchors
                else None,
                lr=1e-2,
                grad_clip_norm=grad_clip_norm,
                precision="fp32",
                chunk_size=chunk_size,
                group=group,
                forward_fn=forward_fn,
            )
        )
        if step == 0:
            gradients = {n: to_full(p.grad).clone() for n, p in model.named_parameters() if p.grad is not None}
    weights = {n: to_full(t).clone() for n, t in model.state_dict().items()}
    return [metric_values(step_metrics) for step_metrics in metrics], gradients, weights


def run_cases(group, cases):
    """Run `steps` for several cases, one after another."""
    return {name: steps(group, *args) for name, args in cases.items()}


def metric_values(metrics):
    """Return the metrics of a step as a list."""
    return [metrics.loss, metrics.grad_norm, metrics.logit_scale, metrics.batch_accuracy]


def run_collectives(group, num_rows):
    """Return the results of the collectives."""
    local = torch.arange(group.world_size * num_rows, dtype=torch.float64)[
        group.local_slice(group.world_size * num_rows)
    ].requires_grad_()
    rows = group.all_gather(local[:, None])
    (rows * torch.arange(len(rows))[:, None]).sum().backward()
    return (
        rows[:, 0].tolist(),
        local.grad.tolist(),
        group.all_gather_object(group.rank),
        group.broadcast_from_main(lambda: group.rank),
    )
