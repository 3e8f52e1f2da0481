"""Export of models to folders for onnxruntime and transformers.js."""

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
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
from zebra.pretrained.onnx.probes import Inputs
from zebra.pretrained.onnx.readme import render_onnx_readme
from zebra.pretrained.onnx.session import build_session, import_onnxruntime
from zebra.pretrained.onnx.towers import has_fixed_length

PURPOSE = "exporting to ONNX"
"""What needs the packages, in the message if one is missing."""


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
    for tower in TOWER_FILES:
        path = folder / graph_file(tower, "fp32")
        exporters[tower](model, path, outputs[tower])
        graphs.append(_verify_exported(path, tower, *probe(reference, tower)))

    content = describe_model(bundle, graphs)
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


def run_graph(path: Path, inputs: Iterable[Inputs]) -> Iterator[Tensor]:
    """Yield the vectors [B, E] of a graph for each of the inputs."""
    session = build_session(path, num_threads=torch.get_num_threads(), purpose=PURPOSE)
    for arrays in inputs:
        yield torch.from_numpy(session.run(None, arrays)[0])


def describe_model(bundle: Bundle, graphs: Iterable[Graph]) -> OnnxModel:
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
    )


def _verify_exported(path: Path, tower: Tower, inputs: list[Inputs], vectors_NE: Tensor) -> Graph:
    """Return the entry of a graph in fp32 in zebra.json; ConfigError if its vectors are not those of torch."""
    actual_NE = torch.cat(list(run_graph(path, inputs)))
    difference = float((actual_NE - vectors_NE).abs().max())
    if not difference <= MAX_ABS_DIFF:
        raise ConfigError(
            f"torch {torch.__version__} exports the {tower} tower wrongly: its vectors differ by {difference:.2g} from "
            "those of torch. Use the backend torch."
        )
    data = path.with_name(f"{path.name}_data")
    return Graph(
        tower=tower,
        precision="fp32",
        file=graph_file(tower, "fp32"),
        data=f"{GRAPHS_DIR}/{data.name}" if data.is_file() else None,
        min_cosine=min_cosine(actual_NE, vectors_NE),
    )


def min_cosine(one_NE: Tensor, other_NE: Tensor) -> float:
    """Return the smallest cosine of two rows of unit vectors, rounded down to six digits."""
    return float(np.floor((one_NE * other_NE).sum(dim=1).min().item() * 1e6) / 1e6)
