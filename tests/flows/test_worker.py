"""Runs that a killed worker left behind are reported; those that live are left alone."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from uuid import UUID

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.states import Completed, Pending, Running

from flows.worker import report_lost_runs

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow(name="vroom_forecast_materialize")
async def ours() -> None:
    """Stand for a flow of ours."""


@flow(name="somebody_else")
async def not_ours() -> None:
    """Stand for another's."""


async def made(flow_: object, state: State[None], pid: int | None) -> UUID:
    """Make a run in this state, with the process that Prefect knows it by."""
    async with get_client() as client:
        run = await client.create_flow_run(flow_, state=state)  # type: ignore[arg-type]  # one of the two above
        if pid is not None:
            await client.update_flow_run(run.id, infrastructure_pid=str(pid))
        return run.id


async def state_of(run_id: UUID) -> str:
    """Return what Prefect says of it."""
    async with get_client() as client:
        state = (await client.read_flow_run(run_id)).state
        assert state is not None
        return state.type.value


def gone() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


@pytest.mark.parametrize("state", [Running, Pending])
def test_a_run_without_a_process_is_reported_as_crashed(state: Callable[[], State[None]]) -> None:
    run_id = asyncio.run(made(ours, state(), gone()))
    assert run_id in asyncio.run(report_lost_runs())
    assert asyncio.run(state_of(run_id)) == "CRASHED"


def test_a_run_that_lives_or_has_ended_or_is_not_ours_is_left_alone() -> None:
    runs = [
        asyncio.run(made(ours, Running(), os.getpid())),
        asyncio.run(made(ours, Completed(), gone())),
        asyncio.run(made(not_ours, Running(), gone())),
    ]
    assert asyncio.run(report_lost_runs()) == []
    assert [asyncio.run(state_of(run_id)) for run_id in runs] == ["RUNNING", "COMPLETED", "RUNNING"]
