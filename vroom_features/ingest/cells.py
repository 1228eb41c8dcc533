"""Cells of a CSV turned into numbers and moments, and what a column of them must hold."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vroom_features.vehicle import RawColumn

Array = npt.NDArray[Any]
Kind = type[int] | type[float] | type[datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def read_cell(cell: str, kind: Kind) -> int | float | None:
    """Return what a cell says; None when it is not of this kind.

    Parameters
    ----------
    cell : str
        A number, or a date and time of ISO 8601, which is UTC without a zone; white space around it counts
        for nothing.
    kind : type
        ``int``, ``float``, or ``datetime``, which becomes microseconds since 1970.

    Examples
    --------
    >>> [read_cell(cell, int) for cell in ("12", " 7 ", "0x1F", "seven")]
    [12, 7, None, None]
    >>> read_cell("1970-01-01T02:00+01:00", datetime)
    3600000000
    """
    if not cell.isascii() or "_" in cell:  # Python takes digits of every script, and 1_000
        return None
    try:
        if kind is datetime:
            moment = datetime.fromisoformat(cell.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // _MICROSECOND
        return float(cell) if kind is float else int(cell)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Column:
    """What a column must hold: its type, and a range, both ends included; of moments as microseconds."""

    name: str
    kind: Kind
    low: float
    high: float

    @classmethod
    def of(cls, column: RawColumn) -> Self:
        """Return what a raw column of a vehicle must hold."""
        low = float(np.nextafter(column.low, np.inf)) if column.is_low_excluded else column.low
        return cls(column.name, column.kind, low, column.high)

    @property
    def expected(self) -> str:
        """What to say when a cell does not fit."""
        if self.kind is datetime:
            return "a date and time such as 2023-05-01 12:30:00"
        noun = "a number" if self.kind is float else "an integer"
        return f"{noun} from {self.low:g} to {self.high:g}"

    @property
    def type_code(self) -> str:
        """How `array.array` and NumPy call its values."""
        return "d" if self.kind is float else "q"

    def read(self, cell: str) -> int | float | None:
        """Return the value of a cell; None when the column must not hold it."""
        value = read_cell(cell, self.kind)
        return value if value is not None and self.low <= value <= self.high else None

    def holds_all(self, values: Array) -> bool:
        """Return whether every value is in the range."""
        return bool(((values >= self.low) & (values <= self.high)).all())
