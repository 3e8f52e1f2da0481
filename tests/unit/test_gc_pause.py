"""Pauses of the garbage collector."""

import gc

import pytest

from zebra.gc_pause import pause_gc


@pytest.fixture(autouse=True)
def _enabled():
    gc.enable()
    yield
    gc.enable()


def test_the_collector_runs_again_after_a_pause():
    with pause_gc():
        assert not gc.isenabled()
        with pause_gc():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_runs_again_after_an_error():
    with pytest.raises(ValueError, match="damaged"), pause_gc():
        raise ValueError("damaged")
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    with pause_gc():
        pass
    assert not gc.isenabled()
