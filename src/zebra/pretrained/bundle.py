"""A model with its tokenizer and preprocessing: the result of `zebra.load`."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError, WeightsError, untrained_size_error
from zebra.images.inputs import ImageInput, iter_images, load_image
from zebra.images.preprocess import Preprocess
from zebra.images.tensors import Pixels, stack_pixels
from zebra.models import CLIP
from zebra.models.clip import truncate_vectors
from zebra.notebook import render_html_table
from zebra.pretrained.backends import Backend, ImageEncoder, TorchImageEncoder
from zebra.pretrained.device import translate_device_errors
from zebra.pretrained.folder import write_model_folder
from zebra.pretrained.head_cache import Head, cache_head, head_cache_key, load_cached_head
from zebra.pretrained.heat_map import compute_heat_map
from zebra.pretrained.model_card import describe_dimensions
from zebra.pretrained.precision import cast_model, fuse_image_tower, micro_batch_size
from zebra.text.clip_vocabulary import FETCH_COMMAND, VOCAB_SIZE
from zebra.text.equal_texts import find_equal_texts
from zebra.text.hub_tokenizer import DOWNLOAD_COMMAND
from zebra.text.inputs import list_texts
from zebra.text.labels import require_distinct_labels, validate_labels
from zebra.text.templates import DEFAULT_TEMPLATES, fill_template
from zebra.text.tokenizers import Tokenizer
from zebra.values import Prediction

BATCH_SIZE = 64
TEXT_CHUNK_SIZE = 16_384
"""Texts that are tokenized and sorted together, so that texts with common prefixes are packed; bounds memory."""
MIN_CACHED_PROMPTS = 64
"""Heads with fewer prompts are not cached: computing them takes less time than hashing the weights."""


class Bundle:
    """Model, tokenizer and preprocessing; encodes images and texts and classifies images."""

    def __init__(
        self,
        model: CLIP,
        tokenizer: Tokenizer | None,
        preprocess: Preprocess,
        compute_fingerprint: Callable[[], str] = lambda: "",
        *,
        precision: InferencePrecision = "fp32",
        text_precision: InferencePrecision | None = None,
        image_encoder: ImageEncoder | None = None,
        templates: Iterable[str] = DEFAULT_TEMPLATES,
        dimensions: int | None = None,
    ) -> None:
        """Combine the parts.

        Args:
            tokenizer: None for a model without one, which encodes images only.
            compute_fingerprint: Returns the fingerprint. Called when it is first needed, since it may read large files.
            precision: The precision of the image tower's weights.
            text_precision: The precision of the text tower's weights; that of the image tower by default.
            image_encoder: Runs the image tower. Default: torch, with a whole batch per forward pass.
            templates: Prompt templates that suit the model.
            dimensions: Size of the vectors, one that the model was trained for; None keeps all components.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.templates = tuple(templates)
        """Default prompt templates: for a model that zebra trained, those that were best on held-out captions."""
        self.precision: InferencePrecision = precision
        self.text_precision: InferencePrecision = text_precision or precision
        self.dimensions = None if dimensions == model.config.embed_dim else dimensions
        """Size of the vectors if they are cut to their first components."""
        self._compute_fingerprint = compute_fingerprint
        self._image_encoder: ImageEncoder = image_encoder or TorchImageEncoder(model, preprocess)

    def describe(self) -> dict[str, str]:
        """Return the properties of the model by name, as text for display."""
        config = self.model.config
        more = f" and {len(self.templates) - 1} more" if len(self.templates) > 1 else ""
        return {
            "image tower": config.vision.describe(config.image_size) + self._describe_patches(),
            "text tower": config.text.describe() if self.tokenizer else "no tokenizer: encodes images only",
            "vectors": f"the first {self.dimensions} of {config.embed_dim} dimensions"
            if self.dimensions
            else describe_dimensions(config),
            "parameters": f"{self.num_parameters:,}",
            "precision": self.precision
            if self.precision == self.text_precision
            else f"{self.precision} images, {self.text_precision} texts",
            "runs on": f"{self.device} ({self.backend})",
            "templates": f"{self.templates[0]}{more}" if self.templates else "none",
        }

    def _describe_patches(self) -> str:
        most = self.preprocess.max_num_patches
        return "" if most is None else f", at most {most} patches per image"

    def __repr__(self) -> str:
        lines = "".join(f"\n  {name}: {value}" for name, value in self.describe().items())
        return f"Bundle({lines}\n)"

    def _repr_html_(self) -> str:
        return render_html_table(self.describe(), "zebra.Bundle")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that identify the function from images and texts to vectors; "" for a model never saved.

        That of a model whose vectors are cut ends with their size, as in "c0ffee…-64".
        """
        fingerprint = self._compute_fingerprint()
        return f"{fingerprint}-{self.dimensions}" if fingerprint and self.dimensions else fingerprint

    @property
    def backend(self) -> Backend:
        """The library that runs the image tower; the text tower always runs in torch."""
        return self._image_encoder.backend

    @cached_property
    def num_parameters(self) -> int:
        """Number of parameters of both towers, in any precision."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def embed_dim(self) -> int:
        """Dimension E of the vectors."""
        return self.dimensions or self.model.config.embed_dim

    @property
    def image_size(self) -> int:
        """Side of the square input image, in pixels; see `Preprocess.image_size` for NaFlex."""
        return self.preprocess.image_size

    @property
    def context_length(self) -> int:
        """Maximum length of a text in tokens, including start and end."""
        return self.model.config.text.context_length

    @property
    def logit_scale(self) -> float:
        """Factor of the cosine similarities in the logits."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """Bias of the logits of the sigmoid loss; None for a model without it."""
        return None if self.model.logit_bias is None else float(self.model.logit_bias.detach())

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.logit_scale.device

    def encode_images(self, images: Iterable[ImageInput], *, projected: bool = True, normalize: bool = True) -> Tensor:
        """Encode images.

        Args:
            images: Paths, bytes of image files, binary files, PIL images, uint8 arrays [H, W, 3] or uint8 tensors
                [3, H, W]; any ordered iterable, read in batches. All are turned upright by their EXIF orientation.
            projected: False returns the features before the projection, not normalized (the paper's probe features).
            normalize: False returns the projected vectors before normalization, from the torch tower.

        Returns:
            float32 [N, E] on the CPU, of unit length by default.

        Raises:
            BadSample: An image cannot be decoded; the message names it.
            DataError: An image file is missing, or an array or tensor has another type or shape.
            ConfigError: An item is not an image, or `images` is a single image or unordered.
        """
        encode = self.encode_pixels if normalize else self._project_pixels
        if not projected:
            encode = self._torch_encoder.features
        self.model.eval()
        with torch.inference_mode(), translate_device_errors(self.device):
            vectors = [encode(pixels) for pixels in self.pixel_batches(images)]
        return torch.cat(vectors).clone() if vectors else torch.zeros(0, self.embed_dim)

    def encode_features_and_vectors(self, images: Iterable[ImageInput]) -> tuple[Tensor, Tensor]:
        """Encode images before and after the projection, in one pass of the image tower; see `encode_images`.

        With another backend than torch, which computes no features, the torch tower makes a second pass.

        Returns:
            Features [N, D] and unit vectors [N, E], float32 on the CPU.
        """
        pairs = [self.encode_pixels_with_features(pixels) for pixels in self.pixel_batches(images)]
        if not pairs:
            return torch.zeros(0, self.embed_dim), torch.zeros(0, self.embed_dim)
        features, vectors = zip(*pairs, strict=True)
        return torch.cat(features), torch.cat(vectors)

    def encode_pixels_with_features(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """Encode images from `preprocess.resize_and_crop`; return features and vectors as the method above."""
        self.model.eval()
        with torch.inference_mode(), translate_device_errors(self.device):
            if self.backend == "torch":
                features, vectors = self._torch_encoder.features_and_vectors(pixels)
            else:
                features, vectors = self._torch_encoder.features(pixels), self._image_encoder(pixels)
        return features.clone(), self._truncate(vectors.clone())

    @property
    def _torch_encoder(self) -> TorchImageEncoder:
        """The image encoder, or the torch tower of the same model beside another backend."""
        encoder = self._image_encoder
        return encoder if isinstance(encoder, TorchImageEncoder) else TorchImageEncoder(self.model, self.preprocess)

    def encode_pixels(self, pixels: Pixels) -> Tensor:
        """Encode images from `preprocess.resize_and_crop`; return unit vectors [B, E], float32 on the CPU."""
        self.model.eval()
        with torch.inference_mode(), translate_device_errors(self.device):
            vectors = self._image_encoder(pixels)
        return self._truncate(vectors.clone())

    def _project_pixels(self, pixels: Pixels) -> Tensor:
        return self._torch_encoder.projections(pixels)[:, : self.embed_dim]

    def truncate(self, dimensions: int) -> "Bundle":
        """Return this model with vectors that are cut to their first components.

        Raises:
            ConfigError: The model was not trained for this size.
        """
        config = self.model.config
        if dimensions not in (*config.dimensions, config.embed_dim):
            raise untrained_size_error(dimensions, config.embed_dim, config.dimensions)
        bundle = Bundle(
            self.model,
            self.tokenizer,
            self.preprocess,
            self._compute_fingerprint,
            precision=self.precision,
            text_precision=self.text_precision,
            image_encoder=self._image_encoder,
            templates=self.templates,
            dimensions=dimensions,
        )
        bundle.num_parameters = self.num_parameters
        return bundle

    def _truncate(self, vectors_NE: Tensor) -> Tensor:
        return truncate_vectors(vectors_NE, self.dimensions) if self.dimensions else vectors_NE

    def to_precision(self, precision: InferencePrecision, text_precision: InferencePrecision | None = None) -> "Bundle":
        """Return this model in another precision; ConfigError if it is not in fp32 or cannot be cast.

        Args:
            precision: Of the image tower.
            text_precision: Of the text tower; that of the image tower by default.
        """
        self.require_fp32("cast")
        model, fingerprint = cast_model(self.model, precision, text_precision), self._compute_fingerprint()
        encoder = TorchImageEncoder(model, self.preprocess, micro_batch_size(model.visual, precision))
        bundle = Bundle(
            model,
            self.tokenizer,
            self.preprocess,
            lambda: fingerprint,
            precision=precision,
            text_precision=text_precision,
            image_encoder=encoder,
            templates=self.templates,
            dimensions=self.dimensions,
        )
        bundle.num_parameters = self.num_parameters  # quantized weights are no parameters
        return bundle

    def fuse_batch_norms(self) -> "Bundle":
        """Return this model with an fp32 image tower that encodes with fused batch norms, if it has some.

        The weights in `model` stay as they are, so the result can still be saved. Training them has no effect on its
        image vectors.
        """
        fused = fuse_image_tower(self.model) if self.precision == "fp32" else None
        if fused is None:
            return self
        bundle = copy.copy(self)
        bundle._image_encoder = TorchImageEncoder(fused, self.preprocess)
        return bundle

    @property
    def has_fused_batch_norms(self) -> bool:
        """Whether images are encoded by other weights than those in `model`; see `fuse_batch_norms`."""
        encoder = self._image_encoder
        return isinstance(encoder, TorchImageEncoder) and encoder.model is not self.model

    def encode_texts(self, texts: Iterable[str], *, truncate: bool = True, normalize: bool = True) -> Tensor:
        """Encode texts as float32 unit vectors [N, E] on the CPU; with `normalize=False`, before normalization.

        Longer texts than `context_length` are truncated, with the end token last, and a warning counts them. With
        `truncate=False` they raise DataError.

        Raises:
            ConfigError: An item is not a text, or `texts` is a single text or unordered.
        """
        texts = list_texts(texts, "texts")
        vectors_NE, num_truncated = self._encode_texts(texts, truncate, normalize)
        self._warn_truncated(num_truncated, len(texts))
        return vectors_NE

    def class_vectors(self, labels: Iterable[str], templates: Iterable[str] | None = None) -> Tensor:
        """Build the zero-shot head [C, E]: encode prompts, normalize, average per class, normalize (CLIP §3.1.4).

        Labels that are one text to the model, such as repeated ones, have bitwise equal rows. Heads of
        MIN_CACHED_PROMPTS or more prompts are cached on disk by model, labels and templates.

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
        self.require_tokenizer()
        for template in templates:
            fill_template(template, labels[0])
        key, cached = None, None
        if len(labels) * len(templates) >= MIN_CACHED_PROMPTS and self.fingerprint:
            key = head_cache_key(self.fingerprint, self.model.text, labels, templates)
            cached = load_cached_head(key)
        head = cached or self._compute_head(
            [[fill_template(template, label) for template in templates] for label in labels]
        )
        self._warn_truncated(head.num_truncated, len(labels) * len(templates))
        if key is not None and cached is None:
            cache_head(key, head)
        return head.vectors_CE

    def _compute_head(self, prompts_by_class: Sequence[Sequence[str]]) -> Head:
        """Encode the prompts of classes with equally many prompts each; classes with equal tokens are encoded once."""
        first_C = find_equal_texts(self.require_tokenizer(), prompts_by_class)
        distinct = sorted(set(first_C))
        num_prompts = len(prompts_by_class[0])
        chunks, num_truncated = [], 0
        chunk_size = max(1, TEXT_CHUNK_SIZE // num_prompts)
        for start in range(0, len(distinct), chunk_size):
            chunk = distinct[start : start + chunk_size]
            vectors_NE, num_truncated_in_chunk = self._encode_texts(
                [prompt for index in chunk for prompt in prompts_by_class[index]], truncate=True, normalize=True
            )
            chunks.append(vectors_NE.view(len(chunk), num_prompts, self.embed_dim).mean(dim=1))
            num_truncated += num_truncated_in_chunk
        head_CE = F.normalize(torch.cat(chunks), dim=-1)
        row_by_class = {index: row for row, index in enumerate(distinct)}
        return Head(head_CE[[row_by_class[first] for first in first_C]], num_truncated)

    def _encode_texts(self, texts: Sequence[str], truncate: bool, normalize: bool) -> tuple[Tensor, int]:
        """Return vectors [N, E], and how many texts were truncated."""
        tokenizer, tower = self.require_tokenizer(), self.model.text
        self.model.eval()
        vectors_NE, num_truncated = torch.empty(len(texts), self.embed_dim), 0
        with torch.inference_mode():
            for start in range(0, len(texts), TEXT_CHUNK_SIZE):
                encoded = tokenizer.encode(texts[start : start + TEXT_CHUNK_SIZE], truncate=truncate)
                num_truncated += encoded.num_truncated
                for rows in tower.inference_batches(encoded.ids):
                    tokens = torch.from_numpy(encoded.ids[rows]).to(self.device)
                    if normalize:
                        vectors_NE[start + rows] = self._truncate(self.model.encode_texts(tokens).cpu())
                    else:
                        vectors_NE[start + rows] = tower(tokens)[:, : self.embed_dim].float().cpu()
        return vectors_NE, num_truncated

    def _warn_truncated(self, num_truncated: int, num_texts: int) -> None:
        if num_truncated:
            warnings.warn(
                f"{num_truncated} of {num_texts} texts were truncated to {self.context_length} tokens", stacklevel=3
            )

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
        templates = self.templates if templates is None else list_texts(templates, "templates")
        require_distinct_labels(labels, self.require_tokenizer())
        class_CE = self.class_vectors(labels, templates)
        return rank_labels(self.encode_images(images), class_CE, labels, scale=self.logit_scale, bias=self.logit_bias)

    def heat_map(self, image: ImageInput, texts: Iterable[str]) -> Tensor:
        """Map where an image matches texts: how much each cell of it raises its cosine to each text.

        A map sums up to about the cosine of the image minus that of its blurred copy. Cells that lower the cosine are
        negative. Maps are linear in the text vectors, so the difference of two maps shows what speaks for one text
        rather than the other.

        Args:
            image: One image, as in `encode_images`.
            texts: Texts as in `encode_texts`; longer ones are truncated.

        Returns:
            float32 [T, h, w] on the CPU. The h × w cells divide what the model sees of the image
            (`Preprocess.visible_box`): the patches of a Vision Transformer, else 16 × 16 cells.

        Raises:
            BadSample: The image cannot be decoded.
            ConfigError: There are no texts, or the image tower is in int8, which has no gradients.
        """
        if self.precision == "int8":
            raise ConfigError("a heat map needs gradients, which int8 does not have. Load the model in fp32 or bf16.")
        texts = list_texts(texts, "texts")
        if not texts:
            raise ConfigError('texts must be a list of at least one text, such as ["a zebra"]')
        text_TE = self.encode_texts(texts)
        upright = load_image(image, "the image", self.preprocess.decode, self.preprocess.max_aspect_ratio)
        pixels_3HW = torch.from_numpy(self.preprocess.resize_and_crop(upright))
        return compute_heat_map(self.model, self.preprocess, pixels_3HW, text_TE)

    def similarity(self, images: Iterable[ImageInput], texts: Iterable[str]) -> Tensor:
        """Return the cosines of images and texts, float32 [N, M]; see `encode_images` and `encode_texts`."""
        text_ME = self.encode_texts(texts)
        return self.encode_images(images) @ text_ME.T

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer; WeightsError if the model has none."""
        if self.tokenizer is None:
            is_clip = self.model.config.text.vocab_size == VOCAB_SIZE
            advice = (
                f"Get OpenAI's vocabulary with `{FETCH_COMMAND}`"
                if is_clip
                else f"If its open_clip_config.json has a hf_tokenizer_name, get that with `{DOWNLOAD_COMMAND}`"
            )
            raise WeightsError(
                f"this model has no tokenizer, so it encodes images only. {advice}. Or put tokenizer.json, vocab.json "
                "and merges.txt, or vocab.txt into its folder, or load it with tokenizer=PATH."
            )
        return self.tokenizer

    def save(self, folder: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write a model folder that `zebra.load` reads, and set the fingerprint to that of the folder.

        Args:
            metadata: Entries of the model card, such as training data and scores, by name.

        Raises:
            ConfigError: The weights are not in fp32, or the vectors are cut: neither is saved.
            WeightsError: The model has no tokenizer.
        """
        self.require_fp32("saved")
        if self.dimensions:
            raise ConfigError(
                f"this model was loaded with dimensions={self.dimensions} and cannot be saved. Load it without."
            )
        self.fingerprint = write_model_folder(
            Path(folder),
            model=self.model,
            tokenizer=self.require_tokenizer(),
            preprocess=self.preprocess,
            encoder=self,
            templates=self.templates,
            metadata=metadata or {},
        )

    def require_fp32(self, action: str) -> None:
        """Raise ConfigError "… cannot be {action} …" if the weights are not in fp32."""
        others = [precision for precision in (self.precision, self.text_precision) if precision != "fp32"]
        if others:
            raise ConfigError(
                f"this model was loaded in {others[0]} and cannot be {action}. Load it with precision='fp32'."
            )

    def pixel_batches(self, images: Iterable[ImageInput]) -> Iterator[Pixels]:
        """Yield preprocessed images in batches of at most 64; see `encode_images` for images and errors."""
        batch: list[NDArray[np.uint8]] = []
        for image in iter_images(images, self.preprocess.decode, self.preprocess.max_aspect_ratio):
            batch.append(self.preprocess.resize_and_crop(image))
            if len(batch) == BATCH_SIZE:
                yield stack_pixels(batch)
                batch = []
        if batch:
            yield stack_pixels(batch)


def rank_labels(
    image_NE: Tensor, class_CE: Tensor, labels: Sequence[str], *, scale: float, bias: float | None
) -> list[list[Prediction]]:
    """Rank the labels for every image vector, best first; scores as in `Bundle.classify`."""
    logits_NC = scale * image_NE @ class_CE.T
    scores_NC = logits_NC.softmax(dim=-1) if bias is None else (logits_NC + bias).sigmoid()
    ranked = []
    for scores_C in scores_NC:
        order = scores_C.argsort(descending=True).tolist()
        ranked.append([Prediction(labels[c], float(scores_C[c])) for c in order])
    return ranked
