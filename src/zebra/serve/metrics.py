"""Prometheus metrics of the service: requests, queues, batches and stages."""

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from zebra.serve.batching import BatchStats

LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class WorkerFigures(NamedTuple):
    """State of a model worker."""

    is_ready: bool
    num_calls: int
    """Calls since the start of the server."""
    num_restarts: int
    """How often it was started anew, because it died."""


class Metrics:
    """The metrics of one service, in their own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("zebra_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.latency = Histogram(
            "zebra_request_seconds",
            "Latency from request head to last response byte.",
            ["route"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self._request_metrics: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._queue_length = Gauge("zebra_queue_items", "Items waiting in a queue.", ["queue"], registry=registry)
        self._worker_ready, self._worker_calls, self._worker_restarts = (
            Gauge(f"zebra_worker_{name}", text, ["worker"], registry=registry)
            for name, text in (
                ("ready", "Whether a model worker answers."),
                ("calls", "Calls of a model worker since the start of the server."),
                ("restarts", "Restarts of a model worker after it died."),
            )
        )
        self._batch_size = Histogram(
            "zebra_batch_items", "Items per model batch.", ["queue"], buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self._stage_seconds = Histogram(
            "zebra_stage_seconds",
            "Seconds spent decoding, queueing, running the model and searching.",
            ["stage", "queue"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request and its latency."""
        if (route, status) not in self._request_metrics:  # finding a metric by its labels takes as long as counting
            self._request_metrics[route, status] = (
                self.requests.labels(route, str(status)),
                self.latency.labels(route),
            )
        counter, latency = self._request_metrics[route, status]
        counter.inc()
        latency.observe(seconds)

    def batch_callback(self, queue: str) -> Callable[[BatchStats], None]:
        """Return a function that records the batches of a queue."""
        batch_size, queue_seconds, inference_seconds = (
            self._batch_size.labels(queue),
            self._stage_seconds.labels("queue", queue),
            self._stage_seconds.labels("inference", queue),
        )

        def record_batch(stats: BatchStats) -> None:
            batch_size.observe(stats.num_items)
            inference_seconds.observe(stats.seconds)
            for seconds in stats.wait_seconds:
                queue_seconds.observe(seconds)

        return record_batch

    def stage_callback(self, name: str) -> Callable[[float], None]:
        """Return a function that records the seconds of a stage."""
        return self._stage_seconds.labels(name, "").observe

    def track_queue(self, name: str, get_length: Callable[[], int]) -> None:
        """Export the length of a queue."""
        self._queue_length.labels(name).set_function(get_length)

    def track_worker(self, number: int, get_figures: Callable[[], WorkerFigures]) -> None:
        """Export the figures of a worker."""
        self._worker_ready.labels(str(number)).set_function(lambda: float(get_figures().is_ready))
        self._worker_calls.labels(str(number)).set_function(lambda: float(get_figures().num_calls))
        self._worker_restarts.labels(str(number)).set_function(lambda: float(get_figures().num_restarts))

    def track_rejected(self, get_count: Callable[[], int]) -> None:
        """Export how many requests were rejected because the server was full."""
        Gauge(
            "zebra_rejected_requests", "Requests rejected because the server was full.", registry=self._registry
        ).set_function(get_count)

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
