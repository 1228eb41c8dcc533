"""Whatever a flow run is called or says, the pages show it as text."""

import asyncio
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Failed

from tests.ports import free_port
from vroom_features.settings import Settings
from webapp.app import create_app

pytestmark = pytest.mark.usefixtures("prefect_server")

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "\u202egnp.exe",
    "a\r\nSet-Cookie: a=b",
    "[x](javascript:alert(1))",
    "' OR 1=1 --",
)


@flow(name="vroom_forecast_monitor")
async def monitor() -> None:
    """Stand for the flow of this name."""


async def _run_called(payload: str) -> str:
    async with get_client() as client:
        run = await client.create_flow_run(monitor, name=payload, state=Failed(message=payload))
        return str(run.id)


def test_a_hostile_run_is_text_on_the_pages(tmp_path: Path, redis_url: str) -> None:
    for payload in PAYLOADS:
        asyncio.run(_run_called(payload))
    api = get_current_settings().api.url
    assert api is not None
    app = create_app(
        Settings(
            _env_file=None,
            home=tmp_path / "home",
            redis_url=redis_url,
            mlflow_uri=f"http://127.0.0.1:{free_port()}",
            prefect_url=api.removesuffix("/api"),
        )
    )
    try:
        for path in ("/runs", "/"):
            page = app.test_client().get(path).text
            assert "<script>alert" not in page, path
            assert "<img src=x" not in page, path
            assert 'href="javascript:' not in page, path
        shown = app.test_client().get("/runs").text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
        assert "{{7*7}}" in shown
    finally:
        app.extensions["vroom"].close()
