"""The process of a model, `python -m zebra.serve.worker SOCKET MODEL SIZE`: calls in by a socket, answers out.

`zebra.serve.worker_client` starts it. Signals that stop a server are left to the server, which answers what it
accepted; this one ends when the other side of its socket is gone.
"""

import gc
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.data.dataset_stats import usable_cores
from zebra.errors import BadSample, ZebraError
from zebra.pretrained.load import load
from zebra.serve.frames import Frame, Frames, pack
from zebra.serve.model_runner import Decoded, Passes

AT_ONCE = 2**20
"""Bytes that are read."""

Answer = tuple[Mapping[str, Any], Sequence[memoryview]]


class Worker:
    """Makes what is called for: passes in one thread, in the order of the calls, and decoding in others."""

    def __init__(self, line: socket.socket, model: str, size: int) -> None:
        """Begin to open the model; that it is open is the answer to a call 0, which nobody makes.

        Args:
            size: Of a full batch.
        """
        self._line = line
        self._writing = threading.Lock()
        self._passing = ThreadPoolExecutor(1, "model")
        self._decoding = ThreadPoolExecutor(usable_cores(), "decode")
        self._opened = self._passing.submit(self._open, model, size)
        self._opened.add_done_callback(partial(self._answer, 0))

    def serve(self) -> None:
        """Take calls until the other side is gone."""
        frames = Frames()
        while data := self._line.recv(AT_ONCE):
            for frame in frames.feed(data):
                what = frame.head["what"]
                threads = self._decoding if what == "decode" else self._passing
                threads.submit(CALLS[what], self._passes, frame).add_done_callback(
                    partial(self._answer, frame.head["call"])
                )

    def _open(self, model: str, size: int) -> Answer:
        self._passes = Passes(load(model))
        self._passes.warm(size)
        gc.collect()
        gc.freeze()  # what is there for good is not looked through again
        return asdict(self._passes.facts), ()

    def _answer(self, call: int, done: "Future[Answer]") -> None:
        error = done.exception()
        head, parts = done.result() if error is None else (told(error), ())
        with self._writing, suppress(OSError):  # the other side is gone, and this one will be
            for piece in pack({"call": call, **head}, parts):
                self._line.sendall(piece)


def told(error: BaseException) -> dict[str, Any]:
    """Return an error as the other side can raise it again."""
    if isinstance(error, BadSample):
        return {"error": "BadSample", "said": [error.reason, error.where, error.detail]}
    if isinstance(error, ZebraError):
        return {"error": type(error).__name__, "said": [str(error)]}
    return {"error": None, "said": ["".join(traceback.format_exception(error))]}


def _decode(passes: Passes, frame: Frame) -> Answer:
    [data] = frame.parts
    found = passes.decode(data.decode() if frame.head["base64"] else bytes(data), frame.head["where"])
    if isinstance(found, Decoded):
        return {"digest": found.digest, "shape": found.pixels_3HW.shape}, [_bytes(found.pixels_3HW)]
    return {"digest": None}, [_vectors([found])]


def _pictures(passes: Passes, frame: Frame) -> Answer:
    shape = frame.head["shape"]
    pictures = [
        Decoded(np.frombuffer(part, np.uint8).reshape(shape), digest)
        for part, digest in zip(frame.parts, frame.head["digests"], strict=True)
    ]
    return {}, [_vectors(passes.pictures(pictures))]


def _texts(passes: Passes, frame: Frame) -> Answer:
    found = passes.texts(frame.head["texts"])
    head = {"tokens": [text.tokens for text in found], "cut": [text.is_cut for text in found]}
    return head, [_vectors([text.vector_E for text in found])]


def _head(passes: Passes, frame: Frame) -> Answer:
    found = passes.head(frame.head["labels"], frame.head["templates"])
    return {"cut": found.cut}, [_vectors(found.vectors_CE)]


CALLS = {"decode": _decode, "pictures": _pictures, "texts": _texts, "head": _head}


def _vectors(vectors_NE: Tensor | Sequence[Tensor]) -> memoryview:
    rows = vectors_NE if isinstance(vectors_NE, Tensor) else torch.stack(list(vectors_NE))
    return _bytes(rows.numpy())


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def main(words: Sequence[str]) -> None:
    """Serve one model."""
    number, model, size = words
    for told_to_stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told_to_stop, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with socket.socket(fileno=int(number)) as line:
        Worker(line, model, int(size)).serve()
    os._exit(0)  # nobody waits for what is under way


if __name__ == "__main__":
    main(sys.argv[1:])
