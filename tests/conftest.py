"""What every test relies on: indexes of data sets go to a folder of the test session, never to the user's cache."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEBRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
