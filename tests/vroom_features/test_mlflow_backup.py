"""A backup holds the embedded MLflow too: who is champion, and the files of every version."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mlflow_process import serve_mlflow
from tests.webapp.bundles import write_bundle
from vroom_features.database.mlflow_backup import DATABASE, back_up_mlflow, refuse_loss, restore_mlflow
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


def command(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VROOM_")}
    return subprocess.run(
        [sys.executable, "-m", "vroom_features", *words],
        env=environment | {"VROOM_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_bring_champion_and_files_back(tmp_path: Path) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    folder = home / "mlflow"
    folder.mkdir(parents=True)
    SourceStore.open(f"sqlite:///{home / 'vroom.db'}").close()
    with serve_mlflow(folder) as url:
        register(url, tmp_path, 1.0)
        made = command(home, "backup", "--to", str(backup), "--json")
        assert json.loads(made.stdout)["mlflow"] == f"{backup}.mlflow.tar", made.stderr
        register(url, tmp_path, 2.0)
        assert champion(url, tmp_path / "downloads") == 2
        refused = command(home, "restore", "--from", str(backup))
        assert "MLflow has 1 model versions that the backup lacks" in refused.stderr
        assert command(home, "restore", "--from", str(backup), "--force").returncode == 0
        assert champion(url, tmp_path / "downloads") == 1  # while it runs
    shutil.rmtree(home)
    assert command(home, "restore", "--from", str(backup)).returncode == 0
    with serve_mlflow(folder) as url:
        assert champion(url, tmp_path / "downloads anew") == 1


def test_a_damaged_backup_is_refused_and_a_damaged_database_is_moved_aside(
    tmp_path: Path,
) -> None:
    folder, backup = tmp_path / "mlflow", tmp_path / "backup"
    folder.mkdir()
    with serve_mlflow(folder) as url:
        register(url, tmp_path, 1.0)
        back_up_mlflow(folder, backup)
    with pytest.raises(BackupError, match="exists already"):
        back_up_mlflow(folder, backup)
    assert backup.stat().st_mode & 0o077 == 0
    cut = tmp_path / "cut"
    cut.write_bytes(backup.read_bytes()[:100_000])
    with pytest.raises(BackupError, match="no whole backup"):
        restore_mlflow(cut, folder)
    (folder / DATABASE).write_bytes(b"\0" * 50_000)
    with pytest.raises(BackupError, match="--force moves it aside"):
        refuse_loss(backup, folder)
    restore_mlflow(backup, folder)
    assert len(list(folder.glob(f"{DATABASE}.damaged-*"))) == 1
    with serve_mlflow(folder) as url:
        assert champion(url, tmp_path / "downloads") == 1
