"""A real MLflow, and a way to publish models of known answers in it, sound or spoiled."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from mlflow import MlflowClient

from tests.webapp.bundles import write_bundle

Spoil = Callable[[Path], None]


@dataclass
class Models:
    """Registered models under one name."""

    url: str
    name: str
    folder: Path
    client: MlflowClient

    def register(self, forecast: float, *, spoil: Spoil | None = None, **changes: object) -> int:
        """Register a model that answers ``forecast``; ``spoil`` changes its files after they were hashed."""
        directory = self.folder / f"{self.name}-{forecast}"
        shutil.rmtree(directory, ignore_errors=True)
        sha256 = write_bundle(directory, forecast, **changes)
        if spoil is not None:
            spoil(directory)
        run = self.client.create_run("0")
        self.client.log_artifacts(run.info.run_id, str(directory), "bundle")
        version = self.client.create_model_version(
            self.name, f"runs:/{run.info.run_id}/bundle", run.info.run_id
        )
        self.client.set_model_version_tag(self.name, version.version, "manifest_sha256", sha256)
        self.client.set_model_version_tag(self.name, version.version, "bundle_path", "bundle")
        return int(version.version)

    def crown(self, version: int) -> None:
        """Move the champion alias; nobody is told."""
        answer = httpx.post(
            f"{self.url}/api/2.0/mlflow/registered-models/alias",
            json={"name": self.name, "alias": "champion", "version": str(version)},
        )
        answer.raise_for_status()

    def dethrone(self) -> None:
        """Take the champion alias away."""
        self.client.delete_registered_model_alias(self.name, "champion")
