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

from zebra.config.cores import usable_cores
from zebra.errors import BadSample, ZebraError
from zebra.pretrained.load import load
from zebra.serve.frames import Frame, FrameDecoder, encode_frame
from zebra.serve.model_runner import DecodedImage, ModelRunner

RECV_BYTES = 2**20
"""Bytes that are read."""

Reply = tuple[Mapping[str, Any], Sequence[memoryview]]


class ModelWorker:
    """Makes what is called for: passes in one thread, in the order of the calls, and decoding in others."""

    def __init__(self, connection: socket.socket, model: str, batch_size: int) -> None:
        """Begin to open the model; that it is open is the answer to a call 0, which nobody makes.

        Args:
            batch_size: Of a full batch.
        """
        self._connection = connection
        self._send_lock = threading.Lock()
        self._model_executor = ThreadPoolExecutor(1, "model")
        self._decode_executor = ThreadPoolExecutor(usable_cores(), "decode")
        self._load_future = self._model_executor.submit(self._load_model, model, batch_size)
        self._load_future.add_done_callback(partial(self._send_reply, 0))

    def serve_forever(self) -> None:
        """Take calls until the other side is gone."""
        frames = FrameDecoder()
        while data := self._connection.recv(RECV_BYTES):
            for frame in frames.feed(data):
                what = frame.header["what"]
                threads = self._decode_executor if what == "decode" else self._model_executor
                threads.submit(HANDLERS[what], self._runner, frame).add_done_callback(
                    partial(self._send_reply, frame.header["call"])
                )

    def _load_model(self, model: str, batch_size: int) -> Reply:
        self._runner = ModelRunner(load(model))
        self._runner.warm_up(batch_size)
        gc.collect()
        gc.freeze()  # what is there for good is not looked through again
        return asdict(self._runner.metadata), ()

    def _send_reply(self, call_id: int, future: "Future[Reply]") -> None:
        error = future.exception()
        head, parts = future.result() if error is None else (serialize_error(error), ())
        with self._send_lock, suppress(OSError):  # the other side is gone, and this one will be
            for piece in encode_frame({"call": call_id, **head}, parts):
                self._connection.sendall(piece)


def serialize_error(error: BaseException) -> dict[str, Any]:
    """Return an error as the other side can raise it again."""
    if isinstance(error, BadSample):
        return {"error": "BadSample", "said": [error.reason, error.location, error.detail]}
    if isinstance(error, ZebraError):
        return {"error": type(error).__name__, "said": [str(error)]}
    return {"error": None, "said": ["".join(traceback.format_exception(error))]}


def _handle_decode(runner: ModelRunner, frame: Frame) -> Reply:
    [data] = frame.payloads
    found = runner.decode_image(
        data.decode() if frame.header["base64"] else bytes(data), frame.header["where"]
    )
    if isinstance(found, DecodedImage):
        return {"digest": found.digest, "shape": found.pixels_3HW.shape}, [_array_to_bytes(found.pixels_3HW)]
    return {"digest": None}, [_vectors_to_bytes([found])]


def _handle_images(runner: ModelRunner, frame: Frame) -> Reply:
    shape = frame.header["shape"]
    pictures = [
        DecodedImage(np.frombuffer(part, np.uint8).reshape(shape), digest)
        for part, digest in zip(frame.payloads, frame.header["digests"], strict=True)
    ]
    return {}, [_vectors_to_bytes(runner.encode_images(pictures))]


def _handle_texts(runner: ModelRunner, frame: Frame) -> Reply:
    found = runner.encode_texts(frame.header["texts"])
    head = {"tokens": [text.num_tokens for text in found], "cut": [text.is_truncated for text in found]}
    return head, [_vectors_to_bytes([text.vector_E for text in found])]


def _handle_head(runner: ModelRunner, frame: Frame) -> Reply:
    found = runner.build_head(frame.header["labels"], frame.header["templates"])
    return {"cut": found.num_truncated}, [_vectors_to_bytes(found.vectors_CE)]


HANDLERS = {
    "decode": _handle_decode,
    "pictures": _handle_images,
    "texts": _handle_texts,
    "head": _handle_head,
}


def _vectors_to_bytes(vectors_NE: Tensor | Sequence[Tensor]) -> memoryview:
    rows = vectors_NE if isinstance(vectors_NE, Tensor) else torch.stack(list(vectors_NE))
    return _array_to_bytes(rows.numpy())


def _array_to_bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def main(argv: Sequence[str]) -> None:
    """Serve one model."""
    number, model, size = argv
    for told_to_stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told_to_stop, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with socket.socket(fileno=int(number)) as line:
        ModelWorker(line, model, int(size)).serve_forever()
    os._exit(0)  # nobody waits for what is under way


if __name__ == "__main__":
    main(sys.argv[1:])
