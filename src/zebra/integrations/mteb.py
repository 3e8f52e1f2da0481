"""Encoder for MTEB and MIEB, the benchmarks of text and image embeddings.

https://embeddings-benchmark.github.io/mteb (mteb 2.26), Enevoldsen et al. 2025, Xiao et al. 2025
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zebra.errors import ConfigError, MissingExtra
from zebra.images.inputs import ImageInput
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.locate import hub_repository

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
except ImportError as error:
    raise MissingExtra("mteb", "zebra.integrations.mteb", "mteb") from error


class ZebraEncoder(AbsEncoder):
    """Model for `mteb.evaluate`: vectors of texts, images, or both, which are then added.

    Vectors are not normalized, as those of mteb's own CLIP models: its probes, clusters and fused queries depend on
    their lengths. mteb saves results by the name of the model, its fingerprint and its precision.
    """

    def __init__(
        self,
        model_name: str | Path | Bundle,
        revision: str | None = None,
        *,
        device: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Load a model.

        Args:
            model_name: A name or path that `zebra.load` opens; or a loaded model, which is called "zebra/model".
            revision: Name of the version in the results; by default the fingerprint.
            device: As in `zebra.load`; None is "auto".
            metadata: Fields of `mteb.models.ModelMeta` that only you know, such as name, license, release_date,
                languages and training_datasets; they replace those that the model tells.
            options: Other arguments of `zebra.load`.

        Raises:
            ConfigError: `metadata` has an unknown field or a value that mteb refuses.
        """
        if isinstance(model_name, Bundle):
            self.clip, repo, name = model_name, None, "zebra/model"
        else:
            self.clip = load(model_name, device=device or "auto", **options)
            repo = hub_repository(str(model_name))
            name = repo or f"zebra/{Path(model_name).resolve().name}"
        self.mteb_model_meta = _describe(self.clip, name, repo, revision, metadata or {})

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> Tensor:
        """Return a vector [N, E] per item, float32 on the CPU.

        Args:
            inputs: Batches of columns: `text` with texts, `image` with PIL images, or both. An item without a text
                and an image has the zero vector.
            _: Task, split and prompt type, which do not change the vectors.

        Raises:
            ConfigError: A batch has neither texts nor images.
            BadSample: An image cannot be decoded.
        """
        texts: list[str | None] = []
        has_image: list[bool] = []

        def iter_images() -> Iterator[ImageInput]:
            for batch in inputs:
                if not {"text", "image"} & batch.keys():
                    raise ConfigError(f"the model embeds texts and images, but the task has {', '.join(batch)}.")
                num_items = len(batch["image"] if "image" in batch else batch["text"])
                images = batch.get("image", [None] * num_items)
                texts.extend(batch.get("text", [None] * num_items))
                has_image.extend(image is not None for image in images)
                yield from (image for image in images if image is not None)

        image_vectors = self.clip.encode_images(iter_images(), normalize=False)
        vectors_NE = torch.zeros(len(texts), self.clip.embed_dim)
        vectors_NE[torch.tensor(has_image, dtype=torch.bool)] = image_vectors
        has_text = torch.tensor([text is not None for text in texts], dtype=torch.bool)
        if has_text.any():
            present = [text for text in texts if text is not None]
            vectors_NE[has_text] += self.clip.encode_texts(present, normalize=False)
        return vectors_NE


def _describe(
    clip: Bundle, name: str, repo: str | None, revision: str | None, metadata: Mapping[str, Any]
) -> ModelMeta:
    """Return what mteb records about a model; fields that neither the model nor the caller knows are None."""
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in clip.model.parameters())
    fields: dict[str, Any] = dict.fromkeys(
        name for name, field in ModelMeta.model_fields.items() if field.is_required()
    )
    fields |= {
        "name": name,
        "revision": revision or clip.fingerprint or "unsaved",
        "modalities": ["image", "text"] if clip.tokenizer else ["image"],
        "embed_dim": clip.embed_dim,
        "n_parameters": clip.num_parameters,
        "memory_usage_mb": None if clip.precision == "int8" else round(num_bytes / 2**20),
        "max_tokens": clip.context_length if clip.tokenizer else None,
        "framework": ["PyTorch"],
        "reference": f"https://huggingface.co/{repo}" if repo else None,
        "similarity_fn_name": "cosine",
        "use_instructions": False,
        "experiment_kwargs": None if clip.precision == "fp32" else {"precision": clip.precision},
    }
    try:
        return ModelMeta(**fields | dict(metadata))
    except ValueError as error:
        raise ConfigError(f"mteb refuses the metadata of the model: {error}") from error
