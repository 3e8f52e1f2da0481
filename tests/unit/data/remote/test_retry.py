"""Requests are retried with exponential back-off; permanent errors are raised at once."""

import random

import pytest

from zebra.data.remote import retry
from zebra.data.remote.object_store import BadResponse, NonRetryableError, RangeNotSupported
from zebra.data.remote.retry import RetryingClient
from zebra.errors import DataError


class FailingStore:
    """A store that raises the given errors, then responds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def get(self, url: str) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        return b"at last"


@pytest.fixture
def send_request(monkeypatch: pytest.MonkeyPatch):
    """A function from errors to the response after them; `send_request.waits` are the waits between tries."""
    waits: list[float] = []

    def send_request(*errors: Exception) -> bytes:
        store = FailingStore(*errors)
        monkeypatch.setattr(retry, "open_object_store", lambda url: store)
        monkeypatch.setattr(retry.time, "sleep", waits.append)
        return RetryingClient("s3://b/x", None).call_with_retries("s3://b/x", lambda store: store.get("s3://b/x"))

    send_request.waits = waits
    return send_request


class LibraryError(Exception):
    """An error of a store's library."""


class NoCredentialsError(Exception):
    """As in botocore, where it is no OSError."""


class StatusError(OSError):
    """An error with a response, as in huggingface_hub."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = type("Response", (), {"status_code": status})


RETRYABLE = [BadResponse("x"), TimeoutError(), ConnectionResetError(), EOFError(), LibraryError("x"), StatusError(503)]
NON_RETRYABLE = [
    NonRetryableError("x"),
    StatusError(401),
    NoCredentialsError("x"),
    TypeError("x"),
    IsADirectoryError("x"),
]


@pytest.mark.parametrize("error", RETRYABLE, ids=repr)
def test_retryable_errors_are_retried(send_request, error: Exception) -> None:
    assert send_request(error, error) == b"at last"
    assert len(send_request.waits) == 2


def test_an_ignored_range_is_retried_unless_all_tries_ignore_it(send_request) -> None:
    assert send_request(BadResponse("x"), BadResponse("x"), RangeNotSupported("x")) == b"at last"
    with pytest.raises(DataError, match="cannot be read by byte ranges"):
        send_request(*[RangeNotSupported("x")] * 3)


@pytest.mark.parametrize("error", NON_RETRYABLE, ids=repr)
def test_other_errors_are_raised_at_once(send_request, error: Exception) -> None:
    with pytest.raises(DataError, match=r"s3://b/x cannot be read: "):
        send_request(error)
    assert send_request.waits == []


def test_waits_double_with_jitter_and_change_no_other_draws(send_request) -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with pytest.warns(UserWarning, match="failed 4 times"):
        send_request(*[BadResponse("x")] * 7)
    assert random.random() == expected
    ratios = [wait / (0.25 * 2**n) for n, wait in enumerate(send_request.waits)]
    assert all(0.5 <= ratio <= 1.5 for ratio in ratios)
    assert len({round(ratio, 6) for ratio in ratios}) == 7
