"""A Prefect server for the tests of this folder."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="package")
def prefect_server() -> Iterator[None]:
    """Serve Prefect, once: it takes seconds to start."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
