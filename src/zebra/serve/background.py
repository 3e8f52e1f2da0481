"""A slow computation that runs in a background thread while requests wait for it."""

from collections.abc import Callable, Hashable
from threading import Lock, Thread
from typing import Generic, TypeVar

from zebra.errors import ZebraError

T = TypeVar("T")


class BackgroundResult(Generic[T]):
    """The latest result of a computation; one thread at a time computes it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._key: Hashable = None
        self._result: T | None = None
        self._error: ZebraError | None = None
        self._is_running = False

    def get_or_start(self, key: Hashable, compute: Callable[[], T]) -> T | None:
        """Return the result for a key; None while it is computed, which this call starts if necessary.

        Raises:
            ZebraError: The computation failed; the next call starts it again.
        """
        with self._lock:
            error, self._error = self._error, None
            if error is not None:
                raise error
            if self._result is not None and self._key == key:
                return self._result
            if not self._is_running:
                self._is_running = True
                Thread(target=self._run, args=(key, compute), name=self._name, daemon=True).start()
            return None

    def _run(self, key: Hashable, compute: Callable[[], T]) -> None:
        result, error = None, None
        try:
            result = compute()
        except ZebraError as exception:
            error = exception
        finally:
            if result is None and error is None:  # an unexpected exception ends the thread; the log has the traceback
                error = ZebraError(f"failed to compute the {self._name}; see the server log")
            with self._lock:
                self._key, self._result, self._error, self._is_running = key, result, error, False
