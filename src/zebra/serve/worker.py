"""The model worker.

`python -m zebra.serve.worker_main FD MODEL BATCH_SIZE DEVICE THREADS` runs it.

`zebra.serve.worker_client` starts it. It reads calls from a socket and sends replies. It ignores SIGINT and SIGTERM,
because the server still answers accepted requests after them, and exits when the server closes the socket.
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

from zebra.config.cores import usable_cores
from zebra.errors import BadSample, ConfigError, DeviceLost, ZebraError
from zebra.images.thumbnail import resize_to_jpeg
from zebra.pretrained.device import resolve_device
from zebra.pretrained.load import load
from zebra.serve.frames import Frame, FrameDecoder, encode_frame
from zebra.serve.malloc import limit_arenas
from zebra.serve.model_client import DecodedImage, Vector
from zebra.serve.model_runner import ModelRunner

RECV_BYTES = 2**20
"""Maximum number of bytes per read."""

Reply = tuple[Mapping[str, Any], Sequence[memoryview]]
"""Header and payloads."""


class ModelWorker:
    """Run calls: the model in one thread, in the order of the calls; decoding in several threads."""

    def __init__(
        self, connection: socket.socket, model: str, batch_size: int, device: str = "auto", num_threads: int = 0
    ) -> None:
        """Start loading the model; the reply to call 0, which nobody makes, reports that it is loaded.

        Args:
            batch_size: Size of a full batch.
            device: Device of the model, as `zebra.load` takes it.
            num_threads: Threads that compute, and as many that decode, on the CPU only; 0 takes the cores.
        """
        self._connection = connection
        self._send_lock = threading.Lock()
        self._calls: dict[int, Future[Reply]] = {}
        self._model_executor = ThreadPoolExecutor(1, "model")
        self._decode_executor = ThreadPoolExecutor(num_threads or usable_cores(), "decode")
        self._load_future = self._model_executor.submit(self._load_model, model, batch_size, device, num_threads)
        self._load_future.add_done_callback(partial(self._send_reply, 0))

    def serve_forever(self) -> None:
        """Run calls until the server closes the socket."""
        decoder = FrameDecoder()
        while data := self._connection.recv(RECV_BYTES):
            for frame in decoder.feed(data):
                self._start_call(frame.header["method"], frame.header["call_id"], frame)

    def _start_call(self, method: str, call_id: int, frame: Frame) -> None:
        if method == "cancel":  # a call that has started runs to its end
            if call_id in self._calls:
                self._calls[call_id].cancel()
            return
        executor = self._decode_executor if method in DECODE_METHODS else self._model_executor
        self._calls[call_id] = future = executor.submit(HANDLERS[method], self._runner, frame)
        future.add_done_callback(partial(self._finish_call, call_id))

    def _finish_call(self, call_id: int, future: "Future[Reply]") -> None:
        self._calls.pop(call_id, None)
        if future.cancelled():
            return
        if isinstance(error := future.exception(), DeviceLost):
            sys.stderr.write(f"model worker: {error}\n")
            os._exit(1)  # the server starts another worker, which may use another device
        self._send_reply(call_id, future)

    def _load_model(self, model: str, batch_size: int, device: str, num_threads: int) -> Reply:
        if num_threads:
            require_cpu(device)
            torch.set_num_threads(num_threads)
        self._runner = ModelRunner(load(model, device=device))
        self._runner.warm_up(batch_size)
        gc.collect()
        gc.freeze()  # the model is permanent: later collections skip it
        return asdict(self._runner.metadata), ()

    def _send_reply(self, call_id: int, future: "Future[Reply]") -> None:
        error = future.exception()
        header, payloads = future.result() if error is None else (serialize_error(error), ())
        with self._send_lock, suppress(OSError):  # the server is gone, and this process exits soon
            for chunk in encode_frame({"call_id": call_id, **header}, payloads):
                self._connection.sendall(chunk)


def require_cpu(device: str) -> None:
    """Raise ConfigError unless a device is the CPU: several workers would share a GPU and its memory."""
    resolved = resolve_device(device)
    if resolved.type != "cpu":
        raise ConfigError(
            f"several workers compute on the CPU only, and device {device} is {resolved.type} here. Leave --workers "
            "out, or choose --device cpu"
        )


def serialize_error(error: BaseException) -> dict[str, Any]:
    """Return the header of a reply from which the client can rebuild the exception."""
    if isinstance(error, BadSample):
        return {"error": "BadSample", "args": [error.reason, error.location, error.detail]}
    if isinstance(error, ZebraError):
        return {"error": type(error).__name__, "args": [str(error)]}
    return {"error": None, "args": ["".join(traceback.format_exception(error))]}


def _handle_decode(runner: ModelRunner, frame: Frame) -> Reply:
    [payload] = frame.payloads
    result = runner.decode_image(bytes(payload), frame.header["where"], frame.header["max_pixels"])
    if isinstance(result, DecodedImage):
        return {"digest": result.digest, "shape": result.pixels_3HW.shape}, [_array_to_bytes(result.pixels_3HW)]
    return {"digest": None}, [_vectors_to_bytes([result])]


def _handle_resize(_runner: ModelRunner, frame: Frame) -> Reply:
    [payload] = frame.payloads
    return {}, [memoryview(resize_to_jpeg(bytes(payload), frame.header["max_side"]))]


def _handle_heat_map(runner: ModelRunner, frame: Frame) -> Reply:
    [payload] = frame.payloads
    header = frame.header
    heat_map = runner.heat_map(bytes(payload), header["where"], header["max_pixels"], header["text"])
    return {"shape": heat_map.values_HW.shape, "box": heat_map.box}, [_array_to_bytes(heat_map.values_HW)]


def _handle_images(runner: ModelRunner, frame: Frame) -> Reply:
    header = frame.header
    images = [
        DecodedImage(np.frombuffer(payload, np.uint8).reshape(shape), digest)
        for payload, shape, digest in zip(frame.payloads, header["shapes"], header["digests"], strict=True)
    ]
    return {}, [_vectors_to_bytes(runner.encode_images(images))]


def _handle_texts(runner: ModelRunner, frame: Frame) -> Reply:
    texts = runner.encode_texts(frame.header["texts"])
    header = {"num_tokens": [text.num_tokens for text in texts], "is_truncated": [text.is_truncated for text in texts]}
    return header, [_vectors_to_bytes([text.vector_E for text in texts])]


def _handle_head(runner: ModelRunner, frame: Frame) -> Reply:
    head = runner.build_head(frame.header["labels"], frame.header["templates"])
    return {"num_truncated": head.num_truncated}, [_array_to_bytes(head.vectors_CE)]


def _handle_labels(runner: ModelRunner, frame: Frame) -> Reply:
    runner.require_distinct_labels(frame.header["labels"])
    return {}, ()


HANDLERS = {
    "require_distinct_labels": _handle_labels,
    "decode_image": _handle_decode,
    "resize_image": _handle_resize,
    "heat_map": _handle_heat_map,
    "encode_images": _handle_images,
    "encode_texts": _handle_texts,
    "build_head": _handle_head,
}


DECODE_METHODS = ("decode_image", "resize_image")
"""Methods that do not use the model."""


def _vectors_to_bytes(vectors: Sequence[Vector]) -> memoryview:
    return _array_to_bytes(np.stack(vectors))


def _array_to_bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def main(argv: Sequence[str]) -> None:
    """Run a worker for one model."""
    fd, model, batch_size, device, num_threads = argv
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)
    limit_arenas()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with socket.socket(fileno=int(fd)) as connection:
        ModelWorker(connection, model, int(batch_size), device, int(num_threads)).serve_forever()
    os._exit(0)  # calls that still run have no client
