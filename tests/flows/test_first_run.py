"""What `make run` asks Prefect for once the services are up."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from rich.console import Console

from flows.local import first_run
from flows.materialize import vroom_forecast_materialize
from tests.snapshots import SAMPLE
from tests.vroom_features.files import write_csvs
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.settings import Settings

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),  # Prefect's
]


async def parameters_asked_for() -> dict[str, Any]:
    """Return the parameters of the main job's first run; nobody is there to run it."""
    async with get_client() as client:
        flow = await client.create_flow(vroom_forecast_materialize)
        await client.create_deployment(flow, first_run.STEPS[0])
        assert not await first_run.first_run(Settings(), Console(quiet=True))
        (newest,) = await client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    return newest.parameters


def test_only_a_named_folder_replaces_the_sample(
    flow_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_run, "STEP_TIMEOUT_S", 0)
    mine = write_csvs(tmp_path / "mine")
    with closing(SourceStore.open(flow_settings.source_database)) as source:
        seed(source, SAMPLE)
        assert asyncio.run(parameters_asked_for()) == {}
        monkeypatch.setenv("VROOM_DATA_DIR", str(mine))
        assert asyncio.run(parameters_asked_for()) == {"allow_removals": True}
        seed(source, mine, allow_removals=True)
        assert asyncio.run(parameters_asked_for()) == {}
