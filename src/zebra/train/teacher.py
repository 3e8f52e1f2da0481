"""Distillation towards the vectors of a teacher for the training data.

`zebra embed TEACHER DATA --out STORE --captions` writes them. The vectors of the training images are copied to the run
directory, where they are memory-mapped; those of the captions are memory-mapped in the store.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zebra.config.objective import ObjectiveConfig
from zebra.data.sources import Source
from zebra.distributed import ProcessGroup
from zebra.errors import DataError
from zebra.losses import affinity_loss, feature_loss
from zebra.store import Store
from zebra.store.pca import fit_principal_axes
from zebra.train.caption_vectors import caption_vectors_folder
from zebra.train.store_rows import match_rows
from zebra.train.stored_vectors import VectorInfo, VectorTable
from zebra.values import Batch

IMAGES_FOLDER = "images"
MAX_PCA_VECTORS = 50_000
"""Images, and captions, from which principal axes are computed."""
READ_BATCH = 4096


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """The teacher's vectors of a batch, and how its terms are weighted."""

    image_BT: Tensor
    """Unit vectors of the images of this process, float32."""
    text_BT: Tensor | None
    """Unit vectors of their captions; None if the store has none."""
    axes_TE: Tensor | None
    """Projection to the width of the student; None if both have the same width."""
    logit_scale: float
    """The teacher's factor of the similarities."""
    feature_weight: float
    affinity_weight: float

    def to_student(self, vectors_BT: Tensor) -> Tensor:
        """Return the targets of the feature loss, [B, E]."""
        return vectors_BT if self.axes_TE is None else vectors_BT @ self.axes_TE


def teacher_terms(
    targets: TeacherTargets, image_BE: Tensor, text_NE: Tensor, logit_scale: Tensor, group: ProcessGroup
) -> dict[str, Tensor]:
    """Return the weighted terms of distillation, for the global batch, by name.

    Args:
        targets: The teacher's vectors of this process.
        image_BE: Unit vectors of the images of this process.
        text_NE: Unit vectors of the texts of all processes.
        logit_scale: The student's factor of the similarities.
        group: Processes that share the batch.
    """
    terms = {}
    text_BE = text_NE[group.local_slice(len(text_NE))]
    if targets.feature_weight:
        feature = feature_loss(image_BE, targets.to_student(targets.image_BT), group)
        if targets.text_BT is not None:
            feature = (feature + feature_loss(text_BE, targets.to_student(targets.text_BT), group)) / 2
        terms["teacher_feature"] = targets.feature_weight * feature
    if targets.affinity_weight and targets.text_BT is not None:
        terms["teacher_affinity"] = targets.affinity_weight * affinity_loss(
            image_BE,
            text_NE,
            targets.image_BT,
            group.all_gather(targets.text_BT),
            logit_scale,
            targets.logit_scale,
            group,
        )
    return terms


class Teacher:
    """The stored vectors of a teacher for the training data."""

    def __init__(self, config: ObjectiveConfig, images: VectorTable, captions: VectorTable | None, embed_dim: int):
        """Prepare the targets.

        Args:
            images: Vectors by sample ID.
            captions: Vectors by caption; None trains the images only.
            embed_dim: Width E of the student. Wider vectors of the teacher are projected to their principal axes,
                shorter ones get zeros.

        Raises:
            DataError: The captions were embedded by another model than the images.
        """
        if captions is not None and captions.info.fingerprint != images.info.fingerprint:
            raise DataError(
                f"{captions.folder} holds vectors of the model {captions.info.fingerprint}, but the images were "
                f"embedded by {images.info.fingerprint} ({images.info.model}). {_embed_advice(config, images.info)}"
            )
        self._config, self._images, self._captions = config, images, captions
        tables = [images] if captions is None else [images, captions]
        self._axes_TE = torch.from_numpy(_fit_axes(tables, embed_dim)) if images.dim != embed_dim else None
        self.spec = {"fingerprint": images.info.fingerprint, "vectors": [table.info.digest for table in tables]}
        """What determines the targets, for the run spec."""

    def targets_of(self, batch: Batch, device: torch.device) -> TeacherTargets:
        """Return the targets of a batch.

        Raises:
            DataError: A sample or a caption has no vector.
        """
        try:
            image_BT = self._images.look_up(batch.ids, "sample")
            text_BT = None if self._captions is None else self._captions.look_up(batch.captions, "caption")
        except DataError as error:
            raise DataError(f"{error}. {_embed_advice(self._config, self._images.info)}") from error
        return TeacherTargets(
            _normalize(image_BT.to(device)),
            None if text_BT is None else _normalize(text_BT.to(device)),
            None if self._axes_TE is None else self._axes_TE.to(device),
            self._captions.info.logit_scale if self._captions else 1.0,
            self._config.teacher_feature_weight,
            self._config.teacher_affinity_weight,
        )


