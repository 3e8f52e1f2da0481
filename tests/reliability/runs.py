"""A tiny run that tests kill, stop and repeat many times."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from zebra.config.image_towers import ResNetConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.train import LogConfig, OptimizerConfig, TrainConfig

TINY = ModelConfig(
    embed_dim=16,
    image_size=32,
    vision=ResNetConfig(layers=(1, 1, 1, 1), width=4, heads=2),
    text=TextConfig(context_length=32, vocab_size=600, width=16, layers=1, heads=2),
)


def tiny_run(folder: Path) -> TrainConfig:
    """Draw 29 captioned images into a folder; return the config of twelve steps with batches of eight."""
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(29):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        (folder / "data" / f"{number}.png").write_bytes(file.getvalue())
        (folder / "data" / f"{number}.txt").write_text(f"picture of {number % 5} things")
    return TrainConfig(
        data=str(folder / "data"),
        out=str(folder / "run"),
        model=TINY,
        steps=12,
        batch_size=8,
        workers=0,
        precision="fp32",
        ema_decay=0.9,
        checkpoint_every=4,
        log=LogConfig(every=1),
        optimizer=OptimizerConfig(warmup_steps=2),
    )
