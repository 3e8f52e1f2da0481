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

from zebra.config.cores import usable_cores
from zebra.config.precision import InferencePrecision
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.in_flight import InFlight
from zebra.embed.pipeline import COMMIT_ROWS, BatchEmbedder, EmbedPipeline
from zebra.embed.stages import EncodePixels, ImagePreprocessor
from zebra.embed.values import ImageRef, StoreRow
from zebra.errors import BadSample, MissingExtra, WeightsError, ZebraError
from zebra.pretrained.load import load
from zebra.store import Store, StoreError
from zebra.store.schema import validate_rows

STAGED_ROWS_FILE = "staged.arrow"
"""In the store's folder: rows that came home and are not committed. A killed driver leaves it there."""

ALL_CLUSTER_WORKERS = 0
"""As a number of workers: one for each GPU, or else for each processor core."""

RemoteResult = tuple[StoreRow, bool] | BadSample
"""What became of a picture: its row, and whether it was embedded for it rather than for equal bytes."""


def require_ray() -> None:
    """Find out early whether Ray is there.

    Raises:
        MissingExtra: It is not.
    """
    try:
        with _silence_ray():
            import ray.data  # noqa: F401  to see whether it is there
    except ImportError as error:
        raise MissingExtra("ray", "zebra embed --engine ray", "ray") from error


@dataclass(frozen=True)
class LazyImageEncoder:
    """An image tower that travels as its name, and is loaded in the process that first asks it."""

    model: str
    """As `zebra.load` takes it; it means the same on every machine."""
    precision: InferencePrecision
    fingerprint: str

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Embed, as `Bundle.encode_pixels` does."""
        return self.encode_pixels(pixels_B3HW)

    @cached_property
    def encode_pixels(self) -> EncodePixels:
        """The tower itself."""
        bundle = load(self.model, precision=self.precision)
        if bundle.fingerprint != self.fingerprint:
            raise WeightsError(
                f"{self.model} is the model {bundle.fingerprint} there, and {self.fingerprint} on the driver's machine;"
                " bring the same files to both"
            )
        return bundle.encode_pixels


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A batch on its way to a worker; Ray pickles what it carries."""

    image_refs: Sequence[ImageRef]


@dataclass(frozen=True, slots=True)
class BatchResponse:
    """A batch on its way home."""

    results: Sequence[RemoteResult]
    error: str = ""
    """Why there are none; not all exceptions can travel."""


class EmbedActor:
    """An actor: takes batches through the stages."""

    def __init__(
        self, preprocessor: ImagePreprocessor, encode_pixels: EncodePixels, working_dir: str
    ) -> None:
        with suppress(OSError):  # where a relative path begins; a driver's folder may be its own
            os.chdir(working_dir)
        torch.set_num_threads(1)  # one actor per core, as one thread per core on one machine
        self.preprocessor = preprocessor
        self.encode_pixels = encode_pixels

    def __call__(self, row: dict[str, BatchRequest]) -> dict[str, BatchResponse]:
        """Return the answers to a batch, or why there cannot be any."""
        try:
            return {"response": BatchResponse(self._embed_batch(row["request"].image_refs))}
        except ZebraError as error:
            return {"response": BatchResponse((), str(error))}

    def _embed_batch(self, image_refs: Sequence[ImageRef]) -> list[RemoteResult]:
        work = BatchEmbedder(self.preprocessor, self.encode_pixels, InFlight(lambda _digest: None))
        return [
            seen
            if isinstance(seen, BadSample)
            else (
                StoreRow(seen.location, seen.content, seen.digest, seen.features.result()),
                seen.is_newly_embedded,
            )
            for seen in work(image_refs)
        ]


