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
from zebra.models.image.resnet import AttentionPool
from zebra.models.transformer import Attention, ResidualBlock

STACKED = ("q_proj", "k_proj", "v_proj")
"""The three layers that lie in `in_proj_weight`, in its order."""


class LowRank(nn.Module):
    """x [..., I] ↦ alpha/rank · B A x [..., O]; zero until B has learned."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, device: torch.device) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.empty(rank, inputs, device=device))
        self.B = nn.Parameter(torch.zeros(outputs, rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the layer's output."""
        return F.linear(self.scale * F.linear(x, self.A), self.B)

    def product(self) -> Tensor:
        """Return what is added to the layer's weight, [O, I]."""
        return self.scale * self.B @ self.A


class AdaptedLinear(nn.Linear):
    """A linear layer and its low-rank addition."""

    lora: LowRank

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., O]."""
        return super().forward(x) + self.lora(x)

    @torch.no_grad()
    def merge(self) -> None:
        """Become an ordinary layer of the same function."""
        self.weight.add_(self.lora.product())
        del self.lora
        self.__class__ = nn.Linear  # type: ignore[assignment]  # back to what it was before `adapt`


class AdaptedAttention(Attention):
    """Attention with low-rank additions to some of q, k and v, by the names of `STACKED`."""

    lora: nn.ModuleDict

    def additions(self) -> Iterator[tuple[str, LowRank]]:
        """Yield the name of each and the addition."""
        for name, low_rank in self.lora.items():
            assert isinstance(low_rank, LowRank)
            yield name, low_rank

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values [..., 3·D] of tokens [..., D]."""
        parts = dict(zip(STACKED, super().project(x).chunk(3, dim=-1), strict=True))
        for name, low_rank in self.additions():
            parts[name] = parts[name] + low_rank(x)
        return torch.cat(list(parts.values()), dim=-1)

    @torch.no_grad()
    def merge(self) -> None:
        """Become ordinary attention of the same function."""
        weights = dict(zip(STACKED, self.in_proj_weight.chunk(3), strict=True))
        for name, low_rank in self.additions():
            weights[name].add_(low_rank.product())
        del self.lora
        self.__class__ = Attention  # type: ignore[assignment]  # back to what it was before `adapt`


def adapt(model: CLIP, towers: Sequence[str], *, rank: int, alpha: float, layers: Sequence[str]) -> None:
    """Lock the towers and give some of their layers low-rank additions that learn; the function stays what it is.

    Parameters keep their names; those of an addition lie below its layer: `….mlp.c_fc.lora.A`, `….attn.lora.q_proj.A`.

    Args:
        towers: visual, text, or both: where additions go. Both towers are locked.
        rank: Of the additions.
        alpha: alpha/rank multiplies them.
        layers: Ends of layers' names: `q_proj` for those of all blocks, `visual.transformer.resblocks.0.attn.q_proj`
            for one. A block has q_proj, k_proj, v_proj, out_proj, c_fc and c_proj; a ResNet's attention pool has
            q_proj, k_proj, v_proj and c_proj.

    Raises:
        ConfigError: The towers have no such layer, or the rank is above that of a layer's own weight.
    """
    held = {name: place for name, place in _places(model).items() if name.startswith(tuple(towers))}
    chosen = _choose(list(held), layers)
    for name in chosen:
        outputs, inputs = _shape(held[name])
        if rank > min(outputs, inputs):
            raise ConfigError(
                f"finetune.lora_rank is {rank}, but {name} is a matrix of {outputs} × {inputs}, whose rank is at most "
                f"{min(outputs, inputs)}; take a smaller one, such as 8"
            )
    for tower in (model.visual, model.text):
        tower.requires_grad_(False)
    for name in chosen:
        module = held[name]
        outputs, inputs = _shape(module)
        low_rank = LowRank(inputs, outputs, rank, alpha, model.logit_scale.device)
        # As torch's own parametrizations do: another class, so that parameters stay the objects and names they are.
        if not isinstance(module, AdaptedLinear | AdaptedAttention):
            module.__class__ = AdaptedAttention if isinstance(module, Attention) else AdaptedLinear
            module.lora = nn.ModuleDict() if isinstance(module, Attention) else low_rank
        if isinstance(module, AdaptedAttention):
            module.lora[name.rpartition(".")[2]] = low_rank


def adapters(model: CLIP) -> dict[str, LowRank]:
    """Return the additions of an adapted model by the names of their layers."""
    found: dict[str, LowRank] = {}
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            found[name] = module.lora
        elif isinstance(module, AdaptedAttention):
            found |= {f"{name}.{part}": low_rank for part, low_rank in module.additions()}
    return found


def merged(model: CLIP) -> CLIP:
    """Return an ordinary model that computes what an adapted one does: W + alpha/rank · B A in the place of W."""
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        if isinstance(module, AdaptedLinear | AdaptedAttention):
            module.merge()
    return plain


def _places(model: CLIP) -> dict[str, nn.Linear | Attention]:
    """Return every layer that can be adapted; q, k and v lie in their `Attention`."""
    found: dict[str, nn.Linear | Attention] = {}
    for name, module in model.named_modules():
        if isinstance(module, ResidualBlock):
            found |= {f"{name}.attn.{part}": module.attn for part in STACKED}
            found |= {
                f"{name}.attn.out_proj": module.attn.out_proj,
                f"{name}.mlp.c_fc": module.mlp.c_fc,
                f"{name}.mlp.c_proj": module.mlp.c_proj,
            }
        elif isinstance(module, AttentionPool):
            found |= {f"{name}.{part}": getattr(module, part) for part in (*STACKED, "c_proj")}
    return found


def _shape(place: nn.Linear | Attention) -> tuple[int, int]:
    """Return the outputs and inputs of a layer, or of each of q, k and v."""
    if isinstance(place, Attention):
        return place.in_proj_weight.shape[0] // len(STACKED), place.in_proj_weight.shape[1]
    return place.out_features, place.in_features


def _choose(names: list[str], wanted: Sequence[str]) -> list[str]:
    """Return the names that end, by whole words, in a wanted one; ConfigError if one ends none."""
    kinds = sorted({name.rpartition(".")[2] for name in names})
    for end in wanted:
        if not any(f".{name}".endswith(f".{end}") for name in names):
            close = difflib.get_close_matches(end, [*kinds, *names], n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"finetune.lora_layers names {end!r}, but no layer that may learn is called so; the nearest is "
                f"{close!r}. There are {', '.join(kinds)}, and single ones by their whole name, such as {names[0]}"
            )
    return [name for name in names if any(f".{name}".endswith(f".{end}") for end in wanted)]
