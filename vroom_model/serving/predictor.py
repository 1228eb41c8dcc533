"""Forecasts of a loaded model, by one ONNX call.

A web worker imports this module, so it imports neither XGBoost nor pandas.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError, MissingValueError
from vroom_model.folds import fold_of, out_of_fold
from vroom_model.manifest import SERVING_NAME, IntervalLines, ModelManifest
from vroom_model.segments import MIN_ROWS, SEGMENTS, segment_of
from vroom_model.serving.inputs import check_columns, check_row, compute_features

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
FORECAST_COLUMNS = ("predicted_reservations", "low", "high")
PROBE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected reservations of one vehicle, and the range that covers ``coverage`` of the outcomes."""

    predicted_reservations: float
    low: float
    high: float
    coverage: float

    def times(self, factor: float) -> "Forecast":
        """Return the forecast of so many times the days, or of an income."""
        value = self.predicted_reservations * factor
        return Forecast(value, self.low * factor, self.high * factor, self.coverage)


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The same for many vehicles: arrays of shape (n_vehicles,)."""

    predicted_reservations: Array
    low: Array
    high: Array
    coverage: float

    def times(self, factor: float) -> "Forecasts":
        """Return the forecasts of so many times the days."""
        values = self.predicted_reservations * factor
        return Forecasts(values, self.low * factor, self.high * factor, self.coverage)

    def __iter__(self) -> Iterator[Forecast]:
        rows = (self.predicted_reservations.tolist(), self.low.tolist(), self.high.tolist())
        for value, low, high in zip(*rows, strict=True):
            yield Forecast(value, low, high, self.coverage)


def with_range(raw: Array, lines: IntervalLines) -> Forecasts:
    """Return forecasts with ranges from the raw output of a model.

    Nothing is below 0, each forecast is inside its range, and all rise with ``raw``.

    Examples
    --------
    >>> lines = IntervalLines(coverage=0.8, low_intercept=-1, low_slope=0.5, high_intercept=1, high_slope=1.5)
    >>> with_range(np.array([-0.2, 4.0]), lines).high
    array([1., 7.])
    """
    forecast = np.maximum(raw, 0.0)
    low = np.clip(lines.low_intercept + lines.low_slope * forecast, 0.0, forecast)
    high = np.maximum(lines.high_intercept + lines.high_slope * forecast, forecast)
    return Forecasts(forecast, low, high, lines.coverage)


class Predictor:
    """A verified model.  It is immutable: threads may share it.

    Whatever forecasts raises MissingColumnsError without a column, and MissingValueError for a value that is
    missing, infinite or no number.  ``view`` has the features that the model takes, in its order.
    """

    def __init__(self, session: ort.InferenceSession, manifest: ModelManifest, *, version: int) -> None:
        self.version = version
        self.manifest = manifest
        self._session = session
        self.view = VEHICLE_VIEW.select(manifest.view.columns)
        self._columns = self.view.columns
        self._lines = manifest.interval
        covered = {each.segment: each.coverage for each in manifest.segments if each.num_rows >= MIN_ROWS}
        self._ranges = tuple(
            (name, seen.low, seen.high) for name, seen in manifest.ranges.items() if name in self.view.sources
        )
        reads_price = "actual_price" in self.view.sources
        self._price_ratio = manifest.price_ratio if reads_price else (-np.inf, np.inf)
        self._segments = tuple((name, covered.get(name)) for name in SEGMENTS)

    @classmethod
    def load(cls, directory: Path | str, *, version: int, manifest_sha256: str | None = None) -> Self:
        """Load and verify a model directory, and check its forecasts of the probe rows, which also warms it.

        Parameters
        ----------
        directory : Path or str
        version : int
        manifest_sha256 : str, optional
            From the registry.

        Raises
        ------
        BrokenModelError
            If a file is missing or altered, this program lacks one of its features, or the forecast of a
            probe row differs.
        """
        directory = Path(directory)
        manifest = ModelManifest.read(directory, sha256=manifest_sha256)
        session = _open(directory, num_features=len(manifest.view.columns))
        predictor = cls(session, manifest, version=version)
        predictor._check_probes(directory)
        return predictor

    def predict_one(self, vehicle: Mapping[str, float]) -> Forecast:
        """Forecast one vehicle from its raw columns; other columns are ignored."""
        return self._forecast(compute_features(self.view, vehicle))

    def predict_features(self, features: Mapping[str, float]) -> Forecast:
        """Forecast one vehicle from its features; others than the model takes are ignored."""
        check_row(self._columns, features)
        return self._forecast(features)

    def _forecast(self, features: Mapping[str, float]) -> Forecast:
        row = np.array([[features[name] for name in self._columns]], dtype=np.float32)
        by_fold: list[float] = self._session.run(None, {"features": row})[0][0].tolist()
        raw = sum(by_fold) / len(by_fold)
        # As with_range, in plain Python: requests take this path, and NumPy is slower for one number.
        forecast, lines = max(raw, 0.0), self._lines
        low = min(max(lines.low_intercept + lines.low_slope * forecast, 0.0), forecast)
        high = max(lines.high_intercept + lines.high_slope * forecast, forecast)
        return Forecast(forecast, low, high, lines.coverage)

    def segment(self, vehicle: Mapping[str, float]) -> tuple[str, float | None]:
        """Return the segment of a vehicle, by its raw columns, and the share of outcomes inside its ranges.

        The share is out of fold; None if the segment had too few vehicles in training.
        """
        price_ratio = vehicle["actual_price"] / vehicle["recommended_price"]
        return self._segments[segment_of(price_ratio, vehicle["num_images"])]

    def outside(self, vehicle: Mapping[str, float]) -> list[str] | None:
        """Return the raw columns in which a vehicle lies outside what the model has learned from.

        The owner's price is among them, too, where no vehicle was priced so high or low against the market.
        None for a model of an earlier release, which did not keep its ranges.
        """
        if not self._ranges:
            return None
        found = [name for name, low, high in self._ranges if not low <= vehicle[name] <= high]
        low, high = self._price_ratio
        ratio = vehicle["actual_price"] / vehicle["recommended_price"]
        if not low <= ratio <= high and "actual_price" not in found:
            found.append("actual_price")
        return found

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Forecast many vehicles.

        Parameters
        ----------
        frame : DataFrame of shape (n_vehicles, ...)
            Raw columns, as in ``vehicles.csv``; others are ignored.

        Returns
        -------
        DataFrame of shape (n_vehicles, 3)
            ``predicted_reservations``, ``low`` and ``high`` on the index of ``frame``.
        """
        columns = {name: _numbers(name, frame[name]) for name in self.view.sources if name in frame}
        forecasts = self.predict_many(columns)
        return frame[[]].assign(**{name: getattr(forecasts, name) for name in FORECAST_COLUMNS})

    def predict_many(self, columns: Mapping[str, npt.NDArray[Any]]) -> Forecasts:
        """Forecast many vehicles from their raw columns, arrays of shape (n_vehicles,)."""
        return self.predict_matrix(self._matrix(columns))

    def predict_unseen(
        self,
        columns: Mapping[str, npt.NDArray[Any]],
        vehicle_ids: npt.NDArray[np.int64],
        was_trained_on: npt.NDArray[np.bool_],
    ) -> Forecasts:
        """Forecast vehicles to stand beside their outcomes: by boosters that did not learn from these.

        Parameters
        ----------
        columns : mapping of str to array of shape (n_vehicles,)
            Raw columns.
        vehicle_ids, was_trained_on : array of shape (n_vehicles,)
            The ids, and which of them the model may have learned from; others are forecast by all boosters.
        """
        by_fold = self.predict_by_fold(self._matrix(columns))
        unseen = out_of_fold(by_fold, fold_of(vehicle_ids, self.manifest.num_folds))
        raw = np.where(was_trained_on, unseen, by_fold.mean(axis=1))
        return with_range(raw, self._lines)

    def predict_matrix(self, features: npt.NDArray[Any]) -> Forecasts:
        """Forecast many vehicles from a feature matrix of shape (n_vehicles, n_features)."""
        return with_range(self.predict_by_fold(features).mean(axis=1), self._lines)

    def predict_by_fold(self, features: npt.NDArray[Any]) -> Array:
        """Return every fold booster's raw forecast of every vehicle: (n_vehicles, n_folds)."""
        check_columns(dict(zip(self._columns, np.asarray(features).T, strict=True)))
        matrix = np.ascontiguousarray(features, dtype=np.float32)
        by_fold: npt.NDArray[np.float32] = self._session.run(None, {"features": matrix})[0]
        return by_fold.astype(np.float64)

    def _matrix(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        check_columns({name: columns[name] for name in self.view.sources if name in columns})
        features = self.view.compute(columns)
        return np.column_stack([features[name] for name in self._columns])

    def _check_probes(self, directory: Path) -> None:
        if not self.manifest.probes:
            raise BrokenModelError(directory, "it has no probe rows to check its forecasts with")
        for number, probe in enumerate(self.manifest.probes):
            got = self.predict_features(probe.features)
            expected = (probe.forecast, probe.low, probe.high)
            answer = (got.predicted_reservations, got.low, got.high)
            if not np.allclose(answer, expected, rtol=PROBE_TOLERANCE, atol=PROBE_TOLERANCE):
                raise BrokenModelError(directory, f"probe row {number} gives {answer}, expected {expected}")


def _numbers(name: str, column: "pd.Series[Any]") -> Array:
    """Return a column as numbers, missing ones as NaN; MissingValueError if a value is no number."""
    try:
        return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        broken = next(value for value in column if not isinstance(value, int | float))
        raise MissingValueError({name: broken}) from None


def _open(directory: Path, *, num_features: int) -> ort.InferenceSession:
    """Load the ONNX graph to run on the calling thread alone, which is fastest for single rows."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(
            (directory / SERVING_NAME).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as exc:  # onnxruntime raises pybind types without a common base
        raise BrokenModelError(directory, f"{SERVING_NAME} is not a graph that can be run: {exc}") from exc
    inputs = [(node.name, node.type, node.shape[1:]) for node in session.get_inputs()]
    if inputs != [("features", "tensor(float)", [num_features])]:
        raise BrokenModelError(directory, f"{SERVING_NAME} takes {inputs}, not {num_features} features")
    return session
