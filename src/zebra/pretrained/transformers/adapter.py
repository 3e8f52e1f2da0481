"""Writing of LoRA adapters in the layout of Hugging Face's `peft`.

adapter_config.json  adapter_model.safetensors
"""

from collections.abc import Mapping
from pathlib import Path

from zebra.config.model import ModelConfig
from zebra.models.lora import LoraAdapter
from zebra.pretrained.folder import write_json
from zebra.pretrained.tensors import write_tensors
from zebra.pretrained.transformers.config import infer_model_type
from zebra.pretrained.transformers.key_mapping import map_layer_names
from zebra.pretrained.weights import TEXT_PREFIX


def write_adapter(
    folder: Path, *, config: ModelConfig, adapters: Mapping[str, LoraAdapter], alpha: float, base: str | None
) -> None:
    """Write a folder that `PeftModel.from_pretrained(model, folder)` opens for a `CLIPModel` or a `SiglipModel`.

    Difference: the layout cannot express the trained logit scale. So vectors equal those of the adapted model, but
    logits have the scale of the base model.

    Args:
        folder: Created if it does not exist; existing files of the same names are replaced.
        config: Config of the base model.
        adapters: Adapters by layer from `zebra.models.lora.get_adapters`; at least one, all of the same rank.
        alpha: The adapters are scaled by alpha / rank.
        base: Repository of the base model on the hub, if it has one.

    Raises:
        WeightsError: transformers has no such model.
    """
    infer_model_type(config)
    layer_names = map_layer_names(config)
    adapters_by_layer = {layer_names[name.removeprefix(TEXT_PREFIX)]: adapter for name, adapter in adapters.items()}
    tensors = {
        f"base_model.model.{layer}.lora_{part}.weight": getattr(adapter, part).detach().cpu().contiguous()
        for layer, adapter in adapters_by_layer.items()
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
        "target_modules": list(adapters_by_layer),
    }
    write_json(folder / "adapter_config.json", settings)
    write_tensors(tensors, folder / "adapter_model.safetensors")
