"""Torch's threads and Pillow's warnings while worker threads run a model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zebra.pretrained.shared_cores import share_cores


@contextmanager
def limit_torch_threads(num_workers: int) -> Iterator[None]:
    """Divide torch's threads among the workers, share the cores, and ignore Pillow's warnings until the block ends.

    The number of threads follows the limit of a container, and they do not spin beside other processes
    (`share_cores`).

    Warning filters belong to the process. Decoding changes them, and threads that decode at once may restore them in
    the wrong order, so the filters from before are restored at the end.
    """
    with share_cores(), warnings.catch_warnings():
        torch.set_num_threads(max(1, torch.get_num_threads() // num_workers))
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
