"""Fork server: start Python commands in milliseconds, because torch is already imported.

`Popen` and `run` take the commands that `subprocess.Popen` and `subprocess.run` take, as far as the tests use them:
`[sys.executable, "-c", code, …]`, `[sys.executable, script, …]` and `[sys.executable, "-m", module, …]`. The child is a
fork of a process that has imported the heavy libraries and nothing of zebra, so it still imports zebra as a new process
would. Two servers with different hash seeds take turns, because equal runs must not depend on the order of a set.

What a fork cannot show is how an interpreter starts: tests of import time, of the console script and of what happens
before torch is loaded keep a real process.
"""

import array
import atexit
import contextlib
import io
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PRELOADED = (
    "PIL.Image", "fastapi", "fsspec", "ftfy", "huggingface_hub", "matplotlib.figure", "numpy",
    "pyarrow.parquet", "rich.progress", "safetensors.torch", "scipy.optimize", "scipy.stats", "simplejpeg",
    "sklearn.linear_model", "tokenizers", "torch", "torch._dynamo", "torch.distributed.fsdp", "tyro", "uvicorn", "yaml",
)  # fmt: skip
"""Imported before forking. Not LanceDB: importing it starts a thread, which a fork would lose."""
HASH_SEEDS = ("1", "2")
START_TIMEOUT_SECONDS = 120


class Popen:
    """A command in a forked process, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = True,
        start_new_session: bool = False,
    ) -> None:
        assert command[0] == sys.executable, "only Python commands can be forked"
        assert text, "output is text"
        self.args, self.returncode = list(command), None
        self.stdout, out = _open_output(stdout, 1)
        self.stderr, err = (None, os.dup(out)) if stderr == subprocess.STDOUT else _open_output(stderr, 2)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(_server_address())
        request = {
            "command": self.args,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(env or os.environ),
            "start_new_session": start_new_session,
        }
        data = json.dumps(request).encode()
        descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [out, err]))]
        self._socket.sendmsg([len(data).to_bytes(8, "big")], descriptors)
        self._socket.sendall(data)
        os.close(out)
        os.close(err)
        self.pid = int.from_bytes(_receive(self._socket, 8), "big")

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None and select.select([self._socket], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        if self.returncode is None:
            self._socket.settimeout(timeout)
            try:
                self.returncode = int.from_bytes(_receive(self._socket, 8), "big", signed=True)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._socket.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Read both outputs to their end, wait, and return them."""
        end = None if timeout is None else time.monotonic() + timeout
        texts: dict[IO[str], list[str]] = {pipe: [] for pipe in (self.stdout, self.stderr) if pipe}
        open_pipes = list(texts)
        while open_pipes:
            left = None if end is None else max(0.0, end - time.monotonic())
            ready, _, _ = select.select(open_pipes, [], [], left)
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            for pipe in ready:
                data = os.read(pipe.fileno(), 1 << 16)
                if data:
                    texts[pipe].append(data.decode(errors="replace"))
                else:
                    open_pipes.remove(pipe)
        self.wait(None if end is None else max(0.1, end - time.monotonic()))
        out, err = ("".join(texts[pipe]) if pipe else None for pipe in (self.stdout, self.stderr))
        for pipe in texts:
            pipe.close()
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Popen":
        return self

    def __exit__(self, *_error: object) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe:
                pipe.close()
        self.wait()


