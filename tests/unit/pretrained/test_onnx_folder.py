"""Folders of ONNX graphs are verified without torch and without the package onnx."""

import json
import subprocess
import sys

import pytest

import zebra
from zebra.errors import WeightsError
from zebra.pretrained.manifest import write_manifest
from zebra.pretrained.onnx.graph_check import check_graph
from zebra.pretrained.onnx.model_folder import Graph, OnnxModel, read_onnx_model, verify_graph, verify_settings
from zebra.pretrained.onnx.session import build_session

onnx = pytest.importorskip("onnx")

GRAPH = Graph("image", "fp32", "onnx/vision_model.onnx", None, 1.0)
WITH_DATA = Graph("image", "fp32", "onnx/vision_model.onnx", "onnx/vision_model.onnx_data", 1.0)
MODEL = OnnxModel("c0ffee", 8, (), 16, False, 0, 100.0, None, ("{}",), (GRAPH,))
DATA_BYTES = 32


def external_tensor(location, offset=0, length=DATA_BYTES):
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [8], [0.0] * 8)
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def build_model(initializers=(), attributes=()):
    """Return a model that adds a tensor to its input, with tensors in the graph or in attributes of a node."""
    constant = onnx.helper.make_node("Constant", [], ["c"])
    constant.attribute.extend(attributes)
    add = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [8]) for name in "xy")
    nodes = [constant, add] if attributes else [add]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "tower", [x], [y], list(initializers)))


@pytest.fixture
def folder(tmp_path):
    """A folder with a graph that has its weights, and a data file that it does not use."""
    (tmp_path / "onnx").mkdir()
    inline = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [8], [1.0] * 8)
    write(tmp_path, build_model([inline]))
    (tmp_path / "onnx" / "vision_model.onnx_data").write_bytes(bytes(DATA_BYTES))
    for name in ("preprocess.json", "tokenizer.json", "golden.npz"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "zebra.json").write_text(json.dumps(MODEL.to_dict()))
    write_manifest(tmp_path, subfolders=["onnx"])
    return tmp_path


def write(folder, model):
    (folder / "onnx" / "vision_model.onnx").write_bytes(model.SerializeToString())


def test_a_complete_folder_is_accepted(folder):
    verify_settings(folder)
    assert read_onnx_model(folder) == MODEL
    assert verify_graph(folder, GRAPH) == folder / GRAPH.file


def test_weights_beside_the_graph_are_accepted_if_zebra_json_names_the_file(folder):
    write(folder, build_model([external_tensor("vision_model.onnx_data")]))
    write_manifest(folder, subfolders=["onnx"])
    assert verify_graph(folder, WITH_DATA) == folder / GRAPH.file
    with pytest.raises(WeightsError, match=r"reads its weights from 'vision_model\.onnx_data'"):
        verify_graph(folder, GRAPH)


OUTSIDE = [
    "/etc/passwd",
    "../zebra.json",
    "..\\zebra.json",
    "a/../../b",
    "",
    ".",
    "vision_model.onnx_data/../x",
    "file:x",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_weights_elsewhere_are_refused(folder, location):
    write(folder, build_model([external_tensor(location)]))
    with pytest.raises(WeightsError, match=r"vision_model\.onnx reads its weights from .* Do not trust this folder"):
        check_graph(folder / GRAPH.file, "vision_model.onnx_data")


def nested_attribute(kind):
    """Return an attribute that has a tensor with weights elsewhere at each place where ONNX allows one."""
    tensor, attribute = external_tensor("../x"), onnx.AttributeProto(name="value")
    sparse = onnx.SparseTensorProto(values=tensor, indices=tensor, dims=[8])
    graph = onnx.helper.make_graph([], "nested", [], [], [tensor])
    match kind:
        case "tensor":
            attribute.t.CopyFrom(tensor)
        case "tensors":
            attribute.tensors.append(tensor)
        case "graph":
            attribute.g.CopyFrom(graph)
        case "graphs":
            attribute.graphs.append(graph)
        case "sparse tensor":
            attribute.sparse_tensor.CopyFrom(sparse)
        case "sparse tensors":
            attribute.sparse_tensors.append(sparse)
    return attribute


@pytest.mark.parametrize("kind", ["tensor", "tensors", "graph", "graphs", "sparse tensor", "sparse tensors"])
def test_weights_elsewhere_are_found_in_every_part_of_a_node(folder, kind):
    write(folder, build_model(attributes=[nested_attribute(kind)]))
    with pytest.raises(WeightsError, match=r"reads its weights from '\.\./x'"):
        check_graph(folder / GRAPH.file)


@pytest.mark.parametrize("part", ["sparse initializer", "function", "training"])
def test_weights_elsewhere_are_found_in_every_part_of_a_model(folder, part):
    model, tensor = build_model(), external_tensor("../x")
    if part == "sparse initializer":
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, dims=[8]))
    elif part == "function":
        function = model.functions.add(name="f", domain="d")
        function.node.add(op_type="Constant").attribute.append(nested_attribute("tensor"))
    else:
        model.training_info.add().initialization.initializer.append(tensor)
    write(folder, model)
    with pytest.raises(WeightsError, match=r"reads its weights from '\.\./x'"):
        check_graph(folder / GRAPH.file)


