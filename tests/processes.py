"""Start several gloo processes on this machine, like torchrun."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import forkserver

CALL = """
import pickle, runpy, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
file, name, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
from zebra.distributed import init_distributed
with init_distributed(60) as group:
    value = runpy.run_path(file)[name](group, *arguments)
Path(f"{sys.argv[1]}.{group.rank}").write_bytes(pickle.dumps(value))
"""


def environments(world_size: int) -> list[dict[str, str]]:
    """Return the environment of each process."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "OMP_NUM_THREADS": "1",
    }
    return [{**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size)]


def start(commands: Sequence[Sequence[str]]) -> list[forkserver.Popen]:
    """Start one process of a group for each command."""
    return [
        forkserver.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command, env in zip(commands, environments(len(commands)), strict=True)
    ]


def together(directory: Path, world_size: int, file: Path, name: str, *arguments: Any) -> list[Any]:
    """Call `name(group, …)` of a file on each of `world_size` ranks; return the results by rank."""
    call = directory / f"call-{world_size}-{name}"
    call.write_bytes(pickle.dumps((str(file), name, arguments)))
    processes = start([[sys.executable, "-c", CALL, str(call)]] * world_size)
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error
    return [pickle.loads(Path(f"{call}.{rank}").read_bytes()) for rank in range(world_size)]
