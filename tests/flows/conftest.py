"""A Prefect server for the tests of this folder, and settings as a flow finds them."""

import asyncio
import gc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.logging.handlers import APILogHandler
from prefect.testing.utilities import prefect_test_harness
from tenacity import wait_none

from tests.flows.receiver import Receiver, receiving
from vroom_features.settings import Settings
from vroom_model import webhook

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let Prefect leave connections to the collector, whichever test runs when it comes by."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(scope="package")
def prefect_server() -> Iterator[None]:
    """Serve Prefect, once: it takes seconds to start."""
    with prefect_test_harness(server_startup_timeout=240):
        yield
    gc.collect()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Receive what is posted to a webhook, and be asked again without a pause."""
    monkeypatch.setattr(webhook, "WAIT", wait_none())
    with receiving() as found:
        yield found


@pytest.fixture
def flow_settings(
    tmp_path: Path, mlflow_server: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Return the settings of an empty system, which flows read from the environment."""
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    monkeypatch.setenv("VROOM_MLFLOW_URI", mlflow_server)
    monkeypatch.setenv("VROOM_REDIS_URL", redis_url)
    monkeypatch.setenv("VROOM_MODEL_NAME", f"vroom-{uuid.uuid4().hex[:8]}")
    return Settings()


def run(flow: Any, **parameters: Any) -> State[Any]:  # each flow has its own parameters and result
    """Run a flow and return its final state."""
    state: State[Any] = asyncio.run(flow(**parameters, return_state=True))
    return state


def log_of(state: State[Any]) -> str:
    """Return what Prefect keeps of a run's log."""

    async def read() -> str:
        await APILogHandler.aflush()
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            return "\n".join(line.message for line in await client.read_logs(wanted))

    return asyncio.run(read())
