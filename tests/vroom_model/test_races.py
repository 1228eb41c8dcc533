"""Promotions in real processes: at the same time, on both databases, and cut off by SIGKILL."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.promises.killing_proxy import proxy_that_kills
from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import FULL, MIDDLING, WEAK, Champions
from tests.vroom_model.processes import TIMEOUT_S, Process, Task, go, proxy_that_refuses, start
from tests.webapp.waiting import wait_until
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SourceStoreError
from vroom_model.records import Decision, Outcome


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceStore]:
    """Return an empty source database, of the kind that the test asks for."""
    is_sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path / 'vroom.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    store = SourceStore.open(url)
    yield store
    store.close()


@pytest.fixture
def task(champions: Champions, source: SourceStore, redis_url: str) -> Task:
    return Task(
        mlflow=champions.registry.address.url,
        model_name=champions.registry.model_name,
        database=source.address.url,
        redis=redis_url,
        as_of=champions.moment(),
    )


@pytest.mark.parametrize("source", ["sqlite", "postgresql"], indirect=True)
def test_two_promotions_at_once_leave_one_champion_and_two_true_records(
    champions: Champions, fleet: FrameSnapshot, task: Task
) -> None:
    (before,) = champions.promote_each(fleet, WEAK)
    rivals = [champions.register(fleet, params) for params in (MIDDLING, FULL)]
    printed = go(*[start(task.model_copy(update={"version": version})) for version in rivals])
    outcomes = dict(zip(rivals, map(Outcome.model_validate_json, printed), strict=True))

    # Whoever came first, the better one is champion: alone, or after the other.
    assert champions.champion() == rivals[1]
    history = champions.service.history()
    assert [record.number for record in history] == list(range(len(history), 0, -1))
    assert all(record.is_closed for record in history)
    served = {record.number: record.version for record in history}
    assert served[1] == before
    promoted = {outcome.record: version for version, outcome in outcomes.items() if outcome.promoted}
    assert promoted == {number: version for number, version in served.items() if number > 1}
    for version, outcome in outcomes.items():
        tags = champions.registry.version(version).tags
        assert Decision.model_validate_json(tags["decision"]) == outcome.decision
        rival = outcome.decision.champion_version
        assert rival == (served[outcome.record - 1] if outcome.record else rivals[1])


def test_a_rollback_that_is_killed_and_repeated_is_finished_and_goes_back_no_further(
    champions: Champions, fleet: FrameSnapshot, task: Task
) -> None:
    versions = champions.promote_each(fleet, WEAK, MIDDLING, FULL)
    rollback = task.model_copy(update={"rollback": True, "as_of": champions.moment()})
    victim: list[Process] = []
    with proxy_that_kills(champions.registry.address.url, "before", victim) as mlflow:
        victim.append(start(rollback.model_copy(update={"mlflow": mlflow})))
        go(*victim)
    assert victim[0].returncode == -signal.SIGKILL
    outcome = champions.rollback()
    assert (outcome.record, outcome.decision.candidate_version) == (4, versions[1])
    assert champions.champion() == versions[1]
    assert [record.is_closed for record in champions.service.history()] == [True] * 4


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_an_alias_moved_late_by_a_process_that_lost_the_lock_does_not_stay(
    champions: Champions, fleet: FrameSnapshot, source: SourceStore
) -> None:
    (first,) = champions.promote_each(fleet, WEAK)
    late, better = (champions.register(fleet, params) for params in (MIDDLING, FULL))

    def overtake() -> None:
        """Take the lock away from its holder, and promote another while it waits for MLflow."""
        if champions.champion() != first:
            return
        with source.engine.begin() as connection:
            holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.exec_driver_sql(holder).scalars().all() == [True]
        assert champions.promote(fleet, better).promoted

    with proxy_that_refuses(champions.registry.address.url, meanwhile=overtake) as mlflow:
        assert champions.through(mlflow).promote(fleet, as_of=champions.moment(), version=late).promoted
    assert champions.champion() == better
    history = [(record.version, record.kind, record.is_closed) for record in champions.service.history()]
    assert history == [(version, "promotion", True) for version in (better, late, first)]


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_a_record_whose_number_was_taken_since_the_lock_was_lost_is_refused(
    champions: Champions, fleet: FrameSnapshot, source: SourceStore
) -> None:
    (first,) = champions.promote_each(fleet, WEAK)
    second = champions.register(fleet, MIDDLING)
    waiting = "SELECT 1 FROM pg_locks WHERE relation = 'handovers'::regclass AND NOT granted"
    taken = (
        "INSERT INTO handovers (model_name, epoch, version, kind, reason, forced, decided_at, settled)"
        " SELECT model_name, epoch + 1, version, kind, reason, forced, decided_at, settled FROM handovers"
    )
    with ThreadPoolExecutor(1) as pool, source.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE handovers IN SHARE ROW EXCLUSIVE MODE")  # it may read
        promotion = pool.submit(champions.promote, fleet, second)
        wait_until(lambda: connection.exec_driver_sql(waiting).first(), timeout_s=TIMEOUT_S)
        connection.exec_driver_sql(taken)
    with pytest.raises(SourceStoreError, match="duplicate key"):
        promotion.result()
    assert champions.champion() == first
