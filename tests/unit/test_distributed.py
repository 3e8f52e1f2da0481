"""ProcessGroup, and rank and world size from torchrun's environment variables."""

import pytest

from zebra.distributed import SINGLE_PROCESS, ProcessGroup, world_info_from_env
from zebra.errors import ConfigError

TORCHRUN_ENV = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def clean_env(monkeypatch):
    for name in TORCHRUN_ENV:
        monkeypatch.delenv(name, raising=False)


def set_env(monkeypatch, **changes):
    for name, value in {**TORCHRUN_ENV, **changes}.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_there_is_a_single_process(monkeypatch):
    assert world_info_from_env() == SINGLE_PROCESS
    monkeypatch.setenv("RANK", "3")  # some schedulers set RANK for single processes
    assert world_info_from_env() == SINGLE_PROCESS


def test_rank_and_world_size_come_from_torchrun(monkeypatch):
    set_env(monkeypatch)
    assert world_info_from_env() == ProcessGroup(3, 4)


@pytest.mark.parametrize("name", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_missing_variable_is_named_in_the_error(monkeypatch, name):
    set_env(monkeypatch, **{name: ""})
    with pytest.raises(ConfigError, match=f"WORLD_SIZE is set without {name}; start the processes with torchrun"):
        world_info_from_env()


@pytest.mark.parametrize(("rank", "world_size"), [("4", "4"), ("-1", "2"), ("one", "2"), ("0", "two")])
def test_invalid_ranks_are_refused(monkeypatch, rank, world_size):
    set_env(monkeypatch, RANK=rank, WORLD_SIZE=world_size)
    with pytest.raises(ConfigError, match=r"RANK must be an integer in .* got RANK="):
        world_info_from_env()


@pytest.mark.parametrize(("num_items", "world_size"), [(0, 3), (2, 3), (7, 3), (12, 4)])
def test_local_slices_of_all_ranks_cover_all_items(num_items, world_size):
    items = list(range(num_items))
    shares = [items[ProcessGroup(rank, world_size).local_slice(num_items)] for rank in range(world_size)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
