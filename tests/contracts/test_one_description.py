"""A vehicle and a message are described once; what is derived agrees."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.factories import VEHICLE
from vroom_features.database.tables import TABLES
from vroom_features.messages import (
    Message,
    MessageError,
    RunFinished,
    VehicleDeleted,
    VehicleMaterialized,
    VehicleSaved,
)
from vroom_features.vehicle import COLUMNS, RawColumn, VehicleCreate
from vroom_features.view import VEHICLE_VIEW
from vroom_model.messages import ModelLoaded, ModelPromoted, PipelineCompleted
from webapp.rendering.forms import FIELDS, GUESS
from webapp.serving.vehicles import VehicleDocument

ROOT = Path(__file__).parents[2]
DICTIONARY = (ROOT / "data" / "README.md").read_text()
README = (ROOT / "README.md").read_text()
FIELD_NAMES = set(COLUMNS)


def test_the_form_the_api_and_the_table_take_the_same_fields() -> None:
    assert {field.name for field in FIELDS} == FIELD_NAMES | {GUESS}
    assert set(VehicleDocument.model_fields) == FIELD_NAMES
    assert {c.name for c in TABLES["vehicles"].c} == FIELD_NAMES | {
        "vehicle_id",
        "source",
        "row_version",
        "saved_at",
        "watch_start",
        "withdrawn_at",
        "owner_hash",
        "name",
        "saved_forecast",
    }


def test_every_input_of_the_model_is_made_from_fields_that_are_asked_for() -> None:
    assert set(VEHICLE_VIEW.sources) <= FIELD_NAMES
    assert set(VEHICLE_VIEW.attributes) <= FIELD_NAMES
    assert VEHICLE_VIEW.label not in (*VEHICLE_VIEW.columns, *VEHICLE_VIEW.sources)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=lambda column: column.name)
def test_the_range_that_is_shown_is_the_one_that_is_held(column: RawColumn) -> None:
    step = 1 if column.is_whole else 1e-9
    least = column.low + step * column.is_low_excluded
    for good in (least, column.high, column.initial):
        VehicleCreate.model_validate(VEHICLE | {column.name: good})
    for bad in (least - step, column.high + 1, None, True, "x"):
        with pytest.raises(ValueError, match=column.name):
            VehicleCreate.model_validate(VEHICLE | {column.name: bad})


@pytest.mark.parametrize("column", COLUMNS.values(), ids=lambda column: column.name)
def test_the_data_dictionary_says_what_a_column_is(column: RawColumn) -> None:
    assert f"| `{column.name}` | {column.range_in_words} | {column.description} |\n" in DICTIONARY


def test_the_documents_name_the_label_and_the_formula() -> None:
    assert f"`{VEHICLE_VIEW.label}`" in DICTIONARY
    assert f"`{VEHICLE_VIEW.label}`" in README
    assert "`price_diff = actual_price - recommended_price`" in README


MESSAGES = [
    VehicleSaved(vehicle_id=1_000_000_001),
    VehicleDeleted(vehicle_id=1_000_000_001),
    VehicleMaterialized(vehicle_ids=(1, 2**62), materialized_at=datetime(2024, 5, 1, tzinfo=UTC)),
    ModelPromoted(model_name="vroom-forecast", version=3, epoch=2),
    ModelLoaded(model_name="vroom-forecast", version=3, worker="w1"),
    PipelineCompleted(model_name="vroom-forecast", version=3, promoted=False, reason="not better: é"),
    RunFinished(flow="vroom_forecast_monitor", run_id="r", state="Failed", message="is away: é"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_as_it_went(message: Message) -> None:
    assert type(message).decode(message.encode()) == message
    assert type(message).decode(message.encode().encode()) == message
    with pytest.raises(MessageError):
        type(message).decode(message.encode()[:-5])


def test_no_message_is_left_out_and_no_two_share_a_channel() -> None:
    assert {type(message) for message in MESSAGES} == set(Message.__subclasses__())
    assert len({message.channel for message in MESSAGES}) == len(MESSAGES)
