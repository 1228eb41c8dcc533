"""Runs that a killed worker left behind are reported; those that live are left alone."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Completed, Pending, Running
from tenacity import Retrying, stop_after_delay, wait_fixed

from flows.up import ROOT
from flows.worker import POOL, report_lost, report_until_ended

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


def another() -> int:
    """Return the id of a process that is not Prefect's, as after a restart of the machine."""
    return os.getpid()


def gone() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


@contextmanager
def living() -> Iterator[subprocess.Popen[str]]:
    """Give a process that lives until it is told to end."""
    command = [sys.executable, "-c", "input()", "-m prefect.engine"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("state", [Running, Pending])
@pytest.mark.parametrize("process", [gone, another, lambda: None], ids=["gone", "another", "none"])
def test_a_run_without_a_process_is_reported_as_crashed(
    state: Callable[[], State[None]], process: Callable[[], int | None]
) -> None:
    run_id = asyncio.run(made(ours, state(), process()))
    assert asyncio.run(report_lost({run_id})) == (set(), {run_id})
    assert asyncio.run(state_of(run_id)) == "CRASHED"


def test_a_run_that_lives_or_has_ended_or_is_not_ours_is_left_alone() -> None:
    with living() as process:
        lives, ended, others = [
            asyncio.run(made(ours, Running(), process.pid)),
            asyncio.run(made(ours, Completed(), gone())),
            asyncio.run(made(not_ours, Running(), gone())),
        ]
        assert asyncio.run(report_lost({lives, ended, others})) == ({lives}, set())
    assert [asyncio.run(state_of(run_id)) for run_id in (lives, ended, others)] == [
        "RUNNING",
        "COMPLETED",
        "RUNNING",
    ]


def test_a_run_that_this_worker_is_about_to_start_is_left_alone() -> None:
    starting = asyncio.run(made(ours, Pending(), None))
    asyncio.run(report_lost(set()))
    assert asyncio.run(state_of(starting)) == "PENDING"


def test_a_run_that_outlives_its_worker_is_reported_when_its_process_ends() -> None:
    async def look_again() -> str:
        with living() as process:
            run_id = await made(ours, Pending(), process.pid)
            seen = []

            async def end_it() -> None:
                seen.append(await state_of(run_id))
                process.kill()
                process.wait()

            await report_until_ended({run_id}, end_it)
            assert seen == ["PENDING", "CRASHED"]
        return await state_of(run_id)

    assert asyncio.run(look_again()) == "CRASHED"


def test_a_new_worker_frees_the_place_of_a_run_that_it_inherits() -> None:
    """The worker itself, as supervisord starts it; it runs on."""
    settings = get_current_settings()
    with httpx.Client(base_url=str(settings.api.url), timeout=30) as api:
        api.post("/work_pools/", json={"name": POOL, "type": "process"}).raise_for_status()
    run_id = asyncio.run(made(ours, Pending(), None))
    environment = settings.to_environment_variables()
    worker = subprocess.Popen(
        [sys.executable, "-m", "flows", "worker"], env=os.environ | environment, cwd=ROOT
    )
    try:
        for attempt in Retrying(stop=stop_after_delay(120), wait=wait_fixed(0.2), reraise=True):
            with attempt:
                assert asyncio.run(state_of(run_id)) == "CRASHED"
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
