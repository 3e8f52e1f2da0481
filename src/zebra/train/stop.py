"""Graceful stop on SIGINT or SIGTERM; a second signal ends the process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Set an event at the first SIGINT or SIGTERM; exit at the second with status 128 + signal number.

    Python runs a signal handler only between two of its own instructions, and one step may spend a minute inside
    torch. So the handlers do nothing, and a thread reads the signal numbers from a pipe, which the interpreter writes
    at once. Handlers can only be set in the main thread; in other threads, signals have no effect here.
    """
    stop_request = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop_request
        return
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    threading.Thread(target=_read_signals, args=(read_fd, stop_request), name="signals", daemon=True).start()
    old_handlers = {number: signal.signal(number, lambda _number, _frame: None) for number in STOP_SIGNALS}
    old_wakeup_fd = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    try:
        yield stop_request
    finally:
        signal.set_wakeup_fd(old_wakeup_fd)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        os.close(write_fd)  # this ends the thread


def _read_signals(read_fd: int, stop_request: threading.Event) -> None:
    while number := os.read(read_fd, 1):
        if number[0] not in STOP_SIGNALS:  # the pipe gets all signals that have a handler, for instance SIGCHLD
            continue
        if stop_request.is_set():
            os._exit(128 + number[0])
        stop_request.set()
    os.close(read_fd)
