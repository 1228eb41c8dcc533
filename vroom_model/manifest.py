"""The manifest of a model directory: what the model is, what it was made from, and checksums of its files.

A model directory has ``manifest.json``, ``serving.onnx`` (all fold boosters in one graph, for forecasts) and
one ``fold-K.json`` per fold (XGBoost's own format, for reasons).  No file is ever unpickled.
"""

import hashlib
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from vroom_features.view import VEHICLE_VIEW, FeatureView
from vroom_features.watch import Watch
from vroom_model.errors import BrokenModelError

MANIFEST_NAME = "manifest.json"
METRICS = ("mae", "mae_standard_error", "bias", "baseline_mae", "coverage", "mean_width", "mean_label")
"""Metrics that are needed to judge a model."""
SERVING_NAME = "serving.onnx"
FileName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]  # inside the directory


def fold_file(fold: int) -> str:
    """Return the name of a fold's booster."""
    return f"fold-{fold}.json"


class Part(BaseModel):
    """Base of the manifest's parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SnapshotRef(Part):
    """The snapshot that a model was trained on."""

    id: str
    digest: str
    num_rows: int
    """The vehicles that were learned from."""
    num_left_out: int = 0
    """Vehicles under watch; models of earlier releases left none out."""
    next_matures: date | None = None
    """The day at which the first of these has an outcome."""
    watch_days: int | None = None
    """L; models of earlier releases did not know it."""
    complete_through: date | None = None
    created_at: datetime

    @property
    def watch(self) -> Watch | None:
        return Watch.known(self.watch_days, self.complete_through)


class ViewRef(Part):
    """The features that a model takes, in order, and the view of the program that trained it."""

    name: str
    version: int
    columns: tuple[str, ...]
    feature_versions: dict[str, int] = {}
    """Of each feature function; 1 where a manifest names none."""

    @classmethod
    def of(cls, view: FeatureView) -> Self:
        """Return the description of a view."""
        versions = {feature.name: feature.version for feature in view.features}
        return cls(name=view.name, version=view.version, columns=view.columns, feature_versions=versions)

    @property
    def features(self) -> tuple[str, ...]:
        """Each feature with the version of its function."""
        return tuple(f"{name} v{self.feature_versions.get(name, 1)}" for name in self.columns)


class IntervalLines(Part):
    """Lower and upper quantile of the outcome as straight lines over the forecast, calibrated out of fold.

    Both slopes are at least 0, so a range rises with its forecast.
    """

    coverage: float
    low_intercept: float
    low_slope: float
    high_intercept: float
    high_slope: float


class FoldMetrics(Part):
    """Out-of-fold figures of one fold."""

    fold: int
    num_rows: int
    mae: float
    coverage: float
    features: tuple[str, ...]


class SegmentMetrics(Part):
    """Out-of-fold figures of one price segment."""

    segment: str
    num_rows: int
    mae: float
    bias: float
    coverage: float
    mean_width: float


class CalibrationPoint(Part):
    """Mean forecast and mean outcome of vehicles with similar forecasts, out of fold."""

    forecast: float
    outcome: float
    standard_error: float
    num_rows: int


class Importance(Part):
    """How much the out-of-fold error rises when a feature is shuffled."""

    feature: str
    mae_increase: float
    spread: float


class Histogram(Part):
    """Counts of a feature's training values between edges, for drift.

    Bin i includes its upper edge i; the last bin has none.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: npt.NDArray[Any], edges: Iterable[float]) -> Self:
        """Count values between edges."""
        edges = tuple(map(float, edges))
        counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        return cls(edges=edges, counts=tuple(counts.tolist()))


class ResidualBin(Part):
    """Mean forecast less outcome of vehicles with similar values of something, and their range coverage."""

    value: float
    residual: float
    standard_error: float
    coverage: float
    num_rows: int


class Diagnostics(Part):
    """Out-of-fold residuals by forecast (``"forecast"``) and by each input, and their histogram."""

    residuals: dict[str, tuple[ResidualBin, ...]]
    errors: Histogram


class InputRange(Part):
    """Lowest, highest and mean value of a raw column among the vehicles that were learned from."""

    low: float
    high: float
    mean: float


