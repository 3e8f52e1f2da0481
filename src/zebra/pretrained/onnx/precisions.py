"""Graphs in smaller precisions, each as close to fp32 as required."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.pretrained.onnx.fp16 import MAX_FP16, convert_to_fp16
from zebra.pretrained.onnx.graph import MAX_INLINE_BYTES
from zebra.pretrained.onnx.int8 import quantize_graph, quantize_weight
from zebra.pretrained.onnx.model_folder import GRAPHS_DIR, Graph, GraphPrecision, Tower, graph_file
from zebra.pretrained.onnx.probes import Inputs
from zebra.pretrained.onnx.session import build_session
from zebra.pretrained.precision import MIN_COSINE

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PURPOSE = "exporting to ONNX"
"""What needs onnxruntime, for the message if it is missing."""
NO_ATTEMPT: dict[GraphPrecision, str] = {
    "fp32": "",
    "fp16": "a value exceeds the range of fp16",
    "int8": "most of its weights are convolutions, which int8 does not make faster",
}
"""Why nothing is tried in a precision."""
NUM_RANKED = 3
"""Inputs whose values inside of the graph are looked at; they take a lot of memory."""
MIN_MASK = 1e30
"""Larger magnitudes are masks of attention, which become −inf in fp16."""
KEPT_FRACTIONS = (0.25, 0.5)
"""Fractions of the products that are tried in fp32 if int8 in all is not close enough."""


def write_smaller_graphs(
    folder: Path, tower: Tower, inputs: Sequence[Inputs], vectors_NE: Tensor
) -> tuple[list[Graph], list[str]]:
    """Write a tower in fp16 and int8, beside its graph in fp32.

    int8 is tried from the fastest to the closest: a scale per tensor of activations, a scale per row, and a part of the
    products in fp32. A precision with a smaller cosine than MIN_COSINE is not written.

    Args:
        inputs: Inputs on which the precisions are compared.
        vectors_NE: The vectors of torch in fp32 for all inputs.

    Returns:
        The entries of the graphs in zebra.json, and a line for each precision that is not written.
    """
    attempts: dict[GraphPrecision, Iterator[ModelProto]] = {
        "fp16": _fp16_attempts(folder, tower, inputs),
        "int8": _int8_attempts(folder, tower, inputs),
    }
    graphs, omitted = [], []
    for precision, models in attempts.items():
        reasons = []
        for model in models:
            graph = save_graph(model, folder, tower, precision, inputs, vectors_NE)
            if graph.min_cosine >= MIN_COSINE:
                graphs.append(graph)
                break
            reasons.append(f"its smallest cosine to fp32 is {graph.min_cosine:.4f}, below {MIN_COSINE}")
            for name in graph.files:
                (folder / name).unlink()
        else:
            reason = reasons[-1] if reasons else NO_ATTEMPT[precision]
            omitted.append(f"The {tower} tower is not written in {precision}: {reason}.")
    return graphs, omitted


def run_graph(path: Path, inputs: Iterable[Inputs]) -> Tensor:
    """Return the vectors [N, E] of a graph for all inputs."""
    session = build_session(path, num_threads=torch.get_num_threads(), purpose=PURPOSE)
    return torch.cat([torch.from_numpy(session.run(None, arrays)[0]) for arrays in inputs])


def save_graph(
    model: "ModelProto", folder: Path, tower: Tower, precision: GraphPrecision, inputs: Sequence[Inputs], target: Tensor
) -> Graph:
    """Write a graph, and return its entry in zebra.json with the smallest cosine to the vectors `target` [N, E]."""
    import onnx

    path = folder / graph_file(tower, precision)
    data = path.with_name(f"{path.name}_data")
    num_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    is_large = num_bytes > MAX_INLINE_BYTES
    onnx.save(model, path, save_as_external_data=is_large, location=data.name if is_large else None)
    return describe_graph(path, tower, precision, run_graph(path, inputs), target)


def describe_graph(path: Path, tower: Tower, precision: GraphPrecision, vectors_NE: Tensor, target_NE: Tensor) -> Graph:
    """Return the entry of a graph in zebra.json."""
    data = path.with_name(f"{path.name}_data")
    cosines_N = torch.cosine_similarity(vectors_NE, target_NE).nan_to_num(-1.0)
    return Graph(
        tower=tower,
        precision=precision,
        file=graph_file(tower, precision),
        data=f"{GRAPHS_DIR}/{data.name}" if data.is_file() else None,
        min_cosine=math.floor(1e6 * float(cosines_N.min())) / 1e6,
    )


def _fp16_attempts(folder: Path, tower: Tower, inputs: Sequence[Inputs]) -> "Iterator[ModelProto]":
    """Yield the graph in fp16, unless a value exceeds its range.

    onnxruntime computes fp16 in fp32 on most CPUs, so an overflow would be seen on other devices only.
    """
    path = folder / graph_file(tower, "fp32")
    largest = 0.0
    for _, values in _intermediate_values(path, inputs[:NUM_RANKED]):
        magnitudes = np.abs(values)
        largest = max(largest, float(magnitudes[magnitudes < MIN_MASK].max(initial=0.0)))
    if largest < MAX_FP16:
        model = _load(path)
        convert_to_fp16(model)
        yield model


def _int8_attempts(folder: Path, tower: Tower, inputs: Sequence[Inputs]) -> "Iterator[ModelProto]":
    """Yield graphs in int8, from the fastest to the closest; none if the tower has almost no matrices."""
    path = folder / graph_file(tower, "fp32")
    if not _is_quantizable(_load(path)):
        return
    for by_row in (False, True):
        model = _load(path)
        quantize_graph(model, by_row=by_row)
        yield model
    ranked = _rank_products(path, inputs[:NUM_RANKED])
    for fraction in KEPT_FRACTIONS:
        model = _load(path)
        quantize_graph(model, by_row=True, keep=ranked[: math.ceil(fraction * len(ranked))])
        yield model


def _is_quantizable(model: "ModelProto") -> bool:
    """Return whether matrices have most of the weights of a graph; int8 saves nothing in convolutions of 3 × 3."""
    sizes = {tensor.name: (math.prod(tensor.dims), len(tensor.dims)) for tensor in model.graph.initializer}
    in_matrices = sum(size for size, num_axes in sizes.values() if num_axes == 2)
    return bool(in_matrices > 0.5 * sum(size for size, _ in sizes.values()))


def _rank_products(path: Path, inputs: Sequence[Inputs]) -> list[str]:
    """Return the names of the products with weight matrices, the one with the largest relative error in int8 first."""
    from onnx import numpy_helper

    model = _load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    products: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights:
            products[node.input[0]].append(node)
    errors: dict[str, float] = defaultdict(float)
    for name, values in _intermediate_values(path, inputs, frozenset(products)):
        x_NI = values.reshape(-1, values.shape[-1])
        step_N1 = np.abs(x_NI).max(axis=1, keepdims=True) / 127 + 1e-30
        rounded_NI = (x_NI / step_N1).round() * step_N1
        for node in products[name]:
            weight = numpy_helper.to_array(weights[node.input[1]])
            weight_IO = weight if weight.shape[0] == x_NI.shape[1] and node.op_type == "MatMul" else weight.T
            integers_IO, scale_O = quantize_weight(weight_IO)
            exact_NO = x_NI @ weight_IO
            error = np.linalg.norm(rounded_NI @ (integers_IO * scale_O) - exact_NO) / (np.linalg.norm(exact_NO) + 1e-30)
            errors[node.name] = max(errors[node.name], float(error))
    return sorted(errors, key=lambda name: -errors[name])


def _intermediate_values(
    path: Path, inputs: Iterable[Inputs], names: frozenset[str] | None = None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield names and fp32 values inside of a graph for each of the inputs; all values by default."""
    from onnx import helper

    model = _load(path)
    outputs = {name for node in model.graph.node for name in node.output if name}
    wanted = outputs if names is None else outputs & names
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(wanted))
    session = build_session(model.SerializeToString(), num_threads=torch.get_num_threads(), purpose=PURPOSE)
    for arrays in inputs:
        for name, values in zip(sorted(wanted), session.run(None, arrays), strict=True):
            if values.dtype == np.float32:
                yield name, values


def _load(path: Path) -> "ModelProto":
    import onnx

    return onnx.load(path)
