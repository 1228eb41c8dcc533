"""Runs that the web app asks a real Prefect server for."""

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Scheduled

from webapp.prefect_client import PrefectClient, RunNotFoundError
from webapp.services import now

pytestmark = pytest.mark.usefixtures("prefect_server")
ACTION = "monitor"
NAME = "vroom_forecast_monitor"


@flow(name=NAME)
async def ours() -> None:
    """Stand for a flow of ours."""


async def deployed() -> None:
    """Let runs of it be asked for by name."""
    async with get_client() as client:
        await client.create_deployment(await client.create_flow(ours), NAME)


@pytest.fixture
def prefect_url() -> str:
    """Return where the server is, with one deployment."""
    asyncio.run(deployed())
    return str(get_current_settings().api.url).removesuffix("/api")


@pytest.fixture
def workflows(prefect_url: str) -> Iterator[PrefectClient]:
    """Return the web app's way to it."""
    opened = PrefectClient(prefect_url)
    yield opened
    opened.close()


def test_all_who_ask_at_once_get_the_same_run(workflows: PrefectClient) -> None:
    with ThreadPoolExecutor(8) as together:
        runs = list(together.map(lambda _: workflows.start(ACTION), range(32)))
    assert len({run.id for run in runs}) == 1
    assert runs[0] in workflows.recent(action=ACTION)


def test_a_run_that_is_scheduled_for_later_holds_nobody_up(workflows: PrefectClient) -> None:
    async def plan() -> str:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(f"{NAME}/{NAME}")
            tomorrow = Scheduled(scheduled_time=now() + timedelta(days=1))
            return str((await client.create_flow_run_from_deployment(deployment.id, state=tomorrow)).id)

    planned = asyncio.run(plan())
    started = workflows.start(ACTION)
    assert started.id != planned
    assert planned not in {run.id for run in workflows.recent(action=ACTION)}
    assert workflows.latest([ACTION])[ACTION].id == started.id
    assert workflows.start(ACTION).id == started.id


def test_a_run_that_is_not_there_is_told_from_a_prefect_that_is_away(workflows: PrefectClient) -> None:
    with pytest.raises(RunNotFoundError, match="Prefect has no run"):
        workflows.run(str(uuid.uuid4()))
