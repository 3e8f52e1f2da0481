"""Pictures in, a growing store out: several batches at a time are read, decoded and embedded, and written in order.

Each worker is a thread that takes a batch through all stages: decoding and embedding overlap, since others are at
another stage, and no more than one encoded file per worker is in memory. Inside a worker nothing is parallel: two cores
that embed a batch each do more than two that share one. What runs ahead of the writer is bounded, and so is memory.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from zebra.embed.existing_rows import ExistingRows
from zebra.embed.in_flight import InFlight
from zebra.embed.stages import (
    EncodePixels,
    ImagePreprocessor,
    encode_batch,
    read_content,
    rows_to_table,
)
from zebra.embed.values import (
    EmbedSource,
    ImageContent,
    ImageFeatures,
    ImageRef,
    Location,
    PreprocessedImage,
    StoreRow,
)
from zebra.errors import BadSample, DataError
from zebra.images.formats import image_digest

COMMIT_ROWS = 2048
COMMIT_SECONDS = 30.0
"""How often is committed; it is about what a kill can cost. Each commit is a file of the store."""
PREFETCH_FACTOR = 2
"""Batches per worker that are begun before the oldest is written."""
PROGRESS_EVERY = 1024
"""Unchanged pictures that are passed over between two reports."""

Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(slots=True)
class Progress:
    """What became of the pictures so far."""

    total: int
    embedded: int = 0
    reused: int = 0
    """Written with the vector of equal bytes."""
    unchanged: int = 0
    """In the store before, and unchanged."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By reason."""

    @property
    def done(self) -> int:
        """Pictures that need nothing more."""
        return self.embedded + self.reused + self.unchanged + self.skipped.total()


@dataclass(frozen=True, slots=True)
class PendingRow:
    """What a worker made of a picture."""

    location: Location
    content: ImageContent
    digest: str
    features: "Future[ImageFeatures]"
    is_newly_embedded: bool
    """By this worker, rather than taken over from equal bytes."""


@dataclass(frozen=True, slots=True)
class BatchEmbedder:
    """Takes a batch of pictures through reading, decoding and embedding."""

    preprocessor: ImagePreprocessor
    encode_pixels: EncodePixels
    in_flight: InFlight

    def __call__(self, image_refs: Sequence[ImageRef]) -> list[PendingRow | BadSample]:
        """Return one answer for each picture."""
        answers: list[PendingRow | BadSample] = []
        mine: list[tuple[Future[ImageFeatures], PreprocessedImage]] = []
        try:
            for picture in image_refs:
                try:
                    answers.append(self._preprocess_image(picture, mine))
                except BadSample as bad:
                    answers.append(bad)
            if mine:
                looks = encode_batch([prepared for _, prepared in mine], self.encode_pixels)
                for (future, _), look in zip(mine, looks, strict=True):
                    future.set_result(look)
        except BaseException as error:
            for future, _ in mine:  # another batch may be waiting
                if not future.done():
                    future.set_exception(error)
            raise
        return answers

    def _preprocess_image(
        self, image_ref: ImageRef, to_encode: list[tuple["Future[ImageFeatures]", PreprocessedImage]]
    ) -> PendingRow:
        content = read_content(image_ref)
        digest = image_digest(content.image_bytes)
        look, made = self.in_flight.reserve(digest)
        if made:
            try:
                to_encode.append((look, self.preprocessor(content.image_bytes, image_ref.location.key)))
            except BadSample as bad:
                self.in_flight.release(digest)
                look.set_exception(bad)
                raise
        return PendingRow(image_ref.location, replace(content, image_bytes=b""), digest, look, made)


class EmbedPipeline:
    """One run over a data set."""

    def __init__(
        self,
        source: EmbedSource,
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
        """Put a run together.

        Args:
            existing_rows: The store, and what is in it.
            encode_pixels: The model's image tower; asked by several threads at a time.
            max_skip_rate: Share of the pictures that may be unusable.
            on_skip: Told every picture that is left out.
            callback: Told the tally again and again.
            should_stop: Asked after every batch; True ends the run with what is done committed.
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
        self.progress = Progress(len(source))
        self._uncommitted_rows: list[StoreRow] = []
        self._last_commit_time = time.monotonic()

    def __call__(self) -> bool:
        """Embed everything that is not in the store yet; return False if it was stopped before the end.

        Raises:
            DataError: Too many pictures are unusable; those that are not were written.
            StoreError: The store cannot be written.
        """
        pool = ThreadPoolExecutor(self.num_workers, "embed")
        try:
            batches = _batched(self._iter_changed_images(), self.batch_size)
            for answers in _map_in_order(
                pool, self.batch_embedder, batches, PREFETCH_FACTOR * self.num_workers, self.should_stop
            ):
                for answer in answers:
                    self._add_pending_row(answer)
                if (
                    len(self._uncommitted_rows) >= COMMIT_ROWS
                    or time.monotonic() - self._last_commit_time > COMMIT_SECONDS
                ):
                    self._commit()
                self.callback(self.progress)
        finally:
            pool.shutdown(cancel_futures=True)
        self._commit()
        self.callback(self.progress)
        return self.progress.done == self.progress.total or not self.should_stop()

    def _iter_changed_images(self) -> Iterator[ImageRef]:
        """Yield the pictures that the store does not hold as they are."""
        for picture in self.source:
            if self.existing_rows.mark_seen(picture.location.key, picture.location.stamp):
                self.progress.unchanged += 1
                if self.progress.unchanged % PROGRESS_EVERY == 0:
                    self.callback(self.progress)
            else:
                yield picture

    def _add_pending_row(self, result: PendingRow | BadSample) -> None:
        if isinstance(result, BadSample):
            self._skip_sample(result)
            return
        try:
            look = result.features.result()
        except BadSample as bad:  # of equal bytes
            self._skip_sample(BadSample(bad.reason, result.location.key, bad.detail))
            return
        self._uncommitted_rows.append(StoreRow(result.location, result.content, result.digest, look))
        if result.is_newly_embedded:
            self.progress.embedded += 1
        else:
            self.progress.reused += 1

    def _skip_sample(self, error: BadSample) -> None:
        self.on_skip(error)
        self.progress.skipped[error.reason] += 1
        unusable = self.progress.skipped.total()
        if unusable > self.max_skip_rate * self.progress.total:
            self._commit()
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.progress.skipped.most_common())
            raise DataError(
                f"{unusable} of the {self.progress.total} pictures of {self.source.name} are unusable, more than the "
                f"{self.max_skip_rate:.0%} allowed: {reasons}. The last is {error}. Mend or remove them, or allow more "
                "with --data-options.max-skip-rate"
            )

    def _commit(self) -> None:
        if self._uncommitted_rows:
            store = self.existing_rows.store
            self.existing_rows.write(
                self._uncommitted_rows, rows_to_table(self._uncommitted_rows, store.schema, self.source.name)
            )
            for row in self._uncommitted_rows:
                self.in_flight.release(row.digest)
            self._uncommitted_rows = []
        self._last_commit_time = time.monotonic()


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
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
    """Yield the answers in the order of the items, of which at most `max_in_flight` are begun or waiting at a time.

    On request it takes no more items, and yields the answers to those that were begun.
    """
    begun: deque[Future[Output]] = deque()
    iterator = iter(items)
    while True:
        while len(begun) < max_in_flight and not should_stop() and (item := next(iterator, None)) is not None:
            begun.append(executor.submit(fn, item))
        if not begun or (should_stop() and begun[0].cancel()):  # what comes behind it waits too
            return
        yield begun.popleft().result()
