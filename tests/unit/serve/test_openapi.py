"""Fuzz tests: valid and invalid requests get responses that the OpenAPI document describes, never a 500."""

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from zebra.config.serve import ServeConfig

from .conftest import serve_in_thread

CHECK_NAMES = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]


@pytest.fixture(scope="module")
def url(model, store):
    """Return the URL of a server with the store, in a thread of this process."""
    with serve_in_thread(ServeConfig(model=str(model), store=str(store))) as url:
        yield url


def fuzz(url, examples):
    load_all_checks()
    checks = CHECKS.get_by_names(CHECK_NAMES)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in GenerationMode:

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case):
                case.call_and_validate(checks=checks)

            with suppress(Unsatisfiable):  # a route without parameters has no invalid requests
                send()


def test_a_few_requests_of_each_route_are_answered_as_described(url):
    fuzz(url, examples=5)


@pytest.mark.slow
def test_many_requests_of_each_route_are_answered_as_described(url):
    fuzz(url, examples=300)
