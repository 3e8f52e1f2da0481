"""Export of models to ONNX, with all files to run them without zebra."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from zebra.config.transformer import MAX_TOKENS
from zebra.errors import ConfigError, MissingExtra
from zebra.models import CLIP
from zebra.models.image.naflex import NaflexVision
from zebra.models.library_tower import LibraryTower
from zebra.models.text.bert import BertText
from zebra.models.text.causal import TextTransformer
from zebra.models.text.coca import CocaText
from zebra.models.text.transformers_text import TransformersText
from zebra.models.towers import TextTower
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.onnx_readme import render_onnx_readme
from zebra.values import PatchBatch

OPSET = 18
"""The version that torch's exporter writes without conversion; onnxruntime reads it since 1.14."""


def export_onnx(bundle: Bundle, folder: Path, opset: int = OPSET) -> None:
    """Write the graphs of both towers, preprocessing, tokenizer, and a README with an example.

    `image.onnx` maps `pixels`, float32 [batch, 3, S, S] from `Preprocess.normalize`, to `image_vectors` [batch, E]. For
    NaFlex it maps `patches`, float32 [batch, P, I], and `grid`, int64 [batch, 2]: the fields of a normalized
    `PatchBatch`, of which the graph computes the mask.
    `text.onnx` maps `tokens`, int64 [batch, length], to `text_vectors` [batch, E]; the length is dynamic up to the
    context length, but fixed for towers that need padding: SigLIP, CLIPA, MobileCLIP, CoCa. Vectors have unit length,
    weights are fp32. A graph is limited to 2 GB, so the weights of larger towers are in a second file
    (`image.onnx.data`).

    Args:
        bundle: Any model, on any device; it is not changed.
        folder: Created if it does not exist.
        opset: Version of the ONNX operators, at least 18.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
        WeightsError: The model has no tokenizer.
        ConfigError: The model was not loaded in fp32, or torch cannot export a tower of another library.
    """
    bundle.require_fp32("exported")
    tokenizer = bundle.require_tokenizer()
    config, tower = bundle.model.config, bundle.model.text
    length = config.text.context_length
    folder.mkdir(parents=True, exist_ok=True)

    export_image_tower(bundle.model, folder / "image.onnx", opset)

    path, module = folder / "text.onnx", _to_exportable(tower)
    if isinstance(tower, TextTransformer | BertText | TransformersText):
        tokens = torch.zeros(2, 3, dtype=torch.int64)
        dynamic_dims = {0: Dim("batch"), 1: Dim("length", min=2, max=length)}
        _export_graph(module, {"tokens": (tokens, dynamic_dims)}, "text_vectors", path, opset)
    else:
        tokens = torch.zeros(2, length, dtype=torch.int64)
        _export_graph(module, {"tokens": (tokens, {0: Dim("batch")})}, "text_vectors", path, opset)

    tokenizer.save(folder / "tokenizer.json")
    preprocess = json.dumps(bundle.preprocess.to_dict(), indent=1) + "\n"
    (folder / "preprocess.json").write_text(preprocess, encoding="utf-8")
    (folder / "README.md").write_text(render_onnx_readme(bundle), encoding="utf-8")


def export_image_tower(model: CLIP, path: Path, opset: int = OPSET) -> None:
    """Write the graph of the image tower, as in `export_onnx`.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
        ConfigError: torch cannot export the tower.
    """
    config, tower = model.config, model.visual
    if isinstance(tower, NaflexVision):
        patches = torch.zeros(2, 6, tower.patch_embed.in_features)
        grids = torch.tensor([[2, 3], [1, 4]])
        batch = Dim("batch")
        inputs = {"patches": (patches, {0: batch, 1: Dim("length", max=MAX_TOKENS)}), "grid": (grids, {0: batch})}
        _export_graph(_MaskedNaflexTower(tower), inputs, "image_vectors", path, opset)
    else:
        pixels = torch.zeros(2, 3, config.image_size, config.image_size)
        _export_graph(tower, {"pixels": (pixels, {0: Dim("batch")})}, "image_vectors", path, opset)


