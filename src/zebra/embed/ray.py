"""Pictures in, a grown store out, over the machines of a Ray cluster: `pipeline.py` with its workers far away.

The driver finds what the store does not hold yet, and sends it off in batches of places, which the workers must be able
to open as well. Each worker is an actor of Ray Data with a model of its own; it takes a batch through the same stages,
and the rows come home in the order of the data. They wait in one file beside the store and are committed together: a
driver that is killed before leaves the store as it was.

Equal bytes are embedded once where they meet in a batch; to find them elsewhere, workers would have to ask each other.
"""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from zebra.data.dataset_stats import usable_cores
from zebra.embed.existing_rows import Known
from zebra.embed.in_flight import Claims
from zebra.embed.pipeline import COMMIT_ROWS, Pipeline, Work
from zebra.embed.stages import Encode, Prepare
from zebra.embed.values import Picture, Row
from zebra.errors import BadSample, MissingExtra, WeightsError, ZebraError
from zebra.pretrained.load import load
from zebra.pretrained.precision import Precision
from zebra.store import Store, StoreError
from zebra.store.schema import conform

WAITING = "waiting.arrow"
"""In the store's folder: rows that came home and are not committed. A killed driver leaves it there."""

WHOLE_CLUSTER = 0
"""As a number of workers: one for each GPU, or else for each processor core."""

Answer = tuple[Row, bool] | BadSample
"""What became of a picture: its row, and whether it was embedded for it rather than for equal bytes."""


def require_ray() -> None:
    """Find out early whether Ray is there.

    Raises:
        MissingExtra: It is not.
    """
    try:
        with _quiet():
            import ray.data  # noqa: F401  to see whether it is there
    except ImportError as error:
        raise MissingExtra("ray", "zebra embed --engine ray", "ray") from error


@dataclass(frozen=True)
class Model:
    """An image tower that travels as its name, and is loaded in the process that first asks it."""

    place: str
    """As `zebra.load` takes it; it means the same on every machine."""
    precision: Precision
    fingerprint: str

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Embed, as `Bundle.encode_pixels` does."""
        return self.encode(pixels_B3HW)

    @cached_property
    def encode(self) -> Encode:
        """The tower itself."""
        bundle = load(self.place, precision=self.precision)
        if bundle.fingerprint != self.fingerprint:
            raise WeightsError(
                f"{self.place} is the model {bundle.fingerprint} there, and {self.fingerprint} on the driver's machine;"
                " bring the same files to both"
            )
        return bundle.encode_pixels


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch on its way to a worker; Ray pickles what it carries."""

    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Reply:
    """A batch on its way home."""

    answers: Sequence[Answer]
    failure: str = ""
    """Why there are none; not all exceptions can travel."""


class Embedder:
    """An actor: takes batches through the stages."""

    def __init__(self, prepare: Prepare, run: Encode, folder: str) -> None:
        with suppress(OSError):  # where a relative path begins; a driver's folder may be its own
            os.chdir(folder)
        torch.set_num_threads(1)  # one actor per core, as one thread per core on one machine
        self.prepare = prepare
        self.run = run

    def __call__(self, row: dict[str, Parcel]) -> dict[str, Reply]:
        """Return the answers to a batch, or why there cannot be any."""
        try:
            return {"reply": Reply(self._answers(row["parcel"].pictures))}
        except ZebraError as error:
            return {"reply": Reply((), str(error))}

    def _answers(self, pictures: Sequence[Picture]) -> list[Answer]:
        work = Work(self.prepare, self.run, Claims(lambda _digest: None))
        return [
            seen
            if isinstance(seen, BadSample)
            else (Row(seen.spot, seen.content, seen.digest, seen.look.result()), seen.made)
            for seen in work(pictures)
        ]


