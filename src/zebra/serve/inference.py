"""Classify and embed the images, texts and labels of requests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zebra.serve.cost import (
    require_affordable_images,
    require_affordable_prompts,
    require_affordable_scores,
    require_affordable_texts,
)
from zebra.serve.model_client import TextEmbedding
from zebra.serve.request_images import load_image_files
from zebra.serve.requests import RequestImage
from zebra.serve.service import Service
from zebra.text.labels import validate_labels
from zebra.text.templates import fill_template
from zebra.values import Prediction


async def classify_images(
    service: Service, images: Sequence[RequestImage], labels: Sequence[str], templates: Sequence[str] | None
) -> tuple[list[list[Prediction]], list[str]]:
    """Return the labels of every image, best first, and warnings; without templates, use those of the model.

    Raises:
        ConfigError: A label is empty or appears twice, or a template has no place for the label.
        BadSample: An image cannot be decoded.
        HTTPError: The request costs too much (400, 422), or the server is too busy (429, 503).
    """
    labels = validate_labels(labels)
    templates = templates or service.encoder.metadata.templates
    require_affordable_prompts(labels, templates)
    require_affordable_scores(labels, len(images))
    for template in templates:
        fill_template(template, labels[0])
    image_NE = await embed_images(service, images)
    head = await service.encoder.build_head(labels, templates)
    await service.concurrency_limit.wait_for_readers()
    metadata = service.encoder.metadata
    warnings = (
        [f"{head.num_truncated} of {len(labels) * len(templates)} prompts were cut to {metadata.context_length} tokens"]
        if head.num_truncated
        else []
    )
    return _rank_labels(
        image_NE, head.vectors_CE, labels, scale=metadata.logit_scale, bias=metadata.logit_bias
    ), warnings


async def embed_images(service: Service, images: Sequence[RequestImage]) -> NDArray[np.float32]:
    """Return the unit vectors of images [N, E]; vectors of rows are read from the store.

    Raises:
        BadSample: An image cannot be decoded.
        ConfigError: A row is not in the store.
        HTTPError: A URL cannot be fetched or there are too many pixels (400), or the server is too busy (429, 503).
    """
    encoder = service.encoder
    encoder.require_capacity(len(images))
    files = await load_image_files(images, service.config.allow_url_hosts)
    require_affordable_images([file.num_pixels for file in files.values()])
    vectors = dict(zip(files, await encoder.encode_image_files(list(files.values())), strict=True))
    row_indices = [index for index, image in enumerate(images) if image.id is not None]
    if row_indices:
        row_ids = [image.id for image in images if image.id is not None]
        vectors |= zip(row_indices, await service.read_pool(service.searcher.read_vectors, row_ids), strict=True)
    return np.stack([vectors[index] for index in range(len(images))])


async def embed_texts(service: Service, texts: Sequence[str]) -> tuple[list[TextEmbedding], list[str]]:
    """Return the embeddings of texts, and a warning for each text that was truncated.

    Raises:
        HTTPError: The texts are too long together (422), or the server is too busy (429, 503).
    """
    require_affordable_texts(texts)
    embeddings = await service.encoder.encode_texts(texts)
    length = service.encoder.metadata.context_length
    return embeddings, [
        f"only the beginning of {text[:40]!r}… was read: the model takes {length} tokens"
        for text, embedding in zip(texts, embeddings, strict=True)
        if embedding.is_truncated
    ]


def _rank_labels(
    image_NE: NDArray[np.float32],
    class_CE: NDArray[np.float32],
    labels: Sequence[str],
    *,
    scale: float,
    bias: float | None,
) -> list[list[Prediction]]:
    """Rank the labels for every image vector, best first; scores as in `Bundle.classify`, in double precision."""
    logits_NC = scale * (image_NE.astype(np.float64) @ class_CE.T.astype(np.float64))
    if bias is None:
        scores_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        scores_NC /= scores_NC.sum(axis=1, keepdims=True)
    else:
        scores_NC = 1 / (1 + np.exp(-np.clip(logits_NC + bias, -700, 700)))  # exp overflows beyond 709
    order_NC = np.argsort(-logits_NC, axis=1, kind="stable")
    return [
        [Prediction(labels[index], float(scores_C[index])) for index in order_C.tolist()]
        for scores_C, order_C in zip(scores_NC, order_NC, strict=True)
    ]
