"""The form of one vehicle: its fields, and what to say beside a field that cannot be taken."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vroom_features.vehicle import COLUMNS, VehicleCreate

FIELDS = tuple(sorted(COLUMNS.values(), key=lambda column: bool(column.choices)))
"""In the order of the page: what is typed, then what is chosen."""
DEFAULTS = {field.name: f"{field.initial:g}" for field in FIELDS}


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
        errors |= {name: "Choose one of the two." for name in errors if COLUMNS[name].choices}
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
