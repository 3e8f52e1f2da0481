"""The lock is one writer's, and goes with it."""

import os
import subprocess
import sys

import pytest

from zebra.store import StoreError
from zebra.store.writer_lock import WriterLock


@pytest.fixture
def holder(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from zebra.store.writer_lock import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_comes_second_is_told_the_process_that_was_first(holder, tmp_path):
    with pytest.raises(StoreError, match=f"{tmp_path} is being written to by process {holder.pid};"):
        WriterLock(tmp_path / "lock").acquire()


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    lock = WriterLock(tmp_path / "lock")
    lock.acquire()
    assert lock.is_held


def test_the_lock_is_taken_once_even_within_a_process(tmp_path):
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    first.acquire()
    first.acquire()
    with pytest.raises(StoreError, match=f"process {os.getpid()};"):
        second.acquire()
    first.release()
    second.acquire()
    assert second.is_held and not first.is_held


FORKED = """
import os, sys
from pathlib import Path
from zebra.store import StoreError
from zebra.store.writer_lock import WriterLock

path = Path(sys.argv[1])
lock = WriterLock(path)
lock.acquire()
born, (wait, end) = os.pipe(), os.pipe()
if os.fork() == 0:
    if sys.argv[2] == "held":
        lock.release()
    os.close(end)
    os.write(born[1], b".")
    os.read(wait, 1)  # lives until its parent is gone
    os._exit(0)
os.read(born[0], 1)
if sys.argv[2] == "released":
    lock.release()
try:
    WriterLock(path).acquire()
    print("free")
except StoreError:
    print("taken")
"""


@pytest.mark.parametrize(("state", "expected"), [("released", "free"), ("held", "taken")])
def test_a_forked_worker_neither_keeps_the_lock_nor_frees_it(tmp_path, state, expected):
    command = [sys.executable, "-c", FORKED, str(tmp_path / "lock"), state]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{expected}\n"
