"""Exported ONNX graphs compute the same vectors as zebra.

Reference: zebra's own towers in torch 2.13, fp32; the graphs run in onnxruntime 1.32 on the CPU. Tolerance: 1e-4 per
component of a unit vector, as documented; measured differences are below 1e-6, since both compute in fp32 and differ
only in the order of sums. The weights are random, with noise on every parameter (no gain is 1, no bias 0).
"""

import subprocess
import sys

import numpy as np
import pytest
import tokenizers
import torch
from PIL import Image

import zebra.lite
from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import BertTextConfig, CocaTextConfig, SiglipTextConfig, TextConfig
from zebra.errors import MissingExtra
from zebra.images.naflex import stack_patches
from zebra.images.preprocess import Preprocess
from zebra.images.tensors import stack_pixels
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.onnx.backend import OnnxImageEncoder
from zebra.pretrained.onnx.export import export_onnx
from zebra.pretrained.onnx.model_folder import graph_file, read_onnx_model, verify_graph, verify_settings
from zebra.text.bpe import BPETokenizer
from zebra.text.hf_tokenizer import HFTokenizer, RowTemplate
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.text.tokenizers import find_tokenizer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-4
BATCHES = (1, 2, 7)
CAPTIONS = ["a photo of a horse", "a photo of a cat", "two spotted dogs in the snow", "three dogs"] * 5
CLIP_TOKENIZER = BPETokenizer.train(CAPTIONS, 560, 16)
TEXT = TextConfig(width=64, layers=1, heads=2, vocab_size=CLIP_TOKENIZER.vocab_size, context_length=16)


def build_siglip_tokenizer():
    """Return a tokenizer of SigLIP's kind with the words of the captions."""
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((word, -1.0) for word in words)]
    rust = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return SiglipTokenizer(rust, 12, eos_token="</s>", pad_token="</s>", cleaning="siglip")


SIGLIP_TOKENIZER = build_siglip_tokenizer()
SIGLIP_TEXT = SiglipTextConfig(width=64, layers=1, heads=2, vocab_size=SIGLIP_TOKENIZER.vocab_size, context_length=12)


def build_bert_tokenizer():
    """Return a tokenizer of BERT's kind with the words of the captions."""
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    ids = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]"))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return HFTokenizer(rust, 12, RowTemplate(prefix=(("[CLS]", 2),), suffix=(("[SEP]", 3),), pad=("[PAD]", 0)))


BERT_TOKENIZER = build_bert_tokenizer()
BERT_TEXT = BertTextConfig(
    width=64, layers=1, heads=2, vocab_size=BERT_TOKENIZER.vocab_size, context_length=12, projection="mlp"
)
TOKENIZERS = {"causal": CLIP_TOKENIZER, "coca": CLIP_TOKENIZER, "siglip": SIGLIP_TOKENIZER, "bert": BERT_TOKENIZER}
SIGLIP = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize": "squash", "decode": "reference"}
MODELS = {
    "vit": (VisionTransformerConfig(width=64, layers=2, heads=2, patch_size=16), TEXT, 64, {}),
    "resnet and bert": (
        ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
        BERT_TEXT,
        64,
        {"rgb": "first", "crop": "floor", "decode": "reference"},
    ),
    "siglip": (SiglipVisionConfig(width=64, layers=1, heads=2, patch_size=14, mlp_width=100), SIGLIP_TEXT, 64, SIGLIP),
    "naflex and coca": (
        NaflexVisionConfig(width=64, layers=1, heads=2, patch_size=8),
        CocaTextConfig(width=64, layers=1, heads=2, vocab_size=CLIP_TOKENIZER.vocab_size, context_length=16),
        32,
        SIGLIP | {"resize": "naflex", "patch_size": 8, "max_num_patches": 20, "interpolation": "bilinear"},
    ),
}


def build_bundle(name):
    vision, text, size, rules = MODELS[name]
    torch.manual_seed(0)
    siglip = text is SIGLIP_TEXT
    width = vision.width if siglip else 64
    config = ModelConfig(embed_dim=width, image_size=size, vision=vision, text=text, logit_bias=siglip)
    model = CLIP(config).eval()
    with torch.no_grad():
        for parameter in [*model.visual.parameters(), *model.text.parameters()]:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return Bundle(model, TOKENIZERS[text.kind], Preprocess(image_size=size, **rules))


@pytest.fixture(scope="module", params=MODELS)
def written(request, tmp_path_factory):
    """Return a bundle, its exported folder, and what the export changed in the bundle.

    The ResNet is exported in training mode and half precision, and then compared in fp32.
    """
    bundle = build_bundle(request.param)
    towers = torch.nn.ModuleList([bundle.model.visual, bundle.model.text])
    if request.param == "resnet and bert":
        towers.bfloat16().train()
    before = {name: value.clone() for name, value in towers.state_dict().items()}
    modes = [module.training for module in towers.modules()]
    folder = tmp_path_factory.mktemp("onnx") / "model"
    export_onnx(bundle, folder)
    after = towers.state_dict()
    changed = [name for name, value in before.items() if not same(value, after[name])]
    changed += [] if modes == [module.training for module in towers.modules()] else ["training"]
    towers.float().eval()
    return bundle, folder, changed


