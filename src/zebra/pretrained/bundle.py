"""A model with its tokenizer and preprocessing: pictures and texts in, unit vectors and answers out."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.errors import ConfigError, DataError, WeightsError
from zebra.images.decode import decode
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.card import model_card
from zebra.pretrained.golden import check_golden, write_golden
from zebra.pretrained.manifest import verify_manifest, write_manifest
from zebra.pretrained.weights import load_weights, save_weights
from zebra.text.templates import DEFAULT_TEMPLATES, fill
from zebra.text.tokenizer import Tokenizer
from zebra.values import Prediction

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]

FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocess.json", "golden.safetensors")
IDENTITY = FILES[:4]
"""The files that decide a vector; their digests make the fingerprint."""
BATCH = 64


class Bundle:
    """Everything needed to turn pictures and texts into vectors that can be compared."""

    def __init__(
        self, model: CLIP, tokenizer: Tokenizer, preprocess: Preprocess, fingerprint: str = ""
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.fingerprint = fingerprint
        """Identifies the function from pictures and texts to vectors; empty for a model not saved yet."""

    @property
    def embed_dim(self) -> int:
        """Size E of a vector."""
        return self.model.config.embed_dim

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.preprocess.image_size

    @property
    def context_length(self) -> int:
        """Longest text in tokens, start and end included."""
        return self.tokenizer.context_length

    @property
    def logit_scale(self) -> float:
        """The multiplier of cosine similarities."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.logit_scale.device

    def encode_images(self, images: Iterable[Picture], *, projected: bool = True) -> Tensor:
        """Embed pictures.

        Args:
            images: Paths, encoded bytes, PIL images or uint8 arrays [H, W, 3]; any iterable, read in batches.
            projected: False gives the features before the projection, not normalised (the paper's probe features).

        Returns:
            float32 [N, E] on the CPU, of unit length if projected.

        Raises:
            BadSample: A picture cannot be used; the message names it.
        """
        encode = self.model.encode_images if projected else self.model.visual.features
        self.model.eval()
        with torch.inference_mode():
            vectors = [
                encode(self.preprocess.normalise(pixels).to(self.device)).float().cpu()
                for pixels in self._batches(images)
            ]
        return torch.cat(vectors).clone() if vectors else torch.zeros(0, self.embed_dim)

    def encode_texts(self, texts: Sequence[str], *, truncate: bool = True) -> Tensor:
        """Embed texts as float32 unit vectors [N, E] on the CPU.

        Over-long texts are cut, their last kept token becoming the end, with a warning that counts them;
        `truncate=False` raises DataError instead.
        """
        if isinstance(texts, str):
            raise ConfigError("encode_texts takes a list of texts; wrap a single one in [ ]")
        self.model.eval()
        vectors, cut = [], 0
        with torch.inference_mode():
            for start in range(0, len(texts), 256):
                encoded = self.tokenizer.encode(texts[start : start + 256], truncate=truncate)
                cut += encoded.truncated
                tokens = torch.from_numpy(encoded.ids).to(self.device)
                vectors.append(self.model.encode_texts(tokens).float().cpu())
        if cut:
            warnings.warn(
                f"{cut} of {len(texts)} texts were cut to {self.context_length} tokens", stacklevel=2
            )
        return torch.cat(vectors).clone() if vectors else torch.zeros(0, self.embed_dim)

    def class_vectors(self, labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES) -> Tensor:
        """Build the zero-shot head [C, E]: prompts encoded, normalised, averaged per class, normalised (§3.1.4).

        Raises:
            ConfigError: No labels, an empty or repeated one, or a template without a place for the label.
        """
        labels = check_labels(labels)
        if isinstance(templates, str) or not templates:
            raise ConfigError('templates must be a list such as ["a photo of a {}."]')
        prompts = [fill(template, label) for label in labels for template in templates]
        vectors_CTE = self.encode_texts(prompts).view(len(labels), len(templates), self.embed_dim)
        return F.normalize(vectors_CTE.mean(dim=1), dim=-1)

    def classify(
        self,
        images: Iterable[Picture],
        labels: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
    ) -> list[list[Prediction]]:
        """Rank the labels for every picture: softmax over the labels, best first."""
        class_CE = self.class_vectors(labels, templates)
        scores_NC = (self.logit_scale * self.encode_images(images) @ class_CE.T).softmax(dim=-1)
        ranked = []
        for scores_C in scores_NC:
            order = scores_C.argsort(descending=True).tolist()
            ranked.append([Prediction(labels[c], float(scores_C[c])) for c in order])
        return ranked

    def save(self, folder: Path, facts: Mapping[str, str] | None = None) -> None:
        """Write a self-describing folder that `zebra.load` reads, and take its fingerprint."""
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(
            folder / "config.json", {"format": "zebra", "version": 1} | unstructure(self.model.config)
        )
        _write_json(folder / "preprocess.json", self.preprocess.to_json())
        save_weights(self.model, folder / "model.safetensors")
        self.tokenizer.save(folder / "tokenizer.json")
        write_golden(self, folder / "golden.safetensors")
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        card = model_card(self.model.config, parameters, facts or {})
        (folder / "README.md").write_text(card, encoding="utf-8")
        self.fingerprint = fingerprint(write_manifest(folder))

    def _batches(self, images: Iterable[Picture]) -> Iterator[Tensor]:
        if isinstance(images, str | bytes | Path | Image.Image):
            raise ConfigError("encode_images takes a list of pictures; wrap a single one in [ ]")
        batch: list[NDArray[np.uint8]] = []
        for index, image in enumerate(images):
            batch.append(self.preprocess.pixels(self._open(image, index)))
            if len(batch) == BATCH:
                yield torch.from_numpy(np.stack(batch))
                batch = []
        if batch:
            yield torch.from_numpy(np.stack(batch))

    def _open(self, image: Picture, index: int) -> Image.Image:
        if isinstance(image, Image.Image):
            return image
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(
                    f"image {index}: an array must be uint8 [H, W, 3], not {image.dtype} {image.shape}"
                )
            return Image.fromarray(image)
        if isinstance(image, bytes):
            return decode(image, f"image {index}", mode=self.preprocess.decode)
        path = Path(image)
        if not path.is_file():
            raise DataError(f"no image file at {path}")
        return decode(path.read_bytes(), str(path), mode=self.preprocess.decode)


