"""Low-rank additions of a model in; a folder that Hugging Face's `peft` puts on the model they were made for, out.

adapter_config.json  adapter_model.safetensors

`peft` itself is not needed.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from zebra.config.model import ModelConfig
from zebra.models.lora import LoraAdapter
from zebra.pretrained.folder import write_json
from zebra.pretrained.transformers.config import infer_model_type
from zebra.pretrained.transformers.key_mapping import map_layer_names
from zebra.pretrained.weights import TEXT_PREFIX


def write_adapter(
    folder: Path, *, config: ModelConfig, adapters: Mapping[str, LoraAdapter], alpha: float, base: str | None
) -> None:
    """Write what `PeftModel.from_pretrained(CLIPModel, folder)` opens, or `SiglipModel` in its place.

    Differs: the temperature, which learns too, is no layer and has no place in such a folder. Vectors are those of the
    adapted model, logits have the temperature of the model below.

    Args:
        folder: Made if need be; files of the same names are replaced.
        config: Of the model that is adapted.
        adapters: By layer, as `zebra.models.lora.adapters` returns them; at least one, all of one rank.
        alpha: alpha/rank multiplies them.
        base: Repository of that model on the hub, if it came from there.

    Raises:
        WeightsError: transformers has no such model.
    """
    infer_model_type(config)
    known = map_layer_names(config)
    named = {known[name.removeprefix(TEXT_PREFIX)]: low_rank for name, low_rank in adapters.items()}
    tensors = {
        f"base_model.model.{name}.lora_{part}.weight": getattr(low_rank, part).detach().cpu().contiguous()
        for name, low_rank in named.items()
        for part in "AB"
    }
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "inference_mode": True,
        "r": next(iter(adapters.values())).A.shape[0],
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "target_modules": list(named),
    }
    write_json(folder / "adapter_config.json", settings)
    weights = folder / "adapter_model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors leaves 0600
