"""A Prefect server for the tests of this folder."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let Prefect leave sockets to the collector, whichever test runs when it comes by."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))


@pytest.fixture(scope="package")
def prefect_server() -> Iterator[None]:
    """Serve Prefect, once: it takes seconds to start."""
    with prefect_test_harness(server_startup_timeout=240):
        yield
    gc.collect()
