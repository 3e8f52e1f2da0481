"""Equal bytes that come in at the same time: who was first embeds them, the others wait for the answer."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from zebra.embed.values import ImageFeatures


class InFlight:
    """By digest, the looks that are being made or not written yet."""

    def __init__(self, find_existing: Callable[[str], ImageFeatures | None]) -> None:
        """Begin without any.

        Args:
            find_existing: Finds a look among those made before.
        """
        self._find_existing = find_existing
        self._futures: dict[str, Future[ImageFeatures]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._futures)

    def reserve(self, digest: str) -> tuple[Future[ImageFeatures], bool]:
        """Return where the look of some bytes is, or will be; and whether it is the caller who has to make it."""
        with self._lock:
            if digest in self._futures:
                return self._futures[digest], False
            look = self._find_existing(digest)
            if look is not None:
                future: Future[ImageFeatures] = Future()
                future.set_result(look)
                return future, False
            self._futures[digest] = Future()
            return self._futures[digest], True

    def release(self, digest: str) -> None:
        """Forget a look: it is written now, or nobody can make it."""
        with self._lock:
            self._futures.pop(digest, None)
