"""Equal bytes that come in at the same time: who was first embeds them, the others wait for the answer."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from zebra.embed.values import Look


class Claims:
    """By digest, the looks that are being made or not written yet."""

    def __init__(self, written: Callable[[str], Look | None]) -> None:
        """Begin without any.

        Args:
            written: Finds a look among those made before.
        """
        self._written = written
        self._open: dict[str, Future[Look]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def claim(self, digest: str) -> tuple[Future[Look], bool]:
        """Return where the look of some bytes is, or will be; and whether it is the caller who has to make it."""
        with self._lock:
            if digest in self._open:
                return self._open[digest], False
            look = self._written(digest)
            if look is not None:
                future: Future[Look] = Future()
                future.set_result(look)
                return future, False
            self._open[digest] = Future()
            return self._open[digest], True

    def release(self, digest: str) -> None:
        """Forget a look: it is written now, or nobody can make it."""
        with self._lock:
            self._open.pop(digest, None)
