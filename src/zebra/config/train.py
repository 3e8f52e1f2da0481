"""Everything a training run is decided by."""

from dataclasses import dataclass, field
from typing import Literal

from zebra.config.data import DataConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.model import ModelConfig, ResNetConfig
from zebra.config.presets import get_preset
from zebra.errors import ConfigError

TrainPrecision = Literal["auto", "fp32", "bf16"]
ParallelStrategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW with decoupled weight decay, on all weights that are not gains or biases (CLIP §2.5)."""

    beta1: float = 0.9
    """Decay of the gradient's mean."""
    beta2: float = 0.98
    """Decay of the gradient's square; the paper takes 0.98 for ViTs and 0.999 for ResNets."""
    eps: float = 1e-6
    """Added to the denominator; the paper takes 1e-6 for ViTs and 1e-8 for ResNets."""
    weight_decay: float = 0.2
    """Decoupled decay of matrices and embeddings."""
    warmup_steps: int = 100
    """Steps of linear warm-up before the cosine."""
    grad_clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 switches clipping off."""

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}; it must be in [0, 1)")
        for name in ("eps", "weight_decay", "warmup_steps", "grad_clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}; it cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """Where progress goes beside log.jsonl."""

    every: int = 10
    """Steps between journal lines."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder."""
    wandb: str | None = None
    """Name of a Weights & Biases project to log to."""

    def __post_init__(self) -> None:
        _require_positive("log.every", self.every)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run: data, model, and how long and how fast to learn."""

    data: str
    """Captioned images: a folder, a CSV/TSV/JSONL/Parquet table, tar shards, or a saved Hugging Face data set."""
    out: str
    """The run folder to write."""
    model: ModelConfig = field(default_factory=lambda: get_preset("tiny-resnet"))
    """The architecture; on the command line also --model NAME."""
    tokenizer: str | None = None
    """A tokenizer.json or merges file; without one a vocabulary is trained on the captions."""
    steps: int | None = None
    """Optimizer steps; give this or epochs."""
    epochs: float | None = None
    """Passes over the data; give this or steps."""
    batch_size: int = 128
    """Pairs per step (global)."""
    chunk_size: int | None = None
    """Pairs of a process that pass the towers at once; None takes its whole share."""
    activation_checkpointing: bool = False
    """Compute the inside of blocks again for their gradients instead of keeping it: less memory, a third more time."""
    compile: bool = False
    """Compile the blocks of both towers with torch.compile; the first steps take minutes."""
    patch_dropout: float = 0.0
    """Share of the patches that an image tower of patches does not see, other ones every time (FLIP)."""
    parallel: ParallelStrategy = "ddp"
    """With torchrun: ddp keeps the whole model in every process, fsdp shares of it, for models that do not fit."""
    rank_timeout: float = 600.0
    """Seconds without a step or a check of one process after which all of them end, naming it."""
    lr: float = 1e-3
    """Peak learning rate."""
    seed: int = 0
    """Of initialisation, data order and augmentation."""
    precision: TrainPrecision = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the hardware multiplies it natively. The run keeps what auto chose."""
    workers: int = 1
    """Processes that decode images; 0 decodes in the training process."""
    worker_timeout: float = 300.0
    """Seconds without a batch after which the run ends, naming the worker that is stuck."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    checkpoint_minutes: float = 15.0
    """Most minutes between checkpoints; whichever comes first."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, beside the one that did best in the checks."""
    eval_sets: tuple[str, ...] = ()
    """CLIP_benchmark folders whose zero-shot accuracy is followed during training."""
    eval_every: int = 200
    """Steps between these checks."""
    eval_samples: int = 300
    """Pictures of each set used by a check, spread over the set."""
    data_options: DataConfig = field(default_factory=DataConfig)
    """How samples are read."""
    ema_decay: float | None = None
    """Decay of an average of the weights, which is then what is checked and saved; 0.9999 for long runs."""
    finetune: FineTuneConfig | None = None
    """Start from a trained model instead of random weights."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    log: LogConfig = field(default_factory=LogConfig)
    """Loggers beside the journal."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("give exactly one of --steps and --epochs")
        for name in ("batch_size", "checkpoint_every", "keep_checkpoints", "eval_every", "eval_samples"):
            _require_positive(name, getattr(self, name))
        for name in ("checkpoint_minutes", "worker_timeout", "rank_timeout"):
            _require_positive(name, getattr(self, name))
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; it must be between 0 and 1, such as 0.9999")
        for name in ("steps", "epochs", "chunk_size", "lr"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        if not 0 <= self.patch_dropout < 1:
            raise ConfigError(
                f"patch_dropout is {self.patch_dropout}; it is a share from 0 to below 1, such as 0.5"
            )
        if self.patch_dropout and isinstance(self.model.vision, ResNetConfig):
            raise ConfigError(
                "patch_dropout needs an image tower of patches; this model's is a ResNet: leave it at 0"
            )
        if self.parallel == "fsdp" and self.finetune and self.finetune.lora_rank is not None:
            raise ConfigError(
                "--parallel fsdp shares what learns, which is little with LoRA; leave it at ddp"
            )
        if self.batch_size < 2:
            raise ConfigError("batch_size is 1; contrast needs at least 2 pairs")
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}; use 0 or more")


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} is {value}; it must be positive")
