"""Promotions at the same time, on both databases."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from tests.promises.system import wait_until
from tests.snapshots import FrameSnapshot
from tests.vroom_features.stores import on_both
from tests.vroom_model.champions import FULL, MIDDLING, WEAK, Champions
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SourceStoreError
from vroom_model.records import Decision

on_postgresql = pytest.mark.parametrize("source", ["postgresql"], indirect=True)


@on_both
def test_two_promotions_at_once_leave_one_champion_and_two_true_records(champions: Champions) -> None:
    (before,) = champions.promote_each(WEAK)
    rivals = [champions.register(params) for params in (MIDDLING, FULL)]
    together, reads = threading.Barrier(2), itertools.count()

    class FleetOfBoth(FrameSnapshot):
        def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
            if next(reads) < 4:  # each scores two models
                together.wait(60)
            return super().batches(columns)

    champions.fleet = FleetOfBoth.of(champions.fleet.frame)
    with ThreadPoolExecutor(2) as both:
        outcomes = dict(zip(rivals, both.map(champions.promote, rivals), strict=True))

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


@on_postgresql
def test_an_alias_moved_late_by_a_process_that_lost_the_lock_does_not_stay(
    champions: Champions, source: SourceStore
) -> None:
    (first,) = champions.promote_each(WEAK)
    late, better = (champions.register(params) for params in (MIDDLING, FULL))

    def overtake() -> bool:
        """Take the lock away from its holder, and promote another while it waits for MLflow."""
        if champions.champion() == first:
            with source.engine.begin() as connection:
                holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                assert connection.exec_driver_sql(holder).scalars().all() == [True]
            assert champions.promote(better).promoted
        return False

    with champions.interrupted(refuses=overtake) as service:
        assert service.promote(champions.fleet, as_of=champions.moment(), version=late).promoted
    assert champions.champion() == better
    history = [(record.version, record.kind, record.is_closed) for record in champions.service.history()]
    assert history == [(version, "promotion", True) for version in (better, late, first)]


@on_postgresql
def test_a_record_whose_number_was_taken_since_the_lock_was_lost_is_refused(
    champions: Champions, source: SourceStore
) -> None:
    (first,) = champions.promote_each(WEAK)
    second = champions.register(MIDDLING)
    waiting = "SELECT 1 FROM pg_locks WHERE relation = 'handovers'::regclass AND NOT granted"
    taken = (
        "INSERT INTO handovers (model_name, epoch, version, kind, reason, forced, decided_at, settled)"
        " SELECT model_name, epoch + 1, version, kind, reason, forced, decided_at, settled FROM handovers"
    )
    with ThreadPoolExecutor(1) as pool, source.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE handovers IN SHARE ROW EXCLUSIVE MODE")  # it may read
        promotion = pool.submit(champions.promote, second)
        wait_until(lambda: connection.exec_driver_sql(waiting).first(), timeout_s=120)
        connection.exec_driver_sql(taken)
    with pytest.raises(SourceStoreError, match="duplicate key"):
        promotion.result()
    assert champions.champion() == first
