"""Several model workers behind one interface."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from zebra.config.cores import usable_cores
from zebra.errors import ConfigError
from zebra.serve.model_client import DecodedImage, HeatMap, ModelMetadata, TextEmbedding, Vector, ZeroShotHead
from zebra.serve.worker_client import WorkerClient


class WorkerPool:
    """A `zebra.serve.model_client.ModelClient` that sends each call to the least busy worker.

    An async context manager, entered once every worker is warm. While a worker that died is replaced, the others
    answer.
    """

    def __init__(self, workers: Sequence[WorkerClient]) -> None:
        self.workers = tuple(workers)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "WorkerPool":
        """Start all workers at once; raises what `WorkerClient` raises for one of them."""
        tasks = [asyncio.create_task(self._stack.enter_async_context(worker)) for worker in self.workers]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop all workers."""
        await self._stack.aclose()

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model."""
        return self.workers[0].metadata

    @property
    def is_ready(self) -> bool:
        """Whether a worker answers calls now."""
        return any(worker.is_ready for worker in self.workers)

    async def decode_image(self, data: bytes, where: str, max_pixels: int) -> DecodedImage | Vector:
        """Decode an image."""
        return await self._least_busy().decode_image(data, where, max_pixels)

    async def resize_image(self, data: bytes, max_side: int) -> bytes:
        """Make a thumbnail."""
        return await self._least_busy().resize_image(data, max_side)

    async def heat_map(self, data: bytes, where: str, max_pixels: int, text: str) -> HeatMap:
        """Map where an image matches a text."""
        return await self._least_busy().heat_map(data, where, max_pixels, text)

    async def encode_images(self, images: Sequence[DecodedImage]) -> Sequence[Vector]:
        """Embed images."""
        return await self._least_busy().encode_images(images)

    async def encode_texts(self, texts: Sequence[str]) -> Sequence[TextEmbedding]:
        """Embed texts."""
        return await self._least_busy().encode_texts(texts)

    async def require_distinct_labels(self, labels: Sequence[str]) -> None:
        """Check that no two labels are one text to the model."""
        await self._least_busy().require_distinct_labels(labels)

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a zero-shot head."""
        return await self._least_busy().build_head(labels, templates)

    def _least_busy(self) -> WorkerClient:
        """Return the worker with the fewest calls in flight, if possible one that is ready."""
        return min(self.workers, key=lambda worker: (not worker.is_ready, worker.num_pending))


def threads_per_worker(num_workers: int) -> int:
    """Return the number of threads of each worker; ConfigError if there are fewer cores than workers."""
    num_cores = usable_cores()
    if num_workers > num_cores:
        raise ConfigError(
            f"workers is {num_workers}, but the server may use {num_cores} core{'s' * (num_cores > 1)}. Start at most "
            "one worker per core"
        )
    return num_cores // num_workers
