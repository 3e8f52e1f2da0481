"""Open-loop load generator: requests are sent on schedule, even if earlier ones have no response yet.

    python benchmarks/open_loop.py PORT PATH FILE --rate 200 --seconds 10

FILE holds one JSON body per line, which are sent in turn. Prints one JSON document with the latency, the status and the
scheduled time of every request. Latency counts from the scheduled time, so a stall of the server or of this client
shows in every delayed request and is not hidden by coordinated omission.

Closed-loop tools such as wrk, hey and autocannon wait for a free connection, and artillery needs more CPU than the
server. This client reuses connections and opens more when all are busy. It runs in its own process on the same machine
as the server.
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
    """Sends bodies to one address over reused connections."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        self.free: deque[Connection] = deque()
        self.num_opened = 0

    async def send(self, body: bytes) -> int:
        """Return the HTTP status; 0 if the connection failed.

        The server may close an idle connection just when it is reused. Like other clients, this one then retries once
        over a new connection.
        """
        connection = self.free.pop() if self.free else None
        while connection is not None and connection[0].at_eof():
            connection = self.free.pop() if self.free else None
        return (await self._send(body, connection) if connection else 0) or await self._send(body, None)

    async def _send(self, body: bytes, connection: Connection | None) -> int:
        try:
            if connection is None:
                self.num_opened += 1
            reader, writer = connection or await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.head + str(len(body)).encode() + b"\r\n\r\n" + body)
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            start = lower.index(b"content-length: ") + 16
            await reader.readexactly(int(lower[start : lower.index(b"\r", start)]))
        except (OSError, asyncio.IncompleteReadError):
            return 0
        if b"connection: close" in lower:
            writer.close()
        else:
            self.free.append((reader, writer))
        return int(head[9:12])


async def send_on_schedule(client: Client, bodies: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send at a constant rate, and wait for all responses."""
    due, latencies, statuses = [], [], []
    start = time.perf_counter()

    async def send(number: int) -> None:
        status = await client.send(bodies[number % len(bodies)])
        due.append(round(number / rate, 4))
        latencies.append(round(time.perf_counter() - start - number / rate, 5))
        statuses.append(status)

    tasks = set()
    for number in range(int(rate * seconds)):
        pause = start + number / rate - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(send(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return {"due": due, "seconds": latencies, "status": statuses, "connections": client.num_opened}


async def send_closed_loop(client: Client, bodies: list[bytes], concurrency: int, seconds: float) -> dict[str, Any]:
    """Keep a number of requests in flight (a closed loop), to find the capacity of the server."""
    statuses: list[int] = []
    start = time.perf_counter()
    numbers = iter(range(10**9))

    async def send_repeatedly() -> None:
        while time.perf_counter() - start < seconds:
            statuses.append(await client.send(bodies[next(numbers) % len(bodies)]))

    await asyncio.gather(*(send_repeatedly() for _ in range(concurrency)))
    duration = time.perf_counter() - start
    return {"rate": statuses.count(200) / duration, "refused": len(statuses) - statuses.count(200)}


def main() -> None:
    """Send the requests and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, help="requests per second on schedule")
    parser.add_argument("--together", type=int, help="number of requests in flight, for a closed loop")
    parser.add_argument("--skip", type=int, default=0, help="number of bodies to skip")
    args = parser.parse_args()
    bodies = args.file.read_bytes().splitlines()
    bodies = bodies[args.skip % len(bodies) :] + bodies[: args.skip % len(bodies)]
    client = Client(args.port, args.path)
    gc.disable()  # a pause of the client would count as latency
    if args.together:
        result = asyncio.run(send_closed_loop(client, bodies, args.together, args.seconds))
    else:
        result = asyncio.run(send_on_schedule(client, bodies, args.rate, args.seconds))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
