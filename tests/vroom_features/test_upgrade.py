"""A database of the first release is upgraded when it is opened; one of a newer program is refused."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import Session, SQLModel, select

from tests.factories import make_vehicle
from tests.vroom_features.stores import NOW, arrive, rows
from vroom_features.database.tables import SCHEMA_VERSION, PromotionRecord
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SourceStoreError
from vroom_features.vehicle import UI_VEHICLE_ID_START
from vroom_features.watch import Watch

FIRST_RELEASE = Path(__file__).parent / "first_release"


def execute(url: str, script: str) -> None:
    """Run statements in a database, by its driver alone."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executescript(script)
    else:
        with psycopg.connect(url) as postgres:
            postgres.execute(script.encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database as the first release left it."""
    is_sqlite = request.param == "sqlite"
    url: str = f"sqlite:///{tmp_path / 'old.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    execute(url, (FIRST_RELEASE / f"{request.param}.sql").read_text())
    return url


@pytest.mark.parametrize("script", ["", "DROP TABLE handovers"], ids=["whole", "without a promotion"])
def test_an_upgraded_schema_is_the_one_that_a_new_database_gets(old_url: str, script: str) -> None:
    execute(old_url, script)
    with closing(SourceStore.open(old_url)) as store, store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
        found = connection.exec_driver_sql("SELECT schema_version FROM database_state").scalar_one()
    assert found == SCHEMA_VERSION


def test_an_upgrade_keeps_every_row_and_what_was_promised_of_it(old_url: str) -> None:
    moment = 1672567200000000 if old_url.startswith("sqlite") else "'2023-01-01 10:00:00+00'"
    equal_booking = f"INSERT INTO reservations (id, vehicle_id, created_at) VALUES (3, 1, {moment})"
    execute(old_url, equal_booking)
    with closing(SourceStore.open(old_url)) as store:
        counts = store.count_vehicles()
        assert (counts.fleet, counts.new_arrivals, counts.reservations) == (2, 1, 3)
        watch = store.watch()
        assert watch == Watch(32, date(2023, 2, 1))  # from the first to the last booking
        starts = {v.vehicle_id: v.watch_start for v in store.list_vehicles().items}
        assert starts[1] == watch.start
        again = store.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="first-release")
        assert (again.created, again.vehicle.vehicle_id) == (False, UI_VEHICLE_ID_START)
        # The id of the vehicle that was deleted before the upgrade is not given again.
        assert arrive(store) == UI_VEHICLE_ID_START + 2
        numbered = "SELECT occurrence FROM reservations ORDER BY vehicle_id, created_at, occurrence"
        assert rows(store, numbered) == [(0,), (1,), (0,)]
        with Session(store.engine) as session:
            record = session.exec(select(PromotionRecord)).one()
        assert (record.number, record.version, record.previous, record.is_closed) == (1, 1, None, True)
        assert record.run_id is None


def test_a_schema_of_a_newer_program_is_refused_everywhere(old_url: str) -> None:
    SourceStore.open(old_url).close()
    execute(old_url, "UPDATE database_state SET schema_version = 99")
    with pytest.raises(SourceStoreError, match=r"knows schema version \d+, the database has 99.*newer"):
        SourceStore.open(old_url)