class Gathered(Known):
    """A store, what is in it, and the rows that will join it in one commit."""

    def __init__(self, store: Store, data: str) -> None:
        super().__init__(store, data)
        self._path = store.path / WAITING
        self._file: pa.ipc.RecordBatchFileWriter | None = None
        self._replaced: set[int] = set()

    def write(self, rows: Sequence[Row], table: pa.Table) -> None:
        """Let rows wait; those at the same locations will be replaced."""
        store = self.store
        table = conform(table, store.schema, store.facts, str(store.path))
        try:
            if self._file is None:
                self._file = pa.ipc.new_file(str(self._path), table.schema)
            self._file.write_table(table)
        except OSError as error:
            raise self._given_up(error) from error
        self._replaced.update(old for row in rows if (old := self._at(row.spot.location)) is not None)

    def land(self) -> None:
        """Commit all that wait."""
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._given_up(error) from error
        self._file = None
        replaced = sorted(self._replaced)
        old = self.store.at([self._position(row) for row in replaced], ["id"])["id"].to_pylist()
        try:
            self.store.append_file(self._path, instead_of=old)
        finally:
            self._path.unlink()
        self._deleted = sorted([*self._deleted, *replaced])
        self._replaced.clear()

    def _given_up(self, error: OSError) -> StoreError:
        self._file = None
        self._replaced.clear()
        self._path.unlink(missing_ok=True)
        return StoreError(f"{self._path} cannot be written: {error}. The store is as it was")


class RayPipeline(Pipeline):
    """One run over a data set."""

    known: Gathered

    def __call__(self) -> bool:
        """Embed everything that is not in the store yet; return False if it was stopped before the end.

        What came home is committed whatever ends the run, except the last few rows if Ray itself fails.

        Raises:
            DataError: Too many pictures are unusable; those that are not were written.
            StoreError: The store cannot be written.
            WeightsError: A worker cannot run the model.
        """
        fresh = self._fresh()
        batches = iter(lambda: list(islice(fresh, self.batch_size)), [])
        parcels = [Parcel(batch) for batch in batches]
        if parcels:
            try:
                self._gather(parcels)
            finally:
                self.known.land()
        self.watch(self.tally)
        return self.tally.done == self.tally.total or not self.stop()

    def _gather(self, parcels: list[Parcel]) -> None:
        actor = (self.work.prepare, self.work.run, str(Path.cwd()))
        with _cluster(self.workers) as workers:
            for reply in _spread(parcels, actor, workers):
                if reply.failure:
                    raise WeightsError(f"a worker of the Ray cluster cannot run the model: {reply.failure}")
                for answer in reply.answers:
                    self._note(answer)
                if len(self._rows) >= COMMIT_ROWS:
                    self._commit()
                self.watch(self.tally)
                if self.stop():
                    break
        self._commit()

    def _note(self, answer: Answer) -> None:
        if isinstance(answer, BadSample):
            self._leave_out(answer)
            return
        row, made = answer
        self._rows.append(row)
        if made:
            self.tally.embedded += 1
        else:
            self.tally.reused += 1


def _spread(parcels: list[Parcel], actor: tuple[Any, ...], workers: int) -> Iterator[Reply]:
    """Yield what an `Embedder`, made with the arguments `actor`, answers to each batch, in order."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    needs = {"num_gpus": 1} if "GPU" in ray.cluster_resources() else {"num_cpus": 1}
    pool = ray.data.ActorPoolStrategy(size=workers)
    rows = ray.data.from_items([{"parcel": parcel} for parcel in parcels], override_num_blocks=len(parcels))
    replies = rows.map(Embedder, fn_constructor_args=actor, compute=pool, **needs)
    yield from (row["reply"] for row in replies.iter_rows())


@contextmanager
def _cluster(workers: int) -> Iterator[int]:
    """Join the cluster that is there, or start one on this machine for as long as it is needed.

    Args:
        workers: How many are wanted, or WHOLE_CLUSTER.

    Yields:
        How many there can be.
    """
    import ray

    ours = not ray.is_initialized()  # the program that calls us may have done so
    if ours:
        silent = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        with _quiet():
            try:
                ray.init(address="auto", **silent)
            except ConnectionError:
                cores = workers or usable_cores()
                ray.init(address="local", num_cpus=cores, include_dashboard=False, **silent)
    try:
        there = ray.cluster_resources()
        most = int(there.get("GPU") or there["CPU"])
        yield min(workers or most, most)
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Ray start without telling anyone, and without taking over SIGTERM."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # below, a pool of actors is called an error
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
