"""Conversion of ONNX graphs to fp16, except for norms and softmax.

Inputs and outputs stay in fp32.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from zebra.pretrained.onnx.int8 import FLOAT, delete_unused_weights

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MAX_FP16 = float(np.finfo(np.float16).max)
FLOAT16 = 10
"""`TensorProto.FLOAT16`."""
FP32_OPERATORS = frozenset(
    {
        *("LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
        *("Softmax", "LogSoftmax", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "CumSum"),
        *("Pow", "Sqrt", "Reciprocal", "Div", "Exp", "Log", "Clip", "Expand", "Range", "Resize", "Cast"),
    }
)
"""Norms and sums, which overflow fp16 or lose small terms; the normalization of vectors; and operators that have no
fp16 everywhere."""


def convert_to_fp16(model: "ModelProto") -> None:
    """Convert weights and all operators but FP32_OPERATORS to fp16, in place; inputs and outputs stay in fp32."""
    converter = _Converter(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += converter.convert(node)
    nodes += converter.restore_outputs(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    delete_unused_weights(model)


class _Converter:
    """Inserts casts where fp16 and fp32 meet, each value at most once."""

    def __init__(self, model: "ModelProto") -> None:
        self._graph = model.graph
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        floats = {value.name for value in values if value.type.tensor_type.elem_type == FLOAT}
        self._floats = floats | set(self._weights)
        self._halves: set[str] = set()
        """Values that are computed in fp16."""
        self._casts: dict[tuple[str, bool], str] = {}

    def convert(self, node: "NodeProto") -> "list[NodeProto]":
        """Return the casts of the inputs of a node that it needs, and the node."""
        from onnx import numpy_helper

        is_half = node.op_type not in FP32_OPERATORS
        nodes: list[NodeProto] = []
        for index, name in enumerate(node.input):
            if name not in self._floats or is_half == (name in self._halves):
                continue
            if (name, is_half) not in self._casts:
                cast = self._casts[name, is_half] = f"{name}_{'fp16' if is_half else 'fp32'}"
                if name in self._weights:
                    array = numpy_helper.to_array(self._weights[name])
                    with np.errstate(over="ignore"):  # the mask of attention is −inf
                        self._graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), cast))
                else:
                    nodes.append(_cast(name, cast, FLOAT16 if is_half else FLOAT))
            node.input[index] = self._casts[name, is_half]
        if is_half:
            self._halves.update(name for name in node.output if name in self._floats)
            self._set_constant_type(node)
        return [*nodes, node]

    def restore_outputs(self, nodes: "list[NodeProto]") -> "list[NodeProto]":
        """Return the casts of the outputs of the graph that are computed in fp16."""
        casts = []
        for output in self._graph.output:
            if output.name in self._halves:
                half = f"{output.name}_fp16"
                for node in nodes:
                    node.output[:] = [half if name == output.name else name for name in node.output]
                    node.input[:] = [half if name == output.name else name for name in node.input]
                casts.append(_cast(half, output.name, FLOAT))
        return casts

    def _set_constant_type(self, node: "NodeProto") -> None:
        """Convert a constant that is an attribute of a node."""
        from onnx import numpy_helper

        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == FLOAT:
                array = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(array))


def _cast(source: str, target: str, data_type: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [source], [target], f"{target}_cast", to=data_type)
