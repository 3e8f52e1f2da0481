"""Settings of `zebra train`."""

from dataclasses import dataclass, field, replace
from typing import Literal

from zebra.config.cores import MAX_WORKERS
from zebra.config.data import DataConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig
from zebra.config.model import ModelConfig
from zebra.config.objective import ObjectiveConfig
from zebra.config.presets import get_preset
from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.transformer import MAX_TOKENS, require_in_range
from zebra.config.transformers_towers import TransformersVisionConfig
from zebra.errors import ConfigError

TrainPrecision = Literal["auto", "fp32", "bf16"]
ParallelStrategy = Literal["ddp", "fsdp"]
OptimizerName = Literal["adamw", "muon"]
Schedule = Literal["cosine", "constant-cooldown"]
Batching = Literal["random", "similar"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Settings of the optimizer, with decoupled weight decay on weights other than gains and biases (CLIP §2.5)."""

    name: OptimizerName = "adamw"
    """adamw, or muon: Muon for matrices and filters, at the same learning rate, and AdamW for all else."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.98
    """Decay of the second moment; the paper uses 0.98 for ViTs and 0.999 for ResNets."""
    eps: float = 1e-6
    """Epsilon of the denominator; the paper uses 1e-6 for ViTs and 1e-8 for ResNets."""
    weight_decay: float = 0.2
    """Decoupled weight decay of matrices and embeddings."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    grad_clip_norm: float = 1.0
    """Largest global gradient norm; 0 disables clipping."""

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}; it must be in [0, 1)")
        for name in ("eps", "weight_decay", "warmup_steps", "grad_clip_norm"):
            if not getattr(self, name) >= 0:  # NaN is refused too
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """Settings of the loggers besides log.jsonl."""

    every: int = 10
    """Steps between log lines."""
    tensorboard: bool = False
    """Write TensorBoard events to the run directory."""
    wandb: str | None = None
    """Name of a Weights & Biases project."""

    def __post_init__(self) -> None:
        _require_positive("log.every", self.every)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Settings of one training run."""

    data: str
    """Captioned images: a folder, a CSV/TSV/JSONL/Parquet table, tar shards, or a saved Hugging Face dataset."""
    out: str
    """The run directory."""
    model: ModelConfig = field(default_factory=lambda: get_preset("tiny-resnet"))
    """The architecture; on the command line also --model NAME."""
    tokenizer: str | None = None
    """A tokenizer.json or merges file; by default a tokenizer is trained on the captions."""
    steps: int | None = None
    """Number of optimizer steps; give this or epochs."""
    epochs: float | None = None
    """Number of passes over the data; give this or steps."""
    batch_size: int = 128
    """Global batch size in pairs."""
    chunk_size: int | None = None
    """Pairs per forward pass of a process (gradient caching); None uses its full local batch."""
    activation_checkpointing: bool = False
    """Recompute the activations of blocks in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """Compile the blocks of both towers with torch.compile; the first steps then take minutes."""
    image_seq_len: int | None = None
    """For a NaFlex image tower: the largest number of patches of an image, in training and of the trained model; by
    default as many as it has positions, or as in the pretrained model. A batch has batch_size times as many."""
    patch_dropout: float = 0.0
    """Fraction of patches that the image tower drops at random (FLIP, arXiv 2212.00794)."""
    parallel: ParallelStrategy = "ddp"
    """With torchrun: ddp replicates the model, fsdp shards it over the processes, for models that do not fit."""
    rank_timeout: float = 600.0
    """Seconds without progress of one process after which all processes stop with an error."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: cosine decay, or constant-cooldown, which falls only in the last fifth."""
    seed: int = 0
    """Seed of initialization, data order and augmentation."""
    precision: TrainPrecision = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the hardware supports it natively. A resumed run keeps the choice."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    workers: int = 1
    """Number of data-loading processes; 0 decodes in the training process."""
    worker_timeout: float = 300.0
    """Seconds without a batch after which the run stops with an error that names the worker."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    checkpoint_minutes: float = 15.0
    """Longest time between checkpoints in minutes; whichever comes first."""
    keep_checkpoints: int = 2
    """Number of latest checkpoints to keep, besides the best one."""
    val_fraction: float = 0.05
    """Fraction of the samples held out for validation by retrieval, at most 1,000; none if it is less than 10."""
    eval_sets: tuple[str, ...] = ()
    """CLIP_benchmark folders for zero-shot evaluation during training."""
    eval_every: int = 200
    """Steps between validations."""
    eval_samples: int = 300
    """Images per dataset in zero-shot evaluations during training, evenly spaced."""
    data_options: DataConfig = field(default_factory=DataConfig)
    """Settings for reading samples."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, which is then evaluated and saved; 0.9999 for long runs."""
    finetune: FineTuneConfig | None = None
    """Start from a pretrained model instead of random weights."""
    rehearse: str | None = None
    """Captioned images of earlier data, in any layout of `data`, of which each batch gets some: against forgetting in
    fine-tuning. Images that `data` has too are left out. Read with the same data_options."""
    rehearse_fraction: float = 0.5
    """Fraction of each batch that is earlier data, if there is any."""
    batching: Batching = "random"
    """random, or similar: each batch has groups of similar images, which are hard negatives of each other. Copies of
    one image and pairs with one caption are kept apart."""
    batching_store: str | None = None
    """For similar batching: a store that `zebra embed MODEL DATA` wrote for the training data; by default that of
    objective.teacher."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Terms of the loss."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Settings of the optimizer."""
    log: LogConfig = field(default_factory=LogConfig)
    """Settings of further loggers."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("give exactly one of --steps and --epochs")
        counts = ("batch_size", "checkpoint_every", "keep_checkpoints", "eval_every", "eval_samples")
        for name in (*counts, "checkpoint_minutes", "worker_timeout", "rank_timeout"):
            _require_positive(name, getattr(self, name))
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; it must be between 0 and 1, such as 0.9999")
        for name in ("steps", "epochs", "chunk_size", "lr"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        for name, limit in (("val_fraction", 0.5), ("patch_dropout", 1.0)):
            if not 0 <= getattr(self, name) < limit:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to below {limit:g}")
        if self.finetune and not self.val_fraction:
            raise ConfigError("val_fraction is 0; fine-tuning needs held-out images to select the weights, such as 0.1")
        self._check_towers()
        self._check_patches()
        if self.parallel == "fsdp" and self.finetune and self.finetune.lora_rank is not None:
            raise ConfigError("--parallel fsdp does not support LoRA; use --parallel ddp")
        if self.batch_size < 2:
            raise ConfigError("batch_size is 1; a contrastive loss needs at least 2 pairs")
        if not 0 <= self.workers <= MAX_WORKERS:
            raise ConfigError(f"workers is {self.workers}; it must be from 0 to {MAX_WORKERS}")
        if self.rehearse is not None:
            self._check_rehearsal()
        self._check_teacher()
        self._check_batching()

    @property
    def similarity_store(self) -> str | None:
        """The store whose vectors tell which training images are similar."""
        return self.batching_store or self.objective.teacher

    @property
    def num_rehearsal(self) -> int:
        """Number of pairs of earlier data in a batch."""
        return 0 if self.rehearse is None else round(self.rehearse_fraction * self.batch_size)

    @property
    def num_new(self) -> int:
        """Number of pairs of `data` in a batch."""
        return self.batch_size - self.num_rehearsal

    def _check_teacher(self) -> None:
        if self.objective.teacher is not None and self.data_options.caption_templates:
            raise ConfigError(
                "objective.teacher has vectors of the captions as they are, not of sentences with them. Leave out "
                "--objective.teacher or --data-options.caption-templates"
            )

    def _check_batching(self) -> None:
        if self.batching == "similar" and self.similarity_store is None:
            model = self.finetune.init_from if self.finetune else "MODEL"
            raise ConfigError(
                f"--batching similar needs vectors of the training images. Write them with zebra embed {model} "
                f"{self.data or 'DATA'} --out STORE, and give --batching-store STORE"
            )
        if self.batching == "random" and self.batching_store is not None:
            raise ConfigError("batching_store is given, but batches are random. Give --batching similar too")

    def _check_rehearsal(self) -> None:
        if self.finetune is None:
            raise ConfigError("rehearse needs a pretrained model to fine-tune. Give --from, or leave --rehearse out")
        if self.objective.teacher is not None:
            raise ConfigError(
                "objective.teacher has vectors of data only, not of rehearse. Leave out --rehearse or "
                "--objective.teacher"
            )
        if not 0 < self.rehearse_fraction < 1:
            raise ConfigError(f"rehearse_fraction is {self.rehearse_fraction}; it must be between 0 and 1, such as 0.5")
        if not 0 < self.num_rehearsal < self.batch_size:
            raise ConfigError(
                f"rehearse_fraction is {self.rehearse_fraction}: of a batch of {self.batch_size} pairs, "
                f"{self.num_rehearsal} are earlier data. Give both kinds at least one pair"
            )

    def _check_towers(self) -> None:
        if self.objective.dimensions:
            replace(self.model, dimensions=self.objective.dimensions)  # raises for sizes that do not suit the model
        if self.patch_dropout and isinstance(
            self.model.vision, ResNetConfig | TimmVisionConfig | TransformersVisionConfig
        ):
            raise ConfigError(
                f"patch_dropout needs a Vision Transformer of zebra; this model has a {self.model.vision.kind} tower. "
                "Set it to 0."
            )
        if self.parallel == "fsdp" and self.optimizer.name == "muon":
            raise ConfigError(
                "--parallel fsdp does not support Muon, which needs whole matrices. "
                "Use --parallel ddp or --optimizer.name adamw."
            )
        if self.parallel == "fsdp" and (libraries := self.model.libraries):
            raise ConfigError(
                f"--parallel fsdp does not shard towers of other libraries ({', '.join(libraries)}); use --parallel ddp"
            )

    def _check_patches(self) -> None:
        vision = self.model.vision
        is_naflex = isinstance(vision, NaflexVisionConfig)
        if self.patch_dropout and is_naflex:
            raise ConfigError(
                "patch_dropout needs a fixed number of patches; this model has a NaFlex image tower. Set it to 0 and "
                "use a smaller image_seq_len."
            )
        if self.image_seq_len is not None and not is_naflex:
            raise ConfigError(
                f"image_seq_len needs a NaFlex image tower; this model has a {vision.kind} tower of "
                f"{self.model.image_size} px. Leave image_seq_len out."
            )
        if self.image_seq_len is not None:
            require_in_range("image_seq_len", self.image_seq_len, MAX_TOKENS)


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} is {value}; it must be positive")
