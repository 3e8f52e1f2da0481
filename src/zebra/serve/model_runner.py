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

from zebra.embed.stages import Prepare
from zebra.errors import BadSample, ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.serve.image_limits import digest, pixels
from zebra.serve.limits import PIXELS
from zebra.serve.lru_cache import Recent
from zebra.text.templates import fill
from zebra.text.tokenizers import Words

QUICK_SECONDS = 0.1
"""A full pass that one thread makes in less is left to one: several wait for each other at every step of it, and that
is long where the network and the decoding want the same cores."""
KNOWN = 1024
"""Vectors of pictures that are kept."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know of a model without its weights; names as those of `Bundle`."""

    fingerprint: str
    embed_dim: int
    image_size: int
    context_length: int
    precision: str
    logit_scale: float
    logit_bias: float | None


@dataclass(frozen=True, slots=True)
class TextVector:
    """A text as the model sees it."""

    vector_E: Tensor
    """float32, unit length."""
    tokens: int
    """That were read, start and end included."""
    is_cut: bool
    """There were more than the context holds."""


@dataclass(frozen=True, slots=True)
class Head:
    """Labels as the model sees them."""

    vectors_CE: Tensor
    cut: int
    """Prompts that were longer than the context."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture as the model takes it."""

    pixels_3HW: NDArray[np.uint8]
    digest: str
    """Of its file."""


class Model(Protocol):
    """A model that is asked from an event loop, wherever it runs; what each call takes and gives `Passes` says."""

    @property
    def facts(self) -> Facts:
        """What there is to know of it."""

    @property
    def is_up(self) -> bool:
        """Whether it answers now."""

    async def decode(self, data: str | bytes, where: str) -> Decoded | Tensor:
        """Decode a picture."""

    async def pictures(self, pictures: Sequence[Decoded]) -> Sequence[Tensor]:
        """Embed pictures."""

    async def texts(self, texts: Sequence[str]) -> Sequence[TextVector]:
        """Embed texts."""

    async def head(self, labels: Sequence[str], templates: Sequence[str]) -> Head:
        """Build a head."""


class Passes:
    """A model in this process. `decode` may be called by several threads at once, the rest by one."""

    def __init__(self, clip: Bundle) -> None:
        self._clip = clip
        self._prepare = Prepare(clip.preprocess, thumbnail=0, max_pixels=PIXELS)
        self._known: Recent[str, Tensor] = Recent(KNOWN)

    @property
    def facts(self) -> Facts:
        """What there is to know of the model."""
        clip = self._clip
        return Facts(
            clip.fingerprint,
            clip.embed_dim,
            clip.image_size,
            clip.context_length,
            clip.precision,
            clip.logit_scale,
            clip.logit_bias,
        )

    def warm(self, size: int) -> None:
        """Make the first passes, which are slow (memory is taken, kernels are chosen); settle on this thread's helpers.

        Args:
            size: Of a full batch.
        """
        clip, threads = self._clip, torch.get_num_threads()
        picture = np.zeros((clip.image_size, clip.image_size, 3), np.uint8)
        for items in (1, size):
            clip.encode_images([picture] * items)
            if clip.tokenizer is not None:
                clip.encode_texts(["a photo"] * items)
        torch.set_num_threads(1)
        began = time.perf_counter()
        clip.encode_images([picture] * size)
        if time.perf_counter() - began > QUICK_SECONDS:
            torch.set_num_threads(threads)

    def decode(self, data: str | bytes, where: str) -> Decoded | Tensor:
        """Turn an encoded picture into what the model takes, or into its float32 unit vector [E] if that is known.

        Args:
            data: A file of an allowed format; a string holds it in base64.
            where: Names it in errors.

        Raises:
            BadSample: It cannot be used.
        """
        encoded = _from_base64(data, where) if isinstance(data, str) else data
        name = digest(encoded)
        known = self._known.get(name)
        return Decoded(pixels(encoded, where, self._prepare), name) if known is None else known

    def pictures(self, pictures: Sequence[Decoded]) -> list[Tensor]:
        """Return the float32 unit vector [E] of each."""
        pixels_N3HW = torch.from_numpy(np.stack([picture.pixels_3HW for picture in pictures]))
        vectors = list(self._clip.encode_pixels(pixels_N3HW))
        for picture, vector_E in zip(pictures, vectors, strict=True):
            self._known.keep(picture.digest, vector_E)
        return vectors

    def texts(self, texts: Sequence[str]) -> list[TextVector]:
        """Embed texts; over-long ones are cut, and say so. ConfigError if the model came without a tokenizer."""
        words = self._words()
        rows = words.encode(texts, truncate=True)
        with _untold(rows.truncated):
            vectors_NE = self._clip.encode_texts(texts)
        lengths = rows.lengths.tolist()
        # Which of them were cut, the rows do not say; only the full ones can be.
        return [
            TextVector(
                vector_E,
                tokens,
                tokens == words.context_length and bool(words.encode([text], truncate=True).truncated),
            )
            for text, vector_E, tokens in zip(texts, vectors_NE, lengths, strict=True)
        ]

    def head(self, labels: Sequence[str], templates: Sequence[str]) -> Head:
        """Return the unit vectors of classes [C, E] by their prompts' mean (CLIP §3.1.4); errors as of `texts`."""
        prompts = [fill(template, label) for label in labels for template in templates]
        cut = self._words().encode(prompts, truncate=True).truncated
        with _untold(cut):
            return Head(self._clip.class_vectors(labels, templates), cut)

    def _words(self) -> Words:
        words = self._clip.tokenizer
        if words is None:
            raise ConfigError(
                "this model came without a tokenizer: it takes pictures alone, no texts and no labels"
            )
        return words


def _from_base64(data: str, where: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"{error}; send the bytes of the file in base64, without a data: prefix"
        raise BadSample("data is not base64", where, detail) from error


@contextmanager
def _untold(cut: int) -> Iterator[None]:
    """Keep from warning here of texts that are cut: the answer says so."""
    with warnings.catch_warnings() if cut else nullcontext():
        if cut:
            warnings.simplefilter("ignore", UserWarning)
        yield