def same(one, other):
    return one.dtype == other.dtype and torch.equal(one, other)


def run(folder, graph, inputs, precision="fp32"):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / graph_file(graph, precision)), options)
    [vectors] = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    assert vectors.dtype == np.float32
    return torch.from_numpy(vectors)


def image_inputs(bundle, rows):
    """Return the model's input of random images, and that of the graph; of various shapes for NaFlex."""
    generator = torch.Generator().manual_seed(rows)
    patch_size = bundle.preprocess.patch_size
    if patch_size is None:
        pixels = torch.randn(rows, 3, bundle.image_size, bundle.image_size, generator=generator)
        return pixels, {"pixel_values": pixels}
    shapes = [(1 + row % 4, 3 + row % 3) for row in range(rows)]
    images = [torch.randn(3, h * patch_size, w * patch_size, generator=generator) for h, w in shapes]
    batch = stack_patches(images, patch_size)
    return batch, {"pixel_values": batch.patches_BPI, "spatial_shapes": batch.grid_B2}


def texts(rows, length, vocab_size):
    """Return random ids; every second row ends before the last position, with padding after its largest id."""
    generator = torch.Generator().manual_seed(rows * 100 + length)
    tokens = torch.randint(1, vocab_size - 1, (rows, length), generator=generator)
    tokens[:, -1] = vocab_size - 1
    tokens[::2, length // 2] = vocab_size - 1
    tokens[::2, length // 2 + 1 :] = 0
    return tokens


@torch.inference_mode()
def test_images_get_the_same_vectors_in_batches_of_any_size(written):
    bundle, folder, _ = written
    for rows in BATCHES:
        images, inputs = image_inputs(bundle, rows)
        difference = (run(folder, "image", inputs) - bundle.model.encode_images(images)).abs().max()
        assert difference < TOLERANCE, f"batch of {rows}"


@torch.inference_mode()
def test_texts_get_the_same_vectors_in_batches_of_any_size_and_length(written):
    bundle, folder, _ = written
    config = bundle.model.config.text
    full = config.context_length
    for rows in BATCHES:
        for length in (2, 5, full) if isinstance(config, TextConfig | BertTextConfig) else (full,):
            tokens = texts(rows, length, config.vocab_size)
            expected = bundle.model.encode_texts(tokens)
            difference = (run(folder, "text", {"input_ids": tokens}) - expected).abs().max()
            assert difference < TOLERANCE, f"batch of {rows}, length {length}"


@torch.inference_mode()
def test_fp16_and_int8_have_a_cosine_of_0_999_in_batches_of_any_size(written):
    bundle, folder, _ = written
    graphs = [graph for graph in read_onnx_model(folder).graphs if graph.precision != "fp32"]
    config = bundle.model.config.text
    for graph in graphs:
        for rows in BATCHES:
            if graph.tower == "image":
                images, inputs = image_inputs(bundle, rows)
                expected = bundle.model.encode_images(images)
            else:
                inputs = {"input_ids": texts(rows, config.context_length, config.vocab_size)}
                expected = bundle.model.encode_texts(inputs["input_ids"])
            cosines = (run(folder, graph.tower, inputs, graph.precision) * expected).sum(dim=1)
            assert cosines.min() > 0.998, f"{graph.file}, batch of {rows}"  # other inputs than at the export
        assert 0.999 <= graph.min_cosine <= 1
        assert (folder / graph.file).stat().st_size < (folder / graph_file(graph.tower, "fp32")).stat().st_size
    assert len(graphs) + len(read_onnx_model(folder).omitted) == 4
    assert {graph.precision for graph in graphs} == {"fp16", "int8"}


def test_the_program_in_the_readme_gives_the_scores_of_the_bundle(written, tmp_path):
    """The lines that a user copies run in their own process, on an image that is not square and of another size."""
    bundle, folder, _ = written
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((131, 97)).save(folder / "photo.jpg", quality=95)
    code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert "zebra" not in code
    assert len(code.splitlines()) <= 30
    process = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    scores = eval(process.stdout)
    predictions = bundle.classify([folder / "photo.jpg"], list(scores), templates=["{}"])[0]
    assert len(set(scores.values())) == 2
    for prediction in predictions:
        assert scores[prediction.label] == pytest.approx(prediction.score, abs=TOLERANCE)


def test_graphs_declare_their_inputs_and_outputs(written):
    bundle, folder, _ = written
    config = bundle.model.config
    length = "length" if isinstance(config.text, TextConfig | BertTextConfig) else config.text.context_length
    size, E = config.image_size, config.embed_dim
    patch_size = bundle.preprocess.patch_size
    images = [("pixel_values", ["batch", 3, size, size])]
    if patch_size is not None:
        images = [("pixel_values", ["batch", "length", 3 * patch_size**2]), ("spatial_shapes", ["batch", 2])]
    is_clip = config.vision.kind in ("vit", "resnet")
    for tower, inputs, output in [
        ("image", images, "image_embeds" if is_clip else "pooler_output"),
        ("text", [("input_ids", ["batch", length])], "text_embeds" if is_clip else "pooler_output"),
    ]:
        held = onnx.load(folder / graph_file(tower, "fp32")).graph
        assert [_described(value) for value in held.input] == inputs
        assert [_described(value) for value in held.output] == [(output, ["batch", E])]


def test_the_backend_gives_the_vectors_of_torch_for_images_of_various_shapes(written):
    bundle, folder, _ = written
    encoder = OnnxImageEncoder(folder / "onnx/vision_model.onnx", bundle.preprocess)
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in [(60, 90), (90, 60), (99, 21)]
    ]
    pixels = stack_pixels([bundle.preprocess.resize_and_crop(Image.fromarray(image)) for image in images])
    assert torch.allclose(encoder(pixels), bundle.encode_pixels(pixels), atol=TOLERANCE)


def _described(value):
    return value.name, [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_a_small_model_is_one_file_per_graph_and_all_are_in_the_manifest(written):
    bundle, folder, _ = written
    verify_settings(folder)
    model = read_onnx_model(folder)
    for graph in model.graphs:
        assert graph.data is None
        assert verify_graph(folder, graph) == folder / graph_file(graph.tower, graph.precision)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"photo.jpg"}
    browser_files = {"config.json", "preprocessor_config.json", "tokenizer_config.json"}
    common = {"zebra.json", "preprocess.json", "tokenizer.json", "golden.npz", "MANIFEST.json", "README.md"}
    is_naflex = bundle.preprocess.resize == "naflex"
    assert names == common | {graph.file for graph in model.graphs} | (set() if is_naflex else browser_files)


def test_zebra_json_has_what_is_needed_to_score_images(written):
    bundle, folder, _ = written
    model = read_onnx_model(folder)
    assert (model.logit_scale, model.logit_bias) == (bundle.logit_scale, bundle.logit_bias)
    assert (model.embed_dim, model.context_length) == (bundle.embed_dim, bundle.context_length)
    assert model.templates == bundle.templates
    assert model.find_graph("image", "fp32").min_cosine > 0.99999


def test_the_tokenizer_file_gives_the_tokens_of_the_bundle(written):
    bundle, folder, _ = written
    tokenizer = find_tokenizer(folder, read_onnx_model(folder).context_length)
    assert tokenizer.fingerprint == bundle.tokenizer.fingerprint


def test_golden_vectors_are_those_of_the_graphs(written):
    bundle, folder, _ = written
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        arrays = {name: torch.from_numpy(golden[name]) for name in golden.files if name != "text"}
        text = str(golden["text"])
    for tower, names in [("image", ["pixel_values", "spatial_shapes"]), ("text", ["input_ids"])]:
        inputs = {name: arrays[name] for name in names if name in arrays}
        assert torch.allclose(run(folder, tower, inputs)[0], arrays[f"{tower}_vector"], atol=TOLERANCE)
    assert torch.allclose(bundle.encode_texts([text])[0], arrays["text_vector"], atol=TOLERANCE)
    image = Image.fromarray(arrays["image"].numpy())
    assert torch.allclose(bundle.encode_images([image])[0], arrays["image_vector"], atol=TOLERANCE)


def test_lite_gives_the_vectors_and_scores_of_the_bundle(written):
    bundle, folder, _ = written
    model = zebra.lite.load(folder, "fp32")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in [(60, 90), (90, 60), (99, 21), (60, 90)]]
    expected_NE = bundle.encode_images(images).numpy()
    np.testing.assert_allclose(model.encode_images(images), expected_NE, atol=TOLERANCE)
    texts = ["a photo of a horse", "dogs", "two spotted dogs in the snow", "", "a cat"]
    np.testing.assert_allclose(model.encode_texts(texts), bundle.encode_texts(texts).numpy(), atol=TOLERANCE)
    labels = ["horse", "cat", "dogs"]
    for own, reference in zip(model.classify(images, labels), bundle.classify(images, labels), strict=True):
        scores = {prediction.label: prediction.score for prediction in reference}
        assert {p.label: p.score for p in own} == pytest.approx(scores, abs=TOLERANCE)


def test_a_graph_contains_nothing_about_the_machine_that_wrote_it(written):
    _, folder, _ = written
    for graph in read_onnx_model(folder).graphs:
        held = (folder / graph.file).read_bytes()
        assert not [word for word in (b"zebra", b"site-packages", b"stack_trace") if word in held]


def test_the_bundle_is_not_changed(written):
    _, _, changed = written
    assert changed == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_the_packages_the_command_to_install_them_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf'{package}.*pip install "zebra-clip\[onnx\]"'):
        export_onnx(build_bundle("vit"), tmp_path)
