"""An image-text model with onnxruntime; the API of `zebra.Bundle` on arrays."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError, WeightsError
from zebra.images.inputs import ImageInput, iter_images
from zebra.images.preprocess import Preprocess
from zebra.lite.batches import build_image_inputs, text_batches
from zebra.lite.tower import OnnxTower, release_free_memory
from zebra.pretrained.onnx.model_folder import TOKENS, GraphPrecision, OnnxModel, Tower
from zebra.text.batch_encoding import BatchEncoding
from zebra.text.equal_texts import find_equal_texts
from zebra.text.inputs import list_texts
from zebra.text.labels import require_distinct_labels, validate_labels
from zebra.text.templates import fill_template
from zebra.text.tokenizers import Tokenizer, load_tokenizer
from zebra.values import Prediction

CHUNK_SIZE = 4096
"""Texts that are tokenized and sorted together; bounds memory."""


class LiteModel:
    """Graphs, tokenizer and preprocessing; encodes images and texts and classifies images."""

    def __init__(
        self, folder: Path, settings: OnnxModel, preprocess: Preprocess, towers: Mapping[Tower, OnnxTower]
    ) -> None:
        """Combine the parts; `zebra.lite.load` reads them from a folder."""
        self.folder = folder
        self.preprocess = preprocess
        self.templates = settings.templates
        """Default prompt templates."""
        self.fingerprint = settings.fingerprint
        """Fingerprint of the model that was exported."""
        self.embed_dim = settings.embed_dim
        """Dimension E of the vectors."""
        self.context_length = settings.context_length
        """Maximum length of a text in tokens, including start and end."""
        self.logit_scale = settings.logit_scale
        """Factor of the cosine similarities in the logits."""
        self.logit_bias = settings.logit_bias
        """Bias of the logits of the sigmoid loss; None for a model without it."""
        self._settings = settings
        self._towers = towers

    def __repr__(self) -> str:
        precisions = ", ".join(f"{tower} {name}" for tower, name in self.precisions.items())
        return f"LiteModel({str(self.folder)!r}, {precisions}, {self.embed_dim} dimensions)"

    @property
    def precisions(self) -> dict[Tower, GraphPrecision]:
        """The precision of each tower."""
        return {name: tower.graph.precision for name, tower in self._towers.items()}

    def encode_images(self, images: Iterable[ImageInput]) -> NDArray[np.float32]:
        """Encode images as unit vectors, float32 [N, E].

        Args:
            images: Paths, bytes of image files, binary files, PIL images or uint8 arrays [H, W, 3]; any ordered
                iterable, read one by one. All are turned upright by their EXIF orientation.

        Raises:
            BadSample: An image cannot be decoded; the message names it.
            DataError: An image file is missing, or an array has another type or shape.
            ConfigError: An item is not an image, or `images` is a single image or unordered.
        """
        tower, preprocess = self._require_tower("image"), self.preprocess
        vectors = [
            tower(build_image_inputs(preprocess.resize_and_crop(image), preprocess))
            for image in iter_images(images, preprocess.decode, preprocess.max_aspect_ratio)
        ]
        return np.concatenate(vectors) if vectors else np.zeros((0, self.embed_dim), np.float32)

    def encode_texts(self, texts: Iterable[str], *, truncate: bool = True) -> NDArray[np.float32]:
        """Encode texts as unit vectors, float32 [N, E].

        Longer texts than `context_length` are truncated, with the end token last, and a warning counts them. With
        `truncate=False` they raise DataError.

        Raises:
            ConfigError: An item is not a text, or `texts` is a single text or unordered.
        """
        return self._encode_texts(list_texts(texts, "texts"), truncate)

    def class_vectors(self, labels: Iterable[str], templates: Iterable[str] | None = None) -> NDArray[np.float32]:
        """Build the zero-shot head [C, E]: encode prompts, average per class, normalize (CLIP §3.1.4).

        Labels that are one text to the model have equal rows.

        Args:
            labels: Class names.
            templates: Prompts with {} in place of the label; None takes the model's own.

        Raises:
            ConfigError: There are no labels, a template has no {}, or an argument has another type.
        """
        labels = list_texts(labels, "labels")
        templates = list_texts(self.templates if templates is None else templates, "templates")
        if not labels:
            raise ConfigError('labels must be a list of at least one class, such as ["horse", "cat"]')
        if not templates:
            raise ConfigError('templates must be a list such as ["a photo of a {}."]')
        prompts_by_class = [[fill_template(template, label) for template in templates] for label in labels]
        first_C = find_equal_texts(self.tokenizer, prompts_by_class)
        distinct, row_C = np.unique(first_C, return_inverse=True)
        prompts = [prompt for index in distinct for prompt in prompts_by_class[index]]
        prompt_NE = self._encode_texts(prompts, truncate=True)
        mean_CE = prompt_NE.reshape(len(distinct), len(templates), self.embed_dim).mean(axis=1)
        head_CE: NDArray[np.float32] = (mean_CE / np.linalg.norm(mean_CE, axis=1, keepdims=True))[row_C]
        return head_CE

    def classify(
        self, images: Iterable[ImageInput], labels: Iterable[str], templates: Iterable[str] | None = None
    ) -> list[list[Prediction]]:
        """Rank the labels for every image, best first.

        Scores are a softmax over the labels; for models of the sigmoid loss, the sigmoid of each logit.

        Args:
            images: As in `encode_images`.
            labels: Class names, in any ordered iterable.
            templates: Prompts with {} in place of the label, averaged per class; None takes the model's own.

        Raises:
            ConfigError: There are no labels, one is empty, two are one text to the model, or an argument has another
                type.
        """
        labels = validate_labels(labels)
        require_distinct_labels(labels, self.tokenizer)
        class_CE = self.class_vectors(labels, templates)
        logits_NC = np.multiply(self.encode_images(images) @ class_CE.T, self.logit_scale, dtype=np.float32)
        return [_rank(scores_C, labels) for scores_C in _to_scores(logits_NC, self.logit_bias)]

    def similarity(self, images: Iterable[ImageInput], texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the cosines of images and texts, float32 [N, M]; see `encode_images` and `encode_texts`."""
        text_ME = self.encode_texts(texts)
        cosine_NM: NDArray[np.float32] = self.encode_images(images) @ text_ME.T
        return cosine_NM

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, read when it is first needed."""
        tokenizer = load_tokenizer(self.folder / "tokenizer.json", self.context_length)
        release_free_memory()
        return tokenizer

    def _require_tower(self, tower: Tower) -> OnnxTower:
        if tower not in self._towers:
            raise WeightsError(f"{self.folder} has no {tower} tower, so it encodes no {tower}s. Export another model.")
        return self._towers[tower]

    def _encode_texts(self, texts: Sequence[str], truncate: bool) -> NDArray[np.float32]:
        tower, num_truncated = self._require_tower("text"), 0
        vectors_NE = np.empty((len(texts), self.embed_dim), np.float32)
        for start in range(0, len(texts), CHUNK_SIZE):
            encoded = self.tokenizer.encode(texts[start : start + CHUNK_SIZE], truncate=truncate)
            num_truncated += encoded.num_truncated
            for rows in text_batches(encoded.lengths, tower.graph.precision):
                vectors_NE[start + rows] = tower({TOKENS: self._token_ids(encoded, rows)})
        if num_truncated:
            warnings.warn(
                f"{num_truncated} of {len(texts)} texts were truncated to {self.context_length} tokens", stacklevel=3
            )
        return vectors_NE

    def _token_ids(self, encoded: BatchEncoding, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids of a batch [B, L], padded to its longest text or to the context length."""
        ids_BL = encoded.ids[rows]
        if not self._settings.has_fixed_length:
            return ids_BL[:, : encoded.lengths[rows].max()]
        missing = self.context_length - ids_BL.shape[1]
        return np.pad(ids_BL, ((0, 0), (0, missing)), constant_values=self._settings.pad_token_id)


def _to_scores(logits_NC: NDArray[np.float32], bias: float | None) -> NDArray[np.float32]:
    """Return a softmax over the classes; with a bias, the sigmoid of each logit."""
    if bias is not None:
        sigmoid_NC: NDArray[np.float32] = 1 / (1 + np.exp(-(logits_NC + np.float32(bias))))
        return sigmoid_NC
    scores_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    softmax_NC: NDArray[np.float32] = scores_NC / scores_NC.sum(axis=1, keepdims=True)
    return softmax_NC


def _rank(scores_C: NDArray[np.float32], labels: Sequence[str]) -> list[Prediction]:
    order = (-scores_C).argsort(kind="stable")
    return [Prediction(labels[index], float(scores_C[index])) for index in order]
