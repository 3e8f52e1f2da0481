"""Writing of the graphs of towers by torch's exporter."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from zebra.config.transformer import MAX_TOKENS
from zebra.errors import ConfigError, MissingExtra
from zebra.models import CLIP
from zebra.models.image.naflex import NaflexVision
from zebra.models.library_tower import LibraryTower
from zebra.pretrained.onnx.model_folder import GRID, PIXELS, TOKENS
from zebra.pretrained.onnx.towers import MaskedNaflexTower, NormalizedTower, has_fixed_length, to_exportable

OPSET = 18
"""The version that torch's exporter writes without conversion; onnxruntime reads it since 1.14."""
MAX_INLINE_BYTES = 2_000_000_000
"""Weights of larger towers are in a second file, `NAME.onnx_data`, because protobuf is limited to 2 GiB."""


def write_image_graph(model: CLIP, path: Path, output_name: str = "image_embeds") -> None:
    """Write the graph of the image tower in fp32; see `export_onnx` for its inputs.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
        ConfigError: torch cannot export the tower.
    """
    config, tower, batch = model.config, model.visual, Dim("batch")
    if isinstance(tower, NaflexVision):
        patches = torch.zeros(2, 6, tower.patch_embed.in_features)
        grids = torch.tensor([[2, 3], [1, 4]])
        inputs = {PIXELS: (patches, {0: batch, 1: Dim("length", max=MAX_TOKENS)}), GRID: (grids, {0: batch})}
        _write_graph(MaskedNaflexTower(tower), inputs, output_name, path)
    else:
        pixels = torch.zeros(2, 3, config.image_size, config.image_size)
        _write_graph(tower, {PIXELS: (pixels, {0: batch})}, output_name, path)


def write_text_graph(model: CLIP, path: Path, output_name: str = "text_embeds") -> None:
    """Write the graph of the text tower in fp32; otherwise as `write_image_graph`."""
    length, tower = model.config.text.context_length, model.text
    if has_fixed_length(tower):
        tokens, dynamic_dims = torch.zeros(2, length, dtype=torch.int64), {0: Dim("batch")}
    else:
        tokens = torch.zeros(2, 3, dtype=torch.int64)
        dynamic_dims = {0: Dim("batch"), 1: Dim("length", min=2, max=length)}
    _write_graph(to_exportable(tower), {TOKENS: (tokens, dynamic_dims)}, output_name, path)


def _write_graph(
    tower: nn.Module, inputs: dict[str, tuple[Tensor, dict[int, Dim]]], output_name: str, path: Path
) -> None:
    """Write the graph of a tower that returns vectors, which are normalized.

    Args:
        inputs: An example and the dynamic axes of each input, by its name in the graph.
    """
    try:
        import onnx
        import onnx_ir
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise MissingExtra(error.name or "onnx", "exporting to ONNX", "onnx") from error
    tower = copy.deepcopy(tower)
    if isinstance(tower, LibraryTower):
        tower.fuse()
    module = NormalizedTower(tower).cpu().float().eval()
    try:
        with _silence_exporter():
            program = torch.onnx.export(
                module,
                tuple(example for example, _ in inputs.values()),
                input_names=list(inputs),
                output_names=[output_name],
                dynamic_shapes=(tuple(dynamic_dims for _, dynamic_dims in inputs.values()),),
                opset_version=OPSET,
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
    weights = [value.const_value for value in program.model.graph.initializers.values()]
    num_bytes = sum(weight.nbytes for weight in weights if weight is not None)
    onnx_ir.save(program.model, path, external_data=f"{path.name}_data" if num_bytes > MAX_INLINE_BYTES else None)
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
