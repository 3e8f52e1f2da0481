"""A model in a process of its own, seen from the server: calls go out, answers come back, and it is started again.

Passes and decoding hold Python's lock some forty times each; in the server's own process the network waits for them,
and they for it. A decoder that crashes, or a system that takes memory back, ends this process and not the server.
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
import torch
from torch import Tensor

from zebra import errors
from zebra.errors import WeightsError, ZebraError
from zebra.serve.errors import HTTPError
from zebra.serve.frames import Frame, FrameDecoder, encode_frame
from zebra.serve.model_runner import DecodedImage, ModelMetadata, TextEmbedding, ZeroShotHead

WORKER_ARGS = ("-P", "-m", "zebra.serve.worker")
"""What Python runs; -P: nothing of the folder one happens to be in."""
EXIT_GRACE_SECONDS = 2.0
"""For the process to end by itself when the server is done with it."""
log = logging.getLogger(__name__)


class WorkerDied(HTTPError):
    """The model's process ended before it had answered."""

    def __init__(self) -> None:
        super().__init__(
            503, "the model stopped while it was at this; it is started again", retry_after_seconds=5
        )


class WorkerError(RuntimeError):
    """Something failed unforeseen in the model's process; the message is the traceback there."""


class WorkerClient:
    """A `zebra.serve.model_runner.Model`; an async context manager, entered once the model is warm.

    If the process ends unasked, what it was at is refused with 503, what comes meanwhile waits, and another is started.
    """

    def __init__(
        self, model: str, batch_size: int, on_error: Callable[[BaseException], None] = lambda _error: None
    ) -> None:
        """Prepare a process.

        Args:
            model: Of any layout that `zebra.load` reads.
            batch_size: Of a full batch.
            on_error: Is told why it cannot be started again.
        """
        self._args = [model, str(batch_size)]
        self._on_error = on_error
        self._metadata: ModelMetadata | None = None
        self._ready = asyncio.Event()
        self._is_closing = False
        self._pending_calls: dict[int, asyncio.Future[Frame]] = {}
        self._call_ids = count(1)
        self._restart_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "WorkerClient":
        """Start, and wait until the model is warm.

        Raises:
            ZebraError: What `zebra.load` raises; WeightsError if the process ends over it.
        """
        await self._start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """End the process; what it is at is dropped."""
        self._is_closing = True
        if self._restart_task is not None:
            self._restart_task.cancel()
            await asyncio.wait([self._restart_task])
        self._transport.close()
        await self._wait_for_exit()

    @property
    def metadata(self) -> ModelMetadata:
        """What there is to know of the model."""
        assert self._metadata is not None, "not entered"
        return self._metadata

    @property
    def is_ready(self) -> bool:
        """Whether the process lives and its model is warm."""
        return self._ready.is_set()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def decode_image(self, data: str | bytes, where: str) -> DecodedImage | Tensor:
        """Decode a picture; a string holds it in base64."""
        head = {"base64": isinstance(data, str), "where": where}
        answer = await self._call("decode", head, [data.encode() if isinstance(data, str) else data])
        digest, [part] = answer.header["digest"], answer.payloads
        if digest is None:
            return _to_tensor(part)
        return DecodedImage(np.frombuffer(part, np.uint8).reshape(answer.header["shape"]), digest)

    async def encode_images(self, images: Sequence[DecodedImage]) -> Sequence[Tensor]:
        """Embed pictures."""
        head = {"shape": images[0].pixels_3HW.shape, "digests": [picture.digest for picture in images]}
        parts = [picture.pixels_3HW.data for picture in images]
        answer = await self._call("pictures", head, parts)
        return list(_to_tensor(answer.payloads[0]).view(len(images), -1))

    async def encode_texts(self, texts: Sequence[str]) -> Sequence[TextEmbedding]:
        """Embed texts."""
        answer = await self._call("texts", {"texts": texts})
        vectors_NE = _to_tensor(answer.payloads[0]).view(len(texts), -1)
        return [
            TextEmbedding(vector_E, tokens, is_cut)
            for vector_E, tokens, is_cut in zip(
                vectors_NE, answer.header["tokens"], answer.header["cut"], strict=True
            )
        ]

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a head."""
        answer = await self._call("head", {"labels": labels, "templates": templates})
        return ZeroShotHead(_to_tensor(answer.payloads[0]).view(len(labels), -1), answer.header["cut"])

    async def _call(
        self, method: str, header: Mapping[str, Any], payloads: Sequence[bytes | memoryview] = ()
    ) -> Frame:
        await self._ready.wait()
        number = next(self._call_ids)
        answer = self._register_call(number)
        try:
            self._transport.writelines(encode_frame({"call": number, "what": method, **header}, payloads))
            return await answer
        finally:
            self._pending_calls.pop(number, None)

    def _register_call(self, call_id: int) -> "asyncio.Future[Frame]":
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending_calls[call_id] = answer
        return answer

    def _on_frame(self, frame: Frame) -> None:
        answer = self._pending_calls.get(frame.header["call"])
        if answer is None or answer.done():  # who asked has left
            return
        if "error" in frame.header:
            answer.set_exception(_deserialize_error(frame.header["error"], frame.header["said"]))
        else:
            answer.set_result(frame)

    async def _start(self) -> None:
        here, there = socket.socketpair()
        with there:
            number = there.fileno()
            self._process = subprocess.Popen(  # noqa: S603 -- this Python, and words that no shell reads
                [sys.executable, *WORKER_ARGS, str(number), *self._args],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
            )
        opened = self._register_call(0)
        loop = asyncio.get_running_loop()
        self._transport, _line = await loop.create_connection(
            lambda: _FrameProtocol(self._on_frame, self._on_disconnect), sock=here
        )
        try:
            facts = _metadata_from_frame(await opened)
        except BaseException as error:
            self._transport.close()
            if not isinstance(error, WorkerDied):
                self._process.kill()
            ended = await self._wait_for_exit()
            if isinstance(error, WorkerDied):
                raise WeightsError(
                    f"the model cannot be opened: its process {ended} over it; if the system took its memory back, "
                    "give it more, or choose a smaller model"
                ) from error
            raise
        finally:
            self._pending_calls.pop(0, None)
        if self._metadata not in (None, facts):
            raise WeightsError(
                f"{self._args[0]} is another model than before; start the server again to serve it"
            )
        self._metadata = facts
        self._ready.set()

    def _on_disconnect(self) -> None:
        """Take note that the process is gone, and start another one if it was not told to go."""
        was_up = self._ready.is_set()
        self._ready.clear()
        for answer in self._pending_calls.values():
            if not answer.done():
                answer.set_exception(WorkerDied())
        if was_up and not self._is_closing:
            self._restart_task = asyncio.create_task(self._restart_worker())
            self._restart_task.add_done_callback(self._report_restart_error)

    async def _restart_worker(self) -> None:
        log.error("the process of the model %s; another one is started", await self._wait_for_exit())
        await self._start()

    def _report_restart_error(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_error(error)

    async def _wait_for_exit(self) -> str:
        """Wait for the end of the process; return how it was."""
        for patience in (EXIT_GRACE_SECONDS, None):
            with suppress(subprocess.TimeoutExpired):
                code = await asyncio.to_thread(self._process.wait, patience)
                break
            self._process.kill()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class _FrameProtocol(asyncio.Protocol):
    """The server's end of the socket."""

    def __init__(self, on_frame: Callable[[Frame], None], on_disconnect: Callable[[], None]) -> None:
        self._decoder = FrameDecoder()
        self._on_frame = on_frame
        self._on_disconnect = on_disconnect

    def data_received(self, data: bytes) -> None:
        """Hand on what has become whole."""
        for frame in self._decoder.feed(data):
            self._on_frame(frame)

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell that nothing more will come."""
        self._on_disconnect()


def _metadata_from_frame(frame: Frame) -> ModelMetadata:
    return ModelMetadata(**{name: value for name, value in frame.header.items() if name != "call"})


def _to_tensor(payload: bytearray) -> Tensor:
    return torch.from_numpy(np.frombuffer(payload, np.float32))


def _deserialize_error(name: str | None, args: Sequence[str]) -> Exception:
    """Return an error of the other side as one of this side."""
    if name is None:
        return WorkerError(f"in the process of the model:\n{args[0]}")
    kind = getattr(errors, name)
    return ZebraError(*args) if kind is errors.MissingExtra else kind(*args)
