"""A model in a process of its own answers as it does here, and comes back when it is gone."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from zebra.errors import BadSample, MissingExtra, WeightsError, ZebraError
from zebra.serve import worker, worker_client
from zebra.serve.model_runner import DecodedImage, ModelRunner
from zebra.serve.worker_client import WorkerClient, WorkerDied, WorkerError

from .conftest import encoded, sent, write_model


def asking(folder, scenario, failed=lambda _error: None):
    """Run a scenario with a model in a process of its own."""

    async def run():
        async with WorkerClient(str(folder), 4, failed) as model:
            return await scenario(model)

    return asyncio.run(run())


def is_alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_call_gives_what_the_model_gives_here(model, clip):
    here = ModelRunner(clip)
    texts = ["a photo of a horse", "horse " * 40]
    labels, templates = ["horse", "cow", "horse " * 40], ["a {}.", "one {}."]

    async def scenario(there):
        assert there.metadata == here.metadata
        one, two = [
            await there.decode_image(data, "one") for data in (encoded(1), sent(encoded(2, (90, 20)))["data"])
        ]
        vectors = await there.encode_images([one, two])
        assert torch.equal(await there.decode_image(encoded(1), "again"), vectors[0])
        return one, vectors, await there.encode_texts(texts), await there.build_head(labels, templates)

    decoded, vectors, found, head = asking(model, scenario)
    assert isinstance(decoded, DecodedImage)
    assert (decoded.pixels_3HW == here.decode_image(encoded(1), "").pixels_3HW).all()
    alone = clip.encode_images([encoded(1), encoded(2, (90, 20))])
    assert torch.allclose(torch.stack(list(vectors)), alone, atol=1e-6)
    for text, expected in zip(found, here.encode_texts(texts), strict=True):
        assert torch.allclose(text.vector_E, expected.vector_E, atol=1e-6)
        assert (text.num_tokens, text.is_truncated) == (expected.num_tokens, expected.is_truncated)
    expected = here.build_head(labels, templates)
    assert torch.allclose(head.vectors_CE, expected.vectors_CE, atol=1e-6)
    assert head.num_truncated == expected.num_truncated == 2


def test_errors_come_back_as_what_they_are(model):
    async def scenario(there):
        with pytest.raises(BadSample) as bad:
            await there.decode_image(b"\xff\xd8\xff nothing", "two")
        assert bad.value.location == "two"
        with pytest.raises(WorkerError, match=r"(?s)Traceback.*worker\.py"):
            await there.encode_texts(None)
        return await there.encode_texts(["and it goes on"])

    assert len(asking(model, scenario)) == 1


@pytest.mark.parametrize(
    "error", [BadSample("empty", "a.jpg", "0 bytes"), WeightsError("cut"), ZebraError("no")]
)
def test_an_error_is_raised_again_as_it_was(error):
    head = worker.serialize_error(error)
    again = worker_client._deserialize_error(head["error"], head["args"])
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_a_missing_package_is_still_told_of():
    head = worker.serialize_error(MissingExtra("onnxruntime", "this", "onnx"))
    assert "pip install" in str(worker_client._deserialize_error(head["error"], head["args"]))


def test_a_model_that_cannot_be_opened_says_why_and_leaves_no_process(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = WorkerClient(str(tmp_path), 4)

    async def enter():
        async with model:
            pass

    with pytest.raises(ZebraError):
        asyncio.run(enter())
    assert not is_alive(model.pid)


@pytest.mark.parametrize(
    ("end", "how"),
    [("os._exit(3)", "exited with code 3"), ("os.kill(os.getpid(), 9)", "killed by SIGKILL")],
)
def test_a_process_that_dies_of_opening_a_model_says_how(monkeypatch, end, how):
    monkeypatch.setattr(worker_client, "WORKER_ARGS", ("-c", f"import os; {end}"))
    with pytest.raises(WeightsError, match=f"the worker process .*{how}"):
        asking("x", None)


def test_v4_a_process_that_was_killed_is_replaced(model, caplog):
    """What it was at is refused, what comes meanwhile waits, and both are told apart in less than a moment."""

    async def scenario(there):
        first = there.pid
        os.kill(first, signal.SIGSTOP)
        under_way = asyncio.create_task(there.encode_texts(["under way"]))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerDied) as gone:
            await under_way
        assert time.monotonic() - began < 2
        assert gone.value.status_code == 503
        assert gone.value.retry_after_seconds
        assert not there.is_ready
        [text] = await there.encode_texts(["what comes meanwhile"])
        assert there.is_ready
        assert there.pid != first
        assert not is_alive(first)
        return text.vector_E

    asking(model, scenario)
    assert "was killed by SIGKILL" in caplog.text


def test_a_process_that_cannot_be_replaced_is_told_to_who_runs_it(tmp_path):
    folder, told = write_model(tmp_path / "model", seed=1), []

    async def scenario(there):
        write_model(folder, seed=2)
        os.kill(there.pid, signal.SIGKILL)
        while not told:
            await asyncio.sleep(0.02)
        assert not there.is_ready

    asking(folder, scenario, told.append)
    assert "changed while the server was running" in str(told[0])


def test_nothing_that_goes_wrong_in_a_second_start_is_lost(model, monkeypatch):
    told = []
    failing = """
import socket, sys
from zebra.serve.frames import encode_frame
line = socket.socket(fileno=int(sys.argv[1]))
line.sendall(b"".join(encode_frame({"call_id": 0, "error": None, "args": ["a disk that broke"]})))
line.recv(1)
"""

    async def scenario(there):
        monkeypatch.setattr(worker_client, "WORKER_ARGS", ("-c", failing))
        os.kill(there.pid, signal.SIGKILL)
        while not told:
            await asyncio.sleep(0.02)

    asking(model, scenario, told.append)
    assert isinstance(told[0], WorkerError)
    assert "a disk that broke" in str(told[0])


def test_no_process_outlives_its_server(model):
    """Not even one that was killed; and the signals that stop a server are the server's to act on."""
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
        number = int(server.stdout.readline())
        for stop in (signal.SIGINT, signal.SIGTERM):
            os.kill(number, stop)
        time.sleep(0.3)
        assert is_alive(number)
        server.kill()
        began = time.monotonic()
        while is_alive(number):
            assert time.monotonic() - began < 10
            time.sleep(0.02)
