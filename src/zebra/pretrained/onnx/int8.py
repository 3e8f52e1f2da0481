"""Dynamic int8 quantization of ONNX graphs.

Weights are rounded once, with a scale per output; activations at every call, with a scale per tensor or per row.
onnxruntime fuses the operators of a product into one, and all are standard, so that onnxruntime-web runs them, too.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MAX_WEIGHT = 127
MAX_PAIR = 127
"""Limit of the sum of two adjacent weights. Without VNNI, kernels add two products with activations of up to 255 in 16
bits; rounding may add 1 to the sum, and 255 · 128 is still below 2¹⁵."""
MIN_EMBEDDING_ROWS = 256
"""Tables with fewer rows, such as those of positions, stay in fp32."""
FLOAT = 1
"""`TensorProto.FLOAT`."""
_TINY = np.float32(np.finfo(np.float32).tiny)
"""Scale of weights that are all zero."""


def quantize_graph(model: "ModelProto", *, by_row: bool = False, keep: Collection[str] = ()) -> None:
    """Quantize products with weight matrices, the patch convolution and the token embeddings of a graph, in place.

    Args:
        by_row: Scale each row of activations by its maximum first, so that a row with large values does not reduce the
            precision of others. This takes 15 % more time.
        keep: Names of the nodes that stay in fp32.
    """
    quantizer = _Quantizer(model, by_row)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += [node] if node.name in keep else quantizer.replace(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    delete_unused_weights(model)


def delete_unused_weights(model: "ModelProto") -> None:
    """Delete the weights that no node of a graph reads."""
    used = {name for node in model.graph.node for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def quantize_weight(weight_IO: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return integers and the scale per output, such that no kernel overflows; see MAX_PAIR."""
    magnitude_IO = np.abs(weight_IO)
    padded_IO = np.pad(magnitude_IO, ((0, len(weight_IO) % 2), (0, 0)))
    pair_O = (padded_IO[::2] + padded_IO[1::2]).max(axis=0)
    scale_O = np.maximum(np.maximum(magnitude_IO.max(axis=0) / MAX_WEIGHT, pair_O / MAX_PAIR), _TINY)
    return (weight_IO / scale_O).round().astype(np.int8), scale_O.astype(np.float32)