class Probe(Part):
    """Features of a vehicle, and the forecast that a loaded model must return for them."""

    features: dict[str, float]
    forecast: float
    low: float
    high: float


class ModelManifest(Part):
    """Everything about a model but its boosters."""

    format: Literal[1] = 1
    trained_at: AwareDatetime
    training_digest: str
    snapshot: SnapshotRef
    view: ViewRef
    params: dict[str, float | int | bool]
    seed: int
    num_folds: int
    interval: IntervalLines
    price_ratio: tuple[float, float]
    mean_price_ratio: float | None = None
    """Of the vehicles that were learned from; models of earlier releases did not keep it."""
    ranges: dict[str, InputRange] = {}
    """Of the raw columns that were learned from; models of earlier releases kept none."""
    metrics: dict[str, float]
    folds: tuple[FoldMetrics, ...]
    segments: tuple[SegmentMetrics, ...]
    calibration: tuple[CalibrationPoint, ...] = ()
    diagnostics: Diagnostics | None = None
    """Models of earlier releases kept none."""
    feature_importances: tuple[Importance, ...]
    reference: dict[str, Histogram]
    libraries: dict[str, str]
    files: dict[FileName, str]
    """SHA-256 of each other file of the directory."""
    probes: tuple[Probe, ...]

    @property
    def coverage(self) -> float:
        """Share of outcomes that the range is made to cover."""
        return self.interval.coverage

    @property
    def missing_metrics(self) -> tuple[str, ...]:
        """Metrics that are needed to judge the model and are not there."""
        missing = [name for name in METRICS if name not in self.metrics]
        if len(self.folds) < self.num_folds:
            missing.append("those of each fold")
        if not self.segments:
            missing.append("those of each segment")
        return tuple(missing)

    def write(self, directory: Path | str) -> str:
        """Write ``manifest.json``, and return its SHA-256, which identifies the whole directory."""
        data = self.model_dump_json(indent=1).encode()
        Path(directory, MANIFEST_NAME).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    @classmethod
    def parse(cls, data: bytes, *, model: Path | str, sha256: str | None = None) -> Self:
        """Return a manifest; BrokenModelError if it differs from the registry's checksum, or is none."""
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise BrokenModelError(model, f"{MANIFEST_NAME} differs from the checksum in the registry")
        try:
            return cls.model_validate_json(data)
        except ValidationError as exc:
            first = exc.errors()[0]
            place = ".".join(map(str, first["loc"]))
            problem = f"{MANIFEST_NAME} has {exc.error_count()} errors, first {place}: {first['msg']}"
            raise BrokenModelError(model, problem) from exc

    @classmethod
    def read(cls, directory: Path | str, *, sha256: str | None = None) -> Self:
        """Read and verify a model directory: the manifest, every file's checksum, and the features.

        Parameters
        ----------
        directory : Path or str
        sha256 : str, optional
            Checksum of the manifest, from the registry.

        Raises
        ------
        BrokenModelError
            If a file is missing or altered, or this program does not compute one of the features.
        """
        manifest = cls.parse(_read(directory, MANIFEST_NAME), model=directory, sha256=sha256)
        computed = ViewRef.of(VEHICLE_VIEW).features
        if unknown := [feature for feature in manifest.view.features if feature not in computed]:
            problem = f"it takes {', '.join(unknown)}; this program computes {', '.join(computed)}"
            raise BrokenModelError(directory, problem)
        for name, expected in manifest.files.items():
            if hashlib.sha256(_read(directory, name)).hexdigest() != expected:
                raise BrokenModelError(directory, f"{name} differs from its checksum in the manifest")
        wanted = {SERVING_NAME, *map(fold_file, range(manifest.num_folds))}
        if missing := wanted - set(manifest.files):
            raise BrokenModelError(directory, f"the manifest lists no {sorted(missing)}")
        return manifest


def _read(directory: Path | str, name: str) -> bytes:
    try:
        return Path(directory, name).read_bytes()
    except OSError as exc:
        raise BrokenModelError(directory, f"{name} cannot be read: {exc}") from exc
