"""The online store after a run: exactly the new arrivals, each as a request would compute it."""

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenacity import stop_after_attempt

from tests.promises.system import wait_until
from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import FLEET, NOW, arrive, audited, book, fresh_stores, ids_in, on_both, run
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import StoreInUseError
from vroom_features.ingest.seed import seed
from vroom_features.messages import VehicleMaterialized
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.rows import online_row
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import AuditReport, LastAudit, SyncReport, last_audit, record_audit, sync


def test_another_view_remakes_rows(seeded: SourceStore, offline: OfflineStore, online: OnlineStore) -> None:
    ids = [arrive(seeded) for _ in range(3)]
    run(seeded, offline, online)
    mark = online.synced()
    assert mark is not None
    online.put(row._replace(view="vehicle_forecast:0") for row in online.get_many(ids).values())
    online.mark_synced(replace(mark, view="vehicle_forecast:0"))
    assert audited(seeded, online).stale == 3
    assert sync(seeded, online, as_of=NOW, full=False).num_changed == 0  # an older worker
    assert run(seeded, offline, online).num_online_written == 3
    assert audited(seeded, online).is_clean


def field_of(online: OnlineStore, vehicle_id: int) -> tuple[bytes, bytes, bytes]:
    """Return a vehicle's key, row version and JSON."""
    (key,) = [k for k in online.client.keys("*rows") if online.client.hexists(k, str(vehicle_id))]
    return (key, *online.client.hget(key, str(vehicle_id)).split(b" ", 1))


def test_a_run_repairs_what_differs(seeded: SourceStore, offline: OfflineStore, online: OnlineStore) -> None:
    wrong, stale, ahead, garbled, missing, whole = (arrive(seeded) for _ in range(6))
    run(seeded, offline, online)
    before = {i: online.get(i) for i in (wrong, stale, ahead, garbled, missing, whole)}
    key, version, body = field_of(online, wrong)
    online.client.hset(key, str(wrong), version + b" " + body.replace(b'"price_diff":', b'"price_diff":1'))
    key, _, body = field_of(online, stale)
    online.client.hset(key, str(stale), b"5 " + body)
    key, _, body = field_of(online, ahead)
    online.client.hset(key, str(ahead), b"%d " % 2**52 + body)
    online.client.hset(field_of(online, garbled)[0], str(garbled), b"xx")
    online.client.hdel(field_of(online, missing)[0], str(missing))
    key, version, body = field_of(online, whole)
    for field in (b"7", b"vehicle", b"0%d" % whole, b""):
        online.client.hset(key, field, version + b" " + body)
    online.client.hset(key, "8", b"%d " % 2**52 + body)
    assert audited(seeded, online) == AuditReport(6, missing=1, stale=1, wrong=3, orphaned=5)
    report = run(seeded, offline, online)
    assert (report.num_online_written, report.num_online_removed) == (5, 5)
    assert audited(seeded, online).is_clean
    assert {i: online.get(i) for i in before} == before
    assert run(seeded, offline, online).is_unchanged


def test_keys_of_other_types_go(seeded: SourceStore, offline: OfflineStore, online: OnlineStore) -> None:
    ids = [arrive(seeded) for _ in range(3)]
    run(seeded, offline, online)
    rows = field_of(online, ids[0])[0].decode()
    for key in (rows, rows.replace(":rows", ":gone"), "vroom-forecast:synced"):
        online.client.delete(key)
        online.client.rpush(key, "a", "b")
    run(seeded, offline, online)
    assert (ids_in(online), audited(seeded, online).is_clean) == (ids, True)


