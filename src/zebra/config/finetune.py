"""Settings of fine-tuning."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

TrainTowers = Literal["all", "text", "image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuneConfig:
    """Settings for training from a pretrained model."""

    init_from: str
    """The pretrained model, in any layout that `zebra.load` reads; on the command line also --from."""
    train_towers: TrainTowers = "all"
    """all: train both towers; text: freeze the image tower (LiT, arXiv 2111.07991); image: freeze the text tower."""
    patience: int = 5
    """Evaluations without improvement after which training stops."""
    lora_rank: int | None = None
    """Rank of LoRA adapters (arXiv 2106.09685), 4 to 16 as a rule; None trains the weights themselves."""
    lora_alpha: float = 16.0
    """Adapters are scaled by lora_alpha / lora_rank."""
    lora_target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Layers with adapters: q_proj, k_proj, v_proj, out_proj, c_fc, c_proj, or full layer names."""
    preserve_weight: float = 0.0
    """Weight of the term that keeps the vectors of synthetic images and random words near those of the initial model,
    against forgetting; 0 leaves it out."""
    layer_decay: float = 1.0
    """Learning rate factor from each block to the one below it; 1 uses one learning rate for all blocks."""

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(f"finetune.patience is {self.patience}; it must be at least 1")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ConfigError(f"finetune.lora_rank is {self.lora_rank}; it must be at least 1, such as 8")
        if not self.lora_alpha > 0:
            raise ConfigError(f"finetune.lora_alpha is {self.lora_alpha}; it must be positive, such as 16")
        if not self.lora_target_modules:
            raise ConfigError("finetune.lora_target_modules is empty; name layers such as q_proj, v_proj")
        if not 0 <= self.preserve_weight < float("inf"):  # NaN is refused too
            raise ConfigError(
                f"finetune.preserve_weight is {self.preserve_weight}; it must be finite and not negative, such as 5"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"finetune.layer_decay is {self.layer_decay}; it must be above 0 and at most 1")
