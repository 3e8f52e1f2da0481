"""Several gloo processes on this machine, as torchrun would start them."""

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
with init_distributed(60) as world:
    value = runpy.run_path(file)[name](world, *arguments)
Path(f"{sys.argv[1]}.{world.rank}").write_bytes(pickle.dumps(value))
"""


def environments(size: int) -> list[dict[str, str]]:
    """Return the environment of each process."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    return [{**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def start(commands: Sequence[Sequence[str]]) -> list[forkserver.Popen]:
    """Start one process of a world for each command."""
    return [
        forkserver.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command, env in zip(commands, environments(len(commands)), strict=True)
    ]


def together(folder: Path, size: int, file: Path, name: str, *arguments: Any) -> list[Any]:
    """Call a file's function(world, …) in so many processes; return what each of them returned."""
    call = folder / f"call-{size}-{name}"
    call.write_bytes(pickle.dumps((str(file), name, arguments)))
    running = start([[sys.executable, "-c", CALL, str(call)]] * size)
    ended = [process.communicate(timeout=120) for process in running]
    for process, (_, error) in zip(running, ended, strict=True):
        assert process.returncode == 0, error
    return [pickle.loads(Path(f"{call}.{rank}").read_bytes()) for rank in range(size)]
