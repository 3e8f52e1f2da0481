"""Multi-threaded embedding of batches, written to the store in order.

Each worker thread takes a batch through all stages. Decoding and embedding overlap, because workers are at different
stages, and each worker holds at most one encoded file. A worker itself is not parallel: two cores with a batch each are
faster than two that share one. The number of batches ahead of the writer is limited, and with it the memory.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from zebra.data.bad_samples import format_reasons
from zebra.data.locations import ImageRef, Location
from zebra.data.shards import ShardSource
from zebra.data.sources import ImageScan
from zebra.embed.columns import ExifSource
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.in_flight import InFlight
from zebra.embed.preprocessing import ImagePreprocessor, read_record
from zebra.embed.stages import EncodePixels, encode_batch, rows_to_table
from zebra.embed.values import ImageFeatures, PreprocessedImage, StoreRow
from zebra.errors import BadSample, DataError, DeviceError, escape_unencodable
from zebra.images.formats import image_digest
from zebra.values import Record

COMMIT_ROWS = 2048
COMMIT_SECONDS = 30.0
"""Commit interval, which limits the work lost when the process is killed. Each commit adds a file to the store."""
PREFETCH_FACTOR = 2
"""Batches per worker that are in flight, as in torch.utils.data.DataLoader."""
LOOKUP_BATCH = 64
"""Images that are looked up in the store at once: enough to spread the cost of a call, few enough to start quickly."""
PROGRESS_EVERY = 1024
"""Unchanged images between two progress callbacks."""

Item = TypeVar("Item")
Output = TypeVar("Output")


def dataset_name(source: ImageScan) -> str:
    """Return the name of a dataset in the column `source`: an absolute path, or the name of shards as given."""
    if isinstance(source, ShardSource):
        return source.name
    return escape_unencodable(str(Path(source.name.removeprefix("file://")).resolve()))


@dataclass(slots=True)
class Progress:
    """Counts of the images processed so far."""

    total: int
    embedded: int = 0
    reused: int = 0
    """Written with the vector of an image with equal bytes."""
    unchanged: int = 0
    """Already in the store and up to date."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Unusable images by reason."""

    @property
    def done(self) -> int:
        """Number of finished images."""
        return self.embedded + self.reused + self.unchanged + self.skipped.total()


@dataclass(frozen=True, slots=True)
class PendingRow:
    """An embedded image whose features may still be computed by another worker."""

    location: Location
    record: Record
    digest: str
    features: "Future[ImageFeatures]"
    is_newly_embedded: bool
    """False if the features come from an image with equal bytes."""


@dataclass(frozen=True, slots=True)
class BatchEmbedder:
    """Reads, decodes and embeds a batch of images."""

    preprocessor: ImagePreprocessor
    encode_pixels: EncodePixels
    in_flight: InFlight

    def __call__(self, image_refs: Sequence[ImageRef]) -> list[PendingRow | BadSample]:
        """Return a row, or the reason why the image is unusable, for each image."""
        results: list[PendingRow | BadSample] = []
        to_encode: list[tuple[Future[ImageFeatures], PreprocessedImage]] = []
        try:
            for image_ref in image_refs:
                try:
                    results.append(self._preprocess_image(image_ref, to_encode))
                except BadSample as error:
                    results.append(error)
            if to_encode:
                encoded = encode_batch([image for _, image in to_encode], self.encode_pixels)
                for (future, _), features in zip(to_encode, encoded, strict=True):
                    future.set_result(features)
        except BaseException as error:
            for future, _ in to_encode:  # another batch may wait for it
                if not future.done():
                    future.set_exception(error)
            raise
        return results

    def _preprocess_image(
        self, image_ref: ImageRef, to_encode: list[tuple["Future[ImageFeatures]", PreprocessedImage]]
    ) -> PendingRow:
        record = read_record(image_ref)
        digest = image_digest(record.image)
        features, is_new = self.in_flight.reserve(digest)
        if is_new:
            try:
                to_encode.append((features, self.preprocessor(record.image, image_ref.location.key)))
            except BadSample as error:
                self.in_flight.release(digest)
                features.set_exception(error)
                raise
        return PendingRow(image_ref.location, replace(record, image=b""), digest, features, is_new)