@pytest.mark.parametrize(("offset", "length"), [(0, 33), (32, 1), (-1, 8), (1 << 62, 8), (0, -1)])
def test_weights_beyond_the_end_of_their_file_are_refused(folder, offset, length):
    write(folder, build_model([external_tensor("vision_model.onnx_data", offset, length)]))
    with pytest.raises(WeightsError, match="reads the bytes"):
        check_graph(folder / GRAPH.file, "vision_model.onnx_data")


@pytest.mark.parametrize("value", ["nine", "9" * 5000, "1.5"])
def test_an_offset_that_is_no_number_is_refused(folder, value):
    write(folder, build_model([external_tensor("vision_model.onnx_data", offset=value)]))
    with pytest.raises(WeightsError, match="damaged or truncated"):
        check_graph(folder / GRAPH.file, "vision_model.onnx_data")


def test_a_graph_truncated_at_any_byte_is_refused(folder):
    path = folder / GRAPH.file
    data = path.read_bytes()
    complete = {len(data)}
    for end in range(len(data)):
        path.write_bytes(data[:end])
        try:
            check_graph(path)
            complete.add(end)
        except WeightsError as error:
            assert "vision_model.onnx" in str(error)
    # Protobuf has no end mark: without the last field, the version of the operators, it is a valid message.
    assert len(complete) <= 2


@pytest.mark.parametrize("content", [b"<html>Not Found</html>", b"PK\x03\x04", bytes(64), b"\x00", b"\xff" * 40])
def test_a_file_that_is_no_graph_is_refused(folder, content):
    (folder / GRAPH.file).write_bytes(content)
    with pytest.raises(WeightsError, match="ONNX"):
        check_graph(folder / GRAPH.file)


def test_graphs_nested_without_end_are_refused(folder):
    graph = onnx.helper.make_graph([], "inner", [], [])
    for _ in range(20):
        attribute = onnx.AttributeProto(name="body", g=graph)
        node = onnx.helper.make_node("If", [], [])
        node.attribute.append(attribute)
        graph = onnx.helper.make_graph([node], "outer", [], [])
    write(folder, onnx.helper.make_model(graph))
    with pytest.raises(WeightsError, match="nested deeper"):
        check_graph(folder / GRAPH.file)


@pytest.mark.parametrize("name", ["zebra.json", "preprocess.json", "tokenizer.json", "golden.npz"])
def test_a_changed_setting_is_refused(folder, name):
    (folder / name).write_text("[]")
    with pytest.raises(WeightsError, match=rf"{name} (differs from its recorded sha256|has 2 bytes instead)"):
        verify_settings(folder)


def test_a_changed_graph_is_refused(folder):
    data = bytearray((folder / GRAPH.file).read_bytes())
    data[-1] ^= 1
    (folder / GRAPH.file).write_bytes(data)
    with pytest.raises(WeightsError, match=r"vision_model\.onnx differs from its recorded sha256"):
        verify_graph(folder, GRAPH)


def test_a_manifest_that_names_files_elsewhere_is_refused(folder):
    path = folder / "MANIFEST.json"
    raw = json.loads(path.read_text())
    for name in ("../x", "onnx/../../x", "/etc/passwd", "onnx/", "a/b/c", "onnx//x"):
        path.write_text(json.dumps({"files": raw["files"] | {name: {"bytes": 0, "sha256": ""}}}))
        with pytest.raises(WeightsError, match="lists a file outside its folder"):
            verify_settings(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has the format 'zebra-onnx', version 2, instead of zebra-onnx, version 1"),
        ({"format": "zebra"}, "has the format 'zebra'"),
        ({"embed_dim": "8"}, "model.embed_dim must be an integer"),
        ({"graphs": [{"tower": "audio"}]}, "choose one of|lacks"),
        ({"graphs": None}, "must be a list"),
    ],
)
def test_another_version_or_damaged_settings_are_refused(folder, change, message):
    (folder / "zebra.json").write_text(json.dumps(MODEL.to_dict() | change))
    with pytest.raises(WeightsError, match=message):
        read_onnx_model(folder)


def test_another_folder_is_refused_with_the_command_that_writes_one(tmp_path):
    with pytest.raises(WeightsError, match=r"has no zebra\.json. Write one with `zebra export MODEL --format onnx"):
        read_onnx_model(tmp_path)


def test_loading_the_folder_as_another_layout_is_refused_with_advice(folder):
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match=r"has ONNX graphs.*Open it with zebra\.lite\.load"):
        zebra.load(folder)


def test_a_graph_that_onnxruntime_cannot_open_is_named(folder):
    pytest.importorskip("onnxruntime")
    model = build_model()
    model.graph.node[0].input[1] = "missing"
    write(folder, model)
    check_graph(folder / GRAPH.file)
    with pytest.raises(WeightsError, match=r"onnxruntime cannot open .*vision_model\.onnx: .*missing"):
        build_session(folder / GRAPH.file, num_threads=1, purpose="a test")


def test_verification_needs_neither_torch_nor_onnx():
    code = "import sys, zebra.pretrained.onnx.model_folder; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"
