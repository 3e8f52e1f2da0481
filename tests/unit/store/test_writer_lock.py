"""One writer holds the lock, and loses it when it ends."""

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
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_error_names_the_process_that_holds_the_lock(holder, tmp_path):
    with pytest.raises(StoreError, match=rf"{tmp_path} is locked by the writer process {holder.pid}\."):
        WriterLock(tmp_path / "lock").acquire()


def test_a_killed_process_releases_the_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    lock = WriterLock(tmp_path / "lock")
    lock.acquire()
    assert lock.is_held


def test_only_one_object_of_a_process_holds_the_lock(tmp_path):
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    first.acquire()
    first.acquire()
    with pytest.raises(StoreError, match=rf"process {os.getpid()}\."):
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
started, (wait, end) = os.pipe(), os.pipe()
if os.fork() == 0:
    if sys.argv[2] == "held":
        lock.release()
    os.close(end)
    os.write(started[1], b".")
    os.read(wait, 1)  # waits until its parent has ended
    os._exit(0)
os.read(started[0], 1)
if sys.argv[2] == "released":
    lock.release()
try:
    WriterLock(path).acquire()
    print("free")
except StoreError:
    print("taken")
"""


@pytest.mark.parametrize(("state", "expected"), [("released", "free"), ("held", "taken")])
def test_a_forked_worker_neither_keeps_nor_releases_the_lock(tmp_path, state, expected):
    command = [sys.executable, "-c", FORKED, str(tmp_path / "lock"), state]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{expected}\n"
