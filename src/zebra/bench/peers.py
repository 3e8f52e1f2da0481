"""Other libraries with the same weights: open_clip, transformers, onnxruntime."""

import importlib
import importlib.util
import io
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zebra.bench.ceilings import NumberFormat, describe_missing_format
from zebra.bench.encoders import Encoder, Unavailable, wrap_bundle
from zebra.bench.inputs import draw_jpegs
from zebra.config.memory import available_memory
from zebra.errors import ZebraError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.onnx.backend import to_onnxruntime
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.transformers.layout import write_transformers
from zebra.pretrained.weights import published_state_dict

MEMORY_FACTOR = 3
"""Free memory that a peer needs, in sizes of the weights: a file in memory, the model, and activations."""


@contextmanager
def open_peers(bundle: Bundle) -> Iterator[list[Encoder | Unavailable]]:
    """Yield the libraries with the model's weights, which are written to a temporary folder until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="zebra-bench-"))
    try:
        yield [item for name, open in PEERS.items() for item in _open_peer(name, open, bundle, folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_onnxruntime(bundle: Bundle) -> Encoder | Unavailable:
    """Return the image tower in onnxruntime with torch's current number of threads; the graph is cached on disk."""
    name = "onnxruntime"
    if bundle.device.type != "cpu":
        return Unavailable(name, "runs on the CPU only")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoder = wrap_bundle(to_onnxruntime(bundle), name, "fp32")
    except ZebraError as error:
        return Unavailable(name, str(error))
    except Exception as error:  # an import or an exporter of another library
        return Unavailable(name, _describe(error))
    return Encoder(name, "fp32", encoder.preprocess, encoder.encode_images, None, is_peer=True)


def _open_peer(
    package: str, open: Callable[[Bundle, Path], Iterator[Encoder]], bundle: Bundle, folder: Path
) -> list[Encoder | Unavailable]:
    """Open a library in its formats; whatever fails in it is the reason why it is not measured."""
    try:
        is_installed = importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        is_installed = True  # its import says what is broken
    if not is_installed:
        return [Unavailable(package, "not installed")]
    if bundle.tokenizer is None:
        return [Unavailable(package, "not comparable: the model has no tokenizer")]
    size = sum(parameter.nbytes for parameter in bundle.model.parameters())
    free = available_memory()
    if free is not None and free < MEMORY_FACTOR * size:
        return [
            Unavailable(package, f"needs {MEMORY_FACTOR * size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB is free")
        ]
    try:
        importlib.import_module(package)
    except Exception as error:  # a broken installation raises anything
        return [Unavailable(package, f"import failed: {_describe(error)}")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoders = list(open(bundle, folder / package))
            for encoder in encoders:
                _try(encoder)
            return list(encoders)
    except ZebraError as error:
        return [Unavailable(package, f"not comparable: {error}")]
    except Exception as error:  # the library refuses the model, or the disk is full
        return [Unavailable(package, f"cannot run the model: {_describe(error)}")]


def _try(encoder: Encoder) -> None:
    """Encode an image and a text, so that what fails in a library is found before anything is measured."""
    encoder.encode_images(encoder.preprocess(draw_jpegs(1)))
    if encoder.encode_texts is not None:
        encoder.encode_texts(["a photo of a cat"])


def _describe(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _model_parts(bundle: Bundle) -> dict[str, Any]:
    return {
        "config": bundle.model.config,
        "tensors": published_state_dict(bundle.model),
        "preprocess": bundle.preprocess,
        "tokenizer": bundle.tokenizer,
    }


def _open_open_clip(bundle: Bundle, folder: Path) -> Iterator[Encoder]:
    """Yield open_clip as in its README: in fp32, and in bf16 where the hardware has it."""
    write_open_clip(folder, **_model_parts(bundle))
    yield _open_open_clip_in("fp32", torch.float32, bundle, folder)
    if not describe_missing_format("bf16", bundle.device):
        yield _open_open_clip_in("bf16", torch.bfloat16, bundle, folder)


def _open_open_clip_in(format: NumberFormat, dtype: torch.dtype, bundle: Bundle, folder: Path) -> Encoder:
    model, _, transform = importlib.import_module("open_clip").create_model_and_transforms(
        f"local-dir:{folder}", precision=format, device=bundle.device
    )
    model.eval()
    return Encoder(
        name="open_clip" if format == "fp32" else f"open_clip {format}",
        format=format,
        preprocess=lambda jpegs: torch.stack([transform(_decode(jpeg)) for jpeg in jpegs]),
        encode_images=_run(lambda pixels: model.encode_image(pixels.to(bundle.device, dtype))),
        encode_texts=_run_on_ids(_run(model.encode_text), bundle),
        is_peer=True,
    )


def _open_transformers(bundle: Bundle, folder: Path) -> Iterator[Encoder]:
    """Yield transformers as in its documentation, in fp32."""
    write_transformers(folder, **_model_parts(bundle))
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(folder).eval().to(bundle.device)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)

    def preprocess(jpegs: Sequence[bytes]) -> Mapping[str, Tensor]:
        inputs = processor(images=[_decode(jpeg) for jpeg in jpegs], return_tensors="pt")
        return {name: value.to(bundle.device) for name, value in inputs.items()}

    yield Encoder(
        name="transformers",
        format="fp32",
        preprocess=preprocess,
        encode_images=_run(lambda inputs: model.get_image_features(**inputs)),
        encode_texts=_run_on_ids(_run(lambda ids: model.get_text_features(input_ids=ids)), bundle),
        is_peer=True,
    )


def _decode(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def _run(encode: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
    def run(inputs: Any) -> Tensor:
        with torch.inference_mode():
            output = encode(inputs)
            vectors = output if isinstance(output, Tensor) else output.pooler_output
            return F.normalize(vectors.float(), dim=-1).cpu()

    return run


def _run_on_ids(encode: Callable[[Tensor], Tensor], bundle: Bundle) -> Callable[[Sequence[str]], Tensor]:
    """Return a function that encodes texts as rows of the context length, as both libraries pad them."""
    tokenizer = bundle.require_tokenizer()

    def run(texts: Sequence[str]) -> Tensor:
        ids = torch.from_numpy(tokenizer.encode(texts, truncate=True).ids)
        padding = tokenizer.context_length - ids.shape[1]
        return encode(F.pad(ids, (0, padding), value=tokenizer.pad_token_id).to(bundle.device))

    return run


PEERS: dict[str, Callable[[Bundle, Path], Iterator[Encoder]]] = {
    "open_clip": _open_open_clip,
    "transformers": _open_transformers,
}
"""Package → function that yields its encoders of a model, written to a folder."""
