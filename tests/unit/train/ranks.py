"""What several processes do in tests: steps of one batch that they share."""

import torch
from torch import nn

from zebra.config.model import ModelConfig, ResNetConfig, TextConfig, VisionTransformerConfig
from zebra.config.train import OptimizerConfig
from zebra.models import CLIP
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.optimizer import build_optimizer
from zebra.train.parallel import parallelize, to_full
from zebra.train.step import train_step

TEXT = TextConfig(width=64, layers=2, heads=1, vocab_size=300, context_length=8)
VIT = VisionTransformerConfig(width=64, layers=2, heads=1, patch_size=8)
MODELS = {
    "vit": ModelConfig(embed_dim=32, image_size=32, vision=VIT, text=TEXT),
    "sigmoid": ModelConfig(embed_dim=32, image_size=32, vision=VIT, text=TEXT, logit_bias=True),
    "resnet": ModelConfig(
        embed_dim=32, image_size=64, vision=ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4), text=TEXT
    ),
}
NUM_PAIRS = 12
STEPS = 3


def steps(world, name, how="ddp", chunk_size=None, forget=False, drop=False, grad_clip_norm=1.0):
    """Take some steps in fp64 on batches of 12 pairs; return figures, first gradients and last weights, all whole."""
    torch.manual_seed(0)
    config = MODELS[name]
    model = CLIP(config).double().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(
                module.weight
            )  # residual branches start closed: nothing in them would have a gradient
    if forget:
        apply_activation_checkpointing(model)
    towers = parallelize(model, world, how)
    optimizer = build_optimizer(model, OptimizerConfig())
    mine = world.local_slice(NUM_PAIRS)
    figures, gradients = [], {}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(NUM_PAIRS, 3, config.image_size, config.image_size, generator=generator).double()
        lengths = torch.randint(1, 6, (NUM_PAIRS,), generator=generator)
        tokens = torch.zeros(NUM_PAIRS, 8, dtype=torch.int64)
        for row, length in zip(tokens, lengths.tolist(), strict=True):
            row[: length + 2] = torch.tensor(
                [298, *torch.randint(1, 298, (length,), generator=generator), 299]
            )
        seen = torch.rand(NUM_PAIRS, 16, generator=generator).argsort(1)[:, :9] if drop else None
        figures.append(
            train_step(
                model,
                optimizer,
                images[mine],
                tokens[mine],
                None if seen is None else seen[mine],
                lr=1e-2,
                grad_clip_norm=grad_clip_norm,
                precision="fp32",
                chunk_size=chunk_size,
                group=world,
                forward_fn=towers,
            )
        )
        if step == 0:
            gradients = {
                n: to_full(p.grad).clone() for n, p in model.named_parameters() if p.grad is not None
            }
    weights = {n: to_full(t).clone() for n, t in model.state_dict().items()}
    return [vars_of(each) for each in figures], gradients, weights


def many(world, cases):
    """Take the steps of several cases, one after another."""
    return {name: steps(world, *told) for name, told in cases.items()}


def vars_of(figures):
    """Return a step's figures as numbers."""
    return [figures.loss, figures.grad_norm, figures.logit_scale, figures.batch_accuracy]


def ranks_of(world, items):
    """Return what each way of exchanging gives."""
    mine = torch.arange(world.world_size * items, dtype=torch.float64)[
        world.local_slice(world.world_size * items)
    ].requires_grad_()
    rows = world.all_gather(mine[:, None])
    (rows * torch.arange(len(rows))[:, None]).sum().backward()
    return (
        rows[:, 0].tolist(),
        mine.grad.tolist(),
        world.all_gather_object(world.rank),
        world.broadcast_from_main(lambda: world.rank),
    )
