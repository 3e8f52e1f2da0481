"""Encoder for MTEB and MIEB, the benchmarks of text and image embeddings.

https://embeddings-benchmark.github.io/mteb (mteb 2.26), Enevoldsen et al. 2025, Xiao et al. 2025
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zebra.errors import ConfigError, MissingExtra
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.locate import hub_repository

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
except ImportError as error:
    raise MissingExtra("mteb", "zebra.integrations.mteb", "mteb") from error


class ZebraEncoder(AbsEncoder):
    """Model for `mteb.evaluate`: unit vectors of texts, images, or both, which are then added.

    Results are cached by the name of the model and its fingerprint.
    """

    def __init__(
        self, model_name: str | Path | Bundle, revision: str | None = None, *, device: str | None = None, **options: Any
    ) -> None:
        """Load a model.

        Args:
            model_name: A name or path that `zebra.load` opens; or a loaded model, which is called "zebra/model".
            revision: Name of the version in the results; by default the fingerprint.
            device: As in `zebra.load`; None is "auto".
            options: Other arguments of `zebra.load`.
        """
        if isinstance(model_name, Bundle):
            self.clip, name = model_name, "zebra/model"
        else:
            self.clip = load(model_name, device=device or "auto", **options)
            name = hub_repository(str(model_name)) or f"zebra/{Path(model_name).resolve().name}"
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": revision or self.clip.fingerprint or None,
                "modalities": ["image", "text"] if self.clip.tokenizer else ["image"],
                "embed_dim": self.clip.embed_dim,
                "n_parameters": self.clip.num_parameters,
                "max_tokens": self.clip.context_length,
                "framework": ["PyTorch"],
            }
        )

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
        image_vectors = []
        for batch in inputs:
            if not {"text", "image"} & batch.keys():
                raise ConfigError(f"the model embeds texts and images, but the task has {', '.join(batch)}.")
            num_items = len(next(iter(batch.values())))
            texts += batch.get("text", [None] * num_items)
            image_vectors.append(self._encode_images(batch.get("image", [None] * num_items)))
        vectors_NE = torch.cat(image_vectors) if image_vectors else torch.zeros(0, self.clip.embed_dim)
        rows = [row for row, text in enumerate(texts) if text is not None]
        if rows:
            vectors_NE[rows] += self.clip.encode_texts(text for text in texts if text is not None)
        return vectors_NE

    def _encode_images(self, images: list[Any]) -> Tensor:
        rows = [row for row, image in enumerate(images) if image is not None]
        vectors_NE = torch.zeros(len(images), self.clip.embed_dim)
        if rows:
            vectors_NE[rows] = self.clip.encode_images(images[row] for row in rows)
        return vectors_NE