def open_teacher(
    config: ObjectiveConfig,
    data: str,
    source: Source,
    embed_dim: int,
    folder: Path,
    group: ProcessGroup,
    *,
    is_resumed: bool,
) -> Teacher | None:
    """Open the teacher of a run; None without one. All processes must call it.

    Args:
        data: The dataset as given.
        source: The training samples, a part of the dataset.
        embed_dim: Width of the student.
        folder: Where the vectors of the training images are kept.
        group: Processes of the run; the main process copies the vectors.
        is_resumed: The run continues, with the vectors that it kept.

    Raises:
        DataError: The store lacks vectors of training images, or holds those of other images.
        StoreError: There is no such store.
    """
    if config.teacher is None:
        return None
    images_folder, store_path = folder / IMAGES_FOLDER, Path(config.teacher)

    def copy_images() -> None:
        if not (is_resumed and VectorTable.exists(images_folder)):
            copy_image_vectors(Store.open(store_path), data, source, images_folder)

    group.broadcast_from_main(copy_images)
    captions = caption_vectors_folder(store_path)
    return Teacher(
        config, VectorTable(images_folder), VectorTable(captions) if VectorTable.exists(captions) else None, embed_dim
    )


def copy_image_vectors(store: Store, data: str, source: Source, folder: Path) -> VectorTable:
    """Copy the vectors of the samples of a source from a store to a table by sample ID.

    A row belongs to a sample if its location ends with the ID, so a dataset may have moved since it was embedded. Some
    images are compared with the digests in the store.

    Args:
        data: Name of the dataset, which decides between rows of several datasets.
        source: The samples.
        folder: Folder of the new table.

    Raises:
        DataError: Samples have no row and were not unusable either, have rows of several other datasets, or other
            images than those in the store.
    """
    metadata = store.metadata
    info = VectorInfo(metadata.fingerprint, metadata.model, 0.0)
    sample_ids = [source.sample_id(index) for index in range(len(source))]
    row_N = match_rows(store, data, source)
    sample_by_row = {row: sample for sample, row in enumerate(row_N.tolist()) if row >= 0}

    def batches() -> Iterator[tuple[list[str], NDArray[np.floating[Any]]]]:
        start = 0
        for batch in store.scan(["vector"]):
            rows = [row for row in range(start, start + batch.num_rows) if row in sample_by_row]
            vectors_BE = batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)
            yield [sample_ids[sample_by_row[row]] for row in rows], vectors_BE[[row - start for row in rows]]
            start += batch.num_rows

    return VectorTable.write(
        folder, batches(), shape=(len(sample_by_row), metadata.embed_dim), dtype=metadata.dtype, info=info
    )


def _fit_axes(tables: Sequence[VectorTable], embed_dim: int) -> NDArray[np.float32]:
    """Return the projection of the teacher's vectors to the student's width, [T, E]."""
    if tables[0].dim < embed_dim:
        return np.eye(tables[0].dim, embed_dim, dtype=np.float32)
    return fit_principal_axes((table.sample(MAX_PCA_VECTORS) for table in tables), embed_dim)


def _normalize(vectors_BT: Tensor) -> Tensor:
    """Return unit vectors: those of a store are rounded."""
    return F.normalize(vectors_BT, dim=-1)


def _embed_advice(config: ObjectiveConfig, info: VectorInfo) -> str:
    return f"Embed the data again: zebra embed {info.model} DATA --out {config.teacher} --captions"
