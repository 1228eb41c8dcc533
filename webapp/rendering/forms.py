"""The form of a vehicle: its fields, and what people type into them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import FiniteFloat, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vroom_features.vehicle import VehicleCreate, VehicleName, column, raw_columns
from webapp.rendering.formats import plain

SUSPECT_RATIO = 20
"""A price so many times the other is probably a slip."""
IGNORED = re.compile(r"[\s'\u2019\u20ac$\u00a3]")
GUESS = "booking_days"
"""The field that is no column of a vehicle."""


class VehicleForm(VehicleCreate):
    """What the form holds: a vehicle, and a guess of its owner's."""

    booking_days: FiniteFloat = column(
        "Days of a booking",
        "the owner's own guess",
        unit="days",
        help="Your own guess, for the income alone.",
        initial=1,
        gt=0,
        le=365,
    )


FIELDS = tuple(
    sorted(raw_columns(VehicleForm).values(), key=lambda each: (each.name == GUESS, bool(each.choices)))
)
"""In the order of the page: what is typed, what is chosen, and the guess."""
DEFAULTS = {field.name: plain(field.initial) for field in FIELDS}
CHOICES = {field.name for field in FIELDS if field.choices}
NAMES = TypeAdapter(VehicleName)


@dataclass(frozen=True, slots=True)
class Entry:
    """What was typed, and the vehicle, or a sentence for each field with an error."""

    values: dict[str, str]
    vehicle: VehicleCreate | None
    errors: dict[str, str]
    booking_days: float = 1.0

    @property
    def row(self) -> dict[str, float]:
        """The vehicle's raw columns; empty while there is an error."""
        return self.vehicle.model_dump() if self.vehicle else {}

    @property
    def question(self) -> tuple[str, float] | None:
        """A price that is probably a slip: its field, and what may be meant.

        Examples
        --------
        >>> read_entry(DEFAULTS | {"actual_price": "6250"}).question
        ('actual_price', 62.5)
        >>> read_entry(DEFAULTS | {"actual_price": "1.250", "recommended_price": "1300"}).question
        ('actual_price', 1250.0)
        """
        if self.vehicle is None:
            return None
        own, market = self.vehicle.actual_price, self.vehicle.recommended_price
        for name, low, high in (("actual_price", own, market), ("recommended_price", market, own)):
            if low * SUSPECT_RATIO <= high and re.fullmatch(r"\d{1,3}\.\d{3}", self.values[name]):
                return name, low * 1000
        return ("actual_price", own / 100) if own >= SUSPECT_RATIO * market else None


def read_entry(form: Mapping[str, str]) -> Entry:
    """Validate a form, keeping what was typed.  Of a text to be counted only the length is kept.

    Examples
    --------
    >>> read_entry(DEFAULTS | {"actual_price": "-3"}).errors
    {'actual_price': 'Must be more than 0.'}
    >>> read_entry(DEFAULTS | {"actual_price": "1.250,50"}).vehicle.actual_price
    1250.5
    """
    values = {field.name: form.get(field.name, "").strip() for field in FIELDS}
    values[GUESS] = values[GUESS] or DEFAULTS[GUESS]
    if text := form.get("description_text", "").strip():
        values["description"] = str(len(text.replace("\r\n", "\n")))
    numbers = {field.name: read_number(values[field.name], is_whole=field.is_whole) for field in FIELDS}
    try:
        found = VehicleForm.model_validate(numbers)
    except ValidationError as exc:
        errors = {str(error["loc"][0]): _message(error) for error in exc.errors()}
        return Entry(values, None, errors | dict.fromkeys(errors.keys() & CHOICES, "Choose one of the two."))
    vehicle = VehicleCreate.model_validate(found.model_dump(exclude={GUESS}))
    return Entry(values, vehicle, {}, found.booking_days)


def read_number(text: str, *, is_whole: bool = False) -> str:
    """Return a number as Python writes it, from one as people type it; other texts come back as they are.

    A single point is a decimal point, unless the number is whole; a single comma before three digits is none.

    Examples
    --------
    >>> [read_number(text) for text in ("62,50", "1.250,00", "1 250", "1,250", "1,250.5", "$1.25")]
    ['62.50', '1250.00', '1250', '1250', '1250.5', '1.25']
    >>> read_number("1.250", is_whole=True), read_number("1.2.3")
    ('1250', '1.2.3')
    """
    number = IGNORED.sub("", text)
    whole = r"\d{1,3}(,\d{3})+|\d{1,3}(\.\d{3}){2,}" + (r"|\d{1,3}\.\d{3}" if is_whole else "")
    if re.fullmatch(f"-?({whole})", number, re.ASCII):
        return re.sub("[.,]", "", number)
    for group, point in ((",", "."), (".", ",")):
        before = rf"-?(?:\d*|\d{{1,3}}(?:\{group}\d{{3}})+)"
        if parts := re.fullmatch(rf"({before})\{point}(\d*)", number, re.ASCII):
            return f"{parts[1].replace(group, '')}.{parts[2]}"
    return number


def _message(error: ErrorDetails) -> str:
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


def read_name(typed: str) -> str | None:
    r"""Return a car's name as it is kept, empty for none; None if it is refused.

    Examples
    --------
    >>> read_name(" The blue one "), read_name("blue\x00")
    ('The blue one', None)
    """
    try:
        return NAMES.validate_python(typed)
    except ValidationError:
        return None
