"""Every flow as Prefect runs it, against a Prefect server."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from prefect import Flow, State, Task
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun

from flows import materialize as materialize_flows
from flows import monitor, pipeline, promotion, rollback, training
from flows.materialize import vroom_forecast_materialize
from flows.monitor import vroom_forecast_monitor
from flows.pipeline import vroom_forecast_pipeline
from flows.promotion import vroom_forecast_promotion
from flows.rollback import vroom_forecast_rollback
from flows.training import vroom_forecast_training
from tests.flows.conftest import run
from tests.promises.system import wait_until
from tests.snapshots import SAMPLE
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import seed_with_booked_arrivals
from tests.vroom_model.champions import AS_OF
from vroom_features.database.vehicles import SourceStore
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.errors import ReasonError, RollbackError

pytestmark = pytest.mark.usefixtures("prefect_server")
LEFT_OUT = "800 booked vehicles from the web form left out"


def artifact(key: str) -> str:
    found = asyncio.run(Artifact.aget(key))
    assert found is not None
    return str(found.data)


def test_a_model_is_trained_promoted_forced_rolled_back_and_monitored(
    flow_settings: Settings, tmp_path: Path
) -> None:
    with closing(SourceStore.open(flow_settings.source_database)) as source:
        seed_with_booked_arrivals(source, tmp_path / "csv")
        materialize(source, OfflineStore(flow_settings.offline_store), None, now=AS_OF)

    promoted = run(vroom_forecast_pipeline)
    assert promoted.is_completed(), promoted.message
    assert "version 1 is better than the mean" in str(promoted.message)
    assert str(promoted.message).endswith(f"; {LEFT_OUT}")
    assert artifact("pipeline").endswith(str(promoted.message))
    for key, row in (("training", "vehicles"), ("promotion", "num vehicles")):
        assert f"| {row} | 1000 |" in artifact(key)
        assert "| booked vehicles from the web form left out | 800 |" in artifact(key)
    assert "| promoted | True |" in artifact("promotion")

    trained = run(vroom_forecast_training, seed=1)
    assert "registered version 2: MAE" in str(trained.message)
    assert f"on 1,000 vehicles; {LEFT_OUT}" in str(trained.message)
    refused = run(vroom_forecast_promotion)
    assert refused.is_completed()
    assert "version 2" in str(refused.message)
    assert "| promoted | False |" in artifact("promotion")

    silent = run(vroom_forecast_promotion, version=2, force=True)
    assert silent.is_failed()
    with pytest.raises(ReasonError, match="needs a written reason"):
        asyncio.run(silent.aresult())
    assert attempts(silent) == {"compare_and_promote": 1}
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

    monitored = run(vroom_forecast_monitor)
    assert "0 new arrivals are too few" in str(monitored.message)
    assert str(monitored.message).endswith(f"on 1,000 vehicles; {LEFT_OUT}")
    for row in ("| version | 1 |", "| outcomes: num vehicles | 1000 |"):
        assert row in artifact("monitor")


def test_a_fleet_is_materialized_and_the_run_reports_what_was_kept_and_set_aside(
    flow_settings: Settings, tmp_path: Path
) -> None:
    lines = [vehicle_line(number) for number in range(1, 301)]
    booked = booking_lines([(number, 1) for number in range(1, 302)])
    mine = str(write_csvs(tmp_path / "mine", lines, booked[:-1]))
    assert "300 added" in str(run(vroom_forecast_materialize, data_dir=mine).message)

    kept = str(run(vroom_forecast_materialize).message)  # nobody asked for the sample
    assert kept.startswith(
        "the fleet is kept, for the sample replaces it only by `python -m vroom_features seed"
    )
    assert kept.endswith("300 fleet vehicles, 0 new arrivals")
    assert "| read from | nothing |" in artifact("materialize")

    lines[-1:] = [vehicle_line(300, actual_price=""), vehicle_line(301, actual_price="")]
    write_csvs(tmp_path / "mine", lines, ["1,soon", *booked[1:]])
    bad = run(vroom_forecast_materialize, data_dir=mine)
    assert "; 1 vehicle and 1 reservation kept because of bad rows" in str(bad.message)
    assert "; 1 reservation set aside until the row of their vehicle is right" in str(bad.message)
    for row in ("| vehicles kept | 1 |", "| reservations set aside | 1 |"):
        assert row in artifact("materialize")

    allowed = run(vroom_forecast_materialize, data_dir=str(SAMPLE), allow_removals=True)
    assert "700 added, 300 updated" in str(allowed.message)

    (tmp_path / "mine" / "vehicles.csv").write_text("no,such,columns\n1,2,3\n")
    refused = run(vroom_forecast_materialize, data_dir=mine)
    assert refused.is_failed()
    assert attempts(refused) == {"seed_source": 1}  # another try would be refused, too


def attempts(state: State[object]) -> dict[str, int]:
    """Return how often each task of a flow run was tried; Prefect records tasks a moment after they ended."""
    wait_until(lambda: any(asyncio.run(_task_runs(state))))
    wait_until(
        lambda: all(found.state and found.state.is_final() for found in asyncio.run(_task_runs(state)))
    )
    return {found.task_key.partition("-")[0]: found.run_count for found in asyncio.run(_task_runs(state))}


async def _task_runs(state: State[object]) -> list[TaskRun]:
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        return await client.read_task_runs(flow_run_filter=of_this_run)


def test_every_flow_and_task_has_a_time_limit_and_no_rollback_or_deletion_is_repeated() -> None:
    modules = (materialize_flows, monitor, pipeline, promotion, rollback, training)
    parts = [part for module in modules for part in vars(module).values() if isinstance(part, Flow | Task)]
    assert all(part.timeout_seconds for part in parts)
    tasks = {part.name: part for part in parts if isinstance(part, Task)}
    assert {name for name, task in tasks.items() if not task.retries} == {"delete_old_versions", "roll_back"}
    assert not any(part.retries for part in parts if isinstance(part, Flow))
