"""Fine-tuning: suggested settings, initial model, validators and LoRA.

The suggested settings are a recipe, derived from the number of pairs and the size of the model; flags override it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zebra.config import structure
from zebra.config.data import DataConfig
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.rehearsal import open_rehearsal
from zebra.data.sources import Source, open_source
from zebra.data.splits import MIN_DISTINCT_IMAGES, train_val_test_split
from zebra.data.templated import fill_caption_templates
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import BadSample, ConfigError, DataError
from zebra.evaluators.comparison import BeforeAfter, MetricDelta, compare_correctness, compare_retrieval
from zebra.evaluators.validation import RetrievalValidator, Validator, selection_score
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.models.lora import apply_lora, get_adapters, merge_adapters
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.locate import hub_repository
from zebra.pretrained.transformers.adapter import write_adapter
from zebra.pretrained.transformers.config import is_transformers_model
from zebra.train.checkpoint import best_checkpoint, load_checkpoint
from zebra.train.freeze import TOWER_MODULES, freeze
from zebra.train.preservation import Anchors
from zebra.train.state import TrainState
from zebra.train.wise_ft import ALPHAS, average, initial_tensors

PRESERVE_WEIGHT = 5.0
"""Weight of the term against forgetting (benchmarks/finetune.py)."""
LORA_LR_MULTIPLIER = 10
"""Factor of the learning rate for LoRA compared with training the weights."""
MAX_CAPTION_SAMPLES = 2_000
"""Number of samples whose captions are compared to find out whether captions repeat."""
LARGE_MODEL_PARAMETERS = 20_000_000
"""Number of parameters from which on a model gets the lower learning rate of large models."""


def suggest_settings(
    init_from: str,
    data: str,
    data_options: DataConfig | None = None,
    *,
    use_lora: bool = False,
    device: str = "auto",
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    rehearse: str | None = None,
    rehearse_fraction: float = 0.5,
) -> dict[str, Any]:
    """Return suitable settings for a model and a dataset, as a recipe.

    Small datasets get more epochs and smaller batches; early stopping on the validation split ends training sooner.

    Args:
        init_from: A model in any supported layout.
        data: Captioned images.
        data_options: Options for reading the data; None uses the defaults.
        use_lora: Whether LoRA is used, which needs a larger learning rate.
        device: Device of the model, as `zebra.load` takes it.
        steps: Length of the run, from which the warm-up follows; None uses `epochs`.
        epochs: Length of the run; None chooses it.
        batch_size: Pairs per step, from which warm-up and validation interval follow; None chooses it, so that each
            kind of data has at least four times its part of a batch.
        rehearse: Captioned images of earlier data, of which each batch gets `rehearse_fraction`.

    Raises:
        WeightsError: The model cannot be loaded or has no tokenizer.
        DataError: The data cannot be read or holds too few pairs.
    """
    clip = load(init_from, device=device)
    clip.require_tokenizer()
    source = open_source(data, data_options or DataConfig())
    num_pairs = len(source)
    if num_pairs < MIN_DISTINCT_IMAGES:
        raise DataError(
            f"{data} holds {num_pairs} pairs. Fine-tuning needs at least {MIN_DISTINCT_IMAGES}, to split them into "
            "training, validation and test data."
        )
    sources, parts = [source], [1.0]
    if rehearse is not None:
        sources.append(open_rehearsal(rehearse, data_options or DataConfig()))
        parts = [1 - rehearse_fraction, rehearse_fraction]
    num_fitting = min(len(each) / part for each, part in zip(sources, parts, strict=True))
    batch_size = batch_size or int(2 ** np.clip(np.floor(np.log2(num_fitting / 4)), 1, 7))
    if steps is None and epochs is None:
        epochs = 30 if num_pairs < 1_000 else 15 if num_pairs < 10_000 else 5 if num_pairs < 100_000 else 1
    steps_per_epoch = max(1, num_pairs // max(1, round(parts[0] * batch_size)))
    total_steps = steps if epochs is None else steps_per_epoch * epochs
    assert total_steps is not None
    is_small = sum(parameter.numel() for parameter in clip.model.parameters()) < LARGE_MODEL_PARAMETERS
    return {
        "model": structure.unstructure(clip.model.config),
        "steps": steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": (1e-4 if is_small else 1e-5) * (LORA_LR_MULTIPLIER if use_lora else 1),
        "objective": {"multi_positive": any(map(has_repeated_captions, sources))},
        "eval_every": min(steps_per_epoch, 500),
        "eval_samples": 1000,
        "checkpoint_every": max(steps_per_epoch, 500),
        "optimizer": {"weight_decay": 0.1, "warmup_steps": max(1, int(total_steps // 20))},
        "val_fraction": 0.15 if num_pairs < 1_000 else 0.1,
        "finetune": {"init_from": init_from, "preserve_weight": PRESERVE_WEIGHT},
    }


def has_repeated_captions(source: Source) -> bool:
    """Return whether two of up to 2,000 evenly spaced samples share a caption or a group."""
    names: set[tuple[bool, str]] = set()
    for index in range(0, len(source), max(1, len(source) // MAX_CAPTION_SAMPLES)):
        try:
            record = source.read(index)
        except BadSample:  # counted in training
            continue
        keys = {(record.group is None, name) for name in ([record.group] if record.group else record.captions)}
        if names & keys:
            return True
        names |= keys
    return False


class FineTuning:
    """Initial model, data splits and validators of a fine-tuning run."""

    def __init__(
        self, config: TrainConfig, source: Source, validators: Sequence[Validator], group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Load the initial model and split the data.

        Raises:
            ConfigError: The model has another architecture than the config.
            DataError: There are too few images for three splits.
        """
        assert config.finetune is not None
        self.config, self.group, self.max_num_patches = config.finetune, group, config.image_seq_len
        self.device = config.device
        self.dimensions = config.objective.dimensions
        self.clip = clip = self._load_initial_model()
        clip.require_tokenizer()
        if clip.model.config != config.model:
            changed = "\n  ".join(
                structure.diff_configs(*map(structure.unstructure, (clip.model.config, config.model)))
            )
            raise ConfigError(
                f"{self.config.init_from} does not have the architecture of the settings; it differs in:\n  "
                f"{changed}\nLeave out the settings of the model; --from takes them from the initial model."
            )
        splits = train_val_test_split(source, config.val_fraction)
        self.train_source, val_source, test_source = (
            fill_caption_templates(split, config.data_options.caption_templates)
            for split in (splits.train, splits.val, splits.test)
        )
        self.image_digests = splits.image_digests
        """Digests of all images of the data."""
        self.fingerprint = clip.fingerprint
        self.validators: list[Validator] = [RetrievalValidator(val_source, clip.preprocess, group), *validators]
        """Their mean score selects the checkpoint."""
        self.test_validator = RetrievalValidator(test_source, clip.preprocess, group)
        self._has_peft_model = self.config.lora_rank is not None and is_transformers_model(clip.model.config)
        if self.config.lora_rank is not None and not self._has_peft_model:
            warnings.warn(
                f"{self.config.init_from}: transformers has no such model ({clip.model.config.vision.kind} image "
                "tower), so peft cannot use its adapter. The run will write model/ with merged weights but no adapter.",
                stacklevel=4,
            )

    def _load_initial_model(self) -> Bundle:
        return load(self.config.init_from, max_num_patches=self.max_num_patches, device=self.device)

    def prepare_model(self) -> Bundle:
        """Return the model to train, frozen and with LoRA as configured; torch's generator initializes LoRA."""
        if self.dimensions:
            self.clip.model.config = replace(self.clip.model.config, dimensions=self.dimensions)
        freeze(self.clip.model, self.config.train_towers)
        if self.config.lora_rank is not None:
            apply_lora(
                self.clip.model,
                TOWER_MODULES[self.config.train_towers],
                rank=self.config.lora_rank,
                alpha=self.config.lora_alpha,
                target_modules=self.config.lora_target_modules,
            )
        return Bundle(self.clip.model, self.clip.tokenizer, self.clip.preprocess, templates=self.clip.templates)

    def build_anchors(self, batch_size: int, seed: int) -> Anchors | None:
        """Encode what must not change with the initial model, before it is trained; None if nothing is preserved."""
        if not self.config.preserve_weight:
            return None
        return Anchors(self.clip, max(1, batch_size // 2), self.config.preserve_weight, seed, self.group)

    def merge_lora(self, clip: Bundle, adapter_dir: Path) -> Bundle:
        """Return the trained model with LoRA merged into its weights.

        Args:
            adapter_dir: Directory for the adapter in the format of `peft`, written if transformers has the model.
        """
        if self.config.lora_rank is None:
            return clip
        if self._has_peft_model:
            write_adapter(
                adapter_dir,
                config=clip.model.config,
                adapters=get_adapters(clip.model),
                alpha=self.config.lora_alpha,
                base=hub_repository(self.config.init_from),
            )
        return Bundle(merge_adapters(clip.model), clip.tokenizer, clip.preprocess, templates=clip.templates)

    def mean_score(self, clip: Bundle) -> float:
        """Return the score that selects the checkpoint."""
        score = selection_score([validator(clip) for validator in self.validators])
        assert score is not None
        return score

    def finalize(self, state: TrainState, checkpoints_dir: Path, eval_sets: Sequence[str]) -> BeforeAfter:
        """Load the best weights into the state and compare them with the initial model.

        The best weights are those of the best checkpoint, or one of their averages with the initial weights (WiSE-FT,
        arXiv 2109.01903), or the initial weights, whichever have the highest validation score.
        A run that trained sizes of the vectors that the initial model does not have keeps the best checkpoint.

        Args:
            eval_sets: CLIP_benchmark folders to compare on, besides the test split.
        """
        before = self._load_initial_model()
        best = self.group.broadcast_from_main(lambda: best_checkpoint(checkpoints_dir))
        saved = load_checkpoint(best) if best else None
        initial = initial_tensors(before.model, saved.tensors if saved else state.weights())
        has_new_sizes = bool(set(self.dimensions) - set(before.model.config.dimensions))
        shares = (0.0, *ALPHAS) if saved and not has_new_sizes else (1.0,) if saved else (0.0,)
        candidates = [(alpha, average(initial, saved.tensors, alpha) if saved else initial) for alpha in shares]
        scores = []
        for _, tensors in candidates:
            state.load_weights(tensors, self.config.init_from)
            with state.eval_bundle() as model:
                scores.append(self.mean_score(model))
        # All processes must decide on equal numbers; their processors may differ in the last bits.
        scores = self.group.all_gather_object(scores)[0]
        alpha, tensors = candidates[scores.index(max(scores))]
        state.load_weights(tensors, self.config.init_from)
        selected_step = saved.step if saved and alpha else 0
        if not selected_step:
            state.bundle.model.config = before.model.config  # no size was trained that it does not list
        with state.eval_bundle() as after:
            return replace(self.compare(before, after, selected_step, eval_sets), alpha=alpha)

    def compare(self, before: Bundle, after: Bundle, selected_step: int, eval_sets: Sequence[str]) -> BeforeAfter:
        """Compare two models on the test split and on full datasets."""
        deltas = compare_retrieval(
            self.test_validator.retrieve(before), self.test_validator.retrieve(after), self.test_validator.ids
        )
        for path in eval_sets:
            benchmark = read_classification(Path(path))
            result_before, result_after = (
                evaluate_zero_shot(clip, benchmark, group=self.group).ensemble for clip in (before, after)
            )
            ids = [str(n) for n in range(len(result_before.label_N))]
            scores = result_before.scores()["top1"], result_after.scores()["top1"]
            paired_test = compare_correctness(result_before.correct_N, result_after.correct_N, ids)
            deltas.append(MetricDelta(benchmark.name, "top1", *scores, paired_test))
        return BeforeAfter(self.config.init_from, selected_step, tuple(deltas))
