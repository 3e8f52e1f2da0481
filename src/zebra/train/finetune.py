"""`zebra train --from MODEL`: a trained model and somebody's own pictures in; settings and a judge out.

The settings are a recipe like any other, made from the number of pairs and the size of the model; flags go before it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from zebra.config import structure
from zebra.config.data import DataConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_benchmark
from zebra.data.sources import Source, open_source
from zebra.data.splits import FEWEST, Split, split
from zebra.distributed import ALONE, World
from zebra.errors import ConfigError, DataError
from zebra.evaluators.comparison import Difference, Gain, differences, paired
from zebra.evaluators.validation import HeldOut, Judge
from zebra.evaluators.zero_shot import climb
from zebra.models.lora import adapt, adapters, merged
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import HUB, load
from zebra.pretrained.transformers import is_known, write_adapter
from zebra.train.checkpoint import best_whole, read_checkpoint
from zebra.train.freeze import TOWERS, lock
from zebra.train.state import Session

FASTER = 5
"""How many times the learning rate of weights suits low-rank additions."""
LARGE = 20_000_000
"""Weights from which on a model moves by a tenth of the learning rate of the small ones."""


def plan(
    start: str, data: str, options: DataConfig | None = None, *, low_rank: bool = False
) -> dict[str, Any]:
    """Return the settings that suit a model and some data, as a recipe.

    Small sets are seen more often, in smaller batches; training ends earlier if the held-out pictures say so.

    Args:
        start: A model of any layout.
        data: Captioned pictures.
        options: How they are read, if not as usual.
        low_rank: Low-rank additions are to learn, not the weights: they take a larger learning rate.

    Raises:
        WeightsError: The model cannot be opened or has no tokenizer.
        DataError: The data cannot be read, or holds fewer than ten pairs.
    """
    clip = load(start)
    clip.require_words()
    pairs = len(open_source(data, options or DataConfig()))
    if pairs < FEWEST:
        raise DataError(f"{data} holds {pairs} pairs; to learn from some and judge by others takes {FEWEST}")
    batch = int(2 ** np.clip(np.floor(np.log2(pairs / 4)), 1, 7))
    epochs = 30 if pairs < 1_000 else 15 if pairs < 10_000 else 5 if pairs < 100_000 else 1
    each = max(1, pairs // batch)
    small = sum(parameter.numel() for parameter in clip.model.parameters()) < LARGE
    return {
        "model": structure.unstructure(clip.model.config),
        "epochs": epochs,
        "batch_size": batch,
        "lr": (2e-4 if small else 1e-5) * (FASTER if low_rank else 1),
        "check_every": min(each, 500),
        "check_samples": 1000,
        "checkpoint_every": max(each, 500),
        "optimizer": {"weight_decay": 0.1, "warmup_steps": max(1, each * epochs // 20)},
        "finetune": {"start": start, "held_out": 0.15 if pairs < 1_000 else 0.1},
    }


class Start:
    """What a run starts from, and what it is judged by."""

    def __init__(
        self, told: FineTuneConfig, clip: Bundle, parts: Split, checks: Sequence[Judge], world: World
    ) -> None:
        """Take an opened model and the divided data; use `open`."""
        self.told, self.clip, self.learn, self.world = told, clip, parts.learn, world
        self.fingerprint = clip.fingerprint
        self.judges: list[Judge] = [HeldOut(parts.choose, clip.preprocess, world), *checks]
        """Their mean decides which weights are kept."""
        self.measure = HeldOut(parts.measure, clip.preprocess, world)
        self._for_peft = told.lora_rank is not None and is_known(clip.model.config)
        if told.lora_rank is not None and not self._for_peft:
            warnings.warn(
                f"{told.start}: transformers has no such model ({clip.model.config.vision.kind} image tower), and peft "
                "adapts models of transformers: the run will end with a whole model/, but without adapter/",
                stacklevel=4,
            )

    @classmethod
    def open(
        cls, config: TrainConfig, source: Source, checks: Sequence[Judge], world: World = ALONE
    ) -> "Start":
        """Open the model and divide the data.

        Raises:
            ConfigError: It is another model than the config describes.
            DataError: There are too few pictures to learn from some and judge by others.
        """
        assert config.finetune is not None
        clip = load(config.finetune.start)
        clip.require_words()
        if clip.model.config != config.model:
            changed = "\n  ".join(
                structure.differences(*map(structure.unstructure, (clip.model.config, config.model)))
            )
            raise ConfigError(
                f"{config.finetune.start} is not the model that the settings describe; it differs in:\n  {changed}\n"
                "Leave the model's settings out: they come with it"
            )
        return cls(config.finetune, clip, split(source, config.finetune.held_out), checks, world)

    def unlocked(self) -> Bundle:
        """Return the model that is going to learn; torch's generator draws its low-rank additions, if it gets some."""
        lock(self.clip.model, self.told.learns)
        if self.told.lora_rank is not None:
            adapt(
                self.clip.model,
                TOWERS[self.told.learns],
                rank=self.told.lora_rank,
                alpha=self.told.lora_alpha,
                layers=self.told.lora_layers,
            )
        return Bundle(self.clip.model, self.clip.tokenizer, self.clip.preprocess)

    def folded(self, clip: Bundle, folder: Path) -> Bundle:
        """Return a trained model without low-rank additions; what they add goes into its weights.

        Args:
            folder: Gets the additions as `peft` reads them, if transformers has such a model.
        """
        if self.told.lora_rank is None:
            return clip
        if self._for_peft:
            write_adapter(
                folder,
                config=clip.model.config,
                adapters=adapters(clip.model),
                alpha=self.told.lora_alpha,
                base=self.told.start.removeprefix(HUB).partition("@")[0]
                if self.told.start.startswith(HUB)
                else None,
            )
        return Bundle(merged(clip.model), clip.tokenizer, clip.preprocess)

    def score(self, clip: Bundle) -> float:
        """Return what decides which weights are kept."""
        return fmean(judge(clip) for judge in self.judges)

    def settle(self, session: Session, checkpoints: Path, sets: Sequence[str]) -> "Gain":
        """Give the session the best weights of the run, or its start's if those are better, and measure the gain.

        Args:
            sets: CLIP_benchmark folders to measure on as well.
        """
        before = load(self.told.start)
        best = self.world.led(lambda: best_whole(checkpoints))
        saved = read_checkpoint(best) if best else None
        if best and saved and saved.score is not None and saved.score > self.score(before):
            kept = saved.step
            session.take_weights(saved.tensors, str(best))
        else:
            kept = 0
            weights = dict(before.model.state_dict())
            mine = session.bundle.model.state_dict()
            # The start has no low-rank additions: there they are zero.
            weights |= {name: torch.zeros_like(mine[name]) for name in mine.keys() - weights.keys()}
            parts = {"model": weights}
            if session.average:
                parts["ema"] = {name: weights[name] for name in session.average.weights}
            session.take_weights(parts, self.told.start)
        with session.averaged() as after:
            return self.compare(before, after, kept, sets)

    def compare(self, before: Bundle, after: Bundle, kept: int, sets: Sequence[str]) -> "Gain":
        """Measure two models on the pictures kept apart, and on whole sets."""
        found = differences(self.measure.retrieve(before), self.measure.retrieve(after), self.measure.ids)
        for path in sets:
            benchmark = read_benchmark(Path(path))
            was, now = (climb(clip, benchmark, world=self.world).ensemble for clip in (before, after))
            ids = [str(n) for n in range(len(was.label_N))]
            scores = was.scores()["top1"], now.scores()["top1"]
            found.append(
                Difference(benchmark.name, "top1", *scores, paired(was.correct_N, now.correct_N, ids))
            )
        return Gain(self.told.start, kept, tuple(found))
