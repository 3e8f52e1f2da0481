"""Ask a server by the clock: requests leave at their time whether the ones before are answered or not.

    python benchmarks/open_loop.py PORT PATH FILE --rate 200 --seconds 10

FILE holds a JSON body on each line, sent in turn. Prints one JSON document: seconds of every request, its status, and
when it was due. A request's time counts from when it was due, so that a stall of the server, or of this client, shows
in every request it delays ("coordinated omission" is what hides it otherwise).

Its own, since what the package registries here have is closed-loop (wrk, hey and autocannon wait for a connection to be
free), or takes more of the processor than the server (artillery); vegeta, wrk2 and k6 are not among it. It keeps its
connections and opens more when all are busy. It is a process of its own, but shares the machine with the server.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    """Sends bodies to one address over connections that are used again."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        self.free: deque[Connection] = deque()
        self.opened = 0

    async def ask(self, body: bytes) -> int:
        """Return the status; 0 if the connection broke.

        The server may close what was idle for long at the moment it is used again; as all clients do, this one then
        asks once more over a new connection.
        """
        kept = self.free.pop() if self.free else None
        while kept is not None and kept[0].at_eof():
            kept = self.free.pop() if self.free else None
        return (await self._ask(body, kept) if kept else 0) or await self._ask(body, None)

    async def _ask(self, body: bytes, kept: Connection | None) -> int:
        try:
            if kept is None:
                self.opened += 1
            reader, writer = kept or await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.head + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            lower = answer.lower()
            start = lower.index(b"content-length: ") + 16
            await reader.readexactly(int(lower[start : lower.index(b"\r", start)]))
        except (OSError, asyncio.IncompleteReadError):
            return 0
        if b"connection: close" in lower:
            writer.close()
        else:
            self.free.append((reader, writer))
        return int(answer[9:12])


async def by_the_clock(client: Client, bodies: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a constant rate; wait for the last answer."""
    due, taken, statuses = [], [], []
    began = time.perf_counter()

    async def ask(number: int) -> None:
        status = await client.ask(bodies[number % len(bodies)])
        due.append(round(number / rate, 4))
        taken.append(round(time.perf_counter() - began - number / rate, 5))
        statuses.append(status)

    tasks = set()
    for number in range(int(rate * seconds)):
        pause = began + number / rate - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(ask(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return {"due": due, "seconds": taken, "status": statuses, "connections": client.opened}


async def as_fast_as_it_goes(
    client: Client, bodies: list[bytes], together: int, seconds: float
) -> dict[str, Any]:
    """Keep so many requests under way, a closed loop, to find what the server can do."""
    statuses: list[int] = []
    began = time.perf_counter()
    numbers = iter(range(10**9))

    async def ask() -> None:
        while time.perf_counter() - began < seconds:
            statuses.append(await client.ask(bodies[next(numbers) % len(bodies)]))

    await asyncio.gather(*(ask() for _ in range(together)))
    took = time.perf_counter() - began
    return {"rate": statuses.count(200) / took, "refused": len(statuses) - statuses.count(200)}


def main() -> None:
    """Ask, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, help="requests a second, by the clock")
    parser.add_argument("--together", type=int, help="instead: so many requests under way at any time")
    parser.add_argument("--skip", type=int, default=0, help="bodies that were sent already")
    told = parser.parse_args()
    bodies = told.file.read_bytes().splitlines()
    bodies = bodies[told.skip % len(bodies) :] + bodies[: told.skip % len(bodies)]
    client = Client(told.port, told.path)
    gc.disable()  # a pause of the client would count as the server's
    if told.together:
        result = asyncio.run(as_fast_as_it_goes(client, bodies, told.together, told.seconds))
    else:
        result = asyncio.run(by_the_clock(client, bodies, told.rate, told.seconds))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
