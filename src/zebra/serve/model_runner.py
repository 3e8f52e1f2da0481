"""The model inside the worker: decode images, embed images and texts, build heads."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch

from zebra.embed.preprocessing import ImagePreprocessor
from zebra.errors import ConfigError
from zebra.images.formats import image_digest
from zebra.images.tensors import stack_pixels
from zebra.pretrained.bundle import Bundle
from zebra.serve.image_limits import require_allowed
from zebra.serve.lru_cache import LRUCache
from zebra.serve.model_client import DecodedImage, HeatMap, ModelMetadata, TextEmbedding, Vector, ZeroShotHead
from zebra.text.labels import require_distinct_labels
from zebra.text.templates import fill_template
from zebra.text.tokenizers import Tokenizer

SINGLE_THREAD_MAX_SECONDS = 0.1
"""A model whose full batch takes less on one thread keeps one thread. Several threads wait for each other at every
operator, and that wait is long when the event loop and the decoders need the same cores."""
VECTOR_CACHE_SIZE = 1024
"""Number of image vectors that are cached by digest."""


class ModelRunner:
    """A model in this process. Several threads may call `decode_image` at once; one thread calls the rest."""

    def __init__(self, clip: Bundle) -> None:
        self._clip = clip
        self._preprocess = ImagePreprocessor(clip.preprocess, thumbnail_size=0)
        self._vector_cache: LRUCache[str, Vector] = LRUCache(VECTOR_CACHE_SIZE)

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model."""
        clip = self._clip
        return ModelMetadata(
            clip.fingerprint,
            clip.embed_dim,
            clip.image_size,
            clip.context_length,
            clip.precision,
            clip.logit_scale,
            clip.logit_bias,
            list(clip.templates),
            list(clip.model.config.dimensions),
        )

    def warm_up(self, batch_size: int) -> None:
        """Run the first batches, which are slow (allocation, kernel selection), and set the number of threads.

        Args:
            batch_size: Size of a full batch.
        """
        clip, num_threads = self._clip, torch.get_num_threads()
        image = np.zeros((clip.image_size, clip.image_size, 3), np.uint8)
        for num_items in (1, batch_size):
            clip.encode_images([image] * num_items)
            if clip.tokenizer is not None:
                clip.encode_texts(["a photo"] * num_items)
        torch.set_num_threads(1)
        started_at = time.perf_counter()
        clip.encode_images([image] * batch_size)
        if time.perf_counter() - started_at > SINGLE_THREAD_MAX_SECONDS:
            torch.set_num_threads(num_threads)

    def decode_image(self, data: bytes, where: str, max_pixels: int) -> DecodedImage | Vector:
        """Return the preprocessed image, or its float32 unit vector [E] if that is cached.

        Args:
            data: A file in an allowed format.
            where: Name of the image in errors.
            max_pixels: Maximum width × height.

        Raises:
            BadSample: The image cannot be decoded.
        """
        digest = image_digest(data)
        cached = self._vector_cache.get(digest)
        if cached is not None:
            return cached
        require_allowed(data, where)
        return DecodedImage(replace(self._preprocess, max_pixels=max_pixels)(data, where).pixels_3HW, digest)

    def heat_map(self, data: bytes, where: str, max_pixels: int, text: str) -> HeatMap:
        """Map where an image matches a text; the other arguments are those of `decode_image`.

        Raises:
            BadSample: The image cannot be decoded.
            ConfigError: The model has no tokenizer, or computes no gradients.
        """
        self._require_tokenizer()
        require_allowed(data, where)
        image = replace(self._preprocess, max_pixels=max_pixels)(data, where)
        left, top, right, bottom = self._clip.preprocess.visible_box(image.width, image.height)
        with _ignore_truncation_warnings(1):
            values_HW = self._clip.heat_map(data, [text])[0].numpy()
        width, height = image.width, image.height
        return HeatMap(values_HW, (left / width, top / height, right / width, bottom / height))

    def encode_images(self, images: Sequence[DecodedImage]) -> list[Vector]:
        """Return the float32 unit vector [E] of each image."""
        vectors = list(self._clip.encode_pixels(stack_pixels([image.pixels_3HW for image in images])).numpy())
        for image, vector_E in zip(images, vectors, strict=True):
            self._vector_cache.put(image.digest, vector_E)
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> list[TextEmbedding]:
        """Embed texts, truncated to the context; ConfigError if the model has no tokenizer."""
        tokenizer = self._require_tokenizer()
        tokens = tokenizer.encode(texts, truncate=True)
        with _ignore_truncation_warnings(tokens.num_truncated):
            vectors_NE = self._clip.encode_texts(texts).numpy()
        lengths = tokens.lengths.tolist()
        # The encoded batch only has the number of truncated texts, and only full rows can be truncated.
        return [
            TextEmbedding(
                vector_E,
                length,
                length == tokenizer.context_length and bool(tokenizer.encode([text], truncate=True).num_truncated),
            )
            for text, vector_E, length in zip(texts, vectors_NE, lengths, strict=True)
        ]

    def require_distinct_labels(self, labels: Sequence[str]) -> None:
        """Raise ConfigError if two labels are one text to the model, or if the model has no tokenizer."""
        require_distinct_labels(labels, self._require_tokenizer())

    def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Return unit vectors of classes [C, E], each from the mean of its prompts (CLIP §3.1.4).

        Raises:
            ConfigError: The model has no tokenizer.
        """
        prompts = [fill_template(template, label) for label in labels for template in templates]
        num_truncated = self._require_tokenizer().encode(prompts, truncate=True).num_truncated
        with _ignore_truncation_warnings(num_truncated):
            return ZeroShotHead(self._clip.class_vectors(labels, templates).numpy(), num_truncated)

    def _require_tokenizer(self) -> Tokenizer:
        tokenizer = self._clip.tokenizer
        if tokenizer is None:
            raise ConfigError("this model has no tokenizer: it accepts images only, no texts or labels")
        return tokenizer


@contextmanager
def _ignore_truncation_warnings(num_truncated: int) -> Iterator[None]:
    """Ignore warnings about truncated texts; the response contains them."""
    with warnings.catch_warnings() if num_truncated else nullcontext():
        if num_truncated:
            warnings.simplefilter("ignore", UserWarning)
        yield
