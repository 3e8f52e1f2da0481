"""A clean stop: Ctrl-C or SIGTERM in, a flag out; a second one ends the process at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked the run to stop."""

    is_requested: bool = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a flag; a second one leaves at once with the status 128 + its number.

    Python runs a signal's handler between two of its own instructions, and one step may be a minute inside of torch.
    So the handlers do nothing, and a thread reads the numbers that the interpreter writes into a pipe the moment a
    signal comes in. Outside of the main thread, where handlers cannot be set, nothing is watched.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_read_signals, args=(reading, stop), name="signals", daemon=True).start()
    handlers = {number: signal.signal(number, lambda _number, _frame: None) for number in STOP_SIGNALS}
    pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)  # which ends the thread


def _read_signals(read_fd: int, stop_request: StopRequest) -> None:
    while number := os.read(read_fd, 1):
        if number[0] not in STOP_SIGNALS:  # others with a handler, SIGCHLD for instance, are written too
            continue
        if stop_request.is_requested:
            os._exit(128 + number[0])
        stop_request.is_requested = True
    os.close(read_fd)
