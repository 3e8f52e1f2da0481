"""Client of the model worker: call it over a socket, and restart it if it dies.

The model has its own process for two reasons. Inference and decoding take the GIL some forty times per batch, so they
and the event loop would delay each other. And a crashing decoder or the OOM killer ends the worker, not the server.
"""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra import errors
from zebra.errors import WeightsError, ZebraError
from zebra.serve.errors import HTTPError
from zebra.serve.frames import Frame, FrameDecoder, encode_frame
from zebra.serve.model_client import DecodedImage, HeatMap, ModelMetadata, TextEmbedding, Vector, ZeroShotHead

WORKER_ARGS = ("-P", "-m", "zebra.serve.worker_main")
"""Arguments of the Python interpreter; -P keeps the working directory off sys.path."""
EXIT_GRACE_SECONDS = 2.0
"""Time for the worker to exit by itself before it is killed."""
log = logging.getLogger(__name__)


class WorkerDied(HTTPError):
    """The worker died before it replied."""

    def __init__(self) -> None:
        super().__init__(503, "the model worker died during this request and is restarting", retry_after_seconds=5)


class WorkerError(RuntimeError):
    """An unexpected exception in the worker; the message is its traceback."""


class WorkerClient:
    """A `zebra.serve.model_client.ModelClient`; an async context manager, entered once the model is warm.

    If the worker dies, calls in flight fail with `WorkerDied`, new calls wait, and a new worker starts.
    """

    def __init__(
        self,
        model: str,
        batch_size: int,
        on_error: Callable[[BaseException], None] = lambda _error: None,
        *,
        device: str = "auto",
        num_threads: int | None = None,
    ) -> None:
        """Prepare a client; entering it starts the worker.

        Args:
            model: Any model that `zebra.load` reads.
            batch_size: Size of a full batch.
            on_error: Called with the exception if the worker cannot be restarted.
            device: Device of the model, as `zebra.load` takes it.
            num_threads: Threads that compute, and as many that decode; None takes the cores. A worker with a number
                shares the machine with others, and takes the CPU only.
        """
        self._args = [model, str(batch_size), device, str(num_threads or 0)]
        self.num_calls = self.num_restarts = 0
        self._on_error = on_error
        self._metadata: ModelMetadata | None = None
        self._ready = asyncio.Event()
        self._is_closing = False
        self._pending_calls: dict[int, asyncio.Future[Frame]] = {}
        self._call_ids = count(1)
        self._restart_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "WorkerClient":
        """Start the worker, and wait until the model is warm.

        Raises:
            ZebraError: Whatever `zebra.load` raises; WeightsError if the worker dies while it loads the model.
        """
        await self._start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop the worker; calls in flight are dropped."""
        self._is_closing = True
        if self._restart_task is not None:
            self._restart_task.cancel()
            await asyncio.wait([self._restart_task])
        self._transport.close()
        await self._wait_for_exit()

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model."""
        assert self._metadata is not None, "not entered"
        return self._metadata

    @property
    def is_ready(self) -> bool:
        """Whether the worker runs and its model is warm."""
        return self._ready.is_set()

    @property
    def num_pending(self) -> int:
        """The number of calls without a reply."""
        return len(self._pending_calls)

    @property
    def pid(self) -> int:
        """The process id of the worker."""
        return self._process.pid

    async def decode_image(self, data: bytes, where: str, max_pixels: int) -> DecodedImage | Vector:
        """Decode an image."""
        reply = await self._call("decode_image", {"where": where, "max_pixels": max_pixels}, [data])
        digest, [payload] = reply.header["digest"], reply.payloads
        if digest is None:
            return _to_vectors(payload, 1).ravel()
        return DecodedImage(np.frombuffer(payload, np.uint8).reshape(reply.header["shape"]), digest)

    async def resize_image(self, data: bytes, max_side: int) -> bytes:
        """Make a thumbnail."""
        reply = await self._call("resize_image", {"max_side": max_side}, [data])
        return bytes(reply.payloads[0])

    async def heat_map(self, data: bytes, where: str, max_pixels: int, text: str) -> HeatMap:
        """Map where an image matches a text."""
        reply = await self._call("heat_map", {"where": where, "max_pixels": max_pixels, "text": text}, [data])
        values_HW = np.frombuffer(reply.payloads[0], np.float32).reshape(reply.header["shape"])
        left, top, right, bottom = reply.header["box"]
        return HeatMap(values_HW, (left, top, right, bottom))

    async def encode_images(self, images: Sequence[DecodedImage]) -> Sequence[Vector]:
        """Embed images."""
        header = {"shapes": [image.pixels_3HW.shape for image in images], "digests": [image.digest for image in images]}
        reply = await self._call("encode_images", header, [image.pixels_3HW.data for image in images])
        return list(_to_vectors(reply.payloads[0], len(images)))

    async def encode_texts(self, texts: Sequence[str]) -> Sequence[TextEmbedding]:
        """Embed texts."""
        reply = await self._call("encode_texts", {"texts": texts})
        vectors_NE = _to_vectors(reply.payloads[0], len(texts))
        return [
            TextEmbedding(vector_E, num_tokens, is_truncated)
            for vector_E, num_tokens, is_truncated in zip(
                vectors_NE, reply.header["num_tokens"], reply.header["is_truncated"], strict=True
            )
        ]

    async def require_distinct_labels(self, labels: Sequence[str]) -> None:
        """Check that no two labels are one text to the model."""
        await self._call("require_distinct_labels", {"labels": labels})

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a zero-shot head."""
        reply = await self._call("build_head", {"labels": labels, "templates": templates})
        vectors_CE = _to_vectors(reply.payloads[0], len(labels))
        return ZeroShotHead(vectors_CE, reply.header["num_truncated"])

    async def _call(self, method: str, header: Mapping[str, Any], payloads: Sequence[bytes | memoryview] = ()) -> Frame:
        await self._ready.wait()
        call_id = next(self._call_ids)
        self.num_calls += 1
        future = self._register_call(call_id)
        try:
            self._transport.writelines(encode_frame({"call_id": call_id, "method": method, **header}, payloads))
            return await future
        except asyncio.CancelledError:
            self._transport.writelines(encode_frame({"method": "cancel", "call_id": call_id}))
            raise
        finally:
            self._pending_calls.pop(call_id, None)

    def _register_call(self, call_id: int) -> "asyncio.Future[Frame]":
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending_calls[call_id] = future
        return future

    def _on_frame(self, frame: Frame) -> None:
        future = self._pending_calls.get(frame.header["call_id"])
        if future is None or future.done():  # the caller was canceled
            return
        if "error" in frame.header:
            future.set_exception(_deserialize_error(frame.header["error"], frame.header["args"]))
        else:
            future.set_result(frame)

    async def _start(self) -> None:
        own_end, worker_end = socket.socketpair()
        with worker_end:
            fd = worker_end.fileno()
            self._process = subprocess.Popen(  # noqa: S603 -- this interpreter, and arguments that no shell parses
                [sys.executable, *WORKER_ARGS, str(fd), *self._args], pass_fds=[fd], stdin=subprocess.DEVNULL
            )
        load_future = self._register_call(0)
        loop = asyncio.get_running_loop()
        self._transport, _protocol = await loop.create_connection(
            lambda: _FrameProtocol(self._on_frame, self._on_disconnect), sock=own_end
        )
        try:
            metadata = _metadata_from_frame(await load_future)
        except BaseException as error:
            self._transport.close()
            if not isinstance(error, WorkerDied):
                self._process.kill()
            exit_status = await self._wait_for_exit()
            if isinstance(error, WorkerDied):
                raise WeightsError(
                    f"failed to load the model {self._args[0]}: the worker process {exit_status}. If it ran out of "
                    "memory, add RAM or use a smaller model."
                ) from error
            raise
        finally:
            self._pending_calls.pop(0, None)
        if self._metadata not in (None, metadata):
            raise WeightsError(f"{self._args[0]} changed while the server was running. Restart the server to use it.")
        self._metadata = metadata
        self._ready.set()

    def _on_disconnect(self) -> None:
        """Fail the pending calls, and restart the worker unless the client is closing."""
        was_ready = self._ready.is_set()
        self._ready.clear()
        for future in self._pending_calls.values():
            if not future.done():
                future.set_exception(WorkerDied())
        if was_ready and not self._is_closing:
            self._restart_task = asyncio.create_task(self._restart_worker())
            self._restart_task.add_done_callback(self._report_restart_error)

    async def _restart_worker(self) -> None:
        self.num_restarts += 1
        log.error("model worker %s; restarting", await self._wait_for_exit())
        await self._start()

    def _report_restart_error(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_error(error)

    async def _wait_for_exit(self) -> str:
        """Wait for the worker to exit, killing it after the grace period; return its exit status in words."""
        for timeout in (EXIT_GRACE_SECONDS, None):
            with suppress(subprocess.TimeoutExpired):
                code = await asyncio.to_thread(self._process.wait, timeout)
                break
            self._process.kill()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


class _FrameProtocol(asyncio.Protocol):
    """The server's end of the socket."""

    def __init__(self, on_frame: Callable[[Frame], None], on_disconnect: Callable[[], None]) -> None:
        self._decoder = FrameDecoder()
        self._on_frame = on_frame
        self._on_disconnect = on_disconnect

    def data_received(self, data: bytes) -> None:
        """Decode frames and pass them on."""
        for frame in self._decoder.feed(data):
            self._on_frame(frame)

    def connection_lost(self, _error: Exception | None) -> None:
        """Report that the worker closed the socket."""
        self._on_disconnect()


def _metadata_from_frame(frame: Frame) -> ModelMetadata:
    return ModelMetadata(**{name: value for name, value in frame.header.items() if name != "call_id"})


def _to_vectors(payload: bytearray, num_vectors: int) -> NDArray[np.float32]:
    vectors_NE: NDArray[np.float32] = np.frombuffer(payload, np.float32).reshape(num_vectors, -1)
    return vectors_NE


def _deserialize_error(name: str | None, args: Sequence[str]) -> Exception:
    """Return the exception that `zebra.serve.worker.serialize_error` described."""
    if name is None:
        return WorkerError(f"in the model worker:\n{args[0]}")
    error_class = getattr(errors, name)
    return ZebraError(*args) if error_class is errors.MissingExtra else error_class(*args)