@dataclass
class _Quantizer:
    """Replaces nodes, and adds the weights of the new ones to the graph."""

    model: "ModelProto"
    by_row: bool
    weights: "dict[str, Any]" = field(init=False)

    def __post_init__(self) -> None:
        self.weights = {tensor.name: tensor for tensor in self.model.graph.initializer}

    def replace(self, node: "NodeProto") -> "list[NodeProto]":
        """Return the nodes that compute the output of `node` in int8, or `node` itself."""
        from onnx import helper

        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        match node.op_type:
            case "MatMul" if self._has_matrix(node.input[1]):
                return list(self._product(node, node.input[0], self._load(node.input[1]), node.output[0]))
            case "Gemm" if self._has_matrix(node.input[1]) and _is_linear(settings):
                weight = self._load(node.input[1])
                return list(self._gemm(node, weight.T if settings.get("transB") else weight))
            case "Conv" if self._is_patch_embedding(node, settings):
                return list(self._patch_embedding(node))
            case "Gather" if settings.get("axis", 0) == 0 and self._has_matrix(node.input[0], MIN_EMBEDDING_ROWS):
                return list(self._embedding(node))
        return [node]

    def _gemm(self, node: "NodeProto", weight_IO: NDArray[np.float32]) -> "Iterator[NodeProto]":
        if len(node.input) < 3:
            yield from self._product(node, node.input[0], weight_IO, node.output[0])
            return
        product = f"{node.name}_product"
        yield from self._product(node, node.input[0], weight_IO, product)
        yield _node("Add", [product, node.input[2]], node.output[0])

    def _product(self, node: "NodeProto", x: str, weight_IO: NDArray[np.float32], output: str) -> "Iterator[NodeProto]":
        """Yield the nodes of a product with a weight matrix."""
        name = node.name
        integers, scale_O = quantize_weight(weight_IO)
        weight = self._add(f"{name}_weight", integers)
        weight_scale = self._add(f"{name}_weight_scale", scale_O)
        weight_zero = self._add(f"{name}_weight_zero", np.zeros(len(scale_O), np.int8))
        target = output
        if self.by_row:
            last_axis, tiny = self._add(f"{name}_axis", np.array([-1])), self._add(f"{name}_tiny", _TINY)
            yield _node("Abs", [x], f"{name}_abs")
            yield _node("ReduceMax", [f"{name}_abs", last_axis], f"{name}_max")
            yield _node("Max", [f"{name}_max", tiny], f"{name}_row_scale")
            yield _node("Div", [x, f"{name}_row_scale"], f"{name}_rows")
            x, target = f"{name}_rows", f"{name}_scaled"
        quantized = [f"{name}_int8", f"{name}_scale", f"{name}_zero"]
        yield _node("DynamicQuantizeLinear", [x], *quantized)
        yield _node("MatMulInteger", [quantized[0], weight, quantized[2], weight_zero], f"{name}_sums")
        yield _node("Cast", [f"{name}_sums"], f"{name}_float_sums", to=FLOAT)
        yield _node("Mul", [quantized[1], weight_scale], f"{name}_scales")
        yield _node("Mul", [f"{name}_float_sums", f"{name}_scales"], target)
        if self.by_row:
            yield _node("Mul", [target, f"{name}_row_scale"], output)

    def _is_patch_embedding(self, node: "NodeProto", settings: dict[str, Any]) -> bool:
        """Return whether a convolution multiplies each pixel once."""
        tensor = self.weights.get(node.input[1])
        sides = [] if tensor is None else list(tensor.dims[2:])
        return (
            len(sides) == 2
            and node.input[0] in {value.name for value in self.model.graph.input}
            and list(settings.get("strides", ())) == sides
            and not any(settings.get("pads", ()))
            and settings.get("group", 1) == 1
        )

    def _patch_embedding(self, node: "NodeProto") -> "Iterator[NodeProto]":
        """Yield the nodes of a convolution with stride = kernel as a product: [B, C, H, W] → [B, D, h, w]."""
        [pixels] = [value for value in self.model.graph.input if value.name == node.input[0]]
        _, channels, height, width = [axis.dim_value for axis in pixels.type.tensor_type.shape.dim]
        weight = self._load(node.input[1])
        dim, _, rows, columns = weight.shape
        h, w, name = height // rows, width // columns, node.name
        cropped = node.input[0]
        if (h * rows, w * columns) != (height, width):  # a convolution ignores the pixels after the last patch
            cropped, axes = f"{name}_cropped", self._add(f"{name}_axes", np.array([2, 3]))
            start = self._add(f"{name}_start", np.array([0, 0]))
            end = self._add(f"{name}_end", np.array([h * rows, w * columns]))
            yield _node("Slice", [node.input[0], start, end, axes], cropped)
        blocks = self._add(f"{name}_blocks_shape", np.array([-1, channels, h, rows, w, columns]))
        patches = self._add(f"{name}_patches_shape", np.array([-1, h * w, channels * rows * columns]))
        grid = self._add(f"{name}_grid_shape", np.array([-1, dim, h, w]))
        yield _node("Reshape", [cropped, blocks], f"{name}_blocks")
        yield _node("Transpose", [f"{name}_blocks"], f"{name}_patch_blocks", perm=[0, 2, 4, 1, 3, 5])
        yield _node("Reshape", [f"{name}_patch_blocks", patches], f"{name}_patches")
        product = f"{name}_product"
        yield from self._product(node, f"{name}_patches", weight.reshape(dim, -1).T, product)
        if len(node.input) > 2:
            yield _node("Add", [product, node.input[2]], f"{name}_biased")
            product = f"{name}_biased"
        yield _node("Transpose", [product], f"{name}_channels_first", perm=[0, 2, 1])
        yield _node("Reshape", [f"{name}_channels_first", grid], node.output[0])

    def _embedding(self, node: "NodeProto") -> "Iterator[NodeProto]":
        """Yield the nodes of a table with a scale per row."""
        table_VD, name = self._load(node.input[0]), node.name
        scale_V1 = np.maximum(np.abs(table_VD).max(axis=1, keepdims=True) / MAX_WEIGHT, _TINY)
        table = self._add(f"{name}_table", (table_VD / scale_V1).round().astype(np.int8))
        scale = self._add(f"{name}_table_scale", scale_V1)
        yield _node("Gather", [table, node.input[1]], f"{name}_int8")
        yield _node("Cast", [f"{name}_int8"], f"{name}_float", to=FLOAT)
        yield _node("Gather", [scale, node.input[1]], f"{name}_scale")
        yield _node("Mul", [f"{name}_float", f"{name}_scale"], node.output[0])

    def _has_matrix(self, name: str, min_rows: int = 2) -> bool:
        """Return whether a value is a constant fp32 matrix."""
        tensor = self.weights.get(name)
        return tensor is not None and tensor.data_type == FLOAT and len(tensor.dims) == 2 and tensor.dims[0] >= min_rows

    def _load(self, name: str) -> NDArray[np.float32]:
        from onnx import numpy_helper

        return numpy_helper.to_array(self.weights[name])

    def _add(self, name: str, array: NDArray[Any] | np.generic) -> str:
        from onnx import numpy_helper

        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name


def _is_linear(settings: dict[str, Any]) -> bool:
    return (settings.get("alpha", 1), settings.get("beta", 1), settings.get("transA", 0)) == (1, 1, 0)


def _node(op_type: str, inputs: list[str], *outputs: str, **settings: Any) -> "NodeProto":
    """Return a node that is named after its first output."""
    from onnx import helper

    return helper.make_node(op_type, inputs, list(outputs), f"{outputs[0]}_node", **settings)
