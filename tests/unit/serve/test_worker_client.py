"""Tests of the worker: it returns what the model returns in this process, and is restarted if it dies."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from zebra.errors import BadSample, ConfigError, MissingExtra, WeightsError, ZebraError
from zebra.images.thumbnail import resize_to_jpeg
from zebra.serve import worker, worker_client
from zebra.serve.limits import MAX_PIXELS
from zebra.serve.model_client import DecodedImage
from zebra.serve.model_runner import ModelRunner
from zebra.serve.worker_client import WorkerClient, WorkerDied, WorkerError

from .conftest import noise_image, write_metadata


def run_with_worker(model, scenario, on_error=lambda _error: None):
    """Run a scenario with a worker client."""

    async def run():
        async with WorkerClient(str(model), 4, on_error) as client:
            return await scenario(client)

    return asyncio.run(run())


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_call_returns_what_the_model_returns_in_this_process(model, clip):
    runner = ModelRunner(clip)
    texts = ["a photo of a horse", "horse " * 40]
    labels, templates = ["horse", "cow", "horse " * 40], ["a {}.", "one {}."]

    async def scenario(client):
        assert client.metadata == runner.metadata
        one, two = [
            await client.decode_image(data, "one", MAX_PIXELS) for data in (noise_image(1), noise_image(2, (90, 20)))
        ]
        vectors = await client.encode_images([one, two])
        assert await client.resize_image(noise_image(1), 16) == resize_to_jpeg(noise_image(1), 16)
        assert np.array_equal(await client.decode_image(noise_image(1), "again", MAX_PIXELS), vectors[0])
        return one, vectors, await client.encode_texts(texts), await client.build_head(labels, templates)

    decoded, vectors, embeddings, head = run_with_worker(model, scenario)
    assert isinstance(decoded, DecodedImage)
    assert (decoded.pixels_3HW == runner.decode_image(noise_image(1), "", MAX_PIXELS).pixels_3HW).all()
    expected_NE = clip.encode_images([noise_image(1), noise_image(2, (90, 20))])
    assert np.allclose(np.stack(vectors), expected_NE, atol=1e-6)
    for text, expected in zip(embeddings, runner.encode_texts(texts), strict=True):
        assert np.allclose(text.vector_E, expected.vector_E, atol=1e-6)
        assert (text.num_tokens, text.is_truncated) == (expected.num_tokens, expected.is_truncated)
    expected_head = runner.build_head(labels, templates)
    assert np.allclose(head.vectors_CE, expected_head.vectors_CE, atol=1e-6)
    assert head.num_truncated == expected_head.num_truncated == 2


def test_exceptions_keep_their_class(model):
    async def scenario(client):
        with pytest.raises(BadSample) as bad:
            await client.decode_image(b"\xff\xd8\xff nothing", "two", MAX_PIXELS)
        assert bad.value.location == "two"
        with pytest.raises(ConfigError, match="'Cat' and 'cat' are one text"):
            await client.require_distinct_labels(["Cat", "horse", "cat"])
        with pytest.raises(WorkerError, match=r"(?s)Traceback.*worker\.py"):
            await client.encode_texts(None)
        return await client.encode_texts(["still alive"])

    assert len(run_with_worker(model, scenario)) == 1


@pytest.mark.parametrize("error", [BadSample("empty", "a.jpg", "0 bytes"), WeightsError("cut"), ZebraError("no")])
def test_an_exception_survives_serialization(error):
    header = worker.serialize_error(error)
    rebuilt = worker_client._deserialize_error(header["error"], header["args"])
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)


def test_a_missing_package_keeps_its_message():
    header = worker.serialize_error(MissingExtra("onnxruntime", "this", "onnx"))
    assert "pip install" in str(worker_client._deserialize_error(header["error"], header["args"]))


def test_a_model_that_cannot_be_loaded_raises_and_leaves_no_process(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    client = WorkerClient(str(tmp_path), 4)

    async def enter():
        async with client:
            pass

    with pytest.raises(ZebraError):
        asyncio.run(enter())
    assert not is_alive(client.pid)


@pytest.mark.parametrize(
    ("code", "exit_status"), [("os._exit(3)", "exited with code 3"), ("os.kill(os.getpid(), 9)", "killed by SIGKILL")]
)
def test_a_worker_that_dies_while_loading_reports_its_exit_status(monkeypatch, code, exit_status):
    monkeypatch.setattr(worker_client, "WORKER_ARGS", ("-c", f"import os; {code}"))
    with pytest.raises(WeightsError, match=f"the worker process .*{exit_status}"):
        run_with_worker("x", None)


def test_v4_a_killed_worker_is_replaced(quick_model, caplog):
    """The call in flight fails within two seconds; a new call waits for the new worker."""

    async def scenario(client):
        first = client.pid
        os.kill(first, signal.SIGSTOP)
        in_flight = asyncio.create_task(client.encode_texts(["in flight"]))
        await asyncio.sleep(0.1)
        killed_at = time.monotonic()
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerDied) as died:
            await in_flight
        assert time.monotonic() - killed_at < 2
        assert died.value.status_code == 503
        assert died.value.retry_after_seconds
        assert not client.is_ready
        assert len(await client.encode_texts(["sent meanwhile"])) == 1
        assert client.is_ready
        assert client.pid != first
        assert not is_alive(first)

    run_with_worker(quick_model, scenario)
    assert "was killed by SIGKILL" in caplog.text


def test_a_worker_that_cannot_be_restarted_is_reported(quick_model):
    errors = []

    async def scenario(client):
        write_metadata(quick_model, fingerprint="another")
        os.kill(client.pid, signal.SIGKILL)
        while not errors:
            await asyncio.sleep(0.02)
        assert not client.is_ready

    run_with_worker(quick_model, scenario, errors.append)
    assert "changed while the server was running" in str(errors[0])


def test_an_unexpected_exception_during_a_restart_is_reported(quick_model, monkeypatch):
    errors = []
    script = """
import socket, sys
from zebra.serve.frames import encode_frame
connection = socket.socket(fileno=int(sys.argv[1]))
connection.sendall(b"".join(encode_frame({"call_id": 0, "error": None, "args": ["disk failure"]})))
connection.recv(1)
"""

    async def scenario(client):
        monkeypatch.setattr(worker_client, "WORKER_ARGS", ("-c", script))
        os.kill(client.pid, signal.SIGKILL)
        while not errors:
            await asyncio.sleep(0.02)

    run_with_worker(quick_model, scenario, errors.append)
    assert isinstance(errors[0], WorkerError)
    assert "disk failure" in str(errors[0])


def test_no_worker_outlives_its_server(model):
    """Not even a killed server; and the worker ignores the signals that stop a server."""
    script = f"""
import asyncio
from zebra.serve.worker_client import WorkerClient

async def run():
    async with WorkerClient({str(model)!r}, 4) as model:
        print(model.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(run())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        pid = int(server.stdout.readline())
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, signal_number)
        time.sleep(0.3)
        assert is_alive(pid)
        server.kill()
        killed_at = time.monotonic()
        while is_alive(pid):
            assert time.monotonic() - killed_at < 10
            time.sleep(0.02)
