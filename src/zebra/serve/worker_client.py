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
from zebra.serve.errors import Refusal
from zebra.serve.frames import Frame, Frames, pack
from zebra.serve.model_runner import Decoded, Facts, Head, TextVector

WORKER = ("-P", "-m", "zebra.serve.worker")
"""What Python runs; -P: nothing of the folder one happens to be in."""
PATIENCE_SECONDS = 2.0
"""For the process to end by itself when the server is done with it."""
log = logging.getLogger(__name__)


class Gone(Refusal):
    """The model's process ended before it had answered."""

    def __init__(self) -> None:
        super().__init__(503, "the model stopped while it was at this; it is started again", retry_seconds=5)


class Fault(RuntimeError):
    """Something failed unforeseen in the model's process; the message is the traceback there."""


class ModelProcess:
    """A `zebra.serve.model_runner.Model`; an async context manager, entered once the model is warm.

    If the process ends unasked, what it was at is refused with 503, what comes meanwhile waits, and another is started.
    """

    def __init__(
        self, model: str, size: int, failed: Callable[[BaseException], None] = lambda _error: None
    ) -> None:
        """Prepare a process.

        Args:
            model: Of any layout that `zebra.load` reads.
            size: Of a full batch.
            failed: Is told why it cannot be started again.
        """
        self._words = [model, str(size)]
        self._failed = failed
        self._facts: Facts | None = None
        self._up = asyncio.Event()
        self._closing = False
        self._calls: dict[int, asyncio.Future[Frame]] = {}
        self._numbers = count(1)
        self._restart: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "ModelProcess":
        """Start, and wait until the model is warm.

        Raises:
            ZebraError: What `zebra.load` raises; WeightsError if the process ends over it.
        """
        await self._start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """End the process; what it is at is dropped."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        self._transport.close()
        await self._ended()

    @property
    def facts(self) -> Facts:
        """What there is to know of the model."""
        assert self._facts is not None, "not entered"
        return self._facts

    @property
    def is_up(self) -> bool:
        """Whether the process lives and its model is warm."""
        return self._up.is_set()

    @property
    def number(self) -> int:
        """Of the process."""
        return self._process.pid

    async def decode(self, data: str | bytes, where: str) -> Decoded | Tensor:
        """Decode a picture; a string holds it in base64."""
        head = {"base64": isinstance(data, str), "where": where}
        answer = await self._ask("decode", head, [data.encode() if isinstance(data, str) else data])
        digest, [part] = answer.head["digest"], answer.parts
        if digest is None:
            return _vectors(part)
        return Decoded(np.frombuffer(part, np.uint8).reshape(answer.head["shape"]), digest)

    async def pictures(self, pictures: Sequence[Decoded]) -> Sequence[Tensor]:
        """Embed pictures."""
        head = {"shape": pictures[0].pixels_3HW.shape, "digests": [picture.digest for picture in pictures]}
        parts = [picture.pixels_3HW.data for picture in pictures]
        answer = await self._ask("pictures", head, parts)
        return list(_vectors(answer.parts[0]).view(len(pictures), -1))

    async def texts(self, texts: Sequence[str]) -> Sequence[TextVector]:
        """Embed texts."""
        answer = await self._ask("texts", {"texts": texts})
        vectors_NE = _vectors(answer.parts[0]).view(len(texts), -1)
        return [
            TextVector(vector_E, tokens, is_cut)
            for vector_E, tokens, is_cut in zip(
                vectors_NE, answer.head["tokens"], answer.head["cut"], strict=True
            )
        ]

    async def head(self, labels: Sequence[str], templates: Sequence[str]) -> Head:
        """Build a head."""
        answer = await self._ask("head", {"labels": labels, "templates": templates})
        return Head(_vectors(answer.parts[0]).view(len(labels), -1), answer.head["cut"])

    async def _ask(
        self, what: str, head: Mapping[str, Any], parts: Sequence[bytes | memoryview] = ()
    ) -> Frame:
        await self._up.wait()
        number = next(self._numbers)
        answer = self._expect(number)
        try:
            self._transport.writelines(pack({"call": number, "what": what, **head}, parts))
            return await answer
        finally:
            self._calls.pop(number, None)

    def _expect(self, number: int) -> "asyncio.Future[Frame]":
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        return answer

    def _heard(self, frame: Frame) -> None:
        answer = self._calls.get(frame.head["call"])
        if answer is None or answer.done():  # who asked has left
            return
        if "error" in frame.head:
            answer.set_exception(_again(frame.head["error"], frame.head["said"]))
        else:
            answer.set_result(frame)

    async def _start(self) -> None:
        here, there = socket.socketpair()
        with there:
            number = there.fileno()
            self._process = subprocess.Popen(  # noqa: S603 -- this Python, and words that no shell reads
                [sys.executable, *WORKER, str(number), *self._words],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
            )
        opened = self._expect(0)
        loop = asyncio.get_running_loop()
        self._transport, _line = await loop.create_connection(
            lambda: _Line(self._heard, self._lost), sock=here
        )
        try:
            facts = _facts(await opened)
        except BaseException as error:
            self._transport.close()
            if not isinstance(error, Gone):
                self._process.kill()
            ended = await self._ended()
            if isinstance(error, Gone):
                raise WeightsError(
                    f"the model cannot be opened: its process {ended} over it; if the system took its memory back, "
                    "give it more, or choose a smaller model"
                ) from error
            raise
        finally:
            self._calls.pop(0, None)
        if self._facts not in (None, facts):
            raise WeightsError(
                f"{self._words[0]} is another model than before; start the server again to serve it"
            )
        self._facts = facts
        self._up.set()

    def _lost(self) -> None:
        """Take note that the process is gone, and start another one if it was not told to go."""
        was_up = self._up.is_set()
        self._up.clear()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(Gone())
        if was_up and not self._closing:
            self._restart = asyncio.create_task(self._start_again())
            self._restart.add_done_callback(self._tell)

    async def _start_again(self) -> None:
        log.error("the process of the model %s; another one is started", await self._ended())
        await self._start()

    def _tell(self, restart: "asyncio.Task[None]") -> None:
        error = None if restart.cancelled() else restart.exception()
        if error is not None:
            self._failed(error)

    async def _ended(self) -> str:
        """Wait for the end of the process; return how it was."""
        for patience in (PATIENCE_SECONDS, None):
            with suppress(subprocess.TimeoutExpired):
                code = await asyncio.to_thread(self._process.wait, patience)
                break
            self._process.kill()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class _Line(asyncio.Protocol):
    """The server's end of the socket."""

    def __init__(self, heard: Callable[[Frame], None], lost: Callable[[], None]) -> None:
        self._frames = Frames()
        self._heard = heard
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        """Hand on what has become whole."""
        for frame in self._frames.feed(data):
            self._heard(frame)

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell that nothing more will come."""
        self._lost()


def _facts(frame: Frame) -> Facts:
    return Facts(**{name: value for name, value in frame.head.items() if name != "call"})


def _vectors(part: bytearray) -> Tensor:
    return torch.from_numpy(np.frombuffer(part, np.float32))


def _again(name: str | None, said: Sequence[str]) -> Exception:
    """Return an error of the other side as one of this side."""
    if name is None:
        return Fault(f"in the process of the model:\n{said[0]}")
    kind = getattr(errors, name)
    return ZebraError(*said) if kind is errors.MissingExtra else kind(*said)
