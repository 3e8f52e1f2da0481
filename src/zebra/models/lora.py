"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685).

An adapted layer computes W x + alpha/rank · B A x. W [O, I] is frozen; A [rank, I] and B [O, rank] are trained, and B
starts at zero. The queries, keys and values, one matrix in `transformer.Attention`, have one adapter each, so that
libraries with three separate layers can load them.

Differs: A is initialized as in the authors' code (Kaiming uniform), not with the Gaussian of §4.1.
"""

import copy
import difflib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.errors import ConfigError, list_names
from zebra.models.clip import CLIP
from zebra.models.image.resnet import AttentionPool2d
from zebra.models.library_tower import LibraryTower
from zebra.models.transformer import Attention, ResidualBlock

QKV_LAYERS = ("q_proj", "k_proj", "v_proj")
"""The three layers in `in_proj_weight`, in its order."""


class LoraAdapter(nn.Module):
    """The map x [..., I] ↦ alpha/rank · B A x [..., O]; zero at initialization."""

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float, device: torch.device) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.empty(rank, in_features, device=device))
        self.B = nn.Parameter(torch.zeros(out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the addition to the layer's output."""
        return F.linear(self.scale * F.linear(x, self.A), self.B)

    def delta_weight(self) -> Tensor:
        """Return the addition to the layer's weight, [O, I]."""
        return self.scale * self.B @ self.A