class EmbedPipeline:
    """One run over a dataset."""

    def __init__(
        self,
        source: ExifSource,
        existing_rows: ExistingRows,
        preprocessor: ImagePreprocessor,
        encode_pixels: EncodePixels,
        *,
        batch_size: int,
        num_workers: int,
        max_skip_rate: float,
        on_skip: Callable[[BadSample], None],
        callback: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Create a pipeline; call it to run it.

        Args:
            existing_rows: The rows of the store that is written to.
            encode_pixels: The image tower; it is called by several threads at once.
            max_skip_rate: Maximum share of unusable images.
            on_skip: Called with every unusable image.
            callback: Called with the progress, at least once per batch.
            should_stop: Called after every batch; True ends the run after committing finished rows.
        """
        self.source = source
        self.existing_rows = existing_rows
        self.in_flight = InFlight(existing_rows.find_features)
        self.batch_embedder = BatchEmbedder(preprocessor, encode_pixels, self.in_flight)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_skip_rate = max_skip_rate
        self.on_skip = on_skip
        self.callback = callback
        self.should_stop = should_stop
        self.progress = Progress(source.num_images())
        self.dataset_name = existing_rows.dataset_name
        self._uncommitted_rows: list[StoreRow] = []
        self._last_commit_time = time.monotonic()

    def __call__(self) -> bool:
        """Embed all images that are not in the store yet; return False if the run was stopped before the end.

        Raises:
            DataError: Too many images are unusable; the usable ones were written.
            StoreError: The store cannot be written.
            DeviceError: The device stopped working; the images before were written.
        """
        executor = ThreadPoolExecutor(self.num_workers, "embed")
        try:
            batches = batched(self._iter_changed_images(), self.batch_size)
            for results in _map_in_order(
                executor, self.batch_embedder, batches, PREFETCH_FACTOR * self.num_workers, self.should_stop
            ):
                for result in results:
                    self._add_pending_row(result)
                if (
                    len(self._uncommitted_rows) >= COMMIT_ROWS
                    or time.monotonic() - self._last_commit_time > COMMIT_SECONDS
                ):
                    self._commit()
                self.callback(self.progress)
        except DeviceError:
            self._commit()  # the images before
            raise
        finally:
            executor.shutdown(cancel_futures=True)
        self._commit()
        if not self.should_stop():
            self.progress.total = self.progress.done  # of frames of videos, the total was an estimate
        self.callback(self.progress)
        return self.progress.done == self.progress.total or not self.should_stop()

    def _iter_changed_images(self) -> Iterator[ImageRef]:
        """Yield the images that are new or may have changed."""
        for image_refs in batched(self.source.scan(), LOOKUP_BATCH):
            states = self.existing_rows.mark_seen([image_ref.location for image_ref in image_refs])
            for image_ref, is_up_to_date in zip(image_refs, states, strict=True):
                if is_up_to_date:
                    self.progress.unchanged += 1
                    if self.progress.unchanged % PROGRESS_EVERY == 0:
                        self.callback(self.progress)
                else:
                    yield image_ref

    def _add_pending_row(self, result: PendingRow | BadSample) -> None:
        if isinstance(result, BadSample):
            self._skip_sample(result)
            return
        try:
            features = result.features.result()
        except BadSample as error:  # raised for another image with equal bytes
            self._skip_sample(BadSample(error.reason, result.location.key, error.detail))
            return
        self._add_row(StoreRow(result.location, result.record, result.digest, features), result.is_newly_embedded)

    def _add_row(self, row: StoreRow, is_newly_embedded: bool) -> None:
        self._uncommitted_rows.append(row)
        self.progress.embedded += is_newly_embedded
        self.progress.reused += not is_newly_embedded

    def _skip_sample(self, error: BadSample) -> None:
        self.on_skip(error)
        self.progress.skipped[error.reason] += 1
        num_skipped = self.progress.skipped.total()
        if num_skipped > self.max_skip_rate * self.progress.total:
            self._commit()
            reasons = format_reasons(dict(self.progress.skipped.most_common()))
            raise DataError(
                f"{num_skipped} of {self.progress.total} images of {self.dataset_name} are unusable, more than the "
                f"{self.max_skip_rate:.0%} allowed: {reasons}. The last is {error}. Repair or remove them, or allow "
                "more with --data-options.max-skip-rate"
            )

    def _commit(self) -> None:
        if self._uncommitted_rows:
            store = self.existing_rows.store
            self.existing_rows.write(
                self._uncommitted_rows, rows_to_table(self._uncommitted_rows, store.schema, self.dataset_name)
            )
            for row in self._uncommitted_rows:
                self.in_flight.release(row.digest)
            self._uncommitted_rows = []
        self._last_commit_time = time.monotonic()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _map_in_order(
    executor: ThreadPoolExecutor,
    fn: Callable[[Item], Output],
    items: Iterable[Item],
    max_in_flight: int,
    should_stop: Callable[[], bool],
) -> Iterator[Output]:
    """Yield the results in the order of the items; at most `max_in_flight` items are submitted at a time.

    Once `should_stop` returns True, no more items are submitted, and only those that are running are finished.
    """
    futures: deque[Future[Output]] = deque()
    iterator = iter(items)
    while True:
        while len(futures) < max_in_flight and not should_stop() and (item := next(iterator, None)) is not None:
            futures.append(executor.submit(fn, item))
        if not futures or (should_stop() and futures[0].cancel()):  # the ones behind it have not started either
            return
        yield futures.popleft().result()
