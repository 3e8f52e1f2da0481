"""LoRA (Hu et al. 2021, arXiv 2106.09685): a trained model in, the same function that learns in few numbers out.

An adapted layer computes W x + alpha/rank · B A x. W [O, I] is locked, A [rank, I] and B [O, rank] learn, and B is zero
at first. Queries, keys and values, one matrix in `blocks.Attention`, have a pair each, so that libraries that keep
three layers can take the three pairs.

Differs: A is drawn as the authors' code does (Kaiming, uniform), not from the Gaussian of §4.1.
"""

import copy
import difflib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.errors import ConfigError
from zebra.models.clip import CLIP
from zebra.models.image.resnet import AttentionPool2d
from zebra.models.transformer import Attention, ResidualBlock

QKV_LAYERS = ("q_proj", "k_proj", "v_proj")
"""The three layers that lie in `in_proj_weight`, in its order."""


class LoraAdapter(nn.Module):
    """x [..., I] ↦ alpha/rank · B A x [..., O]; zero until B has learned."""

    def __init__(
        self, in_features: int, out_features: int, rank: int, alpha: float, device: torch.device
    ) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.empty(rank, in_features, device=device))
        self.B = nn.Parameter(torch.zeros(out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the layer's output."""
        return F.linear(self.scale * F.linear(x, self.A), self.B)

    def delta_weight(self) -> Tensor:
        """Return what is added to the layer's weight, [O, I]."""
        return self.scale * self.B @ self.A


class LoraLinear(nn.Linear):
    """A linear layer and its low-rank addition."""

    lora: LoraAdapter

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., O]."""
        return super().forward(x) + self.lora(x)

    @torch.no_grad()
    def merge(self) -> None:
        """Become an ordinary layer of the same function."""
        self.weight.add_(self.lora.delta_weight())
        del self.lora
        self.__class__ = nn.Linear  # type: ignore[assignment]  # back to what it was before `adapt`


class LoraAttention(Attention):
    """Attention with low-rank additions to some of q, k and v, by the names of `STACKED`."""

    lora: nn.ModuleDict

    def named_adapters(self) -> Iterator[tuple[str, LoraAdapter]]:
        """Yield the name of each and the addition."""
        for name, low_rank in self.lora.items():
            assert isinstance(low_rank, LoraAdapter)
            yield name, low_rank

    def project_qkv(self, x: Tensor) -> Tensor:
        """Return queries, keys and values [..., 3·D] of tokens [..., D]."""
        parts = dict(zip(QKV_LAYERS, super().project_qkv(x).chunk(3, dim=-1), strict=True))
        for name, low_rank in self.named_adapters():
            parts[name] = parts[name] + low_rank(x)
        return torch.cat(list(parts.values()), dim=-1)

    @torch.no_grad()
    def merge(self) -> None:
        """Become ordinary attention of the same function."""
        weights = dict(zip(QKV_LAYERS, self.in_proj_weight.chunk(3), strict=True))
        for name, low_rank in self.named_adapters():
            weights[name].add_(low_rank.delta_weight())
        del self.lora
        self.__class__ = Attention  # type: ignore[assignment]  # back to what it was before `adapt`


def apply_lora(
    model: CLIP, towers: Sequence[str], *, rank: int, alpha: float, target_modules: Sequence[str]
) -> None:
    """Lock the towers and give some of their layers low-rank additions that learn; the function stays what it is.

    Parameters keep their names; those of an addition lie below its layer: `….mlp.c_fc.lora.A`, `….attn.lora.q_proj.A`.

    Args:
        towers: visual, text, or both: where additions go. Both towers are locked.
        rank: Of the additions.
        alpha: alpha/rank multiplies them.
        target_modules: Ends of layers' names: `q_proj` for those of all blocks, `visual.transformer.resblocks.0.attn.q_proj`
            for one. A block has q_proj, k_proj, v_proj, out_proj, c_fc and c_proj; a ResNet's attention pool has
            q_proj, k_proj, v_proj and c_proj.

    Raises:
        ConfigError: The towers have no such layer, or the rank is above that of a layer's own weight.
    """
    held = {name: place for name, place in _adaptable_layers(model).items() if name.startswith(tuple(towers))}
    chosen = _match_layer_names(list(held), target_modules)
    for name in chosen:
        outputs, inputs = _weight_shape(held[name])
        if rank > min(outputs, inputs):
            raise ConfigError(
                f"finetune.lora_rank is {rank}, but {name} is a matrix of {outputs} × {inputs}, whose rank is at most "
                f"{min(outputs, inputs)}; take a smaller one, such as 8"
            )
    for tower in (model.visual, model.text):
        tower.requires_grad_(False)
    for name in chosen:
        module = held[name]
        outputs, inputs = _weight_shape(module)
        low_rank = LoraAdapter(inputs, outputs, rank, alpha, model.logit_scale.device)
        # As torch's own parametrizations do: another class, so that parameters stay the objects and names they are.
        if not isinstance(module, LoraLinear | LoraAttention):
            module.__class__ = LoraAttention if isinstance(module, Attention) else LoraLinear
            module.lora = nn.ModuleDict() if isinstance(module, Attention) else low_rank
        if isinstance(module, LoraAttention):
            module.lora[name.rpartition(".")[2]] = low_rank


def get_adapters(model: CLIP) -> dict[str, LoraAdapter]:
    """Return the additions of an adapted model by the names of their layers."""
    found: dict[str, LoraAdapter] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            found[name] = module.lora
        elif isinstance(module, LoraAttention):
            found |= {f"{name}.{part}": low_rank for part, low_rank in module.named_adapters()}
    return found


def merge_adapters(model: CLIP) -> CLIP:
    """Return an ordinary model that computes what an adapted one does: W + alpha/rank · B A in the place of W."""
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        if isinstance(module, LoraLinear | LoraAttention):
            module.merge()
    return plain


def _adaptable_layers(model: CLIP) -> dict[str, nn.Linear | Attention]:
    """Return every layer that can be adapted; q, k and v lie in their `Attention`."""
    found: dict[str, nn.Linear | Attention] = {}
    for name, module in model.named_modules():
        if isinstance(module, ResidualBlock):
            found |= {f"{name}.attn.{part}": module.attn for part in QKV_LAYERS}
            found |= {
                f"{name}.attn.out_proj": module.attn.out_proj,
                f"{name}.mlp.c_fc": module.mlp.c_fc,
                f"{name}.mlp.c_proj": module.mlp.c_proj,
            }
        elif isinstance(module, AttentionPool2d):
            found |= {f"{name}.{part}": getattr(module, part) for part in (*QKV_LAYERS, "c_proj")}
    return found


def _weight_shape(layer: nn.Linear | Attention) -> tuple[int, int]:
    """Return the outputs and inputs of a layer, or of each of q, k and v."""
    if isinstance(layer, Attention):
        return layer.in_proj_weight.shape[0] // len(QKV_LAYERS), layer.in_proj_weight.shape[1]
    return layer.out_features, layer.in_features


def _match_layer_names(names: list[str], target_modules: Sequence[str]) -> list[str]:
    """Return the names that end, by whole words, in a wanted one; ConfigError if one ends none."""
    kinds = sorted({name.rpartition(".")[2] for name in names})
    for end in target_modules:
        if not any(f".{name}".endswith(f".{end}") for name in names):
            close = difflib.get_close_matches(end, [*kinds, *names], n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"finetune.lora_layers names {end!r}, but no layer that may learn is called so; the nearest is "
                f"{close!r}. There are {', '.join(kinds)}, and single ones by their whole name, such as {names[0]}"
            )
    return [name for name in names if any(f".{name}".endswith(f".{end}") for end in target_modules)]
