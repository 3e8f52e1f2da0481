"""Stop on signals: the first requests a stop, the second forces it, whatever the process does."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from zebra.train.stop import stop_on_signals

BUSY = """
import sys, time, torch
from zebra.train.stop import stop_on_signals
with stop_on_signals() as stop:
    print("ready", flush=True)
    if sys.argv[1] == "in torch":   # one torch call, as long as a slow step
        torch.set_num_threads(1)
        a = torch.ones(9000, 9000)
        a @ a @ a @ a
    else:
        time.sleep(60)
"""


@pytest.fixture
def check_handlers():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_sets_the_flag_and_nothing_else(check_handlers, number):
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while not stop.is_set() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert stop.is_set()


def test_other_signals_with_a_handler_do_not_count(check_handlers):
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_run_can_start_outside_the_main_thread():
    requested = []

    def body():
        with stop_on_signals() as stop:
            requested.append(stop.is_set())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert requested == [False]


@pytest.mark.parametrize("where", ["in torch", "asleep"])
def test_r7_a_second_signal_ends_the_process_within_two_seconds_even_in_one_long_call(where):
    process = subprocess.Popen([sys.executable, "-c", BUSY, where], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=2) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.stdout.close()
