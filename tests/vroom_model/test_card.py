from pathlib import Path

from vroom_features.view import VEHICLE_VIEW
from vroom_model.training.model_card import CALIBRATION_NAME, CARD_NAME, SEGMENTS_NAME, card_text, write_card
from vroom_model.training.train import TrainedModel

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_card_has_the_metrics_the_snapshot_and_the_plots(trained: TrainedModel, tmp_path: Path) -> None:
    text = write_card(trained.manifest, tmp_path)
    card = (tmp_path / CARD_NAME).read_text()
    assert card.startswith(text)
    for plot in (CALIBRATION_NAME, SEGMENTS_NAME):
        assert f"]({plot})" in card
        assert (tmp_path / plot).read_bytes().startswith(PNG)
    manifest = trained.manifest
    assert f"**{manifest.metrics['mae']:.3f}**" in text
    assert manifest.snapshot.id in text
    for name in (*VEHICLE_VIEW.columns, *manifest.files, *manifest.files.values()):
        assert name in text
    for segment in manifest.segments:
        assert f"| {segment.segment} | {segment.num_rows:,} | {segment.mae:.2f} |" in text


def test_the_card_counts_the_vehicles_that_were_left_out(trained: TrainedModel) -> None:
    assert "(1,000 vehicles), feature view" in card_text(trained.manifest)
    snapshot = trained.manifest.snapshot.model_copy(update={"num_left_out": 25})
    text = card_text(trained.manifest.model_copy(update={"snapshot": snapshot}))
    assert "(1,000 vehicles; 25 booked from the web form left out), feature view" in text


def test_forecasts_are_calibrated_in_the_plot(trained: TrainedModel) -> None:
    points = trained.manifest.calibration
    assert sum(point.num_rows for point in points) == trained.manifest.snapshot.num_rows
    assert [point.forecast for point in points] == sorted(point.forecast for point in points)
    assert all(abs(point.forecast - point.outcome) < 4 * point.standard_error for point in points)