def load(
    path: str | Path, *, tokenizer: str | Path | None = None, verify: bool = True, device: str = "auto"
) -> Bundle:
    """Open a model folder.

    Args:
        path: A folder as `Bundle.save` writes it.
        tokenizer: A tokenizer.json to use instead of the folder's own.
        verify: Check sha256 of every file and recompute the golden vectors.
        device: cpu, cuda, mps or auto.

    Raises:
        WeightsError: A file is missing, damaged, or the folder does not compute what it recorded.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise WeightsError(f"no model folder at {folder.resolve()}; `zebra train` writes one as <out>/model")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{folder} is not a whole zebra model: {', '.join(missing)} missing; copy the folder again"
        )
    digests = verify_manifest(folder) if verify else {}
    raw = _read_json(folder / "config.json")
    if raw.pop("format", None) != "zebra" or raw.pop("version", None) != 1:
        raise WeightsError(f"{folder / 'config.json'} is not of zebra's format 1")
    config = structure(ModelConfig, raw, str(folder / "config.json"))
    words = Tokenizer.load(Path(tokenizer or folder / "tokenizer.json"), config.text.context_length)
    if words.vocab_size != config.text.vocab_size:
        raise WeightsError(
            f"the tokenizer has {words.vocab_size} ids, the text tower {config.text.vocab_size}"
        )
    model = CLIP(config)
    load_weights(model, folder / "model.safetensors")
    preprocess = Preprocess.from_json(_read_json(folder / "preprocess.json"))
    bundle = Bundle(model.to(pick_device(device)).eval(), words, preprocess, fingerprint(digests))
    if verify:
        check_golden(bundle, folder / "golden.safetensors")
    return bundle


def fingerprint(digests: Mapping[str, str]) -> str:
    """Derive a bundle's fingerprint from the sha256 of the files that decide its vectors."""
    own = {name: digests[name] for name in IDENTITY if name in digests}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16] if own else ""


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels as a list; ConfigError if there are none, or one is empty or repeated."""
    if isinstance(labels, str):
        raise ConfigError('labels must be a list such as ["horse", "cat"]')
    if not labels:
        raise ConfigError("no labels: name at least one class")
    for label in labels:
        if not label.strip():
            raise ConfigError("an empty label: every class needs a name")
    repeated = sorted({label for label in labels if list(labels).count(label) > 1})
    if repeated:
        raise ConfigError(f"labels named twice: {', '.join(repeated)}; their scores would be split")
    return list(labels)


def pick_device(name: str) -> torch.device:
    """Turn cpu, cuda, mps or auto into a device; ConfigError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "mps" if there["mps"] else "cpu")
    if not there.get(name, False):
        usable = ", ".join(known for known, present in there.items() if present)
        raise ConfigError(f"device {name!r} is not available here; usable: {usable}, auto")
    return torch.device(name)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON ({error}); copy the folder again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object")
    return value
