"""Training, promotion, rollback and monitor on real stores; Prefect itself is left out."""

import asyncio
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.monitor import check_drift
from flows.promotion import compare_and_promote, open_promotions
from flows.training import choose_fit, train_and_register
from tests.factories import make_vehicle
from tests.vroom_features.stores import seed_with_booked_arrivals
from vroom_features.addresses import ServiceAddress
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.records import MIN_ARRIVALS
from vroom_model.training.train import training_digest

AS_OF = datetime(2026, 1, 2, tzinfo=UTC)
SAMPLE = Path(__file__).parents[2] / "data"


@pytest.fixture
def settings(tmp_path: Path, mlflow_server: str, redis_url: str) -> Settings:
    """Return settings of a system with the sample fleet and new arrivals priced far above market."""
    settings = Settings(
        _env_file=None,
        home=tmp_path,
        mlflow_uri=mlflow_server,
        redis_url=redis_url,
        model_name=f"vroom-{uuid.uuid4().hex[:8]}",
    )
    with closing(SourceStore.open(settings.source_database)) as source:
        seed(source, SAMPLE)
        for number in range(MIN_ARRIVALS):
            vehicle = make_vehicle(actual_price=150.0 + number, num_images=1 + number % 5)
            source.save_vehicle(vehicle, saved_at=AS_OF)
        materialize(source, OfflineStore(settings.offline_store), None, as_of=AS_OF)
    return settings


def test_a_fleet_is_trained_on_promoted_and_watched(settings: Settings) -> None:
    assert asyncio.run(check_drift.fn(settings, AS_OF)) is None
    registered = asyncio.run(train_and_register.fn(settings, 0, AS_OF))
    assert registered.manifest.snapshot.num_rows == 1_000
    outcome = asyncio.run(compare_and_promote.fn(settings, None, None, AS_OF))
    assert outcome.promoted
    report = asyncio.run(check_drift.fn(settings, AS_OF))
    assert report is not None
    assert report.version == registered.version.version
    assert report.num_arrivals == MIN_ARRIVALS
    assert "price_diff" in report.drifted
    assert report.outcomes is not None
    assert report.outcomes.num_vehicles == 1_000


def test_a_monitor_watches_a_champion_moved_by_hand_and_moves_nothing(settings: Settings) -> None:
    asyncio.run(train_and_register.fn(settings, 0, AS_OF))
    asyncio.run(compare_and_promote.fn(settings, None, None, AS_OF))
    other = asyncio.run(train_and_register.fn(settings, 1, AS_OF)).version.version
    with open_promotions(settings) as promotions:
        promotions.registry.set_alias("champion", other)
        report = asyncio.run(check_drift.fn(settings, AS_OF))
        champion = promotions.registry.champion()
        assert report is not None
        assert champion is not None
        assert report.version == champion.version == other
        assert len(promotions.history()) == 1


def test_training_again_on_unchanged_data_finds_the_version_that_exists(settings: Settings) -> None:
    first = asyncio.run(train_and_register.fn(settings, 0, AS_OF))
    with closing(SourceStore.open(settings.source_database)) as source:
        offline = OfflineStore(settings.offline_store)
        materialize(source, offline, None, as_of=AS_OF + timedelta(days=1))
    again = asyncio.run(train_and_register.fn(settings, 0, AS_OF + timedelta(days=1)))
    assert first.is_new
    assert not again.is_new
    assert again.version.version == first.version.version
    # It was not even trained again: its manifest is that of the day before.
    assert again.manifest == first.manifest


def test_training_and_promotion_read_an_offline_store_at_a_url(settings: Settings) -> None:
    remote = settings.model_copy(update={"offline_url": ServiceAddress(f"memory://{uuid.uuid4().hex}")})
    with closing(SourceStore.open(remote.source_database)) as source:
        materialize(source, OfflineStore(remote.offline_store), None, as_of=AS_OF)
    trained = asyncio.run(train_and_register.fn(remote, 0, AS_OF))
    assert trained.manifest.snapshot.digest == OfflineStore(settings.offline_store).current().digest
    assert asyncio.run(compare_and_promote.fn(remote, None, None, AS_OF)).promoted


@pytest.mark.parametrize(("num_rows", "address"), [(10_000_000, ""), (1_000, "local:2")])
def test_a_fleet_is_fitted_here_unless_dask_is_set_and_worth_it(num_rows: int, address: str) -> None:
    assert choose_fit(num_rows, Settings(_env_file=None, dask_address=address)) is None


def test_vehicles_of_the_web_form_make_no_fleet_large_enough_for_dask(
    flow_settings: Settings, tmp_path: Path
) -> None:
    dask = flow_settings.model_copy(update={"dask_address": "local:2", "dask_above_vehicles": 1_000})
    with closing(SourceStore.open(dask.source_database)) as source:
        seed_with_booked_arrivals(source, tmp_path / "csv")
        materialize(source, OfflineStore(dask.offline_store), None, as_of=AS_OF)
    snapshot = OfflineStore(dask.offline_store).current()
    assert snapshot.num_rows == 1_800
    manifest = asyncio.run(train_and_register.fn(dask, 0, AS_OF)).manifest
    assert manifest.training_digest == training_digest(snapshot, engine="memory")


def test_the_rules_come_from_the_settings(settings: Settings) -> None:
    asyncio.run(train_and_register.fn(settings, 0, AS_OF))
    asyncio.run(compare_and_promote.fn(settings, None, None, AS_OF))
    asyncio.run(train_and_register.fn(settings, 1, AS_OF))
    later = AS_OF + timedelta(days=1)
    lax = settings.model_copy(update={"promotion_min_gain": 0.0, "promotion_confidence": 0.501})
    strict = settings.model_copy(update={"promotion_min_gain": 0.5})
    assert not asyncio.run(compare_and_promote.fn(strict, None, None, later)).promoted
    decision = asyncio.run(compare_and_promote.fn(lax, None, None, later)).decision
    assert decision.gain is not None
    assert decision.promote == (decision.gain_low is not None and decision.gain_low > 0)