def test_what_is_saved_while_a_run_repairs_is_left_alone(seeded: SourceStore, online: OnlineStore) -> None:
    first = arrive(seeded)
    sync(seeded, online, as_of=NOW, full=True)
    key, _, body = field_of(online, first)
    online.client.hset(key, "8", b"5 " + body)  # one too many, so every row is compared

    class Meanwhile(OnlineStore):
        """Sees two rows change between the database's answer and its own."""

        def bucket(self, number: int) -> dict[bytes, bytes]:
            if number == first % 256:
                arrive(seeded)
                change = b"%d " % seeded.last_change().number
                online.client.hset(key, mapping={str(first): change + body, "9": change + body})
            return super().bucket(number)

    report = sync(seeded, Meanwhile(online.client), as_of=NOW, full=True)
    assert (report.num_written, report.num_removed) == (0, 1)
    assert online.client.hget(key, "9") is not None
    assert online.replace([(first % 256, str(first).encode(), b"seen before", None)]) == 0
    assert online.get(first) is not None


def test_a_regular_sync_writes_our_rows(
    seeded: SourceStore, online: OnlineStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sync(seeded, online, as_of=NOW, full=True)
    written, garbled, _missing = (seeded.get_vehicle(arrive(seeded)) for _ in range(3))
    assert written is not None
    assert garbled is not None
    online.put(online_row(vehicle, materialized_at=NOW) for vehicle in (written, garbled))
    online.client.hset(field_of(online, garbled.vehicle_id)[0], str(garbled.vehicle_id), b"junk")
    assert sync(seeded, online, as_of=NOW, full=False).num_written == 2
    assert audited(seeded, online).is_clean
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'other.db'}")) as other:
        arrive(other, num_images=9)
        for source in (other, seeded):
            caplog.clear()
            sync(source, online, as_of=NOW, full=False)
            assert "held the features of another database" in caplog.text
            assert audited(source, online).is_clean


def test_two_deployments_on_one_redis_do_not_mix(
    seeded: SourceStore, online: OnlineStore, redis: redis_py.Redis, tmp_path: Path
) -> None:
    mine = arrive(seeded)
    sync(seeded, online, as_of=NOW, full=True)
    online.refuse_another(seeded.last_change().database_id, claim=True)  # as its web workers do
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'other.db'}")) as other:
        theirs = arrive(other, num_images=9)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vroom_features.materialize.wait_for_store.retry.stop", stop_after_attempt(1))
            with pytest.raises(StoreInUseError, match="give each deployment a prefix of its own"):
                run(other, OfflineStore(str(tmp_path / "other")), online)
        assert not (tmp_path / "other").exists()
        beside = OnlineStore(online.client, "other")
        run(other, OfflineStore(str(tmp_path / "other")), beside)
        assert audited(other, beside).is_clean
        assert mine == theirs
        assert (online.get(mine) == beside.get(theirs), audited(seeded, online).is_clean) == (False, True)
        saved = VehicleMaterialized(materialized_at=NOW)
        with redis.pubsub() as messages:
            messages.psubscribe("*:vehicle-materialized")
            wait_until(lambda: messages.get_message(timeout=1) is not None)  # subscribed
            beside.publish(saved)
            online.publish(saved)
            received = [messages.get_message(timeout=10) for _ in range(2)]
        assert [message["channel"] for message in received if message] == [
            b"other:vehicle-materialized",
            b"vroom-forecast:vehicle-materialized",
        ]
        beside.clear()
    assert {key.split(b":")[0] for key in redis.scan_iter()} <= {b"vroom-forecast", b"other"}
    assert ids_in(online) == [mine]


