"""The drill's own hands: a few faults that are cheap to try, and that a broken promise is seen."""

import os
from collections.abc import Iterator

import pytest

from tests.drill import cases_kill_points, promises
from tests.drill.case import Case, Fault
from tests.drill.cases_processes import WEB, one_worker_killed
from tests.drill.cases_redis import emptied
from tests.drill.clock import now
from tests.drill.system import System, attached
from tests.factories import VEHICLE
from tests.whole_system import WholeSystem
from vroom_features.database.queries import StoredVehicle
from vroom_features.online.rows import online_row

pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def held(system: WholeSystem) -> Iterator[System]:
    """Take hold of the running system."""
    before = os.umask(0o077)  # as what the system itself writes
    with attached(system.settings, system.process.pid) as found:
        yield found
    os.umask(before)


@pytest.mark.parametrize(
    "case",
    [
        Fault("web worker killed while it saves", "web", one_worker_killed, refuses=WEB),
        Fault("Redis emptied (FLUSHALL)", "redis", emptied),
        cases_kill_points.KillPoints(
            "monitor killed at its n-th operation",
            "kill",
            cases_kill_points.watched,
            cases_kill_points.repaired,
            at_most=2,
        ),
    ],
    ids=lambda case: case.name,
)
def test_the_running_system_survives(held: System, case: Case) -> None:
    result = case.run(held)
    assert result.problems == []
    assert result.is_survived


def test_a_save_that_was_acknowledged_and_is_not_there_is_seen(held: System) -> None:
    held.kept.saved["lost"] = (10**9, VEHICLE)
    try:
        with pytest.raises(promises.BrokenPromiseError, match="the key lost stands for None"):
            promises.check_all(held)
    finally:
        del held.kept.saved["lost"]


def test_an_online_row_that_the_database_does_not_have_is_seen(held: System) -> None:
    promises.online_store_equals_the_database(held)
    unknown = {
        "vehicle_id": 10**9,
        "source": "ui",
        "row_version": 1,
        "saved_at": now(),
        "num_reservations": None,
    }
    held.online.put([online_row(StoredVehicle.model_validate(VEHICLE | unknown), materialized_at=now())])
    with pytest.raises(promises.BrokenPromiseError, match="the audit finds"):
        promises.online_store_equals_the_database(held)
    promises.runs_converge(held)
    promises.online_store_equals_the_database(held)
