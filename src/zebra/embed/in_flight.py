"""Deduplicate images with equal bytes that are embedded at the same time."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from zebra.embed.values import ImageFeatures


class InFlight:
    """Features, by image digest, that are being computed or are not committed yet."""

    def __init__(self, find_existing: Callable[[str], ImageFeatures | None]) -> None:
        """Start empty.

        Args:
            find_existing: Looks up features that were committed before, by digest.
        """
        self._find_existing = find_existing
        self._futures: dict[str, Future[ImageFeatures]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._futures)

    def reserve(self, digest: str) -> tuple[Future[ImageFeatures], bool]:
        """Return the future of an image's features, and whether the caller must compute and set them."""
        with self._lock:
            if digest in self._futures:
                return self._futures[digest], False
            features = self._find_existing(digest)
            if features is not None:
                future: Future[ImageFeatures] = Future()
                future.set_result(features)
                return future, False
            self._futures[digest] = Future()
            return self._futures[digest], True

    def release(self, digest: str) -> None:
        """Forget features that are committed now, or that could not be computed."""
        with self._lock:
            self._futures.pop(digest, None)