class StagedRows(ExistingRows):
    """A store, what is in it, and the rows that will join it in one commit."""

    def __init__(self, store: Store, dataset_name: str) -> None:
        super().__init__(store, dataset_name)
        self._path = store.path / STAGED_ROWS_FILE
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._replaced_rows: set[int] = set()

    def write(self, rows: Sequence[StoreRow], table: pa.Table) -> None:
        """Let rows wait; those at the same locations will be replaced."""
        store = self.store
        table = validate_rows(table, store.schema, store.metadata, str(store.path))
        try:
            if self._writer is None:
                self._writer = pa.ipc.new_file(str(self._path), table.schema)
            self._writer.write_table(table)
        except OSError as error:
            raise self._discard(error) from error
        self._replaced_rows.update(
            old for row in rows if (old := self._find_row(row.location.key)) is not None
        )

    def commit(self) -> None:
        """Commit all that wait."""
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise self._discard(error) from error
        self._writer = None
        replaced = sorted(self._replaced_rows)
        old = self.store.take_positions([self._current_position(row) for row in replaced], ["id"])[
            "id"
        ].to_pylist()
        try:
            self.store.append_file(self._path, replace_ids=old)
        finally:
            self._path.unlink()
        self._deleted_rows = sorted([*self._deleted_rows, *replaced])
        self._replaced_rows.clear()

    def _discard(self, error: OSError) -> StoreError:
        self._writer = None
        self._replaced_rows.clear()
        self._path.unlink(missing_ok=True)
        return StoreError(f"{self._path} cannot be written: {error}. The store is as it was")


class RayEmbedPipeline(EmbedPipeline):
    """One run over a data set."""

    existing_rows: StagedRows

    def __call__(self) -> bool:
        """Embed everything that is not in the store yet; return False if it was stopped before the end.

        What came home is committed whatever ends the run, except the last few rows if Ray itself fails.

        Raises:
            DataError: Too many pictures are unusable; those that are not were written.
            StoreError: The store cannot be written.
            WeightsError: A worker cannot run the model.
        """
        fresh = self._iter_changed_images()
        batches = iter(lambda: list(islice(fresh, self.batch_size)), [])
        parcels = [BatchRequest(batch) for batch in batches]
        if parcels:
            try:
                self._run_batches(parcels)
            finally:
                self.existing_rows.commit()
        self.callback(self.progress)
        return self.progress.done == self.progress.total or not self.should_stop()

    def _run_batches(self, requests: list[BatchRequest]) -> None:
        actor = (self.batch_embedder.preprocessor, self.batch_embedder.encode_pixels, str(Path.cwd()))
        with _connect_to_ray(self.num_workers) as workers:
            for reply in _map_on_cluster(requests, actor, workers):
                if reply.error:
                    raise WeightsError(f"a worker of the Ray cluster cannot run the model: {reply.error}")
                for answer in reply.results:
                    self._add_remote_result(answer)
                if len(self._uncommitted_rows) >= COMMIT_ROWS:
                    self._commit()
                self.callback(self.progress)
                if self.should_stop():
                    break
        self._commit()

    def _add_remote_result(self, result: RemoteResult) -> None:
        if isinstance(result, BadSample):
            self._skip_sample(result)
            return
        row, made = result
        self._uncommitted_rows.append(row)
        if made:
            self.progress.embedded += 1
        else:
            self.progress.reused += 1


def _map_on_cluster(
    requests: list[BatchRequest], actor_args: tuple[Any, ...], num_workers: int
) -> Iterator[BatchResponse]:
    """Yield what an `Embedder`, made with the arguments `actor_args`, answers to each batch, in order."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    needs = {"num_gpus": 1} if "GPU" in ray.cluster_resources() else {"num_cpus": 1}
    pool = ray.data.ActorPoolStrategy(size=num_workers)
    rows = ray.data.from_items(
        [{"request": parcel} for parcel in requests], override_num_blocks=len(requests)
    )
    replies = rows.map(EmbedActor, fn_constructor_args=actor_args, compute=pool, **needs)
    yield from (row["response"] for row in replies.iter_rows())


@contextmanager
def _connect_to_ray(num_workers: int) -> Iterator[int]:
    """Join the cluster that is there, or start one on this machine for as long as it is needed.

    Args:
        num_workers: How many are wanted, or WHOLE_CLUSTER.

    Yields:
        How many there can be.
    """
    import ray

    ours = not ray.is_initialized()  # the program that calls us may have done so
    if ours:
        silent = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        with _silence_ray():
            try:
                ray.init(address="auto", **silent)
            except ConnectionError:
                cores = num_workers or usable_cores()
                ray.init(address="local", num_cpus=cores, include_dashboard=False, **silent)
    try:
        there = ray.cluster_resources()
        most = int(there.get("GPU") or there["CPU"])
        yield min(num_workers or most, most)
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _silence_ray() -> Iterator[None]:
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
