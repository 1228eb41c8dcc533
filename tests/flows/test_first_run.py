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
from tests.vroom_features.files import write_csvs
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.settings import Settings

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings(
        "ignore:unclosed transport:ResourceWarning"
    ),  # Prefect's, of a deployment's run
]
SAMPLE = Path(__file__).parents[2] / "data"


async def parameters_asked_for(settings: Settings) -> dict[str, Any]:
    """Ask for the main job, and return the parameters of its first run; nobody is there to run it."""
    async with get_client() as client:
        flow_id = await client.create_flow(vroom_forecast_materialize)
        await client.create_deployment(flow_id, first_run.STEPS[0])
        assert not await first_run.first_run(settings, Console(quiet=True))
        (newest,) = await client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    return newest.parameters


@pytest.mark.parametrize(
    ("seeded", "is_named", "expected"),
    [
        ("the sample", True, {"allow_removals": True}),
        ("the sample", False, {}),
        ("another fleet", True, {}),
    ],
)
def test_only_a_named_folder_replaces_the_sample(
    flow_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seeded: str,
    is_named: bool,
    expected: dict[str, bool],
) -> None:
    monkeypatch.setattr(first_run, "STEP_TIMEOUT_S", 0)
    mine = write_csvs(tmp_path / "mine")
    with closing(SourceStore.open(flow_settings.source_database)) as source:
        seed(source, SAMPLE if seeded == "the sample" else mine)
    if is_named:
        monkeypatch.setenv("VROOM_DATA_DIR", str(mine))
    assert asyncio.run(parameters_asked_for(Settings())) == expected
