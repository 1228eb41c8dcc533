"""The model registry: versions, aliases and tags of one registered model in MLflow."""

from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from vroom_features.addresses import ServiceAddress
from vroom_model.errors import ModelNotFoundError, RegistryError
from vroom_model.manifest import ModelManifest
from vroom_model.records import Matured, ModelVersion
from vroom_model.registry.mlflow_api import MlflowApi
from vroom_model.registry.model_cache import ModelCache, fetch_manifest

Alias = Literal["candidate", "champion"]
TAG_MAX = 5_000
"""Longest tag value that is written; MLflow's own limit depends on its database."""
PAGE_SIZE = 200
MATURED = {name: f"matured/{name}" for name in ("num_vehicles", "mae", "bias", "coverage")}
"""Metrics of a version's run: its real errors over time, where a step is D in days since ``DAY_0``."""
DAY_0 = date(1970, 1, 1)


class Registry:
    """A registered model of the MLflow server at an address, such as ``http://127.0.0.1:5000``."""

    def __init__(self, address: str | ServiceAddress, model_name: str, *, timeout_s: float = 30.0) -> None:
        self.address = ServiceAddress(address)
        self.model_name = model_name
        self.api = MlflowApi(self.address, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.api.close()

    def champion(self) -> ModelVersion | None:
        """Return the version with the alias ``champion``, or None."""
        return self._by_alias("champion")

    def candidate(self) -> ModelVersion | None:
        """Return the version with the alias ``candidate``, or None."""
        return self._by_alias("candidate")

    def version(self, version: int) -> ModelVersion:
        """Return a version; ModelNotFoundError if there is none with this number."""
        try:
            answer = self.api.get("model-versions/get", name=self.model_name, version=str(version))
        except ModelNotFoundError as exc:
            raise ModelNotFoundError(f"{self.model_name} has no version {version}") from exc
        return _model_version(answer.get("model_version"))

    def find(self, version: int, run_id: str | None) -> ModelVersion | None:
        """Return a version; None if it is gone, or its number belongs to another run by now."""
        with suppress(ModelNotFoundError):
            found = self.version(version)
            return found if run_id in {None, found.run_id} else None
        return None

    def versions(self, *, training_digest: str | None = None, limit: int | None = None) -> list[ModelVersion]:
        """Return all versions, or those of one training, the newest first; ``limit``: the newest so many."""
        wanted = [f"name = '{self.model_name}'"]
        if training_digest is not None:
            wanted.append(f"tags.training_digest = '{training_digest}'")
        found: list[ModelVersion] = []
        token = ""
        while True:
            answer = self.api.get(
                "model-versions/search",
                filter=" AND ".join(wanted),
                max_results=str(limit or PAGE_SIZE),
                order_by="version_number DESC",
                page_token=token,
            )
            found += [_model_version(entry) for entry in answer.get("model_versions", [])]
            token = answer.get("next_page_token", "")
            if not token or limit:
                return found

    def download(self, version: ModelVersion, directory: Path | str) -> Path:
        """Fetch and verify a version's model directory, if it is not in this folder yet, and return it.

        BrokenModelError if a file is missing, or differs from its checksum.
        """
        return ModelCache(self.api, directory).fetch(version.ref)

    def manifest(self, version: ModelVersion) -> ModelManifest:
        """Return what a version is, without its boosters; BrokenModelError if it cannot be verified."""
        return fetch_manifest(self.api, version.ref)[1]

    def set_alias(self, alias: Alias, version: int) -> None:
        """Move an alias to a version; only ``PromotionService`` moves the champion's."""
        body = {"name": self.model_name, "alias": alias, "version": str(version)}
        self.api.put("registered-models/alias", body)

    def set_tags(self, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            body = {"name": self.model_name, "version": str(version), "key": key, "value": value[:TAG_MAX]}
            self.api.put("model-versions/set-tag", body)

    def keep_matured(self, version: ModelVersion, matured: Matured, *, at: datetime) -> None:
        """Keep a version's real error, if it has one; a later one of the same D replaces it."""
        if matured.mae is None:
            return
        when = {"timestamp": int(at.timestamp() * 1000), "step": (matured.complete_through - DAY_0).days}
        metrics = [{"key": key, "value": getattr(matured, name), **when} for name, key in MATURED.items()]
        self.api.put("runs/log-batch", {"run_id": version.run_id, "metrics": metrics})

    def matured(self, version: ModelVersion) -> tuple[Matured, ...]:
        """Return the real errors of a version, the earliest first; none if its run is gone."""
        with suppress(ModelNotFoundError):
            figures = {name: dict(self._points(version, key)) for name, key in MATURED.items()}
            return tuple(
                Matured.model_validate(
                    {name: points[step] for name, points in figures.items()}
                    | {"complete_through": DAY_0 + timedelta(days=step)}
                )
                for step in sorted(set.intersection(*map(set, figures.values())))
            )
        return ()

    def _points(self, version: ModelVersion, key: str) -> Iterator[tuple[int, float]]:
        """Yield a metric's steps and values, of one step the latest last."""
        answer = self.api.get("metrics/get-history", run_id=version.run_id, metric_key=key)
        for entry in sorted(answer.get("metrics", []), key=lambda entry: int(entry["timestamp"])):
            yield int(entry["step"]), float(entry["value"])

    def delete(self, version: ModelVersion) -> None:
        """Delete a version after its run, logged model and files; whatever is gone already is skipped.

        A run that another version uses, of this model or of one it was copied to, is kept.
        """
        of_run = {"filter": f"run_id = '{version.run_id}'", "max_results": "2"}
        if len(self.api.get("model-versions/search", **of_run).get("model_versions", [])) == 1:
            with suppress(ModelNotFoundError):
                run = self.api.get("runs/get", run_id=version.run_id)["run"]
                self.api.delete_artifacts(run["info"]["artifact_uri"])
                for model in run.get("outputs", {}).get("model_outputs", []):
                    self._delete_logged_model(model["model_id"])
                self.api.post("runs/delete", {"run_id": version.run_id})
        with suppress(ModelNotFoundError):
            body = {"name": self.model_name, "version": str(version.version)}
            self.api.delete("model-versions/delete", body)

    def _delete_logged_model(self, model_id: str) -> None:
        with suppress(ModelNotFoundError):
            model = self.api.get(f"logged-models/{model_id}")["model"]["info"]
            self.api.delete_artifacts(model["artifact_uri"])
            self.api.delete(f"logged-models/{model_id}", {})

    def delete_old_versions(self, *, keep: int, needed: Container[int]) -> list[int]:
        """Delete all versions but the newest so many, these, and those with an alias; return their numbers.

        A version is deleted after its files and its run, so an interrupted deletion is continued next time.
        """
        old = self.versions()[keep:]
        if old:  # MLflow's search returns versions without their aliases
            model = self.api.get("registered-models/get", name=self.model_name)["registered_model"]
            aliased = {int(alias["version"]) for alias in model.get("aliases", [])}
            old = [v for v in old if v.version not in aliased and v.version not in needed]
        for version in old:
            self.delete(version)
        return [version.version for version in old]

    def _by_alias(self, alias: Alias) -> ModelVersion | None:
        try:
            answer = self.api.get("registered-models/alias", name=self.model_name, alias=alias)
        except ModelNotFoundError:
            return None
        return _model_version(answer.get("model_version"))


def _model_version(entry: Any) -> ModelVersion:  # parsed JSON
    try:
        return ModelVersion(
            version=int(entry["version"]),
            run_id=str(entry.get("run_id", "")),
            created_at=datetime.fromtimestamp(int(entry["creation_timestamp"]) / 1000, tz=UTC),
            tags={tag["key"]: tag.get("value", "") for tag in entry.get("tags", [])},
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise RegistryError(f"MLflow's answer is not a model version: {exc!r}") from exc
