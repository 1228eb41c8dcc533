"""A backup holds the embedded MLflow too: who is champion, and the files of every version."""

import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.mlflow_process import serve_mlflow
from tests.vroom_features.commands import command
from tests.webapp.bundles import write_bundle
from vroom_features.database.mlflow_backup import (
    ARTIFACTS,
    DATABASE,
    back_up_mlflow,
    refuse_loss,
    restore_mlflow,
)
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import BackupError
from vroom_model.registry.registry import Registry


def register(url: str, folder: Path, forecast: float) -> None:
    """Register a model that answers a number, and make it champion."""
    directory = folder / str(forecast)
    sha256 = write_bundle(directory, forecast)
    with Registry(url, "vroom") as registry:
        run = registry.api.post("runs/create", {"experiment_id": "0", "start_time": 0})["run"]["info"]
        for path in directory.iterdir():
            registry.api.upload(f"{run['artifact_uri']}/bundle", path)
        if forecast == 1.0:
            registry.api.post("registered-models/create", {"name": "vroom"})
        version = {
            "name": "vroom",
            "source": f"{run['artifact_uri']}/bundle",
            "run_id": run["run_id"],
            "tags": [{"key": "manifest_sha256", "value": sha256}],
        }
        made = registry.api.post("model-versions/create", version)["model_version"]
        registry.set_alias("champion", int(made["version"]))


def champion(url: str, downloads: Path) -> int:
    """Return the champion, its files verified."""
    with Registry(url, "vroom") as registry:
        found = registry.champion()
        assert found is not None
        registry.download(found, downloads)
        return found.version


def test_the_commands_bring_champion_and_files_back(tmp_path: Path) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    folder = home / "mlflow"
    folder.mkdir(parents=True)
    restore = ("restore", "--from", str(backup))
    SourceStore.open(f"sqlite:///{home / 'vroom.db'}").close()
    with serve_mlflow(folder) as url:
        register(url, tmp_path, 1.0)
        made = command(tmp_path, "backup", "--to", str(backup), "--json", VROOM_HOME=str(home)).document
        assert made["mlflow"] == f"{backup}.mlflow.tar"
        register(url, tmp_path, 2.0)
        assert champion(url, tmp_path / "downloads") == 2
        refused = command(tmp_path, *restore, VROOM_HOME=str(home))
        assert "MLflow has 1 model versions that the backup lacks" in refused.stderr
        assert command(tmp_path, *restore, "--force", VROOM_HOME=str(home)).returncode == 0
        assert champion(url, tmp_path / "downloads") == 1  # while it runs
    files = {path.relative_to(folder) for path in (folder / ARTIFACTS).rglob("*") if "/1.0" not in str(path)}
    shutil.rmtree(home)
    assert command(tmp_path, *restore, VROOM_HOME=str(home)).returncode == 0
    assert {path.relative_to(folder) for path in (folder / ARTIFACTS).rglob("*")} <= files
    assert versions(folder) == [("vroom", 1)]


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
def test_a_backup_with_more_than_plain_files_is_refused_before_it_is_unpacked(
    tmp_path: Path, name: str, kind: bytes
) -> None:
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
