"""Jobs in threads of this process."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from zebra.engines.engine import Item, Result


class ThreadEngine:
    """Runs jobs in threads of this process."""

    is_distributed = False

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
        """Yield the result for each item, as `Engine.map`."""
        if self.num_threads == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(self.num_threads) as pool:
            futures: deque[Future[Result]] = deque()
            try:
                for item in items:
                    futures.append(pool.submit(function, item))
                    if len(futures) > 2 * self.num_threads:
                        yield futures.popleft().result()
                while futures:
                    yield futures.popleft().result()
            finally:
                for future in futures:  # after an exception or an early end
                    future.cancel()
