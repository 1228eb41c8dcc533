"""A backup holds the embedded MLflow too: who is champion, and the files of every version."""

import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import serve_mlflow
from tests.vroom_features.commands import command, report
from tests.vroom_features.stores import arrive
from tests.webapp.registry import Models
from vroom_features.database.mlflow_backup import (
    ARTIFACTS,
    DATABASE,
    back_up_mlflow,
    refuse_loss,
    restore_mlflow,
)
from vroom_features.database.tables import SCHEMA_VERSION
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import BackupError
from vroom_model.registry.registry import Registry


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


def test_a_damaged_backup_is_refused_and_a_damaged_database_is_moved_aside(tmp_path: Path) -> None:
    folder, backup = tmp_path / "mlflow", tmp_path / "backup"
    folder.mkdir()
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.execute(
            "CREATE TABLE model_versions AS SELECT 'vroom' AS name, 1 AS version, 'r' AS run_id"
        )
        connection.commit()
    back_up_mlflow(folder, backup)
    with pytest.raises(BackupError, match="exists already"):
        back_up_mlflow(folder, backup)
    assert backup.stat().st_mode & 0o077 == 0
    cut = tmp_path / "cut"
    cut.write_bytes(backup.read_bytes()[:6_000])
    with pytest.raises(BackupError, match="no whole backup"):
        restore_mlflow(cut, folder)
    (folder / DATABASE).write_bytes(b"\0" * 50_000)
    with pytest.raises(BackupError, match="--force moves it aside"):
        refuse_loss(backup, folder)
    restore_mlflow(backup, folder)
    assert len(list(folder.glob(f"{DATABASE}.damaged-*"))) == 1
    assert versions(folder) == [("vroom", 1)]


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
