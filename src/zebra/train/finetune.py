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
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import Source, open_source
from zebra.data.splits import MIN_DISTINCT_IMAGES, DatasetSplits, train_val_test_split
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import ConfigError, DataError
from zebra.evaluators.comparison import BeforeAfter, MetricDelta, compare_correctness, compare_retrieval
from zebra.evaluators.validation import RetrievalValidator, Validator
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.models.lora import apply_lora, get_adapters, merge_adapters
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import HUB_PREFIX, load
from zebra.pretrained.transformers import is_transformers_model, write_adapter
from zebra.train.checkpoint import best_checkpoint, load_checkpoint
from zebra.train.freeze import TOWER_MODULES, freeze
from zebra.train.state import TrainState

LORA_LR_MULTIPLIER = 5
"""How many times the learning rate of weights suits low-rank additions."""
LARGE_MODEL_PARAMETERS = 20_000_000
"""Weights from which on a model moves by a tenth of the learning rate of the small ones."""


def suggest_settings(
    init_from: str, data: str, data_options: DataConfig | None = None, *, use_lora: bool = False
) -> dict[str, Any]:
    """Return the settings that suit a model and some data, as a recipe.

    Small sets are seen more often, in smaller batches; training ends earlier if the held-out pictures say so.

    Args:
        init_from: A model of any layout.
        data: Captioned pictures.
        data_options: How they are read, if not as usual.
        use_lora: Low-rank additions are to learn, not the weights: they take a larger learning rate.

    Raises:
        WeightsError: The model cannot be opened or has no tokenizer.
        DataError: The data cannot be read, or holds fewer than ten pairs.
    """
    clip = load(init_from)
    clip.require_tokenizer()
    pairs = len(open_source(data, data_options or DataConfig()))
    if pairs < MIN_DISTINCT_IMAGES:
        raise DataError(
            f"{data} holds {pairs} pairs; to learn from some and judge by others takes {MIN_DISTINCT_IMAGES}"
        )
    batch = int(2 ** np.clip(np.floor(np.log2(pairs / 4)), 1, 7))
    epochs = 30 if pairs < 1_000 else 15 if pairs < 10_000 else 5 if pairs < 100_000 else 1
    each = max(1, pairs // batch)
    small = sum(parameter.numel() for parameter in clip.model.parameters()) < LARGE_MODEL_PARAMETERS
    return {
        "model": structure.unstructure(clip.model.config),
        "epochs": epochs,
        "batch_size": batch,
        "lr": (2e-4 if small else 1e-5) * (LORA_LR_MULTIPLIER if use_lora else 1),
        "eval_every": min(each, 500),
        "eval_samples": 1000,
        "checkpoint_every": max(each, 500),
        "optimizer": {"weight_decay": 0.1, "warmup_steps": max(1, each * epochs // 20)},
        "finetune": {"init_from": init_from, "val_fraction": 0.15 if pairs < 1_000 else 0.1},
    }


class FineTuning:
    """What a run starts from, and what it is judged by."""

    def __init__(
        self,
        config: FineTuneConfig,
        clip: Bundle,
        splits: DatasetSplits,
        validators: Sequence[Validator],
        group: ProcessGroup,
    ) -> None:
        """Take an opened model and the divided data; use `open`."""
        self.config, self.clip, self.train_source, self.group = config, clip, splits.train, group
        self.fingerprint = clip.fingerprint
        self.validators: list[Validator] = [
            RetrievalValidator(splits.val, clip.preprocess, group),
            *validators,
        ]
        """Their mean decides which weights are kept."""
        self.test_validator = RetrievalValidator(splits.test, clip.preprocess, group)
        self._has_peft_model = config.lora_rank is not None and is_transformers_model(clip.model.config)
        if config.lora_rank is not None and not self._has_peft_model:
            warnings.warn(
                f"{config.init_from}: transformers has no such model ({clip.model.config.vision.kind} image tower), and peft "
                "adapts models of transformers: the run will end with a whole model/, but without adapter/",
                stacklevel=4,
            )

    @classmethod
    def from_config(
        cls,
        config: TrainConfig,
        source: Source,
        validators: Sequence[Validator],
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> "FineTuning":
        """Open the model and divide the data.

        Raises:
            ConfigError: It is another model than the config describes.
            DataError: There are too few pictures to learn from some and judge by others.
        """
        assert config.finetune is not None
        clip = load(config.finetune.init_from)
        clip.require_tokenizer()
        if clip.model.config != config.model:
            changed = "\n  ".join(
                structure.diff_configs(*map(structure.unstructure, (clip.model.config, config.model)))
            )
            raise ConfigError(
                f"{config.finetune.init_from} is not the model that the settings describe; it differs in:\n  {changed}\n"
                "Leave the model's settings out: they come with it"
            )
        return cls(
            config.finetune,
            clip,
            train_val_test_split(source, config.finetune.val_fraction),
            validators,
            group,
        )

    def prepare_model(self) -> Bundle:
        """Return the model that is going to learn; torch's generator draws its low-rank additions, if it gets some."""
        freeze(self.clip.model, self.config.train_towers)
        if self.config.lora_rank is not None:
            apply_lora(
                self.clip.model,
                TOWER_MODULES[self.config.train_towers],
                rank=self.config.lora_rank,
                alpha=self.config.lora_alpha,
                target_modules=self.config.lora_target_modules,
            )
        return Bundle(self.clip.model, self.clip.tokenizer, self.clip.preprocess)

    def merge_lora(self, clip: Bundle, adapter_dir: Path) -> Bundle:
        """Return a trained model without low-rank additions; what they add goes into its weights.

        Args:
            adapter_dir: Gets the additions as `peft` reads them, if transformers has such a model.
        """
        if self.config.lora_rank is None:
            return clip
        if self._has_peft_model:
            write_adapter(
                adapter_dir,
                config=clip.model.config,
                adapters=get_adapters(clip.model),
                alpha=self.config.lora_alpha,
                base=self.config.init_from.removeprefix(HUB_PREFIX).partition("@")[0]
                if self.config.init_from.startswith(HUB_PREFIX)
                else None,
            )
        return Bundle(merge_adapters(clip.model), clip.tokenizer, clip.preprocess)

    def mean_score(self, clip: Bundle) -> float:
        """Return what decides which weights are kept."""
        return fmean(judge(clip) for judge in self.validators)

    def finalize(self, state: TrainState, checkpoints_dir: Path, eval_sets: Sequence[str]) -> "BeforeAfter":
        """Give the session the best weights of the run, or its start's if those are better, and measure the gain.

        Args:
            eval_sets: CLIP_benchmark folders to measure on as well.
        """
        before = load(self.config.init_from)
        best = self.group.broadcast_from_main(lambda: best_checkpoint(checkpoints_dir))
        saved = load_checkpoint(best) if best else None
        if best and saved and saved.score is not None and saved.score > self.mean_score(before):
            kept = saved.step
            state.load_weights(saved.tensors, str(best))
        else:
            kept = 0
            weights = dict(before.model.state_dict())
            mine = state.bundle.model.state_dict()
            # The start has no low-rank additions: there they are zero.
            weights |= {name: torch.zeros_like(mine[name]) for name in mine.keys() - weights.keys()}
            parts = {"model": weights}
            if state.ema:
                parts["ema"] = {name: weights[name] for name in state.ema.weights}
            state.load_weights(parts, self.config.init_from)
        with state.eval_bundle() as after:
            return self.compare(before, after, kept, eval_sets)

    def compare(
        self, before: Bundle, after: Bundle, selected_step: int, eval_sets: Sequence[str]
    ) -> "BeforeAfter":
        """Measure two models on the pictures kept apart, and on whole sets."""
        found = compare_retrieval(
            self.test_validator.retrieve(before), self.test_validator.retrieve(after), self.test_validator.ids
        )
        for path in eval_sets:
            benchmark = read_classification(Path(path))
            was, now = (
                evaluate_zero_shot(clip, benchmark, group=self.group).ensemble for clip in (before, after)
            )
            ids = [str(n) for n in range(len(was.label_N))]
            scores = was.scores()["top1"], now.scores()["top1"]
            found.append(
                MetricDelta(
                    benchmark.name, "top1", *scores, compare_correctness(was.correct_N, now.correct_N, ids)
                )
            )
        return BeforeAfter(self.config.init_from, selected_step, tuple(found))
