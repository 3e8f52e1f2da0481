"""Settings of glibc's malloc for a process with many threads."""

import ctypes

# Parameters of mallopt, from malloc.h
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
MAX_ARENAS = 2
MMAP_THRESHOLD_BYTES = 2**20


def limit_arenas() -> None:
    """Share two arenas between all threads.

    By default each thread gets an arena, up to eight per core, and the free memory of one is of no use to the others.
    C libraries other than glibc have no mallopt and keep their defaults.
    """
    _set_option(M_ARENA_MAX, MAX_ARENAS)


def release_large_blocks() -> None:
    """Return blocks of a megabyte or more to the system as soon as they are freed.

    By default this size grows to 32 MiB with use, and a changed store is read into blocks of megabytes. A model needs
    the default: its activations have that size, and each new block costs page faults.
    """
    _set_option(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def _set_option(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)
