"""The soak test tells growth from warm-up."""

import pytest


@pytest.fixture
def soak(script):
    return script("soak")


def rows(values):
    return [{"server": {"mib": value}} for value in values]


def test_memory_that_only_grows_during_the_warm_up_has_not_grown(soak):
    assert soak.growth_percent(rows([100, 200, *[400] * 8]), "server", "mib") == 0.0


def test_memory_that_keeps_growing_is_compared_with_the_end_of_the_warm_up(soak):
    assert soak.growth_percent(rows(range(100, 200, 10)), "server", "mib") == pytest.approx(58.3)


def test_samples_after_the_death_of_a_process_are_left_out(soak):
    samples = [*rows([100] * 5), {}, {}]
    assert soak.growth_percent(samples, "server", "mib") == 0.0


def test_unexpected_statuses_are_counted_with_an_example(soak):
    responses = soak.Responses(0.0)
    responses.add("search", 200, 0.1, b"{}")
    responses.add("search", 503, 0.1, b'{"error": {}}')
    assert dict(responses.statuses) == {"200": 1, "503": 1}
    assert responses.errors == ['search: 503 {"error": {}}']
