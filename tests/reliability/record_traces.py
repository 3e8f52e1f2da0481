"""Record the loss traces for the tests of the spike detector.

Run: python tests/reliability/record_traces.py

normal.json      10,000 steps of a small CLIP on the menagerie
spike-*.json     1,000 steps; from step `spike` - 1 (counted from 0), the learning rate is multiplied for three steps,
                 which has the effect of stale second moments
"""

import json
import tempfile
from pathlib import Path

import torch

from zebra.config.data import DataConfig
from zebra.config.menagerie import MenagerieConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig
from zebra.data.batches import iter_batches
from zebra.data.sources import open_source
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.text.bpe import BPETokenizer
from zebra.train.optimizer import build_optimizer
from zebra.train.schedule import learning_rate
from zebra.train.step import train_step
from zebra.workflows import menagerie

TRACES = Path(__file__).parent / "traces"
BATCH = 32


def record(data: Path, steps: int, spike: int | None = None, factor: float = 1.0) -> list[float]:
    """Train a small CLIP and return the loss of every step."""
    torch.manual_seed(0)
    source = open_source(data, DataConfig())
    captions = [source.read(index).captions[0] for index in range(2000)]
    tokenizer = BPETokenizer.train(captions, 1000, 32)
    tiny = get_preset("tiny-resnet")
    text = TextConfig(context_length=32, vocab_size=tokenizer.vocab_size, width=64, layers=1, heads=2)
    model = CLIP(ModelConfig(embed_dim=64, image_size=32, vision=tiny.vision, text=text))
    optimizer = build_optimizer(model, OptimizerConfig(warmup_steps=50))
    stream = iter_batches(
        source,
        image_size=32,
        batch_size=BATCH,
        seed=0,
        start_sample=0,
        num_steps=steps,
        num_workers=1,
        config=DataConfig(),
    )
    losses = []
    for step, batch in enumerate(stream):
        lr = learning_rate(step, peak_lr=1e-3, warmup_steps=50, total_steps=steps)
        if spike is not None and spike <= step < spike + 3:
            lr *= factor
        pixels = Preprocess(image_size=32).normalize(batch.images)
        tokens = torch.from_numpy(tokenizer.encode(batch.captions, truncate=True).ids)
        metrics = train_step(model, optimizer, pixels, tokens, lr=lr, grad_clip_norm=1.0, precision="fp32")
        losses.append(round(metrics.loss, 5))
    return losses


def main() -> None:
    """Render the data, train and write the traces."""
    TRACES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        world = menagerie.run(MenagerieConfig(out=home, samples=10_000, seed=0))
        for spike, factor in ((600, 30.0), (800, 100.0)):
            losses = record(world.train_dir, 1000, spike, factor)
            # The first update with the larger rate affects the loss of the next step.
            document = {"spike": spike + 1, "factor": factor, "loss": losses}
            (TRACES / f"spike-{factor:.0f}.json").write_text(json.dumps(document) + "\n")
        (TRACES / "normal.json").write_text(json.dumps({"loss": record(world.train_dir, 10_000)}) + "\n")


if __name__ == "__main__":
    main()
