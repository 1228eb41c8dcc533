"""Every flow as Prefect runs it, against a Prefect server."""

import asyncio
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import Flow, State, Task
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL
from rich.console import Console

from flows import materialize, monitor, pipeline, promotion, rollback, training
from flows.local import first_run
from flows.tasks.promotions import open_promotions
from tests.factories import VEHICLE
from tests.flows.conftest import log_of, run
from tests.flows.receiver import Receiver
from tests.promises.system import wait_until
from tests.snapshots import SAMPLE
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import NOW, arrive, seed_with_booked_arrivals, store_fleet
from vroom_features.database.queries import StoredVehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.errors import ReasonError, RollbackError
from vroom_model.records import MIN_ARRIVALS

pytestmark = pytest.mark.usefixtures("prefect_server")
LEFT_OUT = "300 vehicles under watch left out"


def artifact(key: str) -> str:
    found = asyncio.run(Artifact.aget(key))
    assert found is not None
    assert found.description
    return str(found.data)


def test_a_model_is_trained_promoted_forced_rolled_back_and_monitored(
    flow_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    def fill(source: SourceStore) -> None:
        seed_with_booked_arrivals(source, tmp_path / "csv")
        for number in range(MIN_ARRIVALS):
            arrive(source, actual_price=150.0 + number, num_images=1 + number % 5)

    monkeypatch.setenv("VROOM_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("VROOM_WEBHOOK_ALLOW_PRIVATE", "true")
    store_fleet(flow_settings.home, fill)
    assert "no champion to monitor yet" in str(run(monitor.vroom_forecast_monitor).message)

    promoted = run(pipeline.vroom_forecast_pipeline)
    assert promoted.is_completed(), promoted.message
    assert "version 1 is better than the mean" in str(promoted.message)
    assert f"; {LEFT_OUT}" in str(promoted.message)
    assert artifact("pipeline").endswith(str(promoted.message))
    for key, row in (("training", "vehicles"), ("promotion", "num vehicles")):
        assert f"| {row} | 1000 |" in artifact(key)
        assert "| vehicles under watch left out | 300 |" in artifact(key)
    assert "| promoted | True |" in artifact("promotion")

    with open_promotions(flow_settings) as promotions:
        (first,) = promotions.registry.versions()
        recorded = promotions.registry.api.get("runs/get", run_id=first.run_id)["run"]["data"]["tags"]
    tags = {tag["key"]: tag["value"] for tag in recorded}
    assert tags["mlflow.source.name"] == "vroom_forecast_training"
    assert UUID(tags["prefect.flow_run_id"])

    monkeypatch.setenv("VROOM_KEEP_MODEL_VERSIONS", "2")
    for number in (1, 2, 3):
        trained = run(training.vroom_forecast_training, seed=number)
    assert "registered version 4: MAE" in str(trained.message)
    assert f"on 1,000 vehicles; {LEFT_OUT}" in str(trained.message)
    with open_promotions(flow_settings) as promotions:  # the newest, and that of the history
        assert [found.version for found in promotions.registry.versions()] == [4, 3, 1]

    refused = run(promotion.vroom_forecast_promotion)
    assert "version 4" in str(refused.message)
    strict = asyncio.run(refused.aresult()).decision
    assert "| promoted | False |" in artifact("promotion")
    silent = run(promotion.vroom_forecast_promotion, version=4, force=True)
    assert silent.is_failed()
    with pytest.raises(ReasonError, match="needs a written reason"):
        asyncio.run(silent.aresult())
    assert attempts(silent) == {"compare_and_promote": 1}
    forced = run(promotion.vroom_forecast_promotion, version=4, force=True, reason="the fair begins")
    assert "promoted by force: the fair begins" in str(forced.message)
    assert "| forced | True |" in artifact("promotion")
    assert "compared version 4 on 1000 vehicles; wrote no record" in log_of(refused)
    assert "compared version 4 on 1000 vehicles; wrote record 2" in log_of(forced)

    back = run(rollback.vroom_forecast_rollback, reason="a drill")
    assert back.message == "version 1 is champion again, instead of 4: a drill"
    assert str(back.message) in artifact("rollback")
    assert "wrote record 3: version 1 is champion" in log_of(back)
    further = run(rollback.vroom_forecast_rollback)
    assert further.is_failed()
    assert further.message == "there is no earlier champion to go back to"
    with pytest.raises(RollbackError, match="no earlier champion"):
        asyncio.run(further.aresult())

    monitored = str(run(monitor.vroom_forecast_monitor).message)
    assert "price_diff; trust their forecasts less" in monitored
    assert f"on 1,000 vehicles; {LEFT_OUT}" in monitored
    for row in ("version | 1", f"saved cars | {MIN_ARRIVALS}", "outcomes: num vehicles | 1000"):
        assert f"| {row} |" in artifact("monitor")

    with open_promotions(flow_settings) as promotions:
        assert "price_diff" in promotions.registry.version(1).tags["monitor"]

    monkeypatch.setenv("VROOM_PROMOTION_MIN_GAIN", "0")
    monkeypatch.setenv("VROOM_PROMOTION_CONFIDENCE", "0.501")
    lenient = asyncio.run(run(promotion.vroom_forecast_promotion, version=4).aresult()).decision
    assert lenient.gain_low > strict.gain_low
    assert lenient.promote == (lenient.gain_low > 0)

    end = "promoted" if lenient.promote else "refused"
    told = ["promoted 1", "refused 4", "promoted 4", "rolled-back 1", "drifted 1", f"{end} 4"]
    posted = [document for document in receiver.documents if document["event"] != "run-failed"]
    assert [f"{document['event']} {document['version']}" for document in posted] == told
    assert [document["text"] for document in receiver.documents if document not in posted] == [
        f"vroom_forecast_promotion failed: {silent.message}",
        f"vroom_forecast_rollback failed: {further.message}",
    ]
    wait_until(lambda: len(events_about(flow_settings.model_name)) == len(told))
    for event, expected in zip(events_about(flow_settings.model_name), told, strict=True):
        kind, version = expected.split()
        assert event["event"] == f"vroom.model.{kind}"
        assert event["resource"]["prefect.resource.id"].endswith(f".version.{version}")
        assert {"flow", "flow-run", "model"} <= {part["prefect.resource.role"] for part in event["related"]}


@pytest.mark.parametrize(
    ("days_ago", "expected"), [(0, 300), (10, 210), (29, MIN_ARRIVALS), (400, MIN_ARRIVALS)]
)
def test_drift_is_looked_for_in_what_was_saved_lately_or_last(days_ago: int, expected: int) -> None:
    """Ten vehicles a day for thirty days, the last of them so many days ago; and one of the CSV."""
    known = {**VEHICLE, "row_version": 1, "num_reservations": None}
    saved = [
        StoredVehicle(vehicle_id=i, source="ui", saved_at=NOW - timedelta(days=days_ago + i // 10), **known)
        for i in range(300)
    ]
    of_the_csv = StoredVehicle(vehicle_id=300, source="csv", saved_at=None, **known)
    assert monitor.saved_lately([*saved, of_the_csv], NOW) == saved[:expected]


def test_a_fleet_is_materialized_and_the_run_reports_what_was_kept_and_set_aside(
    flow_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [vehicle_line(number) for number in range(1, 301)]
    booked = booking_lines([(number, 1) for number in range(1, 302)])
    mine = str(write_csvs(tmp_path / "mine", lines, booked[:-1]))
    assert "300 added" in str(run(materialize.vroom_forecast_materialize, data_dir=mine).message)

    kept = str(run(materialize.vroom_forecast_materialize).message)  # nobody asked for the sample
    assert kept.startswith(
        "the fleet is kept, for the sample replaces it only by `python -m vroom_features seed"
    )
    assert kept.endswith("300 fleet vehicles, 0 new arrivals")
    assert "| read from | nothing |" in artifact("materialize")

    lines[-1:] = [vehicle_line(300, actual_price=""), vehicle_line(301, actual_price="")]
    write_csvs(tmp_path / "mine", lines, ["1,2999-01-01", *booked[1:]])
    as_bars = (tmp_path / "mine" / "vehicles.csv").read_text().replace(",", "|")
    (tmp_path / "mine" / "vehicles.csv").write_text(as_bars)
    bad = str(run(materialize.vroom_forecast_materialize, data_dir=mine).message)
    assert "; 1 vehicle and 1 reservation kept because of bad rows" in bad
    assert "; 1 reservation set aside until the row of their vehicle is right" in bad
    assert "; vehicles.csv: read '|' as separator; " in bad
    assert "| assumed | vehicles.csv: read '&#124;' as separator |" in artifact("materialize")
    for row in ("| vehicles kept | 1 |", "| reservations set aside | 1 |"):
        assert row in artifact("materialize")

    allowed = run(materialize.vroom_forecast_materialize, data_dir=str(SAMPLE), allow_removals=True)
    assert "700 added, 300 updated" in str(allowed.message)
    assert "complete through 2023-12-30: the watch of 1,000 vehicles ended" in str(allowed.message)

    monkeypatch.setenv("VROOM_WATCH_DAYS", "30")
    later = {"data_dir": str(SAMPLE), "complete_through": date(2024, 1, 31)}
    told = str(run(materialize.vroom_forecast_materialize, **later).message)
    assert "complete through 2024-01-31" in told
    assert "; a watch is 30 days long now, so train a new model" in told
    past = run(materialize.vroom_forecast_materialize, as_of=date(2024, 1, 10))
    assert "of the end of 2024-01-10: 1,000 fleet vehicles" in str(past.message)
    assert OfflineStore(flow_settings.offline_store).current().complete_through == date(2024, 1, 31)

    (tmp_path / "mine" / "vehicles.csv").write_text("no,such,columns\n1,2,3\n")
    refused = run(materialize.vroom_forecast_materialize, data_dir=mine)
    assert refused.is_failed()
    assert attempts(refused) == {"seed_source": 1}  # another try would be refused, too


def attempts(state: State[object]) -> dict[str, int]:
    """Return how often each task of a flow run was tried; Prefect records tasks a moment after they ended."""
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))

    async def read() -> list[TaskRun]:
        async with get_client() as client:
            return await client.read_task_runs(flow_run_filter=of_this_run)

    def are_recorded() -> bool:
        found = asyncio.run(read())
        return bool(found) and all(task.state and task.state.is_final() for task in found)

    wait_until(are_recorded)
    return {found.task_key.partition("-")[0]: found.run_count for found in asyncio.run(read())}


def events_about(model_name: str) -> list[dict[str, Any]]:
    """Return the events of a model's versions, in the order they happened."""
    wanted = {"related": {"id": [f"vroom.model.{model_name}"]}, "order": "ASC"}
    answer = httpx.post(f"{PREFECT_API_URL.value()}/events/filter", json={"filter": wanted}, timeout=30)
    found: list[dict[str, Any]] = answer.raise_for_status().json()["events"]
    return found


def test_every_flow_and_task_has_a_time_limit_and_no_deletion_is_repeated() -> None:
    modules = (materialize, monitor, pipeline, promotion, rollback, training)
    parts = [part for module in modules for part in vars(module).values() if isinstance(part, Flow | Task)]
    assert all(part.timeout_seconds for part in parts)
    tasks = {part.name: part for part in parts if isinstance(part, Task)}
    assert {name for name, task in tasks.items() if not task.retries} == {"delete_old_versions"}
    assert not any(part.retries for part in parts if isinstance(part, Flow))


async def parameters_asked_for() -> dict[str, Any]:
    """Return the parameters of the main job's first run; nobody is there to run it."""
    async with get_client() as client:
        flow = await client.create_flow(materialize.vroom_forecast_materialize)
        await client.create_deployment(flow, materialize.vroom_forecast_materialize.name)
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
