"""A model with its tokenizer and preprocessing: pictures and texts in, unit vectors and answers out."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError, DataError, WeightsError
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.backends import Backend, ImageEncoder, TorchImageEncoder
from zebra.pretrained.folder import write_model_folder
from zebra.pretrained.head_cache import cache_head, head_cache_key, load_cached_head
from zebra.pretrained.precision import cast_model, micro_batch_size
from zebra.text.templates import DEFAULT_TEMPLATES, fill_template
from zebra.text.tokenizers import Tokenizer
from zebra.values import Prediction

ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8]

BATCH_SIZE = 64
TEXT_CHUNK_SIZE = 16_384
"""Texts that are sorted together, so that those that begin alike meet; memory does not grow beyond."""
MIN_CACHED_PROMPTS = 64
"""Prompts of a head from which on looking it up on disk is quicker than computing it."""


class Bundle:
    """Everything needed to turn pictures and texts into vectors that can be compared."""

    def __init__(
        self,
        model: CLIP,
        tokenizer: Tokenizer | None,
        preprocess: Preprocess,
        compute_fingerprint: Callable[[], str] = lambda: "",
        *,
        precision: InferencePrecision = "fp32",
        image_encoder: ImageEncoder | None = None,
    ) -> None:
        """Put the three together.

        Args:
            tokenizer: None for a model that came without one; it embeds pictures alone.
            compute_fingerprint: Gives the fingerprint, asked for when it is first needed: it may have to read large files.
            precision: The number format of the model's weights.
            image_encoder: Runs the image tower; without one, torch does, all of a batch at once.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.precision: InferencePrecision = precision
        self._compute_fingerprint = compute_fingerprint
        self._image_encoder: ImageEncoder = image_encoder or TorchImageEncoder(model, preprocess)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the function from pictures and texts to vectors; empty for a model not saved yet."""
        return self._compute_fingerprint()

    @property
    def backend(self) -> Backend:
        """What runs the image tower; the text tower is always torch's."""
        return self._image_encoder.backend

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
        return self.model.config.text.context_length

    @property
    def logit_scale(self) -> float:
        """The multiplier of cosine similarities."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """What is added to the multiplied similarities before a sigmoid; None for a model without it."""
        return None if self.model.logit_bias is None else float(self.model.logit_bias.detach())

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.logit_scale.device

    def encode_images(self, images: Iterable[ImageInput], *, projected: bool = True) -> Tensor:
        """Embed pictures.

        Args:
            images: Paths, encoded bytes, PIL images or uint8 arrays [H, W, 3]; any iterable, read in batches.
            projected: False gives the features before the projection, not normalised (the paper's probe features).

        Returns:
            float32 [N, E] on the CPU, of unit length if projected.

        Raises:
            BadSample: A picture cannot be used; the message names it.
        """
        tower = TorchImageEncoder(self.model, self.preprocess)
        encode = self.encode_pixels if projected else tower.features
        self.model.eval()
        with torch.inference_mode():
            vectors = [encode(pixels) for pixels in self._pixel_batches(images)]
        return torch.cat(vectors).clone() if vectors else torch.zeros(0, self.embed_dim)

    def encode_pixels(self, pixels_B3HW: Tensor) -> Tensor:
        """Embed one batch of what `preprocess.pixels` made of pictures, uint8, as float32 unit vectors [B, E]."""
        self.model.eval()
        with torch.inference_mode():
            vectors = self._image_encoder(pixels_B3HW)
        return vectors.clone()

    def to_precision(self, precision: InferencePrecision) -> "Bundle":
        """Return this model in another number format; ConfigError if it is not fp32 itself, or cannot be cast."""
        self.require_fp32("cast")
        model, fingerprint = cast_model(self.model, precision), self.fingerprint
        encoder = TorchImageEncoder(model, self.preprocess, micro_batch_size(model.visual, precision))
        return Bundle(
            model,
            self.tokenizer,
            self.preprocess,
            lambda: fingerprint,
            precision=precision,
            image_encoder=encoder,
        )

    def encode_texts(self, texts: Sequence[str], *, truncate: bool = True) -> Tensor:
        """Embed texts as float32 unit vectors [N, E] on the CPU.

        Over-long texts are cut, their last kept token becoming the end, with a warning that counts them;
        `truncate=False` raises DataError instead.
        """
        if isinstance(texts, str):
            raise ConfigError("encode_texts takes a list of texts; wrap a single one in [ ]")
        vectors_NE, cut = self._encode_texts(texts, truncate)
        self._warn_truncated(cut, len(texts))
        return vectors_NE

    def class_vectors(self, labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES) -> Tensor:
        """Build the zero-shot head [C, E]: prompts encoded, normalised, averaged per class, normalised (§3.1.4).

        A head of many prompts is kept in the cache folder, by model, labels and templates.

        Raises:
            ConfigError: No labels, an empty or repeated one, or a template without a place for the label.
        """
        labels = validate_labels(labels)
        if isinstance(templates, str) or not templates:
            raise ConfigError('templates must be a list such as ["a photo of a {}."]')
        self.require_tokenizer()
        for template in templates:
            fill_template(template, labels[0])
        name = None
        if len(labels) * len(templates) >= MIN_CACHED_PROMPTS and self.fingerprint:
            name = head_cache_key(self.fingerprint, self.model.text, labels, templates)
            kept_CE = load_cached_head(name)
            if kept_CE is not None:
                return kept_CE
        head_CE, cut = self._compute_class_vectors(labels, templates)
        self._warn_truncated(cut, len(labels) * len(templates))
        if name is not None and not cut:  # what is cut is to be told of every time
            cache_head(name, head_CE)
        return head_CE

    def _compute_class_vectors(self, labels: Sequence[str], templates: Sequence[str]) -> tuple[Tensor, int]:
        classes, cut = [], 0
        step = max(1, TEXT_CHUNK_SIZE // len(templates))
        for start in range(0, len(labels), step):
            some = labels[start : start + step]
            vectors_NE, more = self._encode_texts(
                [fill_template(t, label) for label in some for t in templates], True
            )
            classes.append(vectors_NE.view(len(some), len(templates), self.embed_dim).mean(dim=1))
            cut += more
        return F.normalize(torch.cat(classes), dim=-1), cut

    def _encode_texts(self, texts: Sequence[str], truncate: bool) -> tuple[Tensor, int]:
        """Return unit vectors [N, E], and how many texts were cut."""
        words, tower = self.require_tokenizer(), self.model.text
        self.model.eval()
        vectors_NE, cut = torch.empty(len(texts), self.embed_dim), 0
        with torch.inference_mode():
            for start in range(0, len(texts), TEXT_CHUNK_SIZE):
                encoded = words.encode(texts[start : start + TEXT_CHUNK_SIZE], truncate=truncate)
                cut += encoded.num_truncated
                for rows in tower.inference_batches(encoded.ids):
                    tokens = torch.from_numpy(encoded.ids[rows]).to(self.device)
                    vectors_NE[start + rows] = self.model.encode_texts(tokens).cpu()
        return vectors_NE, cut

    def _warn_truncated(self, num_truncated: int, num_texts: int) -> None:
        if num_truncated:
            warnings.warn(
                f"{num_truncated} of {num_texts} texts were cut to {self.context_length} tokens", stacklevel=3
            )

    def classify(
        self,
        images: Iterable[ImageInput],
        labels: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
    ) -> list[list[Prediction]]:
        """Rank the labels for every picture, best first.

        Scores are a softmax over the labels; a model trained with the sigmoid loss judges each label by itself.
        """
        class_CE = self.class_vectors(labels, templates)
        return rank_labels(
            self.encode_images(images), class_CE, labels, scale=self.logit_scale, bias=self.logit_bias
        )

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer; WeightsError if the model came without one."""
        if self.tokenizer is None:
            raise WeightsError(
                "this model came without a tokenizer, so it embeds pictures alone; put tokenizer.json, vocab.json and "
                "merges.txt, or bpe_simple_vocab_16e6.txt.gz beside it, or load it with tokenizer=PATH"
            )
        return self.tokenizer

    def save(self, folder: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write a self-describing folder that `zebra.load` reads, and take its fingerprint.

        Raises:
            ConfigError: The weights are not fp32: they have lost what the folder would record.
        """
        self.require_fp32("saved")
        self.fingerprint = write_model_folder(
            folder,
            model=self.model,
            tokenizer=self.require_tokenizer(),
            preprocess=self.preprocess,
            encoder=self,
            metadata=metadata or {},
        )

    def require_fp32(self, action: str) -> None:
        """Raise ConfigError if the weights are in a smaller format; `action` ends "cannot be …" in its message."""
        if self.precision != "fp32":
            raise ConfigError(
                f"this model was loaded in {self.precision} and cannot be {action}: load it with precision='fp32'"
            )

    def _pixel_batches(self, images: Iterable[ImageInput]) -> Iterator[Tensor]:
        if isinstance(images, str | bytes | Path | Image.Image):
            raise ConfigError("encode_images takes a list of pictures; wrap a single one in [ ]")
        batch: list[NDArray[np.uint8]] = []
        for index, image in enumerate(images):
            batch.append(self.preprocess.resize_and_crop(self._load_image(image, index)))
            if len(batch) == BATCH_SIZE:
                yield torch.from_numpy(np.stack(batch))
                batch = []
        if batch:
            yield torch.from_numpy(np.stack(batch))

    def _load_image(self, image: ImageInput, index: int) -> Image.Image:
        if isinstance(image, Image.Image):
            return image
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(
                    f"image {index}: an array must be uint8 [H, W, 3], not {image.dtype} {image.shape}"
                )
            return Image.fromarray(image)
        if isinstance(image, bytes):
            return decode_image(image, f"image {index}", mode=self.preprocess.decode)
        path = Path(image)
        if not path.is_file():
            raise DataError(f"no image file at {path}")
        return decode_image(path.read_bytes(), str(path), mode=self.preprocess.decode)


def rank_labels(
    image_NE: Tensor, class_CE: Tensor, labels: Sequence[str], *, scale: float, bias: float | None
) -> list[list[Prediction]]:
    """Rank the labels of a head for every picture's vector, best first; scores as in `Bundle.classify`."""
    logits_NC = scale * image_NE @ class_CE.T
    scores_NC = logits_NC.softmax(dim=-1) if bias is None else (logits_NC + bias).sigmoid()
    ranked = []
    for scores_C in scores_NC:
        order = scores_C.argsort(descending=True).tolist()
        ranked.append([Prediction(labels[c], float(scores_C[c])) for c in order])
    return ranked


def validate_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels as a list; ConfigError if there are none, or one is empty or repeated."""
    if isinstance(labels, str):
        raise ConfigError('labels must be a list such as ["horse", "cat"]')
    if not labels:
        raise ConfigError("no labels: name at least one class")
    for label in labels:
        if not label.strip():
            raise ConfigError("an empty label: every class needs a name")
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    if repeated:
        raise ConfigError(f"labels named twice: {', '.join(repeated)}; their scores would be split")
    return list(labels)
