"""What the service counts and times, for Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve.batching import BatchStats

LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("zebra_requests", "Answered.", ["route", "status"], registry=registry)
        self.latency = Histogram(
            "zebra_request_seconds",
            "From head to last byte.",
            ["route"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self._queue_length = Gauge("zebra_queue_items", "That wait.", ["queue"], registry=registry)
        self._batch_size = Histogram(
            "zebra_batch_items", "Of a pass.", ["queue"], buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self._stage_seconds = Histogram(
            "zebra_stage_seconds",
            "Of decoding a picture, waiting for a pass, a pass of the model, a search.",
            ["stage", "queue"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )

    def batch_callback(self, queue: str) -> Callable[[BatchStats], None]:
        """Return who is told of every pass of a batcher."""
        items, waited, took = (
            self._batch_size.labels(queue),
            self._stage_seconds.labels("queue", queue),
            self._stage_seconds.labels("inference", queue),
        )

        def watch(passed: BatchStats) -> None:
            items.observe(passed.num_items)
            took.observe(passed.seconds)
            for seconds in passed.wait_seconds:
                waited.observe(seconds)

        return watch

    def stage_callback(self, name: str) -> Callable[[float], None]:
        """Return who is told how long something took."""
        return self._stage_seconds.labels(name, "").observe

    def track_queue(self, name: str, get_length: Callable[[], int]) -> None:
        """Show the length of a queue."""
        self._queue_length.labels(name).set_function(get_length)

    def track_rejected(self, get_count: Callable[[], int]) -> None:
        """Show how many requests found no place."""
        Gauge("zebra_turned_away", "For want of a place.", registry=self._registry).set_function(get_count)

    def render(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)


class MetricsMiddleware:
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
