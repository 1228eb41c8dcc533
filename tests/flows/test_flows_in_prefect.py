"""Every flow of the model as Prefect runs it, against a Prefect server."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows.materialize import vroom_forecast_materialize
from flows.monitor import check_drift, vroom_forecast_monitor
from flows.pipeline import vroom_forecast_pipeline
from flows.promotion import compare_and_promote, vroom_forecast_promotion
from flows.rollback import roll_back, vroom_forecast_rollback
from flows.training import train_and_register, vroom_forecast_training
from tests.flows.conftest import run
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import seed_with_booked_arrivals
from tests.vroom_model.champions import AS_OF
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.errors import ReasonError, RollbackError

pytestmark = pytest.mark.usefixtures("prefect_server")
SAMPLE = Path(__file__).parents[2] / "data"
MODEL_TASKS = (train_and_register, compare_and_promote, roll_back, check_drift)
MODEL_FLOWS = (
    vroom_forecast_training,
    vroom_forecast_promotion,
    vroom_forecast_pipeline,
    vroom_forecast_rollback,
    vroom_forecast_monitor,
)


@pytest.fixture
def system(flow_settings: Settings) -> Settings:
    """Return the settings of a system with the sample fleet."""
    with closing(SourceStore.open(flow_settings.source_database)) as source:
        seed(source, SAMPLE)
        materialize(source, OfflineStore(flow_settings.offline_store), None, as_of=AS_OF)
    return flow_settings


def artifact(key: str) -> str:
    """Return the last artifact under a key."""
    found = asyncio.run(Artifact.aget(key))
    assert found is not None
    return str(found.data)


def test_a_model_is_trained_promoted_forced_rolled_back_and_watched(system: Settings) -> None:
    trained = run(vroom_forecast_training)
    assert trained.is_completed()
    assert "registered version 1: MAE" in str(trained.message)
    assert "| vehicles | 1000 |" in artifact("training")
    assert "unchanged inputs, so still version 1" in str(run(vroom_forecast_training).message)

    promoted = run(vroom_forecast_promotion)
    assert "version 1 is better than the median" in str(promoted.message)
    assert "| promoted | True |" in artifact("promotion")
    assert str(promoted.message) in artifact("promotion")

    refused = run(vroom_forecast_pipeline, seed=1)
    assert refused.is_completed()
    assert "version 2" in str(refused.message)
    assert "| promoted | False |" in artifact("promotion")
    assert artifact("pipeline").endswith(str(refused.message))

    silent = run(vroom_forecast_promotion, version=2, force=True)
    assert silent.is_failed()
    with pytest.raises(ReasonError, match="needs a written reason"):
        asyncio.run(silent.aresult())
    forced = run(vroom_forecast_promotion, version=2, force=True, reason="the fair begins")
    assert "promoted by force: the fair begins" in str(forced.message)
    assert "| forced | True |" in artifact("promotion")

    back = run(vroom_forecast_rollback, reason="a drill")
    assert back.message == "version 1 is champion again, instead of 2: a drill"
    assert str(back.message) in artifact("rollback")
    further = run(vroom_forecast_rollback)
    assert further.is_failed()
    assert further.message == "there is no earlier champion to go back to"
    with pytest.raises(RollbackError, match="no earlier champion"):
        asyncio.run(further.aresult())

    watched = run(vroom_forecast_monitor)
    assert "0 new arrivals are too few" in str(watched.message)
    assert "| version | 1 |" in artifact("monitor")


def test_vehicles_of_the_web_form_that_were_booked_stop_no_pipeline_and_are_said_to_be_left_out(
    flow_settings: Settings, tmp_path: Path
) -> None:
    with closing(SourceStore.open(flow_settings.source_database)) as source:
        seed_with_booked_arrivals(source, tmp_path / "csv")
        materialize(source, OfflineStore(flow_settings.offline_store), None, as_of=AS_OF)
    left_out = "800 booked vehicles from the web form left out"
    trained = run(vroom_forecast_training)
    assert f"on 1,000 vehicles; {left_out}" in str(trained.message)
    assert "| vehicles | 1000 |" in artifact("training")
    assert "| booked vehicles from the web form left out | 800 |" in artifact("training")
    completed = run(vroom_forecast_pipeline)
    assert completed.is_completed(), completed.message
    assert str(completed.message).endswith(f"; {left_out}")
    assert "| num vehicles | 1000 |" in artifact("promotion")
    assert "| booked vehicles from the web form left out | 800 |" in artifact("promotion")
    watched = run(vroom_forecast_monitor)
    assert str(watched.message).endswith(f"on 1,000 vehicles; {left_out}")
    assert "| outcomes: num vehicles | 1000 |" in artifact("monitor")
    assert "| booked vehicles from the web form left out | 800 |" in artifact("monitor")


def test_a_fleet_of_other_files_is_kept_until_the_sample_is_asked_for(
    flow_settings: Settings, tmp_path: Path
) -> None:
    folder = write_csvs(tmp_path / "mine")
    assert "2 added" in str(run(vroom_forecast_materialize, data_dir=str(folder)).message)
    kept = str(run(vroom_forecast_materialize).message)
    assert kept.startswith(
        "the fleet is kept, for the sample replaces it only by `python -m vroom_features seed"
    )
    assert kept.endswith("2 fleet vehicles, 0 new arrivals")
    assert "| read from | nothing |" in artifact("materialize")
    refused = run(vroom_forecast_materialize, data_dir=str(SAMPLE))
    assert refused.is_failed()
    assert "lack 2 of the 2 reservations in the database" in str(refused.message)
    allowed = run(vroom_forecast_materialize, data_dir=str(SAMPLE), allow_removals=True)
    assert "998 added, 2 updated" in str(allowed.message)


def test_a_run_says_what_was_kept_and_what_was_set_aside(flow_settings: Settings, tmp_path: Path) -> None:
    lines = [vehicle_line(number) for number in range(1, 121)]
    booked = booking_lines([(number, 1) for number in range(1, 121)])
    bad = write_csvs(tmp_path / "bad", [*lines[:-1], vehicle_line(120, actual_price="")], booked)
    first = run(vroom_forecast_materialize, data_dir=str(bad))
    assert "; 1 reservation set aside until the row of their vehicle is right" in str(first.message)
    assert "| reservations set aside | 1 |" in artifact("materialize")
    run(vroom_forecast_materialize, data_dir=str(write_csvs(tmp_path / "good", lines, booked)))
    booked[0] = "1,soon"
    bad = write_csvs(tmp_path / "bad", [*lines[:-1], vehicle_line(120, actual_price="")], booked)
    second = run(vroom_forecast_materialize, data_dir=str(bad))
    assert "; 1 vehicle and 1 reservation kept because of bad rows" in str(second.message)
    assert "| vehicles kept | 1 |" in artifact("materialize")


def test_a_refusal_is_not_tried_again(system: Settings) -> None:
    (Path(system.offline_store.url) / "current.json").unlink()
    state = run(vroom_forecast_training)
    assert state.is_failed()
    assert "snapshot" in str(state.message)


def test_a_refused_file_is_not_tried_again(flow_settings: Settings, tmp_path: Path) -> None:
    for name in ("vehicles.csv", "reservations.csv"):
        (tmp_path / name).write_text("no,such,columns\n1,2,3\n")
    state = run(vroom_forecast_materialize, data_dir=str(tmp_path))
    assert state.is_failed()
    assert asyncio.run(_attempts(state)) == {"seed_source": 1}


async def _attempts(state: State[Any]) -> dict[str, int]:
    """Return how often each task of a flow run was tried."""
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        tried = await client.read_task_runs(flow_run_filter=of_this_run)
    return {found.task_key.partition("-")[0]: found.run_count for found in tried}


def test_every_flow_and_task_has_a_time_limit_and_only_a_rollback_is_never_repeated() -> None:
    assert all(part.timeout_seconds for part in (*MODEL_FLOWS, *MODEL_TASKS))
    assert {task.name for task in MODEL_TASKS if not task.retries} == {"roll_back"}
    assert not any(flow.retries for flow in MODEL_FLOWS)
