"""A real MLflow, and a way to publish models of known answers in it, sound or spoiled."""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
from mlflow import MlflowClient

from tests.webapp.bundles import write_bundle

Spoil = Callable[[Path], None]


class Uploaded(NamedTuple):
    """A model's files in MLflow."""

    run_id: str
    artifacts: str
    sha256: str


Uploads = dict[float, Uploaded]
"""Sound models that are in MLflow already, by what they answer: uploading costs more than registering."""


@dataclass
class Models:
    url: str
    name: str
    folder: Path
    client: MlflowClient
    uploads: Uploads

    @classmethod
    def create(cls, url: str, folder: Path, uploads: Uploads) -> Self:
        client = MlflowClient(url)
        name = f"vroom-{uuid.uuid4().hex[:8]}"
        client.create_registered_model(name)
        return cls(url, name, folder, client, uploads)

    def register(self, forecast: float, *, spoil: Spoil | None = None, **changes: Any) -> int:
        """Register a model that answers ``forecast``; ``spoil`` changes its files after they were hashed."""
        if spoil or changes:
            found = self._upload(forecast, spoil, changes)
        else:
            found = self.uploads.get(forecast) or self._upload(forecast, None, {})
            self.uploads[forecast] = found
        tags = {"manifest_sha256": found.sha256, "bundle_path": "bundle"}
        version = self.client.create_model_version(self.name, found.artifacts, found.run_id, tags)
        return int(version.version)

    def _upload(self, forecast: float, spoil: Spoil | None, changes: dict[str, Any]) -> Uploaded:
        directory = self.folder / f"{self.name}-{forecast}"
        shutil.rmtree(directory, ignore_errors=True)
        sha256 = write_bundle(directory, forecast, **changes)
        if spoil is not None:
            spoil(directory)
        run = self.client.create_run("0").info
        self.client.log_artifacts(run.run_id, str(directory), "bundle")
        return Uploaded(run.run_id, f"{run.artifact_uri}/bundle", sha256)

    def crown(self, version: int) -> None:
        """Move the champion alias, without a message."""
        answer = httpx.post(
            f"{self.url}/api/2.0/mlflow/registered-models/alias",
            json={"name": self.name, "alias": "champion", "version": str(version)},
        )
        answer.raise_for_status()

    def champion(self) -> int:
        return int(self.client.get_model_version_by_alias(self.name, "champion").version)

    def dethrone(self) -> None:
        self.client.delete_registered_model_alias(self.name, "champion")
