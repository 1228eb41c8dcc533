"""Prefect as `make run` starts it: whom its server answers, and what becomes of runs that are lost."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import psutil
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from flows.local.first_run import create_automation
from flows.local.up import ROOT, child_environment
from tests.flows.sleeper import sleep
from tests.promises.system import wait_until
from tests.whole_system import system_settings
from vroom_features.settings import Settings

POOL = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["pool"]
LOST_AFTER = timedelta(seconds=35)  # a little more than one heartbeat, the most frequent that Prefect sends
REPORTED_WITHIN_S = 120


@contextmanager
def program(name: str, settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    environment = child_environment(settings)
    section = (ROOT / "supervisord.conf").read_text().partition(f"[program:{name}]")[2]
    command = section.partition("command = ")[2].partition("\n")[0]
    filled = command.replace("%(ENV_VROOM_PREFECT_PORT)s", str(settings.prefect_port))
    with subprocess.Popen(filled.split(), cwd=ROOT, env=environment, process_group=0) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Run Prefect's server as `make run` does, with a pool and the automation."""
    settings = system_settings(tmp_path_factory.mktemp("lost") / "var")
    (settings.home / "prefect").mkdir(parents=True)
    api = child_environment(settings)["PREFECT_API_URL"]
    with program("prefect", settings), temporary_settings({PREFECT_API_URL: api}):
        wait_until(lambda: httpx.get(f"{api}/health", timeout=5).is_success, timeout_s=120)
        httpx.post(f"{api}/work_pools/", json={"name": POOL["name"], "type": "process"}).raise_for_status()
        for _ in range(2):  # as at every start
            asyncio.run(create_automation(LOST_AFTER))
        yield settings


async def start_run() -> str:
    async with get_client() as client:
        deployment_id = await client.create_deployment(
            await client.create_flow(sleep),
            "sleeper",
            work_pool_name=POOL["name"],
            job_variables=POOL["job_variables"],
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
            entrypoint="tests/flows/sleeper.py:sleep",
        )
        return str((await client.create_flow_run_from_deployment(deployment_id)).id)


async def start_pending() -> str:
    """Make a run as a worker that was killed at that moment leaves it."""
    async with get_client() as client:
        return str((await client.create_flow_run(sleep, state=Pending())).id)


def read(run_id: str) -> FlowRun:
    async def ask() -> FlowRun:
        async with get_client() as client:
            return await client.read_flow_run(run_id)

    return asyncio.run(ask())


def process_of(run_id: str) -> psutil.Process:
    """Return the process of a run, once Prefect has its heartbeat."""
    events = f"{PREFECT_API_URL.value()}/events/filter"
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run_id}"]},
    }
    wait_until(
        lambda: httpx.post(events, json={"filter": wanted}, timeout=30).raise_for_status().json()["events"],
        timeout_s=120,
    )
    return psutil.Process(int(read(run_id).infrastructure_pid or 0))


def test_lost_runs_are_reported_and_the_living_left_alone(settings: Settings) -> None:
    with program("worker", settings) as worker:
        stuck = asyncio.run(start_pending())
        killed, lives = (asyncio.run(start_run()) for _ in range(2))
        process, living_process = process_of(killed), process_of(lives)
        assert os.getpgid(process.pid) == worker.pid  # so the supervisor ends runs with their worker
        worker.kill()  # it would report its runs itself
        process.kill()
        wait_until(
            lambda: {read(run_id).state_type for run_id in (stuck, killed)} == {StateType.CRASHED},
            timeout_s=REPORTED_WITHIN_S,
        )
        assert read(lives).state_type == StateType.RUNNING
        living_process.kill()


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Host": "localhost:4200", "Origin": "http://localhost:4200"}, None),
        ({"Host": "rebound.example"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_prefect_answers_to_this_machines_names_only(
    settings: Settings, headers: dict[str, str], refused: int | None
) -> None:
    url = f"http://127.0.0.1:{settings.prefect_port}/api/flow_runs/filter"
    assert httpx.post(url, json={}, headers=headers, timeout=30).status_code == (refused or 200)
