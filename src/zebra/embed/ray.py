"""Embedding pipeline on a Ray cluster: like `pipeline.py`, with remote workers.

The driver finds the images that are not in the store yet, and sends their locations in batches. The workers must be
able to open the same paths. Each worker has its own copy of the model and runs the same stages.
The rows return in the order of the dataset. They are staged in one file beside the store and committed together, so a
killed driver leaves the store unchanged.

Equal bytes are embedded once per batch only; a wider search would need communication between workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zebra.config.precision import InferencePrecision
from zebra.data.locations import ImageRef
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.in_flight import InFlight
from zebra.embed.pipeline import COMMIT_ROWS, BatchEmbedder, EmbedPipeline, batched
from zebra.embed.preprocessing import ImagePreprocessor
from zebra.embed.stages import EncodePixels
from zebra.embed.values import StoreRow
from zebra.engines.ray import open_ray
from zebra.errors import BadSample, WeightsError, ZebraError
from zebra.images.tensors import Pixels
from zebra.pretrained.load import load
from zebra.store import Store, StoreError
from zebra.store.schema import validate_rows

STAGED_ROWS_FILE = "staged.arrow"
"""File in the store directory for rows that are not committed yet. A killed driver leaves it behind."""

ALL_CLUSTER_WORKERS = 0
"""Value of num_workers for one worker per GPU or, without GPUs, per CPU core."""

RemoteResult = tuple[StoreRow, bool] | BadSample
"""Row of an image and whether it was newly embedded, or the reason why the image is unusable."""


@dataclass(frozen=True)
class LazyImageEncoder:
    """An image tower that is pickled by its path and loaded on first use."""

    model: str
    """Path or name for `zebra.load`; it must name the same model on every machine."""
    precision: InferencePrecision
    fingerprint: str
    dimensions: int | None = None
    device: str = "auto"
    """cuda and auto take the GPU that Ray gives the worker."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """Embed preprocessed images, as `Bundle.encode_pixels`."""
        return self.encode_pixels(pixels)

    @cached_property
    def encode_pixels(self) -> EncodePixels:
        """The loaded image tower."""
        bundle = load(self.model, precision=self.precision, dimensions=self.dimensions, device=self.device)
        if bundle.fingerprint != self.fingerprint:
            raise WeightsError(
                f"{self.model} is the model {bundle.fingerprint} on the worker, and {self.fingerprint} on the driver. "
                "Copy the same files to both machines"
            )
        return bundle.encode_pixels


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A batch sent to a worker; Ray pickles it."""

    image_refs: Sequence[ImageRef]


@dataclass(frozen=True, slots=True)
class BatchResponse:
    """The results of a batch."""

    results: Sequence[RemoteResult]
    error: str = ""
    """Message if the batch failed; text, because not all exceptions can be pickled."""


@dataclass(frozen=True)
class RemoteEmbedder:
    """Embeds batches in a worker of the cluster, where it is pickled to."""

    preprocessor: ImagePreprocessor
    encode_pixels: EncodePixels

    def __call__(self, request: BatchRequest) -> BatchResponse:
        """Return the results of a batch, or an error message."""
        torch.set_num_threads(1)  # one worker per core
        try:
            return BatchResponse(self._embed_batch(request.image_refs))
        except ZebraError as error:
            return BatchResponse((), str(error))

    def _embed_batch(self, image_refs: Sequence[ImageRef]) -> list[RemoteResult]:
        embed = BatchEmbedder(self.preprocessor, self.encode_pixels, InFlight(lambda _digest: None))
        return [
            result
            if isinstance(result, BadSample)
            else (
                StoreRow(result.location, result.record, result.digest, result.features.result()),
                result.is_newly_embedded,
            )
            for result in embed(image_refs)
        ]


class StagedRows(ExistingRows):
    """The rows of a store, and new rows that are staged in a file for one commit."""

    def __init__(self, store: Store, dataset_name: str) -> None:
        super().__init__(store, dataset_name)
        self._path = store.path / STAGED_ROWS_FILE
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._replaced_rows: set[int] = set()

    def write(self, rows: Sequence[StoreRow], table: pa.Table) -> None:
        """Stage rows; the commit will replace rows at the same locations."""
        store = self.store
        table = validate_rows(self._keep_values(rows, table), store.schema, store.metadata, str(store.path))
        try:
            if self._writer is None:
                self._writer = pa.ipc.new_file(str(self._path), table.schema)
            self._writer.write_table(table)
        except OSError as error:
            raise self._discard(error) from error
        self._replaced_rows.update(self._find_replaced(rows))

    def commit(self) -> None:
        """Commit the staged rows."""
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise self._discard(error) from error
        self._writer = None
        replaced = sorted(self._replaced_rows)
        try:
            self.store.append_file(self._path, self._positions(replaced))
        finally:
            self._path.unlink()
        self._deleted_rows.add(np.array(replaced, np.uint64))
        self._replaced_rows.clear()

    def _discard(self, error: OSError) -> StoreError:
        self._writer = None
        self._replaced_rows.clear()
        self._path.unlink(missing_ok=True)
        return StoreError(f"cannot write {self._path}: {error}. The store is unchanged")


class RayEmbedPipeline(EmbedPipeline):
    """One run over a dataset."""

    existing_rows: StagedRows

    def __call__(self) -> bool:
        """Embed all images that are not in the store yet; return False if the run was stopped before the end.

        Received rows are committed however the run ends, except the last few if Ray itself fails.

        Raises:
            DataError: Too many images are unusable; the usable ones were written.
            StoreError: The store cannot be written.
            WeightsError: A worker cannot run the model.
        """
        requests = [BatchRequest(batch) for batch in batched(self._iter_changed_images(), self.batch_size)]
        if requests:
            try:
                self._run_batches(requests)
            finally:
                self.existing_rows.commit()
        self.callback(self.progress)
        return self.progress.done == self.progress.total or not self.should_stop()

    def _run_batches(self, requests: list[BatchRequest]) -> None:
        encode_pixels = self.batch_embedder.encode_pixels
        embedder = RemoteEmbedder(self.batch_embedder.preprocessor, encode_pixels)
        uses_gpus = not (isinstance(encode_pixels, LazyImageEncoder) and encode_pixels.device == "cpu")
        with open_ray(self.num_workers or None, uses_gpus=uses_gpus) as engine:
            for response in engine.map(embedder, requests):
                if response.error:
                    raise WeightsError(f"a worker of the Ray cluster cannot run the model: {response.error}")
                for result in response.results:
                    if isinstance(result, BadSample):
                        self._skip_sample(result)
                    else:
                        self._add_row(*result)
                if len(self._uncommitted_rows) >= COMMIT_ROWS:
                    self._commit()
                self.callback(self.progress)
                if self.should_stop():
                    break
        self._commit()
