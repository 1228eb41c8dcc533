"""A version's real errors over time, kept as metrics of its MLflow run: a step is D in days since 1970."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta

from vroom_model.errors import ModelNotFoundError
from vroom_model.records import Matured, ModelVersion
from vroom_model.registry.registry import Registry

FIGURES = ("num_vehicles", "mae", "bias", "coverage")
EPOCH = date(1970, 1, 1)


def keep_matured(registry: Registry, version: ModelVersion, matured: Matured, *, at: datetime) -> None:
    """Keep one point; a later one of the same D replaces it.  Too few vehicles are no point."""
    if matured.mae is None:
        return
    when = {"timestamp": int(at.timestamp() * 1000), "step": (matured.complete_through - EPOCH).days}
    metrics = [{"key": _key(name), "value": getattr(matured, name), **when} for name in FIGURES]
    registry.api.put("runs/log-batch", {"run_id": version.run_id, "metrics": metrics})


def read_matured(registry: Registry, version: ModelVersion) -> tuple[Matured, ...]:
    """Return the points of a version, the earliest first; none if its run is gone."""
    with suppress(ModelNotFoundError):
        figures = {name: dict(_read(registry, version, name)) for name in FIGURES}
        return tuple(
            Matured.model_validate(
                {name: points[step] for name, points in figures.items()}
                | {"complete_through": EPOCH + timedelta(days=step)}
            )
            for step in sorted(set.intersection(*map(set, figures.values())))
        )
    return ()


def _read(registry: Registry, version: ModelVersion, name: str) -> Iterator[tuple[int, float]]:
    """Yield a figure's steps and values, of one step the latest last."""
    answer = registry.api.get("metrics/get-history", run_id=version.run_id, metric_key=_key(name))
    for entry in sorted(answer.get("metrics", []), key=lambda entry: int(entry["timestamp"])):
        yield int(entry["step"]), float(entry["value"])


def _key(name: str) -> str:
    return f"matured/{name}"
