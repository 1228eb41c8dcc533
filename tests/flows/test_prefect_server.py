"""Prefect as `make run` starts it: whom its server answers, and what becomes of runs that are lost."""

import asyncio
import os
import shlex
import subprocess
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import psutil
import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from flows.local.lost_runs import create_automation
from flows.local.up import CONFIG, child_environment
from tests.processes import system_settings
from tests.promises.system import ROOT, ask_prefect, wait_until
from vroom_features.settings import Settings

POOL = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["pool"]
LOST_AFTER = timedelta(seconds=50)  # one heartbeat is 30 at least, and more on a busy machine


@flow(name="vroom_forecast_sleeper")
async def sleep() -> None:
    await asyncio.sleep(600)


@contextmanager
def program(name: str, settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    config = RawConfigParser()
    config.read(CONFIG)
    command = config[f"program:{name}"]["command"]
    filled = command.replace("%(ENV_VROOM_PREFECT_PORT)s", str(settings.prefect_port))
    filled = filled.replace("%(here)s", str(CONFIG.parent))
    environment = child_environment(settings)
    with subprocess.Popen(shlex.split(filled), cwd=ROOT, env=environment, process_group=0) as process:
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
        ask("work_pools/", name=POOL["name"], type="process")
        for _ in range(2):  # as at every start
            asyncio.run(create_automation(LOST_AFTER))
        yield settings


def ask(path: str, **body: object) -> Any:  # parsed JSON
    return ask_prefect(f"{PREFECT_API_URL.value()}/{path}", body)


async def start_runs() -> list[str]:
    """Start two runs, and make one as a worker that was killed at that moment leaves it."""
    async with get_client() as client:
        deployment = await client.create_deployment(
            await client.create_flow(sleep),
            "sleeper",
            work_pool_name=POOL["name"],
            job_variables=POOL["job_variables"],
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
            entrypoint="tests/flows/test_prefect_server.py:sleep",
        )
        runs = [await client.create_flow_run_from_deployment(deployment) for _ in range(2)]
        return [str(run.id) for run in (*runs, await client.create_flow_run(sleep, state=Pending()))]


def read(run_id: str) -> Any:  # parsed JSON
    (run,) = ask("flow_runs/filter", flow_runs={"id": {"any_": [run_id]}})
    return run


def process_of(run_id: str) -> psutil.Process:
    """Return the process of a run, once Prefect has its heartbeat."""
    event = {"name": ["prefect.flow-run.heartbeat"]}
    wanted = {"event": event, "resource": {"id": [f"prefect.flow-run.{run_id}"]}}
    wait_until(lambda: ask("events/filter", filter=wanted)["events"], timeout_s=120)
    return psutil.Process(int(read(run_id)["infrastructure_pid"]))


def test_lost_runs_are_reported_and_the_living_left_alone(settings: Settings) -> None:
    with program("worker", settings) as worker:
        killed, lives, stuck = asyncio.run(start_runs())
        process, living_process = process_of(killed), process_of(lives)
        assert os.getpgid(process.pid) == worker.pid  # so the supervisor ends runs with their worker
        worker.kill()  # it would report its runs itself
        process.kill()
        for lost in (stuck, killed):
            wait_until(lambda lost=lost: read(lost)["state_type"] == "CRASHED", timeout_s=120)
        assert read(lives)["state_type"] == "RUNNING"
        living_process.kill()


def test_prefect_answers_to_this_machines_names_only(settings: Settings) -> None:
    url = f"http://127.0.0.1:{settings.prefect_port}/api/flow_runs/filter"
    ours = {"Host": "localhost:4200", "Origin": "http://localhost:4200"}
    foreign = ({"Host": "rebound.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"})
    answers = [httpx.post(url, json={}, headers=ours | each, timeout=30) for each in ({}, *foreign)]
    assert [answer.status_code for answer in answers] == [200, 400, 403, 403]
