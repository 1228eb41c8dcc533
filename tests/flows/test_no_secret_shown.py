"""A flow run's log, artifacts and messages hold no password of an address."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
import redis as redis_py
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from tests.ports import free_port
from tests.promises.system import ROOT
from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from vroom_features.settings import Settings

pytestmark = pytest.mark.usefixtures("prefect_server")

PROGRAM = """
import asyncio, json, os, sys
from flows.materialize import audit_online, seed_source, vroom_forecast_materialize, write_stores
from flows.pipeline import vroom_forecast_pipeline
from flows.training import train_and_register
for each in (audit_online, seed_source, train_and_register, write_stores):
    each.retries = 0
flows = {"materialize": vroom_forecast_materialize, "pipeline": vroom_forecast_pipeline}
for name, environment in json.loads(sys.argv[1]):
    os.environ.update(environment)
    print(asyncio.run(flows[name](return_state=True)).type)
"""


async def kept_by_prefect() -> str:
    """Return every run, task run, artifact and line of log that Prefect has."""
    async with get_client() as client:
        reads = (client.read_flow_runs, client.read_task_runs, client.read_artifacts, client.read_logs)
        return "\n".join([entry.model_dump_json() for read in reads for entry in await read()])


def test_runs_show_no_secret(flow_settings: Settings, redis: redis_py.Redis, mlflow_server: str) -> None:
    redis.acl_setuser(
        USER, enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@all"], keys=["*"], channels=["*"]
    )
    sound = {
        "VROOM_DATABASE_URL": flow_settings.source_database.url,
        "VROOM_OFFLINE_URL": flow_settings.offline_store.url,
        "VROOM_REDIS_URL": flow_settings.redis.url.replace("://", f"://{LOGIN}@"),
        "VROOM_MLFLOW_URI": mlflow_server.replace("://", f"://{LOGIN}@"),
        "VROOM_DATA_DIR": str(ROOT / "data"),
    }
    nobody = f"{LOGIN}@127.0.0.1:{free_port()}"
    runs = (
        ("materialize", sound),
        ("pipeline", sound),
        ("materialize", sound | {"VROOM_DATABASE_URL": f"postgresql://{nobody}/vroom"}),
        ("materialize", sound | {"VROOM_REDIS_URL": f"redis://{nobody}/0"}),
        ("pipeline", sound | {"VROOM_MLFLOW_URI": f"http://{nobody}"}),
        ("pipeline", sound | {"VROOM_OFFLINE_URL": f"memory://{LOGIN}@bucket/vroom"}),
    )
    logged = {"PREFECT_LOGGING_EXTRA_LOGGERS": "httpx", "PREFECT_LOGGING_ROOT_LEVEL": "INFO"}
    environment = os.environ | logged | {"PREFECT_API_URL": str(get_current_settings().api.url)}
    command = [sys.executable, "-c", PROGRAM, json.dumps(runs)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    redis.acl_deluser(USER)
    states, log, kept = done.stdout.splitlines(), done.stderr, asyncio.run(kept_by_prefect())
    assert states == ["StateType.COMPLETED"] * 2 + ["StateType.FAILED"] * 4, log
    assert f"HTTP Request: GET {mlflow_server}/api" in log
    assert f"{mlflow_server}/#/runs/" in kept
    assert_nothing_secret(log)
    assert_nothing_secret(kept)
