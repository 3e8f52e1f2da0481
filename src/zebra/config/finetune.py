"""How a run goes on from a trained model: what of it learns, what it is judged by, when it stops."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

TrainTowers = Literal["all", "text", "image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuneConfig:
    """A start other than random weights."""

    init_from: str
    """The model to start from, of any layout that `zebra.load` reads; on the command line also --from."""
    train_towers: TrainTowers = "all"
    """all weights; text: the image tower is locked (LiT, arXiv 2111.07991); image: the text tower is locked."""
    val_fraction: float = 0.1
    """Share of the pictures that decides which weights are kept; as many again are kept apart to measure on."""
    patience: int = 5
    """Checks in a row without a better one after which the run stops."""
    lora_rank: int | None = None
    """Rank of low-rank additions that learn in the place of the weights (LoRA, arXiv 2106.09685); 4 to 16 are usual."""
    lora_alpha: float = 16.0
    """The additions are multiplied by lora_alpha / lora_rank."""
    lora_target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Layers that get additions, of q_proj, k_proj, v_proj, out_proj, c_fc, c_proj; or whole names of single ones."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each block to the one below it; 1 moves all blocks alike."""

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 0.5:
            raise ConfigError(
                f"finetune.held_out is {self.val_fraction}; it is a share between 0 and 0.5, such as 0.1"
            )
        if self.patience < 1:
            raise ConfigError(f"finetune.patience is {self.patience}; it must be at least 1")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ConfigError(f"finetune.lora_rank is {self.lora_rank}; it must be at least 1, such as 8")
        if not self.lora_alpha > 0:
            raise ConfigError(f"finetune.lora_alpha is {self.lora_alpha}; it must be positive, such as 16")
        if not self.lora_target_modules:
            raise ConfigError("finetune.lora_layers is empty; name layers such as q_proj, v_proj")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"finetune.layer_decay is {self.layer_decay}; it is above 0, and at most 1")
