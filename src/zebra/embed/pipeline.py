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

from zebra.embed.existing_rows import Known
from zebra.embed.in_flight import Claims
from zebra.embed.stages import Encode, Prepare, digest_of, encode, read, tabulate
from zebra.embed.values import Content, Look, Picture, Pictures, Prepared, Row, Spot
from zebra.errors import BadSample, DataError

COMMIT_ROWS = 2048
COMMIT_SECONDS = 30.0
"""How often is committed; it is about what a kill can cost. Each commit is a file of the store."""
AHEAD = 2
"""Batches per worker that are begun before the oldest is written."""
GLANCE = 1024
"""Unchanged pictures that are passed over between two reports."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Tally:
    """What became of the pictures so far."""

    total: int
    embedded: int = 0
    reused: int = 0
    """Written with the vector of equal bytes."""
    already: int = 0
    """In the store before, and unchanged."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By reason."""

    @property
    def done(self) -> int:
        """Pictures that need nothing more."""
        return self.embedded + self.reused + self.already + self.skipped.total()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker made of a picture."""

    spot: Spot
    content: Content
    digest: str
    look: "Future[Look]"
    made: bool
    """By this worker, rather than taken over from equal bytes."""


@dataclass(frozen=True, slots=True)
class Work:
    """Takes a batch of pictures through reading, decoding and embedding."""

    prepare: Prepare
    run: Encode
    claims: Claims

    def __call__(self, pictures: Sequence[Picture]) -> list[Seen | BadSample]:
        """Return one answer for each picture."""
        answers: list[Seen | BadSample] = []
        mine: list[tuple[Future[Look], Prepared]] = []
        try:
            for picture in pictures:
                try:
                    answers.append(self._see(picture, mine))
                except BadSample as bad:
                    answers.append(bad)
            if mine:
                looks = encode([prepared for _, prepared in mine], self.run)
                for (future, _), look in zip(mine, looks, strict=True):
                    future.set_result(look)
        except BaseException as error:
            for future, _ in mine:  # another batch may be waiting
                if not future.done():
                    future.set_exception(error)
            raise
        return answers

    def _see(self, picture: Picture, mine: list[tuple["Future[Look]", Prepared]]) -> Seen:
        content = read(picture)
        digest = digest_of(content.image)
        look, made = self.claims.claim(digest)
        if made:
            try:
                mine.append((look, self.prepare(content.image, picture.spot.location)))
            except BadSample as bad:
                self.claims.release(digest)
                look.set_exception(bad)
                raise
        return Seen(picture.spot, replace(content, image=b""), digest, look, made)


class Pipeline:
    """One run over a data set."""

    def __init__(
        self,
        pictures: Pictures,
        known: Known,
        prepare: Prepare,
        run: Encode,
        *,
        batch_size: int,
        workers: int,
        max_skip_rate: float,
        skip: Callable[[BadSample], None],
        watch: Callable[[Tally], None],
        stop: Callable[[], bool],
    ) -> None:
        """Put a run together.

        Args:
            known: The store, and what is in it.
            run: The model's image tower; asked by several threads at a time.
            max_skip_rate: Share of the pictures that may be unusable.
            skip: Told every picture that is left out.
            watch: Told the tally again and again.
            stop: Asked after every batch; True ends the run with what is done committed.
        """
        self.pictures = pictures
        self.known = known
        self.claims = Claims(known.look)
        self.work = Work(prepare, run, self.claims)
        self.batch_size = batch_size
        self.workers = workers
        self.max_skip_rate = max_skip_rate
        self.skip = skip
        self.watch = watch
        self.stop = stop
        self.tally = Tally(len(pictures))
        self._rows: list[Row] = []
        self._committed_at = time.monotonic()

    def __call__(self) -> bool:
        """Embed everything that is not in the store yet; return False if it was stopped before the end.

        Raises:
            DataError: Too many pictures are unusable; those that are not were written.
            StoreError: The store cannot be written.
        """
        pool = ThreadPoolExecutor(self.workers, "embed")
        try:
            batches = _batched(self._fresh(), self.batch_size)
            for answers in _ordered(pool, self.work, batches, AHEAD * self.workers, self.stop):
                for answer in answers:
                    self._take(answer)
                if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._committed_at > COMMIT_SECONDS:
                    self._commit()
                self.watch(self.tally)
        finally:
            pool.shutdown(cancel_futures=True)
        self._commit()
        self.watch(self.tally)
        return self.tally.done == self.tally.total or not self.stop()

    def _fresh(self) -> Iterator[Picture]:
        """Yield the pictures that the store does not hold as they are."""
        for picture in self.pictures:
            if self.known.visit(picture.spot.location, picture.spot.stamp):
                self.tally.already += 1
                if self.tally.already % GLANCE == 0:
                    self.watch(self.tally)
            else:
                yield picture

    def _take(self, answer: Seen | BadSample) -> None:
        if isinstance(answer, BadSample):
            self._leave_out(answer)
            return
        try:
            look = answer.look.result()
        except BadSample as bad:  # of equal bytes
            self._leave_out(BadSample(bad.reason, answer.spot.location, bad.detail))
            return
        self._rows.append(Row(answer.spot, answer.content, answer.digest, look))
        if answer.made:
            self.tally.embedded += 1
        else:
            self.tally.reused += 1

    def _leave_out(self, bad: BadSample) -> None:
        self.skip(bad)
        self.tally.skipped[bad.reason] += 1
        unusable = self.tally.skipped.total()
        if unusable > self.max_skip_rate * self.tally.total:
            self._commit()
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.tally.skipped.most_common())
            raise DataError(
                f"{unusable} of the {self.tally.total} pictures of {self.pictures.name} are unusable, more than the "
                f"{self.max_skip_rate:.0%} allowed: {reasons}. The last is {bad}. Mend or remove them, or allow more "
                "with --data-options.max-skip-rate"
            )

    def _commit(self) -> None:
        if self._rows:
            store = self.known.store
            self.known.write(self._rows, tabulate(self._rows, store.schema, self.pictures.name))
            for row in self._rows:
                self.claims.release(row.digest)
            self._rows = []
        self._committed_at = time.monotonic()


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _ordered(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Answer],
    items: Iterable[Item],
    ahead: int,
    stop: Callable[[], bool],
) -> Iterator[Answer]:
    """Yield the answers in the order of the items, of which at most `ahead` are begun or waiting at a time.

    On request it takes no more items, and yields the answers to those that were begun.
    """
    begun: deque[Future[Answer]] = deque()
    iterator = iter(items)
    while True:
        while len(begun) < ahead and not stop() and (item := next(iterator, None)) is not None:
            begun.append(pool.submit(work, item))
        if not begun or (stop() and begun[0].cancel()):  # what comes behind it waits too
            return
        yield begun.popleft().result()