def test_rows_of_later_changes_than_an_older_copy_of_the_database_has_make_way(
    seeded: SourceStore, online: OnlineStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = arrive(seeded)
    shutil.copy(tmp_path / "vroom.db", tmp_path / "older.db")
    lost = [arrive(seeded, num_images=9) for _ in range(2)]
    book(seeded, tmp_path, lost[0])
    sync(seeded, online, as_of=NOW, full=True)
    offline = OfflineStore(str(tmp_path / "offline"))
    assert run(seeded, offline).num_fleet == len(FLEET) + 1
    for file in tmp_path.glob("vroom.db*"):
        file.unlink()
    shutil.copy(tmp_path / "older.db", tmp_path / "vroom.db")
    assert sync(seeded, online, as_of=NOW, full=False).num_written == 1
    assert "the database was put back to an earlier change" in caplog.text
    assert ids_in(online) == [kept]
    assert run(seeded, offline).num_fleet == len(FLEET)
    assert arrive(seeded, num_images=1) == lost[0]  # the id and the row version of a vehicle that is gone
    sync(seeded, online, as_of=NOW, full=False)
    assert audited(seeded, online).is_clean


def test_a_store_without_its_mark_is_synced_in_full(seeded: SourceStore, online: OnlineStore) -> None:
    ids = [arrive(seeded) for _ in range(3)]
    sync(seeded, online, as_of=NOW, full=True)
    key, version, body = field_of(online, ids[0])
    online.client.hset(key, "9", version + b" " + body)
    online.client.delete("vroom-forecast:synced")
    assert sync(seeded, online, as_of=NOW, full=False) == SyncReport(num_written=0, num_removed=1)
    assert (ids_in(online), audited(seeded, online).is_clean) == (ids, True)


@on_both
def test_more_rows_than_are_read_at_a_time_are_repaired(
    seeded: SourceStore, online: OnlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vroom_features.online.sync.CHUNK", 3)
    ids = [arrive(seeded) for _ in range(10)]
    assert sync(seeded, online, as_of=NOW, full=True) == SyncReport(num_written=10, num_removed=0)
    book(seeded, tmp_path, ids[4])
    seeded.delete_vehicle(ids[5])
    for vehicle_id in ids[7:]:
        online.client.hset(field_of(online, vehicle_id)[0], str(vehicle_id), b"junk")
    assert audited(seeded, online) == AuditReport(8, missing=0, stale=0, wrong=3, orphaned=2)
    assert sync(seeded, online, as_of=NOW, full=True) == SyncReport(num_written=3, num_removed=2)
    assert audited(seeded, online) == AuditReport(8, 0, 0, 0, 0)


def test_the_last_audit_is_lost_with_the_store(online: OnlineStore) -> None:
    report = AuditReport(num_new_arrivals=9, missing=1, stale=0, wrong=2, orphaned=0)
    assert last_audit(online) is None
    record_audit(online, report, as_of=NOW)
    assert last_audit(online) == LastAudit(NOW, report)
    assert report.num_differences == 3
    online.clear()
    assert last_audit(online) is None
    for note in (b"junk", b"[]", b"{}", b'{"audited_at": "soon"}', b'{"audited_at": 3}'):
        online.client.set(online.last_audit, note)
        assert last_audit(online) is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("save"), st.integers(1, 5)),
        st.tuples(st.just("delete"), st.integers(0, 3)),
        st.tuples(st.just("book"), st.integers(0, 3)),
        st.tuples(st.just("run"), st.integers(1, 9)),
        st.tuples(st.just("sync"), st.booleans()),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=12,
)


@given(steps=steps)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_after_any_history_both_stores_equal_the_database(
    tmp_path_factory: pytest.TempPathFactory, redis: redis_py.Redis, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    booked: list[str] = []
    with fresh_stores(folder, redis) as (source, offline, online):
        for number, (step, argument) in enumerate(steps):
            arrivals = [v.vehicle_id for v in source.list_vehicles(kind="new").items]
            if step == "save":
                arrive(source, num_images=argument)
            elif step == "delete" and argument < len(arrivals):
                source.delete_vehicle(arrivals[argument])
            elif step == "book" and argument < len(arrivals):
                booked.append(f"{arrivals[argument]},2023-01-01")
                seed(source, write_csvs(folder / str(number), FLEET[:9], booked))
            elif step == "run":
                run(source, offline, online, partition_vehicles=argument)
            elif step == "sync":
                sync(source, online, as_of=NOW, full=bool(argument))
                assert audited(source, online).is_clean
            elif step == "lose":
                redis.flushall()
        last = run(source, offline, online)
        assert audited(source, online).is_clean
        clean = OfflineStore(str(folder / "clean"))
        assert run(source, clean).digest == last.digest
        pd.testing.assert_frame_equal(offline.current().read(), clean.current().read())
