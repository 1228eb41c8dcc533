"""The form of one vehicle: its fields, and what to say beside a field that cannot be taken.

Names, ranges and validation come from ``VehicleCreate``, the class the database's table shares; here are
only the words for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vroom_features.tables import VehicleCreate

_RANGES = VehicleCreate.model_json_schema()["properties"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form.

    Parameters
    ----------
    name : str
        Column of the vehicle.
    label, help : str
        For people.
    default : str
        What a new form starts with.
    unit : str, optional
        Shown inside the field.
    step : str, optional
        Of what a number must be a multiple: 1, or any.
    choices : tuple of (value, text), optional
        A field with choices is shown as a pair of buttons.
    """

    name: str
    label: str
    help: str
    default: str
    unit: str = ""
    step: str = "1"
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def minimum(self) -> float:
        """Smallest value that a browser lets pass; one that must be exceeded is refused by the server."""
        spec = _RANGES[self.name]
        return float(spec["minimum"] if "minimum" in spec else spec["exclusiveMinimum"])

    @property
    def maximum(self) -> float:
        """Largest value that may be typed."""
        return float(_RANGES[self.name]["maximum"])

    @property
    def limits(self) -> str:
        """The values that may be typed, in words; nobody comes near the largest price.

        Examples
        --------
        >>> FIELDS[0].limits, FIELDS[2].limits
        ('Anything above 0.', '0 to 1,000.')
        """
        above = _RANGES[self.name].get("exclusiveMinimum")
        return f"{self.minimum:,g} to {self.maximum:,.0f}." if above is None else f"Anything above {above:g}."


FIELDS = (
    Field("actual_price", "Your price", "What you ask.", "58", unit="per day", step="any"),
    Field("recommended_price", "Market price", "What similar cars ask.", "50", unit="per day", step="any"),
    Field("num_images", "Photos", "In the listing.", "4", unit="photos"),
    Field("description", "Description", "Length of your text.", "120", unit="characters"),
    Field(
        "technology",
        "Booking",
        "How a guest gets the keys.",
        "1",
        choices=(("1", "Instant, by phone"), ("0", "By arrangement")),
    ),
    Field(
        "street_parked", "Parking", "Where the car waits.", "0", choices=(("0", "Own space"), ("1", "Street"))
    ),
)
"""In the order of the page."""

_CHOICES = {field.name for field in FIELDS if field.choices}
DEFAULTS = {field.name: field.default for field in FIELDS}


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody typed, and what came of it.

    Parameters
    ----------
    values : dict of str
        The text of every field, as typed.
    vehicle : VehicleCreate or None
        The vehicle, when every field could be taken.
    errors : dict of str
        A sentence for each field that could not.
    """

    values: dict[str, str]
    vehicle: VehicleCreate | None
    errors: dict[str, str]

    @property
    def digest(self) -> str:
        """Return a short name of the vehicle's content: equal vehicles have equal names."""
        body = self.vehicle.model_dump_json() if self.vehicle else ""
        return sha256(body.encode()).hexdigest()[:16]


def read_entry(form: Mapping[str, str]) -> Entry:
    """Validate a submitted form, keeping what was typed.

    Examples
    --------
    >>> read_entry(DEFAULTS | {"actual_price": "-3"}).errors
    {'actual_price': 'Must be more than 0.'}
    """
    values = {field.name: form.get(field.name, "").strip() for field in FIELDS}
    try:
        vehicle = VehicleCreate.model_validate(values)
    except ValidationError as exc:
        errors = {str(error["loc"][0]): _sentence(error) for error in exc.errors()}
        errors |= {name: "Choose one of the two." for name in errors if name in _CHOICES}
        return Entry(values, None, errors)
    return Entry(values, vehicle, {})


def _sentence(error: ErrorDetails) -> str:
    """Say what to do about an error, in words."""
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than":
            return f"Must be more than {context['gt']:,g}."
        case "greater_than_equal":
            return f"Must be at least {context['ge']:,g}."
        case "less_than_equal":
            return f"Must be at most {context['le']:,.0f}."
        case "int_from_float" | "int_parsing" if error["input"]:
            return "Must be a whole number."
        case "float_parsing" | "int_parsing" | "int_parsing_size" | "finite_number":
            return "Must be a number." if error["input"] else "Please fill this in."
    return str(error["msg"])
