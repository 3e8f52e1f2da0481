"""ONNX graphs are quantized to int8 without overflow on any processor, and converted to fp16 within its range."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zebra.pretrained.onnx.int8 import MAX_PAIR, quantize_graph, quantize_weight
from zebra.pretrained.onnx.model_folder import graph_file
from zebra.pretrained.onnx.precisions import write_smaller_graphs

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

finite = st.floats(-1e4, 1e4, width=32)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=finite))
def test_two_adjacent_products_never_exceed_16_bits(weight):
    """Kernels without VNNI add the products of inputs 2k and 2k + 1, each with an activation of 0 to 255."""
    integers, scale = quantize_weight(weight)
    padded = np.pad(np.abs(integers.astype(int)), ((0, len(integers) % 2), (0, 0)))
    assert (255 * (padded[::2] + padded[1::2]) < 1 << 15).all()
    assert (np.abs(integers * scale - weight) <= 0.5001 * scale).all()


def test_the_largest_pair_of_weights_uses_the_whole_range():
    integers, _ = quantize_weight(np.array([[3.0], [-1.0], [0.5], [2.0]], np.float32))
    assert abs(int(integers[0, 0])) + abs(int(integers[1, 0])) == MAX_PAIR


RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def build_model(nodes, inputs, output_shape, **tensors):
    """Return a model with the constant tensors and one output `y`."""
    values = [onnx.helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    output = onnx.helper.make_tensor_value_info("y", 1, output_shape)
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph(nodes, "tower", values, [output], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def node(op_type, inputs, output="y", **settings):
    return onnx.helper.make_node(op_type, inputs, [output], name=f"node_{output}", **settings)


def compute(model, x):
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


PRODUCTS = {
    "product": ([node("MatMul", ["x", "w"])], [2, 5, 32], {"w": weights(32, 8)}),
    "Gemm": (
        [node("Gemm", ["x", "w", "b"], alpha=1.0, beta=1.0, transB=1)],
        [4, 32],
        {"w": weights(8, 32), "b": weights(8)},
    ),
    "Gemm without bias": ([node("Gemm", ["x", "w"])], [4, 32], {"w": weights(32, 8)}),
    "patch embedding": (
        [node("Conv", ["x", "w", "b"], strides=[4, 4], pads=[0] * 4, group=1, kernel_shape=[4, 4])],
        [2, 3, 8, 12],
        {"w": weights(6, 3, 4, 4), "b": weights(6)},
    ),
    "patch embedding with a margin": (
        [node("Conv", ["x", "w"], strides=[4, 4], pads=[0] * 4, group=1, kernel_shape=[4, 4])],
        [2, 3, 11, 9],
        {"w": weights(6, 3, 4, 4)},
    ),
}


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_in_int8_are_close_to_fp32(kind, by_row):
    nodes, shape, tensors = PRODUCTS[kind]
    model = build_model(nodes, {"x": (1, shape)}, None, **tensors)
    x = weights(*shape)
    expected = compute(model, x)
    quantize_graph(model, by_row=by_row)
    actual = compute(model, x)
    assert "MatMulInteger" in {node.op_type for node in model.graph.node}
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) < 0.03 * np.linalg.norm(expected)
    assert not [tensor.name for tensor in model.graph.initializer if tensor.name == "w"]


def test_embeddings_of_tokens_have_a_scale_per_row():
    table = weights(300, 16) * np.logspace(-3, 3, 300, dtype=np.float32)[:, None]
    model = build_model([node("Gather", ["w", "x"])], {"x": (7, [2, 3])}, None, w=table)
    ids = np.array([[0, 150, 299], [1, 2, 3]])
    quantize_graph(model)
    actual = compute(model, ids)
    error = np.linalg.norm(actual - table[ids], axis=-1) / np.linalg.norm(table[ids], axis=-1)
    assert error.max() < 0.01
    assert 1 not in {
        tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 2 and tensor.dims[1] > 1
    }


def test_a_scale_per_row_keeps_small_rows_beside_a_large_one():
    x = weights(1, 4, 32)
    x[0, 0] *= 1000
    errors = []
    for by_row in (False, True):
        model = build_model([node("MatMul", ["x", "w"])], {"x": (1, [1, 4, 32])}, None, w=weights(32, 8))
        expected = compute(model, x)[0, 1:]
        quantize_graph(model, by_row=by_row)
        errors.append(np.linalg.norm(compute(model, x)[0, 1:] - expected) / np.linalg.norm(expected))
    assert errors[1] < 0.03 < errors[0]


def test_rows_of_zeros_give_zeros():
    model = build_model([node("MatMul", ["x", "w"])], {"x": (1, [1, 2, 32])}, None, w=weights(32, 8))
    quantize_graph(model, by_row=True)
    assert (compute(model, np.zeros((1, 2, 32), np.float32)) == 0).all()


@pytest.mark.parametrize("settings", [{"strides": [2, 2]}, {"strides": [4, 4], "pads": [1] * 4}])
def test_other_convolutions_stay_in_fp32(settings):
    conv = node("Conv", ["x", "w"], **({"pads": [0] * 4, "group": 1, "kernel_shape": [4, 4]} | settings))
    model = build_model([conv], {"x": (1, [1, 3, 8, 8])}, None, w=weights(6, 3, 4, 4))
    quantize_graph(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]


def write_tower(folder, factor, num_products=4):
    """Write a text tower of products with an outlier of size `factor`; return its inputs and its vectors."""
    (folder / "onnx").mkdir()
    tensors = {"table": weights(300, 32)} | {f"w{i}": weights(32, 32) / 6 for i in range(num_products)}
    outlier = np.ones(32, np.float32)
    outlier[0] = factor
    nodes = [
        node("Gather", ["table", "x"], "h0"),
        node("Mul", ["h0", "outlier"], "g0"),
        node("Div", ["g0", "outlier"], "x0"),
    ]
    nodes += [node("MatMul", [f"x{i}", f"w{i}"], f"x{i + 1}") for i in range(num_products)]
    nodes += [node("ReduceL2", [f"x{num_products}", "axis"], "norm"), node("Div", [f"x{num_products}", "norm"])]
    tensors |= {"outlier": outlier, "axis": np.array([-1])}
    model = build_model(nodes, {"x": (7, [1])}, None, **tensors)
    onnx.save(model, folder / graph_file("text", "fp32"))
    inputs = [{"x": np.array([i])} for i in range(5)]
    return inputs, torch.cat([torch.from_numpy(compute(model, arrays["x"])) for arrays in inputs])


def test_both_precisions_are_written_with_their_cosines(tmp_path):
    inputs, vectors = write_tower(tmp_path, 1.0)
    graphs, omitted = write_smaller_graphs(tmp_path, "text", inputs, vectors)
    assert [graph.precision for graph in graphs] == ["fp16", "int8"]
    assert omitted == []
    assert all(0.999 <= graph.min_cosine <= 1 for graph in graphs)
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {
        "text_model.onnx",
        "text_model_fp16.onnx",
        "text_model_quantized.onnx",
    }


def test_a_graph_whose_values_exceed_fp16_is_not_written_and_the_reason_is_given(tmp_path):
    inputs, vectors = write_tower(tmp_path, 1e6)
    graphs, omitted = write_smaller_graphs(tmp_path, "text", inputs, vectors)
    assert "fp16" not in [graph.precision for graph in graphs]
    assert omitted[0] == "The text tower is not written in fp16: a value exceeds the range of fp16."
    assert not (tmp_path / "onnx" / "text_model_fp16.onnx").exists()


def test_a_precision_that_is_not_close_enough_is_not_written_and_its_cosine_is_given(tmp_path):
    inputs, vectors = write_tower(tmp_path, 1.0)
    graphs, omitted = write_smaller_graphs(tmp_path, "text", inputs, vectors.flip(0))
    assert graphs == []
    assert [line.split(": ")[0] for line in omitted] == [
        f"The text tower is not written in {p}" for p in ("fp16", "int8")
    ]
    assert all("below 0.999" in line for line in omitted)
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"text_model.onnx"}
