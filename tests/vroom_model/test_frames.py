"""The model library for those who hold a DataFrame."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.snapshots import SAMPLE, WATCH, FrameSnapshot
from tests.vroom_model.champions import AS_OF, WEAK, trained_model
from vroom_features import training_label
from vroom_features.errors import MissingColumnsError
from vroom_model.errors import MissingValueError, TrainingDataError
from vroom_model.evaluation.metrics import score
from vroom_model.serving.explain import Explainer
from vroom_model.serving.predictor import FORECAST_COLUMNS, Predictor
from vroom_model.training.train import train


@pytest.fixture(scope="module")
def vehicles() -> pd.DataFrame:
    return pd.read_csv(SAMPLE / "vehicles.csv", index_col="vehicle_id")


def test_a_frame_is_forecast_on_its_index_as_arrays_are(predictor: Predictor, vehicles: pd.DataFrame) -> None:
    frame = vehicles.iloc[::-7].assign(name="mine")
    forecasts = predictor.predict(frame)
    pd.testing.assert_index_equal(forecasts.index, frame.index)
    assert tuple(forecasts) == FORECAST_COLUMNS
    arrays = predictor.predict_many({name: frame[name].to_numpy() for name in predictor.view.sources})
    for name in FORECAST_COLUMNS:
        np.testing.assert_array_equal(forecasts[name], getattr(arrays, name))
    pd.testing.assert_frame_equal(predictor.predict(frame.convert_dtypes()), forecasts)
    assert predictor.predict(frame.head(0)).shape == (0, 3)
    with pytest.raises(MissingColumnsError, match="num_images"):
        predictor.predict(frame.drop(columns="num_images"))


@pytest.mark.parametrize("value", [np.nan, None, pd.NA, np.inf, "cheap"])
@pytest.mark.parametrize("name", ["actual_price", "num_images"])
def test_a_value_that_is_missing_or_no_number_is_refused_by_its_column(
    predictor: Predictor, vehicles: pd.DataFrame, name: str, value: object
) -> None:
    frame = vehicles.head(3).astype({name: object})
    frame.iloc[1, frame.columns.get_loc(name)] = value
    with pytest.raises(MissingValueError, match=f"in {name}; fill in") as refused:
        predictor.predict(frame)
    assert refused.value.columns == (name,)


def test_a_frame_with_the_label_is_trained_on_and_scored_as_the_snapshot_is(
    fleet: FrameSnapshot, vehicles: pd.DataFrame, tmp_path: Path
) -> None:
    bookings = pd.read_csv(SAMPLE / "reservations.csv")
    watch = {"watch_days": WATCH.days, "complete_through": WATCH.complete_through}
    label = training_label(vehicles, bookings, source="csv", **watch)
    expected = trained_model(fleet, WEAK)
    for number, frame in enumerate((vehicles.assign(training_label=label), fleet.read())):
        folder = f"{tmp_path}/{number}"
        trained = train(frame, directory=folder, as_of=AS_OF, params=WEAK)
        assert trained.manifest.metrics == expected.manifest.metrics
        assert trained.manifest.snapshot.created_at == AS_OF
        predictor = Predictor.load(folder, version=1, manifest_sha256=trained.manifest_sha256)
        assert score(predictor, frame).metrics == score(predictor, fleet).metrics
        assert Explainer.load(folder).explain(frame.iloc[0].to_dict() | vehicles.iloc[0].to_dict()).reasons
    with pytest.raises(MissingColumnsError, match=r"training_label'\] are missing; .*computes the label"):
        train(vehicles, directory=folder, as_of=AS_OF)
    with pytest.raises(TrainingDataError, match=r"missing or infinite values in \['num_images'\]"):
        train(vehicles.assign(training_label=label, num_images=np.nan), directory=folder, as_of=AS_OF)
