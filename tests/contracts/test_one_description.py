"""A vehicle is described in several places; they agree."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.factories import VEHICLE
from vroom_features.contract import RESERVATION_COLUMNS, VEHICLE_COLUMNS
from vroom_features.messages import Message, MessageError, VehicleDeleted, VehicleMaterialized, VehicleSaved
from vroom_features.stores.database import TABLES
from vroom_features.tables import VehicleCreate
from vroom_features.view import VEHICLE_VIEW
from vroom_model.messages import ModelLoaded, ModelPromoted, PipelineCompleted
from webapp.schemas import VehicleDocument
from webapp.vehicle_form import FIELDS

ROOT = Path(__file__).parents[2]
DICTIONARY = (ROOT / "data" / "README.md").read_text()
README = (ROOT / "README.md").read_text()
FIELD_NAMES = set(VehicleCreate.model_fields)


def test_the_form_the_api_and_the_table_take_the_same_fields() -> None:
    vehicles = next(table for table in TABLES if table.name == "vehicles")
    assert {field.name for field in FIELDS} == FIELD_NAMES
    assert set(VehicleDocument.model_fields) == FIELD_NAMES
    assert {c.name for c in vehicles.c} == FIELD_NAMES | {"vehicle_id", "source", "row_version", "saved_at"}


def test_every_input_of_the_model_is_made_from_fields_that_are_asked_for() -> None:
    assert set(VEHICLE_VIEW.sources) == FIELD_NAMES
    assert set(VEHICLE_VIEW.attributes) <= FIELD_NAMES
    assert VEHICLE_VIEW.label not in (*VEHICLE_VIEW.columns, *VEHICLE_VIEW.sources)


def test_the_csv_contract_has_the_fields_and_ranges_of_the_form() -> None:
    ranges = VehicleCreate.model_json_schema()["properties"]
    columns = {column.name: column for column in VEHICLE_COLUMNS}
    assert set(columns) == FIELD_NAMES | {"vehicle_id"}
    for name, field in ranges.items():
        column = columns[name]
        assert column.high == field["maximum"]
        if "minimum" in field:
            assert column.low == field["minimum"]
        else:
            assert field["exclusiveMinimum"] == 0
            assert column.low is not None
            assert 0 < column.low < 1e-300


def test_the_form_shows_the_ranges_that_it_is_held_to() -> None:
    for field in FIELDS:
        least = field.minimum if field.step == "1" else 1e-9
        VehicleCreate.model_validate(VEHICLE | {field.name: least})
        with pytest.raises(ValueError, match=field.name):
            VehicleCreate.model_validate(VEHICLE | {field.name: field.minimum - (least == field.minimum)})
        VehicleCreate.model_validate(VEHICLE | {field.name: field.maximum})
        with pytest.raises(ValueError, match=field.name):
            VehicleCreate.model_validate(VEHICLE | {field.name: field.maximum + 1})


@pytest.mark.parametrize("column", [*VEHICLE_COLUMNS, *RESERVATION_COLUMNS], ids=lambda column: column.name)
def test_the_data_dictionary_describes_every_csv_column(column: object) -> None:
    assert re.search(rf"^\| `{column.name}` \|", DICTIONARY, flags=re.MULTILINE)  # type: ignore[attr-defined]


def test_the_documents_name_the_inputs_and_the_label() -> None:
    for name in VEHICLE_VIEW.columns:
        assert f"`{name}`" in DICTIONARY
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
