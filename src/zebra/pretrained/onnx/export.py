"""Export of models to folders for onnxruntime and transformers.js."""

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.folder import write_json
from zebra.pretrained.golden import GOLDEN_TEXT, MAX_ABS_DIFF, make_golden_image
from zebra.pretrained.manifest import write_manifest
from zebra.pretrained.onnx import probes
from zebra.pretrained.onnx.browser_files import OUTPUTS, browser_type, write_browser_files
from zebra.pretrained.onnx.graph import write_image_graph, write_text_graph
from zebra.pretrained.onnx.model_folder import (
    GOLDEN_FILE,
    GRAPHS_DIR,
    MODEL_FILE,
    TOKENS,
    TOWER_FILES,
    Graph,
    OnnxModel,
    Tower,
    graph_file,
)
from zebra.pretrained.onnx.precisions import PURPOSE, describe_graph, run_graph, write_smaller_graphs
from zebra.pretrained.onnx.probes import Inputs
from zebra.pretrained.onnx.readme import render_onnx_readme
from zebra.pretrained.onnx.session import import_onnxruntime
from zebra.pretrained.onnx.towers import has_fixed_length


def export_onnx(bundle: Bundle, folder: Path) -> None:
    """Write the graphs of both towers and all that is needed to run them; docs/onnx.md describes the files.

    The image graph maps `pixel_values`, float32 [batch, 3, S, S] from `Preprocess.normalize`, to vectors [batch, E].
    For NaFlex `pixel_values` are patches [batch, P, I], and `spatial_shapes`, int64 [batch, 2], are their grids, of
    which the graph computes the mask. The text graph maps `input_ids`, int64 [batch, length]; the length is dynamic up
    to the context length, but fixed for towers that need padding: SigLIP, CLIPA, MobileCLIP, CoCa. Vectors have unit
    length; inputs and outputs are fp32 in every precision.

    Args:
        bundle: Any model, on any device; it is not changed.
        folder: Created if it does not exist.

    Raises:
        MissingExtra: One of the packages `onnx`, `onnxscript` and `onnxruntime` is not installed.
        WeightsError: The model has no tokenizer.
        ConfigError: The model was not loaded in fp32, or torch cannot export a tower of another library, or exports it
            wrongly.
    """
    bundle.require_fp32("exported")
    tokenizer = bundle.require_tokenizer()
    import_onnxruntime(PURPOSE)
    model = copy.deepcopy(bundle.model).cpu().float().eval()
    reference = Bundle(model, tokenizer, bundle.preprocess)
    config = model.config
    outputs = OUTPUTS[browser_type(config) or "siglip"]
    (folder / GRAPHS_DIR).mkdir(parents=True, exist_ok=True)

    exporters = {"image": write_image_graph, "text": write_text_graph}
    graphs: list[Graph] = []
    omitted: list[str] = []
    for tower in TOWER_FILES:
        path = folder / graph_file(tower, "fp32")
        exporters[tower](model, path, outputs[tower])
        inputs, vectors_NE = probe(reference, tower)
        graphs.append(_verify_exported(path, tower, inputs, vectors_NE))
        smaller, reasons = write_smaller_graphs(folder, tower, inputs, vectors_NE)
        graphs += smaller
        omitted += reasons

    content = describe_model(bundle, graphs, omitted)
    write_json(folder / MODEL_FILE, content.to_dict())
    write_json(folder / "preprocess.json", bundle.preprocess.to_dict())
    write_browser_files(folder, config, bundle.preprocess, tokenizer, graphs)
    probes.write_golden_arrays(reference, folder / GOLDEN_FILE)
    write_manifest(folder, subfolders=[GRAPHS_DIR])
    (folder / "README.md").write_text(render_onnx_readme(bundle, content), encoding="utf-8")


def probe(bundle: Bundle, tower: Tower) -> tuple[list[Inputs], Tensor]:
    """Return the inputs on which the graphs of a tower are compared, and their vectors in torch [N, E]."""
    if tower == "image":
        images = [make_golden_image(), *probes.make_images()]
        return list(probes.image_inputs(bundle, images)), torch.cat([bundle.encode_images([image]) for image in images])
    inputs = list(probes.text_inputs(bundle, [GOLDEN_TEXT, *probes.TEXTS]))
    with torch.inference_mode():
        vectors = [bundle.model.encode_texts(torch.from_numpy(arrays[TOKENS])) for arrays in inputs]
    return inputs, torch.cat(vectors)


def describe_model(bundle: Bundle, graphs: Iterable[Graph], omitted: Iterable[str]) -> OnnxModel:
    """Return the content of zebra.json."""
    config = bundle.model.config
    return OnnxModel(
        fingerprint=bundle.fingerprint,
        embed_dim=config.embed_dim,
        dimensions=tuple(config.dimensions),
        context_length=config.text.context_length,
        has_fixed_length=has_fixed_length(bundle.model.text),
        pad_token_id=bundle.require_tokenizer().pad_token_id,
        logit_scale=bundle.logit_scale,
        logit_bias=bundle.logit_bias,
        templates=bundle.templates,
        graphs=tuple(graphs),
        omitted=tuple(omitted),
    )


def _verify_exported(path: Path, tower: Tower, inputs: list[Inputs], vectors_NE: Tensor) -> Graph:
    """Return the entry of a graph in fp32 in zebra.json; ConfigError if its vectors are not those of torch."""
    actual_NE = run_graph(path, inputs)
    difference = float((actual_NE - vectors_NE).abs().max())
    if not difference <= MAX_ABS_DIFF:
        raise ConfigError(
            f"torch {torch.__version__} exports the {tower} tower wrongly: its vectors differ by {difference:.2g} from "
            "those of torch. Use the backend torch."
        )
    return describe_graph(path, tower, "fp32", actual_NE, vectors_NE)
