"""Runs that the web app asks a real Prefect server for, and shows as text whatever they are called."""

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Failed, Scheduled
from tenacity import stop_after_delay

from vroom_features.settings import Settings
from webapp.app import create_app
from webapp.prefect_client import PrefectClient, RunNotFoundError
from webapp.services import now

RUN_FAILED = "The last run of monitor failed"
pytestmark = pytest.mark.usefixtures("prefect_server")
ACTION = "monitor"
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "a\r\nSet-Cookie: a=b",
    "[x](javascript:alert(1))",
)


@flow(name="vroom_forecast_monitor")
async def ours() -> None: ...


def prefect_url() -> str:
    return str(get_current_settings().api.url).removesuffix("/api")


@pytest.fixture
def workflows(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectClient]:
    """Return the web app's client, with one deployment on the server."""

    async def deploy() -> None:
        async with get_client() as client:
            await client.create_deployment(await client.create_flow(ours), ours.name, tags=["vroom"])

    asyncio.run(deploy())
    # SQLite serves one of many at a time, which takes a slow machine longer than an operator waits.
    monkeypatch.setattr(PrefectClient._call.retry, "stop", stop_after_delay(60))
    with closing(PrefectClient(prefect_url(), timeout_s=60)) as client:
        yield client


def test_all_who_ask_at_once_get_the_same_run(workflows: PrefectClient) -> None:
    with ThreadPoolExecutor(8) as together:
        runs = list(together.map(lambda _: workflows.start(ACTION), range(32)))
    assert len({run.id for run in runs}) == 1
    assert runs[0] in workflows.recent(action=ACTION)


def test_a_run_has_the_tags_of_its_deployment_and_that_of_the_web_app(workflows: PrefectClient) -> None:
    async def tags() -> list[str]:
        async with get_client() as client:
            return (await client.read_flow_run(uuid.UUID(workflows.start(ACTION).id))).tags

    assert set(asyncio.run(tags())) == {"vroom", "web"}


def test_a_run_that_is_scheduled_for_later_holds_nobody_up(workflows: PrefectClient) -> None:
    async def plan() -> str:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(f"{ours.name}/{ours.name}")
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


def test_a_hostile_run_is_text_on_the_pages(tmp_path: Path, redis_url: str) -> None:
    async def make_runs() -> None:
        async with get_client() as client:
            for payload in PAYLOADS:
                await client.create_flow_run(ours, name=payload, state=Failed(message=payload))

    asyncio.run(make_runs())
    services = {"redis_url": redis_url, "mlflow_uri": "http://127.0.0.1:9", "prefect_url": prefect_url()}
    app = create_app(Settings(_env_file=None, home=tmp_path / "home", **services))
    with closing(app.extensions["vroom"]) as found:
        found.alerts.check(found)
        assert RUN_FAILED in [alert.text for alert in found.alerts.current if alert.kind == "run"]
        runs, start = (app.test_client().get(path).text for path in ("/runs", "/"))
    for active in ("<script>alert", "<img src=x", 'href="javascript:'):
        assert active not in runs + start
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in runs
    assert "{{7*7}}" in runs
