"""Folders of tiny ONNX graphs made by hand, which take no exporter: mean colors and the largest of token vectors."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zebra.images.preprocess import Preprocess
from zebra.pretrained.manifest import write_manifest
from zebra.pretrained.onnx.model_folder import Graph, OnnxModel, graph_file
from zebra.text.bpe import BPETokenizer

EMBED_DIM, IMAGE_SIZE, CONTEXT_LENGTH = 8, 16, 12
TOKENIZER = BPETokenizer.train(["a photo of a horse", "a photo of a cat", "two dogs"] * 3, 540, CONTEXT_LENGTH)
IMAGE = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
TEXT = "a photo of a horse"


def write_folder(folder: Path, *, precisions=("fp32", "int8"), towers=("image", "text"), **settings) -> Path:
    """Write a model; `settings` replace those of zebra.json."""
    (folder / "onnx").mkdir(parents=True)
    for tower in towers:
        for precision in precisions:
            # Weights in int8 differ a little, so that tests can tell which graph ran.
            write_graph(folder / graph_file(tower, precision), tower, 0.0 if precision == "fp32" else 1e-3)
    TOKENIZER.save(folder / "tokenizer.json")
    preprocess = Preprocess(image_size=IMAGE_SIZE)
    (folder / "preprocess.json").write_text(json.dumps(preprocess.to_dict()))
    model = OnnxModel(
        fingerprint="c0ffee",
        embed_dim=EMBED_DIM,
        dimensions=(),
        context_length=CONTEXT_LENGTH,
        has_fixed_length=False,
        pad_token_id=0,
        logit_scale=20.0,
        logit_bias=None,
        templates=("a photo of a {}.",),
        graphs=tuple(Graph(t, p, graph_file(t, p), None, 0.9999) for t in towers for p in precisions),
    )
    (folder / "zebra.json").write_text(json.dumps(model.to_dict() | settings))
    pixels = preprocess.normalize_array(resize(IMAGE, preprocess)[None])
    ids = TOKENIZER.encode([TEXT], truncate=True).ids
    golden = {"image": IMAGE, "text": np.array(TEXT), "pixel_values": pixels, "input_ids": ids}
    vectors = {"image_vector": unit(pixels.mean((2, 3)) @ weights("image"))[0]}
    vectors["text_vector"] = unit(weights("text")[ids].max(axis=1))[0]
    np.savez(folder / "golden.npz", **golden, **vectors)
    write_manifest(folder, subfolders=["onnx"])
    return folder


def resize(image, preprocess):
    from PIL import Image

    return preprocess.resize_and_crop(Image.fromarray(image))


def weights(tower: str, noise: float = 0.0):
    """Return the matrix of a tower; padding (id 0) never has the largest component."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3 if tower == "image" else TOKENIZER.vocab_size, EMBED_DIM)).astype(np.float32)
    matrix += noise * rng.standard_normal(matrix.shape).astype(np.float32)
    if tower == "text":
        matrix[0] = -100
    return matrix


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_graph(path: Path, tower: str, noise: float = 0.0) -> None:
    weight = numpy_helper.from_array(weights(tower, noise), "weight")
    if tower == "image":
        shape = ["batch", 3, IMAGE_SIZE, IMAGE_SIZE]
        x = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)
        nodes = [
            helper.make_node("GlobalAveragePool", ["pixel_values"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["colors"]),
            helper.make_node("MatMul", ["colors", "weight"], ["vectors"]),
        ]
    else:
        x = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
        nodes = [
            helper.make_node("Gather", ["weight", "input_ids"], ["tokens"]),
            helper.make_node("ReduceMax", ["tokens"], ["vectors"], axes=[1], keepdims=0),
        ]
    nodes.append(helper.make_node("LpNormalization", ["vectors"], [f"{tower}_embeds"], axis=-1, p=2))
    y = helper.make_tensor_value_info(f"{tower}_embeds", TensorProto.FLOAT, ["batch", EMBED_DIM])
    graph = helper.make_graph(nodes, tower, [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def load_graph(path: Path) -> onnx.ModelProto:
    return onnx.load(path)