def run(
    command: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = False,
    capture_output: bool = True,
    text: bool = True,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, as `subprocess.run` does."""
    assert capture_output
    process = Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    done = subprocess.CompletedProcess(process.args, process.wait(), out, err)
    if check:
        done.check_returncode()
    return done


def _open_output(target: int | IO[Any] | None, inherited: int) -> tuple[IO[str] | None, int]:
    """Return the reading end, if the test reads, and a descriptor for the child."""
    if target == subprocess.PIPE:
        reading, writing = os.pipe()
        return os.fdopen(reading, "r", encoding="utf-8", errors="replace"), writing
    if target == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    return None, os.dup(inherited if target is None else target if isinstance(target, int) else target.fileno())


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the fork server ended")
        data += part
    return data


_servers: "list[tuple[subprocess.Popen[bytes], str]]" = []
_turns = itertools.count()


def _server_address() -> str:
    """Return the socket of the server whose turn it is; both start on first use, once per test process."""
    if not _servers:
        folder = tempfile.mkdtemp(prefix="fork")
        for seed in HASH_SEEDS:
            address = f"{folder}/{seed}"
            environment = os.environ | {"PYTHONHASHSEED": seed}
            server = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, env=environment)
            _servers.append((server, address))
        atexit.register(_stop_servers)
    server, address = _servers[next(_turns) % len(_servers)]
    end = time.monotonic() + START_TIMEOUT_SECONDS
    while not Path(address).exists():
        assert server.poll() is None and time.monotonic() < end, "the fork server did not start"
        time.sleep(0.02)
    return address


def _stop_servers() -> None:
    for server, _ in _servers:
        server.communicate()  # closes its standard input


def serve(address: str) -> None:
    """Fork a child for each request until standard input closes, which it does when the test process ends."""
    for name in PRELOADED:
        __import__(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(64)
        Path(f"{address}.new").rename(address)
        while True:
            ready, _, _ = select.select([listener, reading, 0], [], [])
            if 0 in ready:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                return
            if reading in ready:
                os.read(reading, 1024)
                _report_ended(children)
            if listener in ready:
                connection, _ = listener.accept()
                request, descriptors = _read_request(connection)
                pid = os.fork()
                if pid == 0:
                    listener.close()
                    for other in children.values():
                        other.close()
                    connection.close()
                    _be_child(request, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                children[pid] = connection
                connection.sendall(pid.to_bytes(8, "big"))


def _report_ended(children: dict[int, socket.socket]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with children.pop(pid) as connection, contextlib.suppress(OSError):
                connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))


def _read_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    size, descriptors, _, _ = socket.recv_fds(connection, 8, 2)
    return json.loads(_receive(connection, int.from_bytes(size, "big"))), list(descriptors)


def _be_child(request: dict[str, Any], descriptors: list[int]) -> None:
    """Become the command; never return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["start_new_session"]:
            os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (descriptors[0], 1), (descriptors[1], 2)):
            os.dup2(source, target)
        for descriptor in (null, *descriptors):
            os.close(descriptor)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # for the life of the process
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="utf-8", errors="replace")
        sys.stderr = io.TextIOWrapper(
            os.fdopen(2, "wb", 0, closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        sys.__stdout__, sys.__stderr__, sys.__stdin__ = sys.stdout, sys.stderr, sys.stdin
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        threads = request["env"].get("OMP_NUM_THREADS")
        if threads:
            import torch

            torch.set_num_threads(int(threads))
        code = _run_command(request["command"][1:])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        if isinstance(leaving.code, str):
            sys.stderr.write(f"{leaving.code}\n")
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _run_command(words: list[str]) -> int:
    import runpy

    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if words[0] == "-P":
        words = words[1:]
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path[:0] = [str(Path.cwd()), *paths]
        exec(compile(words[1], "<string>", "exec"), _fresh_main().__dict__)
    elif words[0] == "-m":
        sys.argv = words[1:]
        sys.path[:0] = [str(Path.cwd()), *paths]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[:0] = [str(Path(words[0]).resolve().parent), *paths]
        runpy.run_path(words[0], run_name="__main__")
    return 0


def _fresh_main() -> Any:
    """Give the child a `__main__` of its own, in which pickle finds what the command defines."""
    import types

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return module


def _leave(code: int) -> None:
    """End as an interpreter does: wait for threads, run exit handlers, flush. Then exit without the server's frames."""
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter calls at its end
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code & 0xFF)


if __name__ == "__main__":
    serve(sys.argv[1])
