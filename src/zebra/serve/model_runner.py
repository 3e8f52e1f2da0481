"""One model, and all that is done with it: pictures decoded, and passes over pictures, texts and labels."""

import base64
import binascii
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.embed.stages import ImagePreprocessor
from zebra.errors import BadSample, ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.serve.image_limits import decode_pixels, digest
from zebra.serve.limits import MAX_PIXELS
from zebra.serve.lru_cache import LRUCache
from zebra.text.templates import fill_template
from zebra.text.tokenizers import Tokenizer

SINGLE_THREAD_MAX_SECONDS = 0.1
"""A full pass that one thread makes in less is left to one: several wait for each other at every step of it, and that
is long where the network and the decoding want the same cores."""
VECTOR_CACHE_SIZE = 1024
"""Vectors of pictures that are kept."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What there is to know of a model without its weights; names as those of `Bundle`."""

    fingerprint: str
    embed_dim: int
    image_size: int
    context_length: int
    precision: str
    logit_scale: float
    logit_bias: float | None


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """A text as the model sees it."""

    vector_E: Tensor
    """float32, unit length."""
    num_tokens: int
    """That were read, start and end included."""
    is_truncated: bool
    """There were more than the context holds."""


@dataclass(frozen=True, slots=True)
class ZeroShotHead:
    """Labels as the model sees them."""

    vectors_CE: Tensor
    num_truncated: int
    """Prompts that were longer than the context."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture as the model takes it."""

    pixels_3HW: NDArray[np.uint8]
    digest: str
    """Of its file."""


class ModelClient(Protocol):
    """A model that is asked from an event loop, wherever it runs; what each call takes and gives `Passes` says."""

    @property
    def metadata(self) -> ModelMetadata:
        """What there is to know of it."""

    @property
    def is_ready(self) -> bool:
        """Whether it answers now."""

    async def decode_image(self, data: str | bytes, where: str) -> DecodedImage | Tensor:
        """Decode a picture."""

    async def encode_images(self, images: Sequence[DecodedImage]) -> Sequence[Tensor]:
        """Embed pictures."""

    async def encode_texts(self, texts: Sequence[str]) -> Sequence[TextEmbedding]:
        """Embed texts."""

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a head."""


class ModelRunner:
    """A model in this process. `decode` may be called by several threads at once, the rest by one."""

    def __init__(self, clip: Bundle) -> None:
        self._clip = clip
        self._preprocess = ImagePreprocessor(clip.preprocess, thumbnail_size=0, max_pixels=MAX_PIXELS)
        self._vector_cache: LRUCache[str, Tensor] = LRUCache(VECTOR_CACHE_SIZE)

    @property
    def metadata(self) -> ModelMetadata:
        """What there is to know of the model."""
        clip = self._clip
        return ModelMetadata(
            clip.fingerprint,
            clip.embed_dim,
            clip.image_size,
            clip.context_length,
            clip.precision,
            clip.logit_scale,
            clip.logit_bias,
        )

    def warm_up(self, batch_size: int) -> None:
        """Make the first passes, which are slow (memory is taken, kernels are chosen); settle on this thread's helpers.

        Args:
            batch_size: Of a full batch.
        """
        clip, threads = self._clip, torch.get_num_threads()
        picture = np.zeros((clip.image_size, clip.image_size, 3), np.uint8)
        for items in (1, batch_size):
            clip.encode_images([picture] * items)
            if clip.tokenizer is not None:
                clip.encode_texts(["a photo"] * items)
        torch.set_num_threads(1)
        began = time.perf_counter()
        clip.encode_images([picture] * batch_size)
        if time.perf_counter() - began > SINGLE_THREAD_MAX_SECONDS:
            torch.set_num_threads(threads)

    def decode_image(self, data: str | bytes, where: str) -> DecodedImage | Tensor:
        """Turn an encoded picture into what the model takes, or into its float32 unit vector [E] if that is known.

        Args:
            data: A file of an allowed format; a string holds it in base64.
            where: Names it in errors.

        Raises:
            BadSample: It cannot be used.
        """
        encoded = _decode_base64(data, where) if isinstance(data, str) else data
        name = digest(encoded)
        known = self._vector_cache.get(name)
        return DecodedImage(decode_pixels(encoded, where, self._preprocess), name) if known is None else known

    def encode_images(self, images: Sequence[DecodedImage]) -> list[Tensor]:
        """Return the float32 unit vector [E] of each."""
        pixels_N3HW = torch.from_numpy(np.stack([picture.pixels_3HW for picture in images]))
        vectors = list(self._clip.encode_pixels(pixels_N3HW))
        for picture, vector_E in zip(images, vectors, strict=True):
            self._vector_cache.put(picture.digest, vector_E)
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> list[TextEmbedding]:
        """Embed texts; over-long ones are cut, and say so. ConfigError if the model came without a tokenizer."""
        words = self._require_tokenizer()
        rows = words.encode(texts, truncate=True)
        with _ignore_truncation_warnings(rows.num_truncated):
            vectors_NE = self._clip.encode_texts(texts)
        lengths = rows.lengths.tolist()
        # Which of them were cut, the rows do not say; only the full ones can be.
        return [
            TextEmbedding(
                vector_E,
                tokens,
                tokens == words.context_length and bool(words.encode([text], truncate=True).num_truncated),
            )
            for text, vector_E, tokens in zip(texts, vectors_NE, lengths, strict=True)
        ]

    def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Return the unit vectors of classes [C, E] by their prompts' mean (CLIP §3.1.4); errors as of `texts`."""
        prompts = [fill_template(template, label) for label in labels for template in templates]
        cut = self._require_tokenizer().encode(prompts, truncate=True).num_truncated
        with _ignore_truncation_warnings(cut):
            return ZeroShotHead(self._clip.class_vectors(labels, templates), cut)

    def _require_tokenizer(self) -> Tokenizer:
        words = self._clip.tokenizer
        if words is None:
            raise ConfigError(
                "this model came without a tokenizer: it takes pictures alone, no texts and no labels"
            )
        return words


def _decode_base64(data: str, where: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"{error}; send the bytes of the file in base64, without a data: prefix"
        raise BadSample("data is not base64", where, detail) from error


@contextmanager
def _ignore_truncation_warnings(num_truncated: int) -> Iterator[None]:
    """Keep from warning here of texts that are cut: the answer says so."""
    with warnings.catch_warnings() if num_truncated else nullcontext():
        if num_truncated:
            warnings.simplefilter("ignore", UserWarning)
        yield
