"""Image towers that timm computes; the only module that imports timm.

Modules and parameter names are those of open_clip's `TimmModel` (open_clip 3.3, `timm_model.py`): a trunk, then a head
of pool and projection. timm's activations are those of its trunks, whatever `quick_gelu` the config of open_clip has.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from zebra.config.timm_tower import ATTENTION_POOLS, TimmVisionConfig
from zebra.errors import ConfigError, MissingExtra, ShapeError, suggest_name
from zebra.models.library_tower import LibraryTower, require_initialized

MIN_TIMM = (1, 0, 23)
"""The first release whose modules have `init_non_persistent_buffers`, as models are built on the meta device."""
TIMM_ERRORS = (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What timm raises for settings that a trunk does not have."""


class TimmImageTower(LibraryTower):
    """A trunk of timm, then a head: an optional attention pool and an optional projection."""

    trunk: Any
    head: Any

    def __init__(self, config: TimmVisionConfig, image_size: int, embed_dim: int) -> None:
        """Build the tower with timm's initial weights; nothing is downloaded.

        Raises:
            MissingExtra: timm is not installed.
            ConfigError: timm has no such trunk, or the trunk does not have the pool, projection or image size.
        """
        super().__init__()
        timm = import_timm()
        if not timm.is_model(config.name):
            raise ConfigError(
                f"timm {timm.__version__} has no model {config.name!r}.{suggest_name(config.name, timm.list_models())} "
                "A newer model may need: pip install --upgrade timm"
            )
        self.config, self.image_size, self.embed_dim = config, image_size, embed_dim
        try:
            self.trunk = _build_trunk(timm, config, embed_dim)
            self.head = _build_head(timm, config, self.trunk, embed_dim)
            self.resize(image_size)
            if not isinstance(self.trunk.get_classifier(), nn.Module):
                raise TypeError("the trunk has several classifiers")
        except TIMM_ERRORS as error:
            raise ConfigError(
                f"timm {timm.__version__} cannot build {config.name} with pool {config.pool}, projection "
                f"{config.projection} and images of {image_size} pixels: {error}"
            ) from error

    def resize(self, image_size: int) -> None:
        """Set the side of the input image in pixels; timm interpolates positions if the trunk has any."""
        self.image_size = image_size
        if hasattr(self.trunk, "set_input_size"):
            self.trunk.set_input_size(img_size=(image_size, image_size))

    def features(self, images_B3HW: Tensor) -> Tensor:
        """Return the pooled vector [B, D] before the projection."""
        if self.config.projection == "classifier":
            return self.trunk.forward_head(self.trunk.forward_features(images_B3HW), pre_logits=True)
        pooled = self.trunk(images_B3HW)
        if self.config.pool in ATTENTION_POOLS:
            return self.head.pool(pooled, pre_logits=self.config.projection == "none")
        return pooled

    def project(self, feature_BD: Tensor) -> Tensor:
        """Return the embeddings [B, E] of features."""
        match self.config.projection, self.config.pool:
            case "classifier", _:
                embedding = self.trunk.get_classifier()(feature_BD)
            case "none", pool:
                embedding = self.head.pool.proj(feature_BD) if pool in ATTENTION_POOLS else feature_BD
            case _:
                embedding = self.head[-1](feature_BD)
        if embedding.shape[1:] != (self.embed_dim,):
            raise ShapeError(
                f"{self.config.name} of timm returns shape {tuple(embedding.shape)} instead of vectors of width "
                f"{self.embed_dim}. Set another pool or projection."
            )
        return embedding

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return embeddings [B, E] of normalized pixels, not yet of unit length."""
        return self.project(self.features(images_B3HW))

    def init_buffers(self) -> None:
        """Compute position tables, masks and the like, which are in no weight file."""
        for module in self.modules():
            init_buffers = getattr(module, "init_non_persistent_buffers", None)
            if init_buffers is not None:
                for name, buffer in module.named_buffers(recurse=False):
                    if buffer.is_meta:
                        setattr(module, name, torch.empty_like(buffer, device="cpu"))
                init_buffers()
        require_initialized(self, "timm")

    def fuse(self) -> None:
        """Merge the branches of FastViT and the like, and batch norm, into single convolutions, in place."""
        from timm.utils import reparameterize_model

        reparameterize_model(self.trunk, inplace=True)

    def residual_blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks from input to output.

        Raises:
            ConfigError: The trunk has none that can be found.
        """
        blocks = [block for _, block in self._named_blocks()]
        if not blocks:
            raise ConfigError(
                f"{self.config.name} of timm has no list of blocks, which activation checkpointing and compilation "
                "need. Turn both off."
            )
        yield from blocks

    def linear_layers(self) -> Iterator[tuple[str, nn.Linear]]:
        """Yield the linear layers, by name, that a forward pass calls; some trunks use only the weight of a layer."""
        with torch.device("meta"):
            twin = TimmImageTower(self.config, self.image_size, self.embed_dim).eval()
            called: set[str] = set()
            for name, module in twin.named_modules():
                if type(module) is nn.Linear:
                    module.register_forward_hook(lambda *_, name=name: called.add(name))
            twin(torch.empty(1, 3, self.image_size, self.image_size))
        for name, module in self.named_modules():
            if name in called:
                assert isinstance(module, nn.Linear)
                yield name, module

    def layer_depths(self) -> dict[str, int]:
        """Return the depth of each parameter in timm's groups of layers, which it numbers from the stem up."""
        from timm.models import group_parameters

        matcher = self.trunk.group_matcher(coarse=False)
        group_by_name: dict[str, int] = group_parameters(self.trunk, matcher, reverse=True)
        blocks = tuple(f"{name}." for name, _ in self._named_blocks())
        groups = [group for name, group in group_by_name.items() if name.startswith(blocks) or not blocks]
        top = 1 + max(groups)
        depths = {f"trunk.{name}": max(0, top - group) for name, group in group_by_name.items()}
        return depths | {f"head.{name}": 0 for name, _ in self.head.named_parameters()}

    def _named_blocks(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the members of the trunk's sequences named `blocks`."""
        for name, module in self.trunk.named_modules():
            if name.rpartition(".")[2] == "blocks":
                for index, block in module.named_children():
                    yield f"{name}.{index}", block


def native_trunk_shapes(config: TimmVisionConfig, embed_dim: int) -> dict[str, torch.Size]:
    """Return the shapes of the trunk's tensors, by name in the tower, for timm's own image size."""
    with torch.device("meta"):
        trunk = _build_trunk(import_timm(), config, embed_dim)
    return {f"trunk.{name}": tensor.shape for name, tensor in trunk.state_dict().items()}


def import_timm() -> ModuleType:
    """Import timm.

    Raises:
        MissingExtra: timm or torchvision, which it needs, is not installed.
        ConfigError: The installed version is too old, or torchvision does not match torch.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtra(error.name or "timm", "an image tower of timm", "timm") from error
    except RuntimeError as error:
        raise ConfigError(
            f"timm cannot be imported: {error}. Install the torchvision that matches torch {torch.__version__}."
        ) from error
    numbers = [int(number) for number in re.findall(r"\d+", version("timm"))[:3]]
    if tuple(numbers) < MIN_TIMM:
        raise ConfigError(
            f"timm {version('timm')} is too old; zebra needs {'.'.join(map(str, MIN_TIMM))} or newer. Run: pip install "
            '--upgrade "zebra-clip[timm]"'
        )
    module: ModuleType = timm
    return module


def _build_trunk(timm: ModuleType, config: TimmVisionConfig, embed_dim: int) -> Any:
    """Build the trunk as open_clip does: with a classifier of `embed_dim` outputs, or with the classifier removed."""
    if config.projection in ("classifier", "none") and config.pool not in ATTENTION_POOLS:
        num_classes = embed_dim if config.projection == "classifier" else 0
        return timm.create_model(config.name, pretrained=False, num_classes=num_classes, global_pool=config.pool)
    trunk = timm.create_model(config.name, pretrained=False)
    if config.pool == "default":
        trunk.reset_classifier(0)
    else:
        trunk.reset_classifier(0, global_pool="" if config.pool in ATTENTION_POOLS else config.pool)
    return trunk


def _build_head(timm: ModuleType, config: TimmVisionConfig, trunk: Any, embed_dim: int) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width: int = trunk.num_features
    if config.pool in ATTENTION_POOLS:
        feat_size = trunk.default_cfg.get("pool_size")
        if feat_size is None:
            raise ValueError("an attention pool needs a feature map, which this trunk does not have")
        if config.pool == "abs_attn":
            layers["pool"] = timm.layers.AttentionPool2d(width, feat_size=feat_size, out_features=embed_dim)
        else:
            layers["pool"] = timm.layers.RotAttentionPool2d(width, out_features=embed_dim)
        width = embed_dim
    if config.projection == "linear":
        layers["proj"] = nn.Linear(width, embed_dim, bias=config.projection_bias)
    elif config.projection == "mlp":
        hidden = 2 * embed_dim
        mlp = [
            ("fc1", nn.Linear(width, hidden)),
            ("act", nn.GELU()),
            ("fc2", nn.Linear(hidden, embed_dim, bias=config.projection_bias)),
        ]
        layers["mlp"] = nn.Sequential(OrderedDict(mlp))
    return nn.Sequential(layers)
