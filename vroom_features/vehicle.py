"""What a vehicle is: each raw column once, with its type, range, default, and words for people.

Everything else asks here: the database's table, the CSV contract, the Arrow schema, the form, the JSON API
and its document, the fleet's export, the reasons of a forecast, and the columns in ``data/README.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ConfigDict, FiniteFloat, StringConstraints, field_validator
from sqlmodel import Field, SQLModel

PRICE_MAX = 1_000_000
UI_VEHICLE_ID_START = 1_000_000_001
"""Vehicles from the web form get ids from here on; a CSV file may hold smaller ids only."""

NAME_MAX = 80
VehicleName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        max_length=NAME_MAX,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$",
    ),
]
"""What an owner calls a vehicle: no control characters, and none that turn the direction of other text."""


def column(
    label: str, description: str, *, le: float, ge: float | None = None, gt: float | None = None, **words: Any
) -> Any:  # as SQLModel's own Field does
    """Declare a raw column: its range as pydantic takes it, and the words that `RawColumn` explains."""
    return Field(
        title=label, description=description, ge=ge, gt=gt, le=le, schema_extra={"json_schema_extra": words}
    )


class VehicleBase(SQLModel):
    """What describes a vehicle."""

    technology: int = column(
        "Booking",
        "1: can be booked instantly and unlocked by phone",
        help="How a guest gets the keys.",
        choices={1: "Instant, by phone", 0: "In person"},
        reason={1: "can be unlocked by phone", 0: "cannot be unlocked by phone"},
        initial=1,
        ge=0,
        le=1,
    )
    actual_price: FiniteFloat = column(
        "Your price",
        "the owner's price, one currency, per day",
        unit="per day",
        help="What you ask.",
        initial=58,
        gt=0,
        le=PRICE_MAX,
    )
    recommended_price: FiniteFloat = column(
        "Market price",
        "the market's price, same unit",
        unit="per day",
        help="What similar cars ask.",
        initial=50,
        gt=0,
        le=PRICE_MAX,
    )
    num_images: int = column(
        "Photos", "photos in the listing", unit="photos", help="In the listing.", initial=4, ge=0, le=100
    )
    street_parked: int = column(
        "Parking",
        "1: parked on the street",
        help="Where it is parked.",
        choices={0: "Own space", 1: "Street"},
        reason={1: "parked on the street", 0: "not parked on the street"},
        initial=0,
        ge=0,
        le=1,
    )
    description: int = column(
        "Description",
        "characters in the owner's description, not the text",
        unit="characters",
        help="Length of your text.",
        reason="{} of description",
        initial=120,
        ge=0,
        le=10_000,
    )


class VehicleCreate(VehicleBase):
    """A vehicle to save: unknown fields, and booleans where numbers belong, are refused."""

    model_config = ConfigDict(extra="forbid")  # type: ignore[assignment]  # SQLModel narrows the type

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:  # JSON has values of any type
        if isinstance(value, bool):
            raise ValueError("expected a number, got true or false; write 1 or 0")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RawColumn:
    """One raw column, as `VehicleBase` declares it.

    Parameters
    ----------
    name : str
        In every table, file, document and form.
    kind : type
        ``int`` or ``float``.
    low, high : float
        Its range; ``high`` is in it, ``low`` too unless ``is_low_excluded``.
    label, description : str
        Its name for people, and its meaning, for the data dictionary.
    initial : float
        What a new form starts with, and the example of the API; no default of the model.
    unit : str
        In the plural, as ``photos``.
    help : str
        A hint at its field of the form.
    choices : mapping of int to str
        Words of each value, for a column of few.
    reason : str or mapping of int to str
        Words for a value in the reasons of a forecast: a text for each choice, or one in which ``{}`` is the
        value with its unit.
    """

    name: str
    kind: type[int] | type[float]
    low: float
    high: float
    is_low_excluded: bool
    label: str
    description: str
    initial: float
    unit: str = ""
    help: str = ""
    choices: Mapping[int, str] = field(default_factory=dict)
    reason: str | Mapping[int, str] = "{}"

    @property
    def is_whole(self) -> bool:
        return self.kind is int

    @property
    def range_in_words(self) -> str:
        """Its type and range.

        Examples
        --------
        >>> [COLUMNS[name].range_in_words for name in ("technology", "actual_price", "num_images")]
        ['0 or 1', 'number above 0, at most 1,000,000', 'integer, 0 to 100']
        """
        if self.choices:
            return " or ".join(map(str, sorted(self.choices)))
        noun = "integer" if self.is_whole else "number"
        above = f" above {self.low:,g}, at most" if self.is_low_excluded else f", {self.low:,g} to"
        return f"{noun}{above} {self.high:,.0f}"

    def as_reason(self, value: float) -> str:
        """Return the words for a value in the reasons of a forecast.

        Examples
        --------
        >>> COLUMNS["technology"].as_reason(0), COLUMNS["num_images"].as_reason(1)
        ('cannot be unlocked by phone', '1 photo')
        >>> COLUMNS["description"].as_reason(0)
        'no characters of description'
        """
        if not isinstance(self.reason, str):
            return self.reason[int(value)]
        noun = self.unit.removesuffix("s") if value == 1 else self.unit
        number = f"{value:,.2f}".removesuffix(".00") if value else "no"
        return self.reason.format(f"{number} {noun}".strip())


def raw_columns(model: type[VehicleBase]) -> dict[str, RawColumn]:
    """Return the columns that a model declares."""
    fields, specs = model.model_fields, model.model_json_schema()["properties"]
    return {
        name: RawColumn(
            name=name,
            kind=int if spec["type"] == "integer" else float,
            low=spec.get("minimum", spec.get("exclusiveMinimum")),
            high=spec["maximum"],
            is_low_excluded="exclusiveMinimum" in spec,
            label=spec["title"],
            description=spec["description"],
            **fields[name].json_schema_extra,  # type: ignore[arg-type]  # the words given to `column`
        )
        for name, spec in specs.items()
    }


COLUMNS: Mapping[str, RawColumn] = raw_columns(VehicleBase)
"""Every raw column by its name, in the order of the table."""
EXAMPLE: dict[str, float] = {name: each.kind(each.initial) for name, each in COLUMNS.items()}
"""A vehicle as a new form has it."""
