"""What the service counts and times, for Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve.batching import Passed

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("zebra_requests", "Answered.", ["route", "status"], registry=registry)
        self.latency = Histogram(
            "zebra_request_seconds", "From head to last byte.", ["route"], buckets=SECONDS, registry=registry
        )
        self._queue = Gauge("zebra_queue_items", "That wait.", ["queue"], registry=registry)
        self._items = Histogram(
            "zebra_batch_items", "Of a pass.", ["queue"], buckets=ITEMS, registry=registry
        )
        self._stages = Histogram(
            "zebra_stage_seconds",
            "Of decoding a picture, waiting for a pass, a pass of the model, a search.",
            ["stage", "queue"],
            buckets=SECONDS,
            registry=registry,
        )

    def passes(self, queue: str) -> Callable[[Passed], None]:
        """Return who is told of every pass of a batcher."""
        items, waited, took = (
            self._items.labels(queue),
            self._stages.labels("queue", queue),
            self._stages.labels("inference", queue),
        )

        def watch(passed: Passed) -> None:
            items.observe(passed.items)
            took.observe(passed.seconds)
            for seconds in passed.waited_seconds:
                waited.observe(seconds)

        return watch

    def stage(self, name: str) -> Callable[[float], None]:
        """Return who is told how long something took."""
        return self._stages.labels(name, "").observe

    def queue(self, name: str, length: Callable[[], int]) -> None:
        """Show the length of a queue."""
        self._queue.labels(name).set_function(length)

    def turned_away(self, number: Callable[[], int]) -> None:
        """Show how many requests found no place."""
        Gauge("zebra_turned_away", "For want of a place.", registry=self._registry).set_function(number)

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)


class Measured:
    """Counts and times every request of an app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 499  # the client left before an answer

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # never the path itself: it may be anything
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.latency.labels(route).observe(time.monotonic() - began)