class LoraLinear(nn.Linear):
    """A linear layer with a LoRA adapter."""

    lora: LoraAdapter

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., O]."""
        return super().forward(x) + self.lora(x)

    @torch.no_grad()
    def merge(self) -> None:
        """Convert to a plain linear layer that computes the same function."""
        self.weight.add_(self.lora.delta_weight())
        del self.lora
        self.__class__ = nn.Linear  # type: ignore[assignment]  # undo `apply_lora`


class LoraAttention(Attention):
    """Attention with LoRA adapters on some of the QKV_LAYERS."""

    lora: nn.ModuleDict

    def named_adapters(self) -> Iterator[tuple[str, LoraAdapter]]:
        """Yield (layer name, adapter)."""
        for name, adapter in self.lora.items():
            assert isinstance(adapter, LoraAdapter)
            yield name, adapter

    def project_qkv(self, x: Tensor) -> Tensor:
        """Return queries, keys and values [..., 3·D] of tokens [..., D]."""
        parts = dict(zip(QKV_LAYERS, super().project_qkv(x).chunk(3, dim=-1), strict=True))
        for name, adapter in self.named_adapters():
            parts[name] = parts[name] + adapter(x)
        return torch.cat(list(parts.values()), dim=-1)

    @torch.no_grad()
    def merge(self) -> None:
        """Convert to plain attention that computes the same function."""
        weights = dict(zip(QKV_LAYERS, self.in_proj_weight.chunk(3), strict=True))
        for name, adapter in self.named_adapters():
            weights[name].add_(adapter.delta_weight())
        del self.lora
        self.__class__ = Attention  # type: ignore[assignment]  # undo `apply_lora`


def apply_lora(model: CLIP, towers: Sequence[str], *, rank: int, alpha: float, target_modules: Sequence[str]) -> None:
    """Freeze the towers and add trainable adapters to some of their layers; the function does not change.

    Existing parameters keep their names. Adapters are below their layer: `….mlp.c_fc.lora.A`, `….attn.lora.q_proj.A`.

    Args:
        towers: visual, text, or both: the towers with adapters. Both towers are frozen.
        rank: Rank of the adapters.
        alpha: Adapters are scaled by alpha/rank.
        target_modules: Suffixes of layer names: `q_proj` for every block, `visual.transformer.resblocks.0.attn.q_proj`
            for one. A block has q_proj, k_proj, v_proj, out_proj, c_fc and c_proj; a ResNet's attention pool has
            q_proj, k_proj, v_proj and c_proj; towers of other libraries have that library's names.

    Raises:
        ConfigError: If the towers, or one of them, have no such layer, or the rank exceeds that of a layer's weight.
    """
    layers = {name: layer for name, layer in _adaptable_layers(model).items() if name.startswith(tuple(towers))}
    names = _match_layer_names(list(layers), target_modules)
    for part in towers:
        is_deliberate = any("." in suffix for suffix in target_modules)  # names of single layers
        if not is_deliberate and not any(name.startswith(f"{part}.") for name in names):
            kinds = sorted({name.rpartition(".")[2] for name in layers if name.startswith(f"{part}.")})
            raise ConfigError(
                f"finetune.lora_target_modules matches no layer of {part}, which would stay frozen. Add some of its "
                f"layers ({list_names(kinds)}), or train only the other tower (finetune.train_towers)"
            )
    for name in names:
        out_features, in_features = _weight_shape(layers[name])
        if rank > min(out_features, in_features):
            raise ConfigError(
                f"finetune.lora_rank is {rank}, but {name} is a matrix of {out_features} × {in_features}, of rank at "
                f"most {min(out_features, in_features)}; use a smaller rank, such as 8"
            )
    for tower in (model.visual, model.text):
        tower.requires_grad_(False)
    for name in names:
        module = layers[name]
        out_features, in_features = _weight_shape(module)
        adapter = LoraAdapter(in_features, out_features, rank, alpha, model.logit_scale.device)
        # Change the class, as torch's parametrizations do, so that the parameters keep their identity and names.
        if not isinstance(module, LoraLinear | LoraAttention):
            module.__class__ = LoraAttention if isinstance(module, Attention) else LoraLinear
            module.lora = nn.ModuleDict() if isinstance(module, Attention) else adapter
        if isinstance(module, LoraAttention):
            module.lora[name.rpartition(".")[2]] = adapter


def get_adapters(model: CLIP) -> dict[str, LoraAdapter]:
    """Return the adapters of a model by layer name."""
    adapters: dict[str, LoraAdapter] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            adapters[name] = module.lora
        elif isinstance(module, LoraAttention):
            adapters |= {f"{name}.{part}": adapter for part, adapter in module.named_adapters()}
    return adapters


def merge_adapters(model: CLIP) -> CLIP:
    """Return a plain copy of an adapted model, with W + alpha/rank · B A instead of W."""
    merged = copy.deepcopy(model)
    for module in list(merged.modules()):
        if isinstance(module, LoraLinear | LoraAttention):
            module.merge()
    return merged


def _adaptable_layers(model: CLIP) -> dict[str, nn.Linear | Attention]:
    """Return all layers that can be adapted; q, k and v map to their `Attention`."""
    layers: dict[str, nn.Linear | Attention] = {}
    for name, module in model.named_modules():
        if isinstance(module, ResidualBlock):
            layers |= {f"{name}.attn.{part}": module.attn for part in QKV_LAYERS}
            layers |= {
                f"{name}.attn.out_proj": module.attn.out_proj,
                f"{name}.mlp.c_fc": module.mlp.c_fc,
                f"{name}.mlp.c_proj": module.mlp.c_proj,
            }
        elif isinstance(module, LibraryTower):
            layers |= {f"{name}.{layer_name}": layer for layer_name, layer in module.linear_layers()}
        elif isinstance(module, AttentionPool2d):
            layers |= {f"{name}.{part}": getattr(module, part) for part in (*QKV_LAYERS, "c_proj")}
    return layers


def _weight_shape(layer: nn.Linear | Attention) -> tuple[int, int]:
    """Return (out_features, in_features) of a layer, or of each of q, k and v."""
    if isinstance(layer, Attention):
        return layer.in_proj_weight.shape[0] // len(QKV_LAYERS), layer.in_proj_weight.shape[1]
    return layer.out_features, layer.in_features


def _match_layer_names(names: list[str], target_modules: Sequence[str]) -> list[str]:
    """Return the names with one of the suffixes, in complete parts; ConfigError for a suffix without a match."""
    kinds = sorted({name.rpartition(".")[2] for name in names})
    for suffix in target_modules:
        if not any(f".{name}".endswith(f".{suffix}") for name in names):
            close = difflib.get_close_matches(suffix, [*kinds, *names], n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"finetune.lora_target_modules has {suffix!r}, which matches no trainable layer; closest: {close!r}. "
                f"Use {', '.join(kinds)}, or the full name of a single layer, such as {names[0]}"
            )
    return [name for name in names if any(f".{name}".endswith(f".{suffix}") for suffix in target_modules)]
