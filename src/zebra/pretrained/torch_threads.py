"""Torch's threads and Pillow's warnings while worker threads run a model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def limit_torch_threads(num_workers: int) -> Iterator[None]:
    """Divide torch's threads among the workers, and ignore Pillow's warnings until the block ends.

    Warning filters belong to the process. Decoding changes them, and threads that decode at once may restore them in
    the wrong order, so the filters from before are restored at the end.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(max(1, num_threads // num_workers))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        torch.set_num_threads(num_threads)
