"""What torchrun says in the environment."""

import pytest

from zebra.distributed import SINGLE_PROCESS, ProcessGroup, world_info_from_env
from zebra.errors import ConfigError

WHOLE = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch, **told):
    for name, value in {**WHOLE, **told}.items():
        monkeypatch.setenv(name, value)


def test_without_a_word_a_process_is_alone(monkeypatch):
    assert world_info_from_env() == SINGLE_PROCESS
    monkeypatch.setenv("RANK", "3")  # as some schedulers set it for single processes
    assert world_info_from_env() == SINGLE_PROCESS


def test_what_torchrun_says_is_taken(monkeypatch):
    say(monkeypatch)
    assert world_info_from_env() == ProcessGroup(3, 4)


@pytest.mark.parametrize("name", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_what_is_missing_is_named(monkeypatch, name):
    say(monkeypatch, **{name: ""})
    with pytest.raises(
        ConfigError, match=f"WORLD_SIZE is set, {name} not; start the processes with torchrun"
    ):
        world_info_from_env()


@pytest.mark.parametrize(("rank", "size"), [("4", "4"), ("-1", "2"), ("one", "2"), ("0", "two")])
def test_numbers_that_make_no_sense_are_refused(monkeypatch, rank, size):
    say(monkeypatch, RANK=rank, WORLD_SIZE=size)
    with pytest.raises(ConfigError, match=r"RANK is .* and WORLD_SIZE"):
        world_info_from_env()


@pytest.mark.parametrize(("items", "size"), [(0, 3), (2, 3), (7, 3), (12, 4)])
def test_shares_in_order_are_all_of_the_items(items, size):
    everything = list(range(items))
    shares = [everything[ProcessGroup(rank, size).local_slice(items)] for rank in range(size)]
    assert [item for share in shares for item in share] == everything
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
