"""Calls inside the worker process."""

import socket
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from zebra.errors import DeviceLost
from zebra.serve import worker
from zebra.serve.frames import FrameDecoder, encode_frame


@pytest.fixture
def run_calls(monkeypatch):
    """Return a function that sends calls to a worker whose first call waits; it returns the ids in the order of run."""
    is_waiting, can_go_on, order = threading.Event(), threading.Event(), []

    def handle(_runner, frame):
        order.append(frame.header["call_id"])
        is_waiting.set()
        can_go_on.wait(10)
        return {}, ()

    def load(self, *_args):
        self._runner = None
        return {}, ()

    monkeypatch.setattr(worker.ModelWorker, "_load_model", load)
    monkeypatch.setattr(worker, "HANDLERS", {"encode_texts": handle})

    def run(headers):
        client, own_end = socket.socketpair()
        with client, own_end:
            thread = threading.Thread(target=worker.ModelWorker(own_end, "model", 1).serve_forever)
            thread.start()
            for number, header in enumerate(headers):
                client.sendall(b"".join(encode_frame(header)))
                if not number:
                    assert is_waiting.wait(10)
            client.shutdown(socket.SHUT_WR)
            thread.join(10)  # every frame is read
            can_go_on.set()
            replies, decoder = set(), FrameDecoder()
            while headers[-1]["call_id"] not in replies:
                replies |= {frame.header["call_id"] for frame in decoder.feed(client.recv(2**16))}
        assert replies == {0, *order}
        return order

    return run


def call(call_id, method="encode_texts"):
    return {"method": method, "call_id": call_id}


def test_a_canceled_call_that_still_waits_never_runs(run_calls):
    assert run_calls([call(1), call(2), call(3), call(2, "cancel"), call(4)]) == [1, 3, 4]


def test_a_call_that_runs_or_is_unknown_is_not_affected_by_its_cancellation(run_calls):
    assert run_calls([call(1), call(1, "cancel"), call(99, "cancel"), call(2)]) == [1, 2]


def test_a_lost_device_ends_the_worker_with_a_message(monkeypatch, capfd):
    """The server then starts another one."""
    future: Future = Future()
    future.set_exception(DeviceLost("cuda:0 stopped working: CUDA error"))

    def exit_process(code):
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", exit_process)
    with pytest.raises(SystemExit) as stop:
        worker.ModelWorker._finish_call(SimpleNamespace(_calls={3: future}), 3, future)
    assert stop.value.code == 1
    assert capfd.readouterr().err == "model worker: cuda:0 stopped working: CUDA error\n"