def _to_exportable(tower: TextTower) -> nn.Module:
    """Return a module of the same function whose operations do not depend on the values of the tokens."""
    match tower:
        case TextTransformer():
            return _UnpackedTextTower(tower)
        case BertText():
            return _PaddedBertTower(tower)
        case CocaText():
            return _PaddedCocaTower(tower)
    return tower


class _PaddedBertTower(nn.Module):
    """A tower of the BERT family with padding and a mask; its own order of tokens depends on the lengths of texts."""

    def __init__(self, tower: BertText) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        tower, is_token_BL = self.tower, tokens_BL != self.tower.pad_id
        x_BLD = tower.ln_pre(tower.token_embedding(tokens_BL) + tower.positional_embedding[: tokens_BL.shape[1]])
        x_BLD = tower.transformer(x_BLD, attn_mask=is_token_BL[:, None, None])
        if tower.pooling != "mean":
            return tower.project(x_BLD[:, 0])
        weight_BL1 = is_token_BL[..., None].to(x_BLD.dtype)
        return tower.project((x_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1))


class _UnpackedTextTower(nn.Module):
    """The causal text tower without packing of common prefixes, which depends on the values of the tokens."""

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        tower = self.tower
        x_BLD = tower.token_embedding(tokens_BL) + tower.positional_embedding[: tokens_BL.shape[1]]
        position = torch.arange(tokens_BL.shape[1])
        x_BLD = tower.transformer(x_BLD, attn_mask=position <= position[:, None])
        # len() would fix the batch size to that of the example.
        pooled_BD = x_BLD[torch.arange(tokens_BL.shape[0]), tower.end_position(tokens_BL)]
        vectors_BE: Tensor = tower.ln_final(pooled_BD) @ tower.text_projection
        return vectors_BE


class _PaddedCocaTower(nn.Module):
    """CoCa's text tower over the whole context; it shortens texts by the longest one."""

    def __init__(self, tower: CocaText) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        return self.tower.encode_padded(tokens_BL)


class _MaskedNaflexTower(nn.Module):
    """A NaFlex tower that computes from the grids which patches are padding."""

    def __init__(self, tower: NaflexVision) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, patches_BPI: Tensor, grid_B2: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        mask_BP = torch.arange(patches_BPI.shape[1]) < grid_B2.prod(dim=1, keepdim=True)
        vectors_BE: Tensor = self.tower(PatchBatch(patches_BPI, grid_B2, mask_BP))
        return vectors_BE


class _NormalizedTower(nn.Module):
    """A tower followed by normalization to unit length."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return unit vectors [B, E]."""
        return F.normalize(self.tower(*inputs), dim=-1)


def _export_graph(
    tower: nn.Module, inputs: dict[str, tuple[Tensor, dict[int, Dim]]], output_name: str, path: Path, opset: int
) -> None:
    """Write the graph of a tower that returns vectors, which are normalized.

    Args:
        inputs: An example and the dynamic axes of each input, by its name in the graph.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise MissingExtra(error.name or "onnx", "exporting to ONNX", "onnx") from error
    tower = copy.deepcopy(tower)
    if isinstance(tower, LibraryTower):
        tower.fuse()
    module = _NormalizedTower(tower).cpu().float().eval()
    try:
        with _silence_exporter():
            program = torch.onnx.export(
                module,
                tuple(example for example, _ in inputs.values()),
                input_names=list(inputs),
                output_names=[output_name],
                dynamic_shapes=(tuple(dynamic_dims for _, dynamic_dims in inputs.values()),),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:  # of another library's code
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise ConfigError(
            f"torch {torch.__version__} cannot export the tower of {path.name} to ONNX: {reason}. "
            "Use the backend torch."
        ) from error
    assert program is not None
    # The exporter silently fixes an axis if the code converts its size to a Python number.
    for graph_input, (example, dynamic_dims) in zip(program.model.graph.inputs, inputs.values(), strict=True):
        shape = graph_input.shape
        assert shape is not None
        assert all(isinstance(shape[axis], int) != (axis in dynamic_dims) for axis in range(example.ndim)), (
            f"{path}: {shape}"
        )
    # Delete the metadata: it names the source files and lines on this machine.
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(path)
    onnx.checker.check_model(str(path), full_check=True)


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress log lines and warnings of torch and onnxscript about their internals."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
